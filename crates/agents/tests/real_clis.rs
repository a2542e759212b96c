//! The real programs against a double of their models, through Cove's door, as the adapters start them.
//!
//! `COVE_AGENT_CLIS=DIRECTORY cargo test -p cove-agents --test real_clis`, where `tests/agents/install.sh
//! DIRECTORY` has installed them; without the variable every test says that it is skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

mod real;

use cove_core::{AgentEvent, AgentOutcome};
use real::{Answer, Ask, attempt, programs, workspace};

fn prompt(story: &str, title: &str) -> String {
    format!("# Your task: story {story} — {title}\n\nWrite the file that the story asks for, then run `sh check.sh`.\n")
}

/// Both stories of `tests/agents/repository/prd.json`, each by its own attempt with a fresh home; the
/// file is written by the program's own tool.
fn two_stories(agent: &str) {
    let Some(programs) = programs(&format!("two_stories_by_{agent}")) else { return };
    let workspace = workspace();
    let fixture = format!("{agent}-two-stories");
    for (story, title, file, content) in [
        ("US-001", "Greet people", "greeting.txt", "hello from cove\n"),
        ("US-002", "Say farewell", "farewell.txt", "goodbye from cove\n"),
    ] {
        let prompt = prompt(story, title);
        let ask = Ask { agent, fixture: &fixture, prompt: &prompt, max_turns: Some(20), ..Ask::default() };
        let answer = attempt(&programs, workspace.path(), &ask);
        let AgentOutcome::Done { message } = &answer.outcome else { panic!("{agent} {story}: {answer:#?}") };
        assert!(message.trim_end().ends_with("<promise>COMPLETE</promise>"), "{answer:#?}");
        let written = std::fs::read_to_string(workspace.path().join(file)).unwrap_or_default();
        assert_eq!(written, content, "{answer:#?}");
        assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens), (300, 60), "{answer:#?}");
        assert_eq!(answer.usage.turns, 3, "{answer:#?}");
        let tools = count(&answer, |e| matches!(e, AgentEvent::ToolUse { .. }));
        let results = count(&answer, |e| matches!(e, AgentEvent::ToolResult { error: false, .. }));
        assert_eq!((tools, results), (2, 2), "{answer:#?}");
        // The model was reached through the door, and nothing else was looked for. opencode looks for a
        // package of its own in a fresh home and does without.
        assert_eq!(answer.reached.len(), 1, "{answer:#?}");
        assert!(agent == "opencode" || answer.refused.is_empty(), "{answer:#?}");
    }
}

#[test]
fn two_stories_by_claude() {
    two_stories("claude");
}

#[test]
fn two_stories_by_codex() {
    two_stories("codex");
}

#[test]
fn two_stories_by_opencode() {
    two_stories("opencode");
}

#[test]
fn two_stories_by_gemini() {
    two_stories("gemini");
}

fn count(answer: &Answer, wanted: impl Fn(&AgentEvent) -> bool) -> usize {
    answer.events.iter().filter(|e| wanted(e)).count()
}

const QUICK_CODEX: &[&str] =
    &["-c", "model_providers.cove.request_max_retries=0", "-c", "model_providers.cove.stream_max_retries=0"];
const QUICK_CLAUDE: &[(&str, &str)] = &[("CLAUDE_CODE_MAX_RETRIES", "1")];

fn is_limit(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::RateLimit { .. })
}

fn is_turn(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::Turn)
}

fn base<'a>(agent: &'a str, fixture: &'a str) -> Ask<'a> {
    Ask {
        agent,
        fixture,
        prompt: "# Your task: story US-001 — Greet people\n",
        args: if agent == "codex" { QUICK_CODEX } else { &[] },
        env: if agent == "claude" { QUICK_CLAUDE } else { &[] },
        ..Ask::default()
    }
}

