//! What may be passed to git as an object id, a revision, a branch or a reference.

use cove_core::{Error, Result};

/// A full object id, SHA-1 or SHA-256, lowercase.
pub(crate) fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Refuses what is not a full object id.
pub(crate) fn check_id(text: &str) -> Result<()> {
    if is_id(text) {
        return Ok(());
    }
    Err(Error::invalid(format!("{:?} is not a full commit id", shown(text))))
}

/// Refuses what git could take for an option or could not be given.
pub(crate) fn check_revision(text: &str) -> Result<()> {
    if text.is_empty() || text.len() > 1024 || text.starts_with('-') || text.chars().any(char::is_control) {
        return Err(
            Error::invalid(format!("{:?} is not a revision", shown(text))).next("Name a branch, a tag or a commit id")
        );
    }
    Ok(())
}

/// The full name `refs/heads/…` of a branch given by its short or full name.
pub(crate) fn branch_ref(branch: &str) -> Result<String> {
    let full = if branch.starts_with("refs/heads/") { branch.to_owned() } else { format!("refs/heads/{branch}") };
    let short = &full["refs/heads/".len()..];
    check_branch(short).map_err(|why| {
        Error::invalid(format!("{:?} cannot be a branch: it {why}", shown(branch)))
            .next("See git check-ref-format for what a name may hold")
    })?;
    Ok(full)
}

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

/// The rules of git-check-ref-format(1), for full names below `refs/`, bounded in length.
pub(crate) fn is_ref(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("refs/") else { return false };
    name.len() <= 512
        && rest.contains('/')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.bytes().any(|b| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b))
        && rest
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock") && part != "@")
}

/// Refuses what is not a reference name.
pub(crate) fn check_ref(name: &str) -> Result<()> {
    if is_ref(name) {
        return Ok(());
    }
    Err(Error::invalid(format!("{:?} is not a reference name below refs/", shown(name))))
}

/// Bytes of a path or name for people: printable, bounded.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(400)];
    let mut out: String = String::from_utf8_lossy(cut).chars().flat_map(char::escape_debug).collect();
    if cut.len() < bytes.len() {
        out.push('…');
    }
    out
}

fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_git_would_refuse_are_refused() {
        for good in ["ralph/tasks", "feature", "a/b/c-1.2", "über"] {
            assert_eq!(check_branch(good), Ok(()), "{good}");
            assert_eq!(branch_ref(good).unwrap(), format!("refs/heads/{good}"));
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
            "a\0b",
            "@{u}",
            "a\u{7f}",
        ] {
            assert!(check_branch(bad).is_err() && branch_ref(bad).is_err(), "{bad:?}");
        }
        assert_eq!(branch_ref("refs/heads/x").unwrap(), "refs/heads/x");
        assert!(check_branch("refs/heads/x").is_err(), "a full name is no branch's name");
    }

    #[test]
    fn revisions_and_ids() {
        for bad in ["", "-h", "--output=x", "a\nb", "a\0"] {
            assert!(check_revision(bad).is_err(), "{bad:?}");
        }
        assert!(check_id(&"a".repeat(40)).is_ok());
        for bad in ["HEAD", "abc", &"A".repeat(40), &"a".repeat(41)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}
