//! Splits a command line into words as a POSIX shell does, without expanding anything.

use cove_core::{Error, Result};

/// The words of `line`.
///
/// # Errors
/// `Invalid` for an open quote and for a line without words.
pub fn split(line: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    let open = |quote: char| {
        Error::invalid(format!("The command has an open {quote}")).next("Close the quote").with("command", line)
    };
    while let Some(char) = chars.next() {
        match char {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(|| open('\''))? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or_else(|| open('"'))? {
                        '"' => break,
                        '\\' => match chars.next().ok_or_else(|| open('"'))? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            '\n' => {}
                            other => word.extend(['\\', other]),
                        },
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err(open('\\')),
            },
            blank if blank.is_whitespace() => out.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    out.extend(word);
    if out.is_empty() {
        return Err(Error::invalid("The command is empty"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (line, words) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("sh -c 'echo \"$x\" | cat'", vec!["sh", "-c", "echo \"$x\" | cat"]),
            (r#"a "b \" c" d\ e"#, vec!["a", "b \" c", "d e"]),
            ("a'b'\"c\"", vec!["abc"]),
            ("a ''", vec!["a", ""]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        for bad in ["", "  ", "a 'b", "a \"b", "a\\"] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }
}
