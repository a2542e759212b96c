//! JSON with comments and trailing commas, and the line of every key.

use std::collections::BTreeMap;
use std::path::Path;

use cove_core::{Error, Result};
use serde_json::Value;

/// Largest file read.
const BOUND: u64 = 1 << 20;

/// A parsed file.
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Line, from 1, of the key with this dotted path.
    lines: BTreeMap<String, usize>,
}

impl Document {
    /// Reads a file; `None` when there is none.
    pub(crate) fn read(file: &Path) -> Result<Option<Self>> {
        use std::io::Read;
        let handle = match std::fs::File::open(file) {
            Ok(handle) => handle,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => {
                return Err(Error::invalid(format!("The file {} cannot be read", file.display()))
                    .because(e)
                    .next("Check its permissions"));
            }
        };
        let mut text = String::new();
        handle
            .take(BOUND + 1)
            .read_to_string(&mut text)
            .map_err(|e| Error::invalid(format!("The file {} cannot be read as text", file.display())).because(e))?;
        if text.len() as u64 > BOUND {
            return Err(Error::invalid(format!("The file {} is larger than 1 MiB", file.display())));
        }
        Self::parse(&text, file).map(Some)
    }

    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self> {
        let plain = strip(text.strip_prefix('\u{feff}').unwrap_or(text));
        let value: Value = serde_json::from_str(&plain).map_err(|e| {
            Error::invalid(format!("{}:{}:{} is not valid JSON", file.display(), e.line(), e.column()))
                .because(e)
                .next("Correct the file; comments and trailing commas are allowed")
        })?;
        let (lines, twice) = lines(&plain);
        if let Some((key, line)) = twice {
            return Err(Error::invalid(format!("{}:{line} has the key {key} a second time", file.display()))
                .next("Remove one of the two"));
        }
        Ok(Self { value, lines })
    }

    pub(crate) fn line(&self, path: &str) -> Option<usize> {
        self.lines.get(path).copied()
    }
}

/// Blanks comments and trailing commas; every other byte keeps its place.
fn strip(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let (mut at, mut comma) = (0, None);
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', _) => {
                comma = None;
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            (b'/', Some(b'/')) => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    out[at] = b' ';
                    at += 1;
                }
            }
            (b'/', Some(b'*')) => {
                let end = text.get(at + 2..).and_then(|rest| rest.find("*/")).map_or(bytes.len(), |n| at + 2 + n + 2);
                for slot in &mut out[at..end] {
                    if *slot != b'\n' {
                        *slot = b' ';
                    }
                }
                at = end;
            }
            (b',', _) => {
                comma = Some(at);
                at += 1;
            }
            (b'}' | b']', _) => {
                if let Some(place) = comma.take() {
                    out[place] = b' ';
                }
                at += 1;
            }
            (byte, _) => {
                if !byte.is_ascii_whitespace() {
                    comma = None;
                }
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

type Lines = (BTreeMap<String, usize>, Option<(String, usize)>);

/// Walks valid JSON and notes each key's line, and the first key given twice. Keys inside arrays
/// are passed over.
fn lines(text: &str) -> Lines {
    let (mut found, mut twice) = (BTreeMap::new(), None);
    // `Some(key)` inside an object, `None` inside an array.
    let mut stack: Vec<Option<String>> = Vec::new();
    let (mut line, mut expects_key) = (1, false);
    let mut chars = text.char_indices();
    while let Some((start, char)) = chars.next() {
        match char {
            '\n' => line += 1,
            '{' => {
                stack.push(Some(String::new()));
                expects_key = true;
            }
            '[' => {
                stack.push(None);
                expects_key = false;
            }
            '}' | ']' => {
                stack.pop();
                expects_key = false;
            }
            ',' => expects_key = matches!(stack.last(), Some(Some(_))),
            '"' => {
                let mut end = start;
                while let Some((at, inner)) = chars.next() {
                    match inner {
                        '\\' => drop(chars.next()),
                        '"' => {
                            end = at;
                            break;
                        }
                        _ => {}
                    }
                }
                if expects_key && end > start {
                    expects_key = false;
                    let key: String = serde_json::from_str(&text[start..=end]).unwrap_or_default();
                    if let Some(Some(slot)) = stack.last_mut() {
                        *slot = key;
                    }
                    if let Some(path) = stack.iter().cloned().collect::<Option<Vec<_>>>() {
                        let path = path.join(".");
                        if found.insert(path.clone(), line).is_some() && twice.is_none() {
                            twice = Some((path, line));
                        }
                    }
                }
            }
            _ => {}
        }
    }
    (found, twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_trailing_commas_and_lines() {
        let text = "{ // first\n  \"a\": \"x // no, }\", /* two\n lines */\n  \"b\": { \"c\": [1, 2,], },\n}";
        let document = Document::parse(text, Path::new("f")).unwrap();
        assert_eq!(document.value, serde_json::json!({"a": "x // no, }", "b": {"c": [1, 2]}}));
        assert_eq!((document.line("a"), document.line("b.c"), document.line("c")), (Some(2), Some(4), None));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, says) in [
            ("{\n\"a\": }", "f:2:6"),
            ("{\n\"a\": 1,\n\"a\": 2}", "f:3 has the key a a second time"),
            ("", "f:1:0"),
            ("{\"a\": \"\\", "f:1:"),
            ("/* open", "f:1:"),
        ] {
            let message = Document::parse(text, Path::new("f")).err().expect(text).message().to_owned();
            assert!(message.contains(says), "{text:?}: {message}");
        }
    }
}
