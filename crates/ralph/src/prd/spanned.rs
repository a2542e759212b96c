//! JSON with the place of every value: for errors that name a line, and for edits that leave the rest
//! of the text alone. Comments are accepted where the dialect allows them.

use std::ops::Range;

/// Nesting that is followed; deeper is an error, so that hostile text cannot exhaust the stack.
const DEPTH_BOUND: usize = 64;

/// A value and where it stands, in bytes of the text.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// A JSON value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) key_start: usize,
    pub(super) node: Node,
}

impl Node {
    /// The member of that name; none when absent, `null`, or when this is no object.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let node = &self.members().iter().find(|member| member.key == key)?.node;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The first member present of several names.
    pub(super) fn any<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &Node)> {
        keys.iter().find_map(|key| self.get(key).map(|node| (*key, node)))
    }

    pub(super) fn members(&self) -> &[Member] {
        if let Value::Object(members) = &self.value { members } else { &[] }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// A fault and its offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) what: String,
}

/// Reads one value that fills the text, after an optional byte order mark.
pub(super) fn parse(text: &str, comments: bool) -> Result<Node, Fault> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: super::without_bom(text).1, comments };
    reader.space()?;
    let node = reader.value(0)?;
    reader.space()?;
    if reader.at < text.len() {
        return reader.fail("there is text after the end of the JSON");
    }
    Ok(node)
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    comments: bool,
}

impl Reader<'_> {
    fn fail<T>(&self, what: &str) -> Result<T, Fault> {
        Err(Fault { at: self.at.min(self.text.len()), what: what.to_owned() })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) -> Result<(), Fault> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(b'/') if self.comments && self.bytes.get(self.at + 1) == Some(&b'/') => {
                    self.at = self.text[self.at..].find('\n').map_or(self.text.len(), |end| self.at + end);
                }
                Some(b'/') if self.comments && self.bytes.get(self.at + 1) == Some(&b'*') => {
                    match self.text[self.at + 2..].find("*/") {
                        Some(end) => self.at += end + 4,
                        None => return self.fail("a comment is not closed"),
                    }
                }
                Some(b'/') => return self.fail("comments are not allowed in JSON"),
                _ => return Ok(()),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH_BOUND {
            return self.fail("the JSON is nested too deeply");
        }
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            None => return self.fail("the JSON ends too early"),
            Some(b'\'') => return self.fail("texts need double quotes"),
            Some(b'}' | b']') => return self.fail("a value is missing; is there a comma too much before it?"),
            Some(_) => return self.fail("a value is expected here"),
        };
        Ok(Node { span: start..self.at, value })
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Fault> {
        if !self.text[self.at..].starts_with(word) {
            return self.fail("a value is expected here");
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if serde_json::from_str::<serde_json::Number>(text).is_err() {
            self.at = start;
            return self.fail("this is not a number");
        }
        Ok(Value::Number(text.to_owned()))
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => {
                    self.at = start;
                    return self.fail("a text is not closed");
                }
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(byte) if byte < 0x20 => {
                    return self.fail("a text holds a line break or control character; write \\n");
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        let literal = self.text.get(start..self.at);
        let Some(Ok(text)) = literal.map(serde_json::from_str::<String>) else {
            self.at = start;
            return self.fail("a text holds an escape that JSON does not know");
        };
        Ok(text)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        self.space()?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            self.space()?;
            items.push(self.value(depth + 1)?);
            self.space()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.fail("a comma or ] is expected here"),
            }
        }
        self.at += 1;
        Ok(Value::List(items))
    }

    fn object(&mut self, depth: usize) -> Result<Value, Fault> {
        self.at += 1;
        let mut members: Vec<Member> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        self.space()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            self.space()?;
            let key_start = self.at;
            match self.peek() {
                Some(b'"') => {}
                Some(b'}') => return self.fail("a key is missing; is there a comma too much before it?"),
                _ => return self.fail("a key in double quotes is expected here"),
            }
            let key = self.string()?;
            if !seen.insert(key.clone()) {
                self.at = key_start;
                return self.fail(&format!("the key `{}` stands twice in one object", key.escape_debug()));
            }
            self.space()?;
            if self.peek() != Some(b':') {
                return self.fail("a colon is expected after the key");
            }
            self.at += 1;
            self.space()?;
            let node = self.value(depth + 1)?;
            members.push(Member { key, key_start, node });
            self.space()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.fail("a comma or } is expected here"),
            }
        }
        self.at += 1;
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_usual_reader_about_what_json_is() {
        for text in [
            "{}",
            "[]",
            "null",
            " {\"a\": [1, -2.5e3, true, \"\\u00e9\\n\"]} ",
            "{\"a\":{\"b\":[]}}",
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "'x'",
            "{a:1}",
            "\"\\x\"",
            "\"a\nb\"",
            "1 2",
            "tru",
            "-",
            "\"\\ud800\"",
            "[",
            "\"",
            "\"\\",
            "{\"a\"}",
            "nullx",
            "1e999",
        ] {
            let ours = parse(text, false).is_ok();
            let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok();
            // A number out of range is read as text; fields decide what they accept.
            assert!(ours == theirs || text == "1e999", "{text:?}: ours {ours}, theirs {theirs}");
        }
    }

    #[test]
    fn spans_cover_their_values() {
        let text = "\u{feff}{ \"a\" : [ 10 , \"x\" ] }";
        let node = parse(text, false).unwrap();
        let list = node.get("a").unwrap();
        assert_eq!(&text[list.span.clone()], "[ 10 , \"x\" ]");
        let Value::List(items) = &list.value else { panic!("a list") };
        assert_eq!(&text[items[1].span.clone()], "\"x\"");
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let text = "[".repeat(1 << 20);
        assert!(parse(&text, false).unwrap_err().what.contains("too deeply"));
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read_or_refused(text in ".*", comments: bool) {
            if let Err(fault) = parse(&text, comments) {
                proptest::prop_assert!(fault.at <= text.len());
            }
        }
    }
}
