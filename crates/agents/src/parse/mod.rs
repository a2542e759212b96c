//! From an agent's output to events and an outcome.
//!
//! Bytes become lines ([`lines`]), a line becomes a JSON value ([`json`]), and a dialect per program
//! tells the [`reading`](reading::Reading) what it means. The reading keeps what the attempt came to;
//! [`verdict`] weighs it against the exit status. All of it is bounded: what a sandbox prints is
//! hostile input.

mod claude;
mod codex;
mod gemini;
mod json;
mod json_lines;
mod lines;
mod opencode;
mod reading;
mod refusal;
mod reset;
mod text;
mod verdict;

use std::sync::Arc;

use cove_core::{AgentEvent, AgentOutcome, ExitStatus, StreamParser};
use jiff::Timestamp;
use serde_json::Value;

use crate::definition::{StreamFormat, TerminalRule};
use crate::prices::PriceTable;

use lines::LineReader;
pub use lines::MAX_LINE_BYTES;
use reading::Reading;

/// Reads one attempt of any program.
///
/// A line counts when its newline has come: at the end of stdout feed one `\n`, so that a last line
/// without it gives its events too ([`StreamParser::finish`] takes such a line into its verdict in any
/// case).
pub struct StreamReader {
    stdout: LineReader,
    stderr: LineReader,
    dialect: Box<dyn Dialect>,
    rule: TerminalRule,
    reading: Reading,
}

/// What a reader is given from outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct ParserOptions {
    /// The time that "in 5 minutes" counts from; the clock when absent.
    pub now: Option<Timestamp>,
}

/// What was passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Lines of stdout with an event.
    pub events: u64,
    /// Lines of stdout that are no event: text, broken JSON, unknown types.
    pub noise: u64,
    /// Lines left out because they were longer than [`MAX_LINE_BYTES`] or had too many parts.
    pub skipped: u64,
}

/// The meaning of one program's lines.
trait Dialect: Send {
    /// An object on stdout. Returns whether it was known.
    fn event(&mut self, event: &Value, reading: &mut Reading) -> bool;

    /// A line of stdout that is no JSON object.
    fn text(&mut self, line: &str, reading: &mut Reading) {
        reading.remark(line);
    }

    /// A line of stderr.
    fn stderr(&mut self, line: &str, reading: &mut Reading) {
        reading.remark(line);
    }

    /// No more lines will come.
    fn end(&mut self, _reading: &mut Reading) {}
}

impl StreamReader {
    pub(crate) fn new(
        format: StreamFormat,
        rule: TerminalRule,
        prices: Arc<PriceTable>,
        model: Option<String>,
        options: ParserOptions,
    ) -> Self {
        let dialect: Box<dyn Dialect> = match format {
            StreamFormat::Claude => Box::new(claude::Claude::default()),
            StreamFormat::Codex => Box::new(codex::Codex::default()),
            StreamFormat::OpenCode => Box::new(opencode::OpenCode),
            StreamFormat::Gemini => Box::new(gemini::Gemini::default()),
            StreamFormat::JsonLines => Box::new(json_lines::JsonLines::default()),
            StreamFormat::Text => Box::new(text::Text::default()),
        };
        Self {
            stdout: LineReader::default(),
            stderr: LineReader::default(),
            dialect,
            rule,
            reading: Reading::new(prices, model, options.now),
        }
    }

    /// What was passed over so far.
    pub fn counts(&self) -> StreamCounts {
        let mut counts = self.reading.counts;
        counts.skipped += self.stdout.skipped();
        counts
    }

    fn stdout_line(dialect: &mut dyn Dialect, reading: &mut Reading, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
        if text.is_empty() {
            return;
        }
        match json::object(text) {
            json::Line::Object(value) if dialect.event(&value, reading) => reading.counts.events += 1,
            json::Line::Object(_) => reading.counts.noise += 1,
            json::Line::TooComplex => reading.counts.skipped += 1,
            json::Line::Other => {
                reading.counts.noise += 1;
                dialect.text(text, reading);
            }
        }
    }

    fn stderr_line(dialect: &mut dyn Dialect, reading: &mut Reading, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        if !text.is_empty() {
            dialect.stderr(text, reading);
        }
    }
}

impl StreamParser for StreamReader {
    fn stdout(&mut self, bytes: &[u8]) -> Vec<AgentEvent> {
        let Self { stdout, dialect, reading, .. } = self;
        stdout.push(bytes, |line| Self::stdout_line(dialect.as_mut(), reading, line));
        reading.take_events()
    }

    fn stderr(&mut self, bytes: &[u8]) -> Vec<AgentEvent> {
        let Self { stderr, dialect, reading, .. } = self;
        stderr.push(bytes, |line| Self::stderr_line(dialect.as_mut(), reading, line));
        reading.take_events()
    }

    fn finish(&mut self, exit: &ExitStatus) -> AgentOutcome {
        let Self { stdout, stderr, dialect, reading, rule } = self;
        stdout.finish(|line| Self::stdout_line(dialect.as_mut(), reading, line));
        stderr.finish(|line| Self::stderr_line(dialect.as_mut(), reading, line));
        dialect.end(reading);
        verdict::outcome(reading, *rule, exit)
    }
}
