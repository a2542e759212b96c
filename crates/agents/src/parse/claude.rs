//! Claude Code's `stream-json`, and programs shaped like it.
//!
//! Token counts come twice: with each message (`input_tokens` without cache reads and writes, as we
//! count them), once per content block of the same message, and as totals in `result`. The totals also
//! hold subagents, but are zeroed when a budget ends the run; so the larger of both counts.

use std::collections::VecDeque;

use cove_core::Usage;
use serde_json::Value;

use super::json::{at, count, dollars, list, text};
use super::reading::{Reading, Terminal, cut};
use super::{Dialect, refusal};

/// Messages whose usage may still be repeated: subagents interleave theirs.
const REMEMBERED: usize = 32;

#[derive(Default)]
pub(super) struct Claude {
    /// Last messages: id and the usage already counted.
    messages: VecDeque<(String, Usage)>,
    /// Tool uses whose denial was told, newest last.
    denied: VecDeque<String>,
}

impl Dialect for Claude {
    fn event(&mut self, event: &Value, reading: &mut Reading) -> bool {
        match text(event, &["type"]) {
            "system" => self.system(event, reading),
            "assistant" => self.assistant(event, reading),
            "user" => self.user(event, reading),
            "rate_limit_event" => Self::rate_limit(at(event, &["rate_limit_info"]), reading),
            "result" => self.result(event, reading),
            "stream_event" | "control_request" | "control_response" | "prompt_suggestion" => {}
            _ => return false,
        }
        true
    }
}

impl Claude {
    fn system(&mut self, event: &Value, reading: &mut Reading) {
        match text(event, &["subtype"]) {
            "init" => set_model(text(event, &["model"]), reading),
            "api_retry" => {
                let (error, status) = (text(event, &["error"]).replace('_', " "), count(event, &["error_status"]));
                let words = match status {
                    0 => format!("The provider did not answer: {error}"),
                    _ => format!("The provider answered {status}: {error}"),
                };
                reading.error_with_status(&words, status);
            }
            "permission_denied" => {
                let message = format!("{}: {}", text(event, &["tool_name"]), text(event, &["message"]));
                self.deny(text(event, &["tool_use_id"]), &message, reading);
            }
            _ => {}
        }
    }

    fn assistant(&mut self, event: &Value, reading: &mut Reading) {
        let message = at(event, &["message"]);
        let blocks = list(at(message, &["content"]));
        let said: Vec<&str> =
            blocks.iter().filter(|b| text(b, &["type"]) == "text").map(|b| text(b, &["text"])).collect();
        let model = text(message, &["model"]);
        let flagged =
            ["is_api_error_message", "isApiErrorMessage"].iter().any(|k| event.get(k) == Some(&Value::Bool(true)));
        if flagged || (model == "<synthetic>" && event.get("error").is_some_and(Value::is_string)) {
            // Not the model's words: the program puts the provider's error into its mouth.
            reading.error_with_status(&said.join("\n"), count(event, &["api_error_status"]));
            return;
        }
        let main = at(event, &["parent_tool_use_id"]).is_null();
        let fresh = self.count(text(message, &["id"]), at(message, &["usage"]), reading);
        reading.progress();
        if main {
            // A message said after a result belongs to a further one.
            reading.terminal = None;
            set_model(model, reading);
            if fresh {
                reading.turn();
            }
            said.iter().for_each(|text| reading.say(text));
        }
        for block in blocks.iter().filter(|b| text(b, &["type"]) == "tool_use") {
            reading.tool(text(block, &["name"]), summary(at(block, &["input"])));
        }
        reading.tell_usage();
    }