fn misbehaviour(agent: &str, fixture: &str, ask: impl Fn(&mut Ask<'_>), fits: impl Fn(&Answer) -> bool) {
    let Some(programs) = programs(&format!("{fixture} by {agent}")) else { return };
    let workspace = workspace();
    let mut asked = base(agent, fixture);
    ask(&mut asked);
    let started = std::time::Instant::now();
    let answer = attempt(&programs, workspace.path(), &asked);
    println!("{agent} {fixture}: {:?} in {:?}", answer.outcome, started.elapsed());
    assert!(fits(&answer), "{agent} {fixture}: {answer:#?}");
    assert!(!workspace.path().join("greeting.txt").exists(), "{answer:#?}");
}

fn failed(answer: &Answer, part: &str) -> bool {
    matches!(&answer.outcome, AgentOutcome::Failed { reason } if reason.contains(part))
}

#[test]
fn a_provider_error_is_a_failure() {
    for agent in ["claude", "codex", "opencode", "gemini"] {
        misbehaviour(agent, "api-error", |_| {}, |a| failed(a, "not understood"));
    }
}

#[test]
fn an_error_called_an_answer_is_a_failure() {
    // Exit code 0 and a terminal event that says success.
    for agent in ["claude", "codex"] {
        misbehaviour(agent, "error-as-answer", |_| {}, |a| a.exit.success() && failed(a, "Internal server error"));
    }
}

#[test]
fn a_refused_key_is_told_apart() {
    for agent in ["claude", "codex", "opencode", "gemini"] {
        misbehaviour(agent, "unauthorized", |_| {}, |a| matches!(a.outcome, AgentOutcome::Unauthorized { .. }));
    }
}

#[test]
fn a_rate_limit_is_told_apart() {
    for agent in ["claude", "codex"] {
        misbehaviour(agent, "rate-limited", |_| {}, |a| matches!(a.outcome, AgentOutcome::Limited { .. }));
    }
    // Repeats for minutes without an event; its first word on it must suffice to end it.
    let fits = |a: &Answer| matches!(a.outcome, AgentOutcome::Limited { .. }) && count(a, is_limit) >= 1;
    misbehaviour("gemini", "rate-limited", |ask| ask.stop_at = Some((1, is_limit)), fits);
}

#[test]
fn endless_tool_calls_are_ended() {
    // One counts its turns itself, the other never stops by itself.
    misbehaviour("claude", "claude-endless", |ask| ask.max_turns = Some(3), |a| failed(a, "maximum number of turns"));
    let fits = |a: &Answer| failed(a, "from outside") && a.usage.turns == 0 && count(a, is_turn) >= 6;
    misbehaviour("codex", "codex-endless", |ask| ask.stop_at = Some((6, is_turn)), fits);
}

#[test]
fn a_cut_answer_is_no_success() {
    // It asks again for the whole answer at once; half an answer is never its last word.
    let whole = |a: &Answer| match &a.outcome {
        AgentOutcome::Done { message } => message.ends_with("in the middle of it."),
        _ => true,
    };
    misbehaviour("claude", "stream-cut", |_| {}, whole);
    misbehaviour("codex", "stream-cut", |_| {}, |a| failed(a, "stream disconnected"));
}

/// Exit code 0, a claim of completion, and the file untouched: only the denial tells.
#[test]
fn a_denied_edit_is_visible() {
    let Some(programs) = programs("a_denied_edit_is_visible") else { return };
    let workspace = workspace();
    std::fs::create_dir(workspace.path().join(".claude")).unwrap();
    std::fs::write(
        workspace.path().join(".claude/settings.json"),
        r#"{"permissions":{"deny":["Edit(greeting.txt)"]}}"#,
    )
    .unwrap();
    std::fs::create_dir(workspace.path().join(".gemini")).unwrap();
    std::fs::write(workspace.path().join(".gemini/settings.json"), r#"{"tools":{"exclude":["write_file"]}}"#).unwrap();
    let claude = attempt(&programs, workspace.path(), &base("claude", "claude-denied"));
    let gemini = attempt(&programs, workspace.path(), &base("gemini", "gemini-denied"));
    for answer in [claude, gemini] {
        assert!(answer.exit.success() && matches!(answer.outcome, AgentOutcome::Done { .. }), "{answer:#?}");
        assert!(count(&answer, |e| matches!(e, AgentEvent::PermissionDenied { .. })) >= 1, "{answer:#?}");
        assert!(!workspace.path().join("greeting.txt").exists());
    }
}
