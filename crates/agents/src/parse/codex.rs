//! `codex exec --json`.
//!
//! `turn.completed` counts the whole thread, and its input includes what came from the cache. Top-level
//! `error` lines announce retries, an `error` item may be a mere warning; only `turn.failed` ends.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Dialect;
use super::claude::summary;
use super::json::{at, count, list, text};
use super::reading::{Reading, Terminal, cut};

/// Tools at work at once that are told apart.
const MAX_OPEN: usize = 64;

#[derive(Default)]
pub(super) struct Codex {
    /// Items begun and not completed.
    open: BTreeSet<String>,
    /// All tools of an answer came back: what follows is the next answer.
    answered: bool,
}

impl Dialect for Codex {
    fn event(&mut self, event: &Value, reading: &mut Reading) -> bool {
        match text(event, &["type"]) {
            "thread.started" => {}
            "turn.started" => {
                reading.terminal = None;
                self.answered = false;
                reading.turn();
            }
            "item.started" => self.started(at(event, &["item"]), reading),
            "item.updated" => {}
            "item.completed" => self.completed(at(event, &["item"]), reading),
            "turn.completed" => {
                Self::usage(at(event, &["usage"]), reading);
                let words = reading.message.clone();
                reading.conclude(&words);
                reading.terminal = Some(Terminal::Good);
            }
            "turn.failed" => {
                let words = text(event, &["error", "message"]);
                reading.terminal = Some(Terminal::Bad(reason(words).to_owned()));
            }
            "error" => reading.error(reason(text(event, &["message"]))),
            _ => return false,
        }
        true
    }
}

impl Codex {
    fn started(&mut self, item: &Value, reading: &mut Reading) {
        let Some(tool) = tool_name(item) else { return };
        self.begin(item, tool, reading);
    }

    fn begin(&mut self, item: &Value, tool: &str, reading: &mut Reading) {
        self.next_answer(reading);
        if self.open.len() < MAX_OPEN {
            self.open.insert(cut(text(item, &["id"]), 200).to_owned());
        }
        reading.tool(tool, &described(item));
    }

    fn completed(&mut self, item: &Value, reading: &mut Reading) {
        match (text(item, &["type"]), tool_name(item)) {
            ("agent_message", _) => {
                self.next_answer(reading);
                reading.say(text(item, &["text"]));
            }
            ("reasoning", _) => self.next_answer(reading),
            // Also warnings, such as for a model name that it does not know: never the end.
            ("error", _) => reading.remark(text(item, &["message"])),
            (_, Some(tool)) => {
                if !self.open.remove(cut(text(item, &["id"]), 200)) {
                    self.begin(item, tool, reading);
                    self.open.remove(cut(text(item, &["id"]), 200));
                }
                self.answered = self.open.is_empty();
                let status = text(item, &["status"]);
                if status == "declined" {
                    reading.denied(&format!("{tool}: {}", described(item)));
                }
                let failed = matches!(status, "failed" | "declined");
                reading.tool_result(failed, text(item, &["aggregated_output"]));
            }
            _ => {}
        }
        if text(item, &["type"]) != "error" {
            reading.progress();
        }
    }

    /// It tells no answers of the model; one begins with the first item after all tools came back.
    fn next_answer(&mut self, reading: &mut Reading) {
        if std::mem::take(&mut self.answered) {
            reading.turn();
        }
    }

    fn usage(usage: &Value, reading: &mut Reading) {
        let of = |name| count(usage, &[name]);
        let (read, write) = (of("cached_input_tokens"), of("cache_write_input_tokens"));
        let total = reading.usage();
        total.input_tokens = of("input_tokens").saturating_sub(read).saturating_sub(write);
        total.cache_read_tokens = read;
        total.cache_write_tokens = write;
        // Reasoning is a part of it already.
        total.output_tokens = of("output_tokens");
        reading.tell_usage();
    }
}

fn reason(words: &str) -> &str {
    if words.is_empty() { "an error without words" } else { words }
}

fn tool_name(item: &Value) -> Option<&str> {
    match text(item, &["type"]) {
        "mcp_tool_call" => Some(text(item, &["tool"])),
        kind @ ("command_execution" | "file_change" | "web_search" | "collab_tool_call") => Some(kind),
        _ => None,
    }
}

fn described(item: &Value) -> String {
    if text(item, &["type"]) != "file_change" {
        return summary(item).to_owned();
    }
    let changes = list(at(item, &["changes"])).iter().take(8);
    changes.map(|c| format!("{} {}", text(c, &["kind"]), text(c, &["path"]))).collect::<Vec<_>>().join(", ")
}
