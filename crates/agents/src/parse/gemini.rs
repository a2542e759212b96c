//! Gemini CLI's `stream-json`.
//!
//! Text comes in small pieces, tokens only with the result, and retries only on stderr.

use serde_json::Value;

use super::Dialect;
use super::claude::summary;
use super::json::{at, count, text};
use super::reading::{Reading, Terminal, cut};

/// Bytes of one answer that are put together.
const MAX_ANSWER: usize = 256 << 10;

#[derive(Default)]
pub(super) struct Gemini {
    /// Pieces of the answer so far.
    answer: String,
    /// An answer of the model is under way.
    answering: bool,
}

impl Dialect for Gemini {
    fn event(&mut self, event: &Value, reading: &mut Reading) -> bool {
        match text(event, &["type"]) {
            "init" => {
                let model = text(event, &["model"]);
                if !model.is_empty() {
                    reading.usage().model = Some(cut(model, 200).to_owned());
                }
            }
            "message" if text(event, &["role"]) == "assistant" => {
                self.begin(reading);
                if at(event, &["delta"]) != &Value::Bool(true) {
                    self.flush(reading);
                }
                let room = MAX_ANSWER.saturating_sub(self.answer.len());
                self.answer.push_str(cut(text(event, &["content"]), room));
            }
            "message" => {}
            "tool_use" => {
                self.begin(reading);
                self.flush(reading);
                reading.tool(text(event, &["tool_name"]), summary(at(event, &["parameters"])));
            }
            "tool_result" => {
                self.flush(reading);
                self.answering = false;
                self.tool_result(event, reading);
            }
            "error" => reading.error(text(event, &["message"])),
            "result" => self.result(event, reading),
            _ => return false,
        }
        true
    }

    fn stderr(&mut self, line: &str, reading: &mut Reading) {
        // "Attempt 3 failed with status 429. Retrying with backoff…": all that is said for minutes.
        if line.starts_with("Attempt ") && line.contains(" failed") {
            reading.error(line);
        } else if !line.starts_with("at ") {
            reading.remark(line);
        }
    }

    fn end(&mut self, reading: &mut Reading) {
        self.flush(reading);
    }
}

impl Gemini {
    fn begin(&mut self, reading: &mut Reading) {
        reading.progress();
        if !std::mem::replace(&mut self.answering, true) {
            reading.terminal = None;
            reading.turn();
        }
    }

    fn flush(&mut self, reading: &mut Reading) {
        let answer = std::mem::take(&mut self.answer);
        reading.say(&answer);
    }

    fn tool_result(&mut self, event: &Value, reading: &mut Reading) {
        let failed = text(event, &["status"]) == "error";
        let why = text(event, &["error", "message"]);
        let kind = text(event, &["error", "type"]);
        // Without approval the tool is not there at all, and the run still calls itself a success.
        if failed && (matches!(kind, "tool_not_registered" | "policy_violation") || why.contains("denied by policy")) {
            reading.denied(why);
        }
        reading.tool_result(failed, if failed && !why.is_empty() { why } else { text(event, &["output"]) });
    }

    fn result(&mut self, event: &Value, reading: &mut Reading) {
        self.flush(reading);
        let stats = at(event, &["stats"]);
        let (input, cached) = (count(stats, &["input_tokens"]), count(stats, &["cached"]));
        let (output, all) = (count(stats, &["output_tokens"]), count(stats, &["total_tokens"]));
        let usage = reading.usage();
        usage.input_tokens = input.saturating_sub(cached);
        usage.cache_read_tokens = cached.min(input);
        // Thinking is in the total only.
        usage.output_tokens = output.max(all.saturating_sub(input));
        reading.tell_usage();
        if text(event, &["status"]) == "success" {
            let words = reading.message.clone();
            reading.conclude(&words);
            reading.terminal = Some(Terminal::Good);
        } else {
            let words = text(event, &["error", "message"]);
            let words = if words.is_empty() { "an error without words" } else { words };
            reading.terminal = Some(Terminal::Bad(words.to_owned()));
        }
    }
}