    /// Adds what a message's usage has grown by. Returns whether the message is new.
    fn count(&mut self, id: &str, usage: &Value, reading: &mut Reading) -> bool {
        let now =
            tokens(usage, ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]);
        let id = cut(id, 200);
        let known = self.messages.iter().position(|(known, _)| known == id && !id.is_empty());
        let index = known.unwrap_or_else(|| {
            if self.messages.len() == REMEMBERED {
                self.messages.pop_front();
            }
            self.messages.push_back((id.to_owned(), Usage::default()));
            self.messages.len() - 1
        });
        let counted = &mut self.messages[index].1;
        let total = reading.usage();
        for (total, counted, now) in [
            (&mut total.input_tokens, &mut counted.input_tokens, now.input_tokens),
            (&mut total.output_tokens, &mut counted.output_tokens, now.output_tokens),
            (&mut total.cache_read_tokens, &mut counted.cache_read_tokens, now.cache_read_tokens),
            (&mut total.cache_write_tokens, &mut counted.cache_write_tokens, now.cache_write_tokens),
        ] {
            *total = total.saturating_add(now.saturating_sub(*counted));
            *counted = now.max(*counted);
        }
        known.is_none()
    }

    fn user(&mut self, event: &Value, reading: &mut Reading) {
        for block in list(at(event, &["message", "content"])) {
            if text(block, &["type"]) != "tool_result" {
                continue;
            }
            let content = at(block, &["content"]);
            let first = content.as_str().or_else(|| list(content).iter().find_map(|part| part.get("text")?.as_str()));
            let (first, failed) = (first.unwrap_or_default(), at(block, &["is_error"]) == &Value::Bool(true));
            // A tool that the repository's settings take away altogether is no denial to the program.
            if failed && first.contains("is disabled for this session") {
                self.deny(text(block, &["tool_use_id"]), first, reading);
            }
            reading.tool_result(failed, first);
        }
    }

    fn rate_limit(info: &Value, reading: &mut Reading) {
        // "allowed" and "allowed_warning" come with every ordinary answer.
        if text(info, &["status"]) != "rejected" {
            return;
        }
        let resets_at = at(info, &["resetsAt"]).as_i64().and_then(|s| jiff::Timestamp::from_second(s).ok());
        let kind = text(info, &["rateLimitType"]).replace('_', " ");
        reading.limit(resets_at, &format!("The {} limit is reached", if kind.is_empty() { "usage" } else { &kind }));
    }

    fn result(&mut self, event: &Value, reading: &mut Reading) {
        for denial in list(at(event, &["permission_denials"])) {
            let message = format!("{}: {}", text(denial, &["tool_name"]), summary(at(denial, &["tool_input"])));
            self.deny(text(denial, &["tool_use_id"]), &message, reading);
        }
        let total = totals(event);
        let usage = reading.usage();
        usage.input_tokens = usage.input_tokens.max(total.input_tokens);
        usage.output_tokens = usage.output_tokens.max(total.output_tokens);
        usage.cache_read_tokens = usage.cache_read_tokens.max(total.cache_read_tokens);
        usage.cache_write_tokens = usage.cache_write_tokens.max(total.cache_write_tokens);
        usage.reported_cost_usd = dollars(event, &["total_cost_usd"]).or(usage.reported_cost_usd);
        reading.tell_usage();

        let words = text(event, &["result"]);
        let errors: Vec<&str> = list(at(event, &["errors"])).iter().filter_map(Value::as_str).collect();
        let subtype = text(event, &["subtype"]);
        let says_error = at(event, &["is_error"]) == &Value::Bool(true);
        if subtype == "success" && !says_error {
            reading.conclude(words);
            reading.terminal = Some(match refusal::whole_message(words, reading.now()) {
                Some(_) => Terminal::Bad(words.to_owned()),
                None => Terminal::Good,
            });
            return;
        }
        let reason = [words.to_owned(), errors.join("; "), subtype.replace('_', " ")];
        let reason = reason.into_iter().find(|w| !w.is_empty()).unwrap_or("an error without words".to_owned());
        match count(event, &["api_error_status"]) {
            0 => {}
            status => reading.error_with_status(&reason, status),
        }
        reading.terminal = Some(Terminal::Bad(reason));
    }

    fn deny(&mut self, id: &str, message: &str, reading: &mut Reading) {
        let id = cut(id, 200);
        if !id.is_empty() && self.denied.iter().any(|known| known == id) {
            return;
        }
        if self.denied.len() == REMEMBERED {
            self.denied.pop_front();
        }
        self.denied.push_back(id.to_owned());
        reading.denied(message);
    }
}

/// Totals of a result: those per model where they are, because they also hold subagents.
fn totals(event: &Value) -> Usage {
    let main = tokens(
        at(event, &["usage"]),
        ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"],
    );
    let mut all = Usage::default();
    for model in at(event, &["modelUsage"]).as_object().into_iter().flat_map(|models| models.values()) {
        all.add(&tokens(model, ["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"]));
    }
    if all.tokens() >= main.tokens() { all } else { main }
}

fn tokens(value: &Value, names: [&str; 4]) -> Usage {
    let [input, output, read, write] = names.map(|name| count(value, &[name]));
    Usage {
        input_tokens: input,
        output_tokens: output,
        cache_read_tokens: read,
        cache_write_tokens: write,
        ..Usage::default()
    }
}

fn set_model(model: &str, reading: &mut Reading) {
    if !model.is_empty() && model != "<synthetic>" {
        reading.usage().model = Some(cut(model, 200).to_owned());
    }
}

/// What a tool is used on.
pub(super) fn summary(input: &Value) -> &str {
    const TELLING: [&str; 12] = [
        "command",
        "cmd",
        "file_path",
        "filePath",
        "path",
        "notebook_path",
        "pattern",
        "query",
        "url",
        "description",
        "prompt",
        "name",
    ];
    TELLING.iter().map(|key| text(input, &[key])).find(|value| !value.is_empty()).unwrap_or_default()
}
