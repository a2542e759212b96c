//! Branch names and slugs.

pub use cove_git::check_branch;

/// Lowercase letters, digits and single dashes, at most `bound` bytes, cut at a dash where one is near.
/// Empty when the text has no letter or digit of ASCII.
pub fn slug(text: &str, bound: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        if out.len() > bound {
            break;
        }
    }
    if out.len() > bound {
        let cut = out[..bound].rfind('-').filter(|at| *at > bound / 2).unwrap_or(bound);
        out.truncate(cut);
    }
    while out.ends_with('-') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_short_and_plain() {
        for (text, want) in
            [("Task Priority!", "task-priority"), ("  --x--  ", "x"), ("ünï", "n"), ("", ""), ("日本", "")]
        {
            assert_eq!(slug(text, 40), want);
        }
        assert_eq!(slug("one two three four", 10), "one-two");
        assert_eq!(slug("abcdefghijklmnop", 10), "abcdefghij");
    }
}
