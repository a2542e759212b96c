//! The completion token: whether an agent's last words claim that it is done. Never more than a claim.

/// Tokens, compared without regard to case.
const TOKENS: [&str; 8] = [
    "<promise>complete</promise>",
    "<promise>done</promise>",
    "ralph_done",
    "ralph_complete",
    "loop_complete",
    "ready_for_next_task",
    "all_tasks_done",
    "<<<ralphex:all_tasks_done>>>",
];

/// Words that turn the line after them into its opposite.
const DENIALS: [&str; 17] = [
    "not", "no", "never", "cannot", "can't", "won't", "don't", "didn't", "isn't", "until", "unless", "before",
    "without", "instead", "should", "would", "when",
];

/// Whether the final message claims completion: a known token alone on its line, outside code, quotes
/// and lists, not announced by a line that ends in a colon or denies it; or a closed status block that
/// says `COMPLETE` and `EXIT_SIGNAL: true`.
pub fn claims(final_message: &str) -> bool {
    let mut fence: Option<(char, usize)> = None;
    let mut before = "";
    let mut claimed = false;
    for line in final_message.lines() {
        let trimmed = line.trim();
        let mark = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'));
        let run = mark.map_or(0, |mark| trimmed.chars().take_while(|c| *c == mark).count());
        match (fence, mark) {
            (None, Some(mark)) if run >= 3 => fence = Some((mark, run)),
            (Some((open, length)), Some(mark))
                if mark == open && run >= length && trimmed.chars().all(|c| c == mark) =>
            {
                fence = None
            }
            (None, _) => {
                let code = line.starts_with("    ") || line.starts_with('\t');
                let token = trimmed.len() <= 40 && TOKENS.contains(&trimmed.to_lowercase().as_str());
                claimed |= token && !code && !turns(before);
            }
            _ => {}
        }
        if !trimmed.is_empty() {
            before = trimmed;
        }
    }
    // An open fence swallows what follows it; nothing claimed inside counts.
    claimed || status_block(final_message)
}

/// Whether a line takes back, or only announces, what follows it.
fn turns(line: &str) -> bool {
    let line = line.to_lowercase().replace('’', "'");
    line.ends_with(':')
        || line.starts_with('>')
        || line
            .split(|c: char| !(c.is_alphanumeric() || c == '\''))
            .any(|word| DENIALS.contains(&word) || word.ends_with("n't"))
}

/// The last complete `---RALPH_STATUS---` block at the line's beginning, outside code.
fn status_block(message: &str) -> bool {
    let mut fence = false;
    let mut open: Option<(bool, bool)> = None;
    let mut last = false;
    for line in message.lines() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            fence = !fence;
            open = None;
            continue;
        }
        if fence {
            continue;
        }
        match line.trim_end() {
            "---RALPH_STATUS---" => open = Some((false, false)),
            "---END_RALPH_STATUS---" => {
                if let Some((complete, exit)) = open.take() {
                    last = complete && exit;
                }
            }
            line => {
                if let (Some((complete, exit)), Some((key, value))) = (open.as_mut(), line.split_once(':')) {
                    match (key, value.trim()) {
                        ("STATUS", value) => *complete = value == "COMPLETE",
                        ("EXIT_SIGNAL", value) => *exit = value == "true",
                        _ => {}
                    }
                }
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_stands_alone() {
        let t = "<promise>COMPLETE</promise>";
        for (message, want) in [
            (t.to_owned(), true),
            (format!("All stories are done.\n\n{t}\n"), true),
            (format!("Done.\r\n{t}\r\n"), true),
            (format!("  {t}  \n\n## Learnings\n- x"), true),
            ("<promise>complete</promise>".to_owned(), true),
            ("RALPH_DONE".to_owned(), true),
            ("Fine.\nLOOP_COMPLETE".to_owned(), true),
            ("---RALPH_STATUS---\nSTATUS: COMPLETE\nEXIT_SIGNAL: true\n---END_RALPH_STATUS---".to_owned(), true),
            (String::new(), false),
            (format!("I print {t} when done"), false),
            (format!("`{t}`"), false),
            (format!("\"{t}\""), false),
            (format!("> {t}"), false),
            (format!("- {t}"), false),
            (format!("    {t}"), false),
            (format!("```\n{t}\n```"), false),
            (format!("````md\n```\n{t}\n```\n````"), false),
            (format!("~~~\n{t}"), false),
            (format!("I will not output\n{t}"), false),
            (format!("I don’t say\n\n{t}"), false),
            (format!("The prompt told me to print this when finished:\n{t}"), false),
            (format!("When all is done, end with\n{t}"), false),
            ("<promise>INCOMPLETE</promise>".to_owned(), false),
            ("<promise>COMPLETE</promise>.".to_owned(), false),
            ("---RALPH_STATUS---\nSTATUS: COMPLETE\nEXIT_SIGNAL: false\n---END_RALPH_STATUS---".to_owned(), false),
            ("---RALPH_STATUS---\nSTATUS: COMPLETE\nEXIT_SIGNAL: true\n".to_owned(), false),
            (
                "```\n---RALPH_STATUS---\nSTATUS: COMPLETE\nEXIT_SIGNAL: true\n---END_RALPH_STATUS---\n```".to_owned(),
                false,
            ),
        ] {
            assert_eq!(claims(&message), want, "{message:?}");
        }
    }

    #[test]
    fn our_own_prompt_is_no_claim() {
        let story = crate::prd::Story { id: "US-1".into(), title: "T".into(), ..Default::default() };
        let context = crate::prompt::PromptContext { story: &story, ..crate::prompt::PromptContext::for_story(&story) };
        assert!(!claims(&crate::prompt::render(None, &context).unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn any_message_is_judged(text in "(```|~~~|\n|> |RALPH_DONE|---RALPH_STATUS---|[é a-z:]){0,30}") {
            let _ = claims(&text);
        }
    }
}
