//! Text from agents and repositories is hostile to terminals: it may move the cursor, forge lines,
//! reverse reading order. Nothing of that reaches the screen.

/// One line without anything that a terminal acts on; line breaks and tabs become spaces.
pub fn clean_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in strip_sequences(text) {
        match char {
            '\n' | '\r' | '\t' => out.push(' '),
            other if hides(other) => {}
            other => out.push(other),
        }
    }
    out
}

/// Several lines, each cleaned; tabs stay.
pub fn clean_block(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in strip_sequences(text) {
        match char {
            '\n' | '\t' => out.push(char),
            other if hides(other) => {}
            other => out.push(other),
        }
    }
    out
}

/// Characters without escape sequences: CSI to its final byte, OSC and its kin to their terminator.
fn strip_sequences(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        loop {
            match chars.next()? {
                '\u{1b}' => match chars.peek().copied() {
                    Some('[') => {
                        chars.next();
                        while chars.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
                        chars.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
                    }
                    Some(']' | 'P' | 'X' | '^' | '_') => {
                        chars.next();
                        // Bounded: a sequence that never ends must not swallow the rest of the text.
                        for _ in 0..4096 {
                            match chars.peek() {
                                Some('\n') | None => break,
                                Some('\u{7}') => {
                                    chars.next();
                                    break;
                                }
                                Some('\u{1b}') => {
                                    chars.next();
                                    chars.next_if(|c| *c == '\\');
                                    break;
                                }
                                Some(_) => drop(chars.next()),
                            }
                        }
                    }
                    Some(c) if !c.is_control() => drop(chars.next()),
                    _ => {}
                },
                other => return Some(other),
            }
        }
    })
}

/// Control characters, direction overrides and invisible characters.
fn hides(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Columns that a text takes: 2 for East Asian wide characters and pictographs, 0 for combining marks.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(char: char) -> usize {
    match u32::from(char) {
        0x300..=0x36f | 0x1ab0..=0x1aff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Cuts a text to at most `columns`, with an ellipsis where something was cut.
pub fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for char in text.chars() {
        if used + char_width(char) >= columns {
            break;
        }
        used += char_width(char);
        out.push(char);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_comes_through() {
        for (hostile, clean) in [
            ("plain", "plain"),
            ("\u{1b}[2Jgone\u{1b}[1;31mred\u{1b}[0m", "gonered"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("a\rb\nc\td", "a b c d"),
            ("bell\u{7}back\u{8}", "bellback"),
            ("\u{202e}txt.exe", "txt.exe"),
            ("\u{9b}31mx", "31mx"),
            ("\u{1b}Pq...\u{1b}\\y", "y"),
            ("end\u{1b}", "end"),
            ("end\u{1b}[12", "end"),
        ] {
            assert_eq!(clean_line(hostile), clean, "{hostile:?}");
        }
        let unending = format!("\u{1b}]{}tail", "x".repeat(10_000));
        assert!(clean_line(&unending).ends_with("tail"));
        assert_eq!(clean_block("a\u{1b}[1A\nb"), "a\nb");
    }

    #[test]
    fn texts_are_cut_by_columns() {
        for (text, columns, cut) in
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 5, "日本…"), ("日本語", 6, "日本語"), ("x", 0, "")]
        {
            assert_eq!(fit(text, columns), cut, "{text} to {columns}");
            assert!(width(&fit(text, columns)) <= columns);
        }
    }
}
