//! Plain text.

use std::collections::VecDeque;

use serde_json::Value;

use super::Dialect;
use super::reading::{Reading, cut};

/// Lines of output that count as the last words.
const LINES: usize = 40;
/// Bytes of such a line.
const LINE_BYTES: usize = 2 << 10;

/// The last lines of an output.
#[derive(Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
}

impl Tail {
    pub(super) fn push(&mut self, line: &str) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(cut(line, LINE_BYTES).to_owned());
    }

    pub(super) fn take(&mut self) -> Option<String> {
        let lines: Vec<String> = std::mem::take(&mut self.lines).into();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[derive(Default)]
pub(super) struct Text {
    tail: Tail,
}

impl Dialect for Text {
    fn event(&mut self, event: &Value, reading: &mut Reading) -> bool {
        // JSON is text like any other here.
        self.text(&event.to_string(), reading);
        true
    }

    fn text(&mut self, line: &str, reading: &mut Reading) {
        reading.say(line);
        self.tail.push(line);
    }

    fn end(&mut self, reading: &mut Reading) {
        if let Some(tail) = self.tail.take() {
            reading.message = tail;
        }
    }
}
