//! `opencode run --format json`.
//!
//! There is no summary at the end: the last step's reason tells whether the model was finished, and
//! tokens and cost are per step.

use serde_json::Value;

use super::Dialect;
use super::claude::summary;
use super::json::{at, count, dollars, text};
use super::reading::{Reading, Terminal};

pub(super) struct OpenCode;

impl Dialect for OpenCode {
    fn event(&mut self, event: &Value, reading: &mut Reading) -> bool {
        let part = at(event, &["part"]);
        match text(event, &["type"]) {
            "step_start" => {
                reading.terminal = None;
                reading.progress();
                reading.turn();
            }
            "text" => reading.say(text(part, &["text"])),
            "reasoning" => {}
            "tool_use" => tool(part, reading),
            "step_finish" => finish(part, reading),
            "error" => error(at(event, &["error"]), reading),
            "done" => {
                if text(event, &["reason"]) == "rejected" {
                    reading.denied("A permission was rejected");
                }
            }
            _ => return false,
        }
        true
    }
}

fn tool(part: &Value, reading: &mut Reading) {
    let state = at(part, &["state"]);
    let (name, input) = (text(part, &["tool"]), at(state, &["input"]));
    reading.tool(name, summary(input));
    if name == "invalid" {
        // How it answers a call of a tool that its permissions took away.
        let why = text(input, &["error"]);
        if why.contains("unavailable tool") {
            reading.denied(why);
        }
        reading.tool_result(true, why);
        return;
    }
    match text(state, &["status"]) {
        "error" => {
            let why = text(state, &["error"]);
            let lower = why.to_ascii_lowercase();
            if ["rejected permission", "permission denied", "prevents you from using"].iter().any(|w| lower.contains(w))
            {
                reading.denied(&format!("{name}: {why}"));
            }
            reading.tool_result(true, why);
        }
        "completed" => reading.tool_result(count(state, &["metadata", "exit"]) != 0, text(state, &["output"])),
        _ => {}
    }
}

fn finish(part: &Value, reading: &mut Reading) {
    let of = |path: &[&str]| count(part, path);
    let (input, output) = (of(&["tokens", "input"]), of(&["tokens", "output"]));
    let (read, write) = (of(&["tokens", "cache", "read"]), of(&["tokens", "cache", "write"]));
    let usage = reading.usage();
    usage.input_tokens = usage.input_tokens.saturating_add(input);
    usage.output_tokens = usage.output_tokens.saturating_add(output).saturating_add(of(&["tokens", "reasoning"]));
    usage.cache_read_tokens = usage.cache_read_tokens.saturating_add(read);
    usage.cache_write_tokens = usage.cache_write_tokens.saturating_add(write);
    // It writes 0 for models whose price it does not know.
    if let Some(cost) = dollars(part, &["cost"]).filter(|cost| *cost > 0.0) {
        usage.reported_cost_usd = Some(usage.reported_cost_usd.unwrap_or(0.0) + cost);
    }
    reading.tell_usage();
    reading.terminal = match text(part, &["reason"]) {
        "tool-calls" => None,
        "length" => Some(Terminal::Bad("The answer was cut at the model's output limit".to_owned())),
        "content-filter" => Some(Terminal::Bad("The provider's content filter ended the answer".to_owned())),
        "error" => Some(Terminal::Bad("The answer ended with an error".to_owned())),
        _ => {
            let words = reading.message.clone();
            reading.conclude(&words);
            Some(Terminal::Good)
        }
    };
}

fn error(error: &Value, reading: &mut Reading) {
    let data = at(error, &["data"]);
    let words = [text(data, &["message"]), text(error, &["message"]), text(error, &["name"])];
    let words = words.into_iter().find(|w| !w.is_empty()).unwrap_or("an error without words");
    // The body often holds what the message leaves out, such as when to come back.
    let full = format!("{words} {}", text(data, &["responseBody"]));
    match count(data, &["statusCode"]) {
        0 => reading.error(&full),
        status => reading.error_with_status(&full, status),
    }
    reading.terminal = Some(Terminal::Bad(words.to_owned()));
}
