//! Branch names and slugs.

/// Whether `name` can be a branch, by the rules of git-check-ref-format(1) and a few of our own.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence that begins with the name.
pub fn check_branch(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > 200 {
        return Err("is longer than 200 bytes");
    }
    if name == "@" || name == "HEAD" || name.starts_with("refs/") {
        return Err("is reserved by git");
    }
    if name.starts_with('-') {
        return Err("begins with a dash");
    }
    if name.starts_with('/') || name.ends_with('/') || name.contains("//") {
        return Err("has an empty part");
    }
    if name.ends_with('.') || name.contains("..") || name.contains("@{") {
        return Err("holds `..`, `@{` or a final dot");
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("holds a space or a control character");
    }
    if name.contains(['~', '^', ':', '?', '*', '[', '\\']) {
        return Err("holds one of ~ ^ : ? * [ \\");
    }
    for part in name.split('/') {
        if part.starts_with('.') {
            return Err("has a part that begins with a dot");
        }
        if part.len() >= 5 && part.to_ascii_lowercase().ends_with(".lock") {
            return Err("has a part that ends with .lock");
        }
    }
    Ok(())
}

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
    fn names_git_would_refuse_are_refused() {
        for good in ["ralph/tasks", "feature", "a/b/c-1.2", "über"] {
            assert_eq!(check_branch(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a\tb",
            "a\nb",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "HEAD",
            "a@{1}",
            "refs/heads/x",
            "a\u{7f}",
        ] {
            assert!(check_branch(bad).is_err(), "{bad:?}");
        }
    }

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
