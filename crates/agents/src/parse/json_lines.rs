//! Simple events of any program, one JSON object a line; other lines are text.

use serde_json::Value;

use super::Dialect;
use super::json::{at, count, dollars, text};
use super::reading::{Reading, Terminal, cut};
use super::text::Tail;

#[derive(Default)]
pub(super) struct JsonLines {
    tail: Tail,
}

impl Dialect for JsonLines {
    fn event(&mut self, event: &Value, reading: &mut Reading) -> bool {
        let message = text(event, &["message"]);
        match text(event, &["type"]) {
            "text" => reading.say(text(event, &["text"])),
            "turn" => reading.turn(),
            "tool" => reading.tool(text(event, &["tool"]), text(event, &["summary"])),
            "toolResult" => reading.tool_result(truth(event, "error"), text(event, &["summary"])),
            "usage" => usage(event, reading),
            "denied" => reading.denied(message),
            "error" => reading.error(message),
            "limit" => {
                let resets_at = match at(event, &["resetsAt"]) {
                    Value::String(time) => time.parse().ok(),
                    time => time.as_i64().and_then(|s| jiff::Timestamp::from_second(s).ok()),
                };
                reading.limit(resets_at, message);
            }
            "final" => {
                let words = text(event, &["text"]);
                reading.conclude(words);
                reading.terminal = Some(if truth(event, "error") {
                    Terminal::Bad(if words.is_empty() { "an error without words" } else { words }.to_owned())
                } else {
                    Terminal::Good
                });
            }
            _ => return false,
        }
        true
    }

    fn text(&mut self, line: &str, reading: &mut Reading) {
        reading.say(line);
        self.tail.push(line);
    }

    fn end(&mut self, reading: &mut Reading) {
        if reading.terminal.is_none()
            && let Some(tail) = self.tail.take()
        {
            reading.message = tail;
        }
    }
}

fn truth(event: &Value, name: &str) -> bool {
    at(event, &[name]) == &Value::Bool(true)
}

fn usage(event: &Value, reading: &mut Reading) {
    let of = |name| count(event, &[name]);
    let usage = reading.usage();
    usage.input_tokens = of("inputTokens");
    usage.output_tokens = of("outputTokens");
    usage.cache_read_tokens = of("cacheReadTokens");
    usage.cache_write_tokens = of("cacheWriteTokens");
    usage.reported_cost_usd = dollars(event, &["costUsd"]);
    let model = text(event, &["model"]);
    if !model.is_empty() {
        usage.model = Some(cut(model, 200).to_owned());
    }
    reading.tell_usage();
}
