//! Text of others inside a prompt: bounded, cleaned, and fenced so that it reads as data.

/// `text` in a code fence longer than any run of backticks within it, at most `bound` bytes of it: the
/// end when `keep_end`, as with logs, else the beginning. Control characters go, terminal escapes
/// included. Empty for blank text.
pub fn fenced(text: &str, bound: usize, keep_end: bool) -> String {
    let clean = clean(text);
    let clean = clean.trim_matches('\n');
    if clean.trim().is_empty() {
        return String::new();
    }
    let cut = clip(clean, bound, keep_end);
    let longest = cut.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{cut}\n{fence}\n")
}

/// At most `bound` bytes, with a mark where something is missing.
pub(super) fn clip(text: &str, bound: usize, keep_end: bool) -> String {
    if text.len() <= bound {
        return text.to_owned();
    }
    if keep_end {
        format!("[… beginning left out]\n{}", end(text, bound))
    } else {
        format!("{}\n[… rest left out]", head(text, bound))
    }
}

/// The beginning, at most `bound` bytes, cut between characters.
pub(crate) fn head(text: &str, bound: usize) -> &str {
    let mut at = bound.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

/// The end, at most `bound` bytes, cut between characters.
fn end(text: &str, bound: usize) -> &str {
    let mut at = text.len().saturating_sub(bound);
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

/// Without terminal escapes, control characters, and the invisible characters that hide or reorder
/// text from a reader.
pub(super) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.peek() {
                Some('[') => {
                    chars.next();
                    while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
                Some(']') => {
                    // Ends with BEL or ESC \; a bound keeps an unclosed one from eating all the rest.
                    for _ in 0..4096 {
                        match chars.next() {
                            None | Some('\u{7}') => break,
                            Some('\u{1b}') => {
                                chars.next_if_eq(&'\\');
                                break;
                            }
                            Some(_) => {}
                        }
                    }
                }
                _ => {}
            },
            '\n' | '\t' => out.push(c),
            '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}
