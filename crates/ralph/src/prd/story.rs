//! One story of a JSON dialect, with errors that name its place.

use cove_core::{Error, Result};

use super::spanned::{Node, Value};
use super::{Format, Story};

/// The text that nodes point into, and what to call it.
pub(super) struct Source<'t> {
    pub(super) text: &'t str,
    pub(super) name: &'t str,
}

impl Source<'_> {
    /// "prd.json line 12: `userStories[2].title` is empty".
    pub(super) fn wrong(&self, node: &Node, path: &str, what: &str) -> Error {
        let line = super::line_of(self.text, node.span.start);
        let path = if path.contains(' ') { path.to_owned() } else { format!("`{path}`") };
        Error::invalid(format!("{} line {line}: {path} {what}", self.name)).with("line", line)
    }

    /// The text under the first of these keys; empty when none is there. Numbers become their digits.
    pub(super) fn text(&self, node: &Node, path: &str, keys: &[&str]) -> Result<String> {
        let Some((key, found)) = node.any(keys) else { return Ok(String::new()) };
        match &found.value {
            Value::Text(text) => Ok(text.trim().to_owned()),
            Value::Number(digits) => Ok(digits.clone()),
            // Some documents spread a description over a list of paragraphs.
            Value::List(_) => Ok(self.texts(node, path, keys)?.join("\n")),
            _ => Err(self.wrong(found, &join(path, key), &format!("must be a text, not {}", found.kind()))),
        }
    }

    /// The list of texts under the first of these keys; a single text counts as a list of one.
    fn texts(&self, node: &Node, path: &str, keys: &[&str]) -> Result<Vec<String>> {
        let Some((key, found)) = node.any(keys) else { return Ok(Vec::new()) };
        let path = join(path, key);
        let single = std::slice::from_ref(found);
        let items = match &found.value {
            Value::List(items) => items.as_slice(),
            Value::Text(_) | Value::Number(_) => single,
            _ => return Err(self.wrong(found, &path, &format!("must be a list of texts, not {}", found.kind()))),
        };
        let mut out = Vec::new();
        for (at, item) in items.iter().enumerate() {
            match &item.value {
                Value::Text(text) if text.trim().is_empty() => {}
                Value::Text(text) => out.push(text.trim().to_owned()),
                Value::Number(digits) => out.push(digits.clone()),
                _ => {
                    return Err(self.wrong(
                        item,
                        &format!("{path}[{at}]"),
                        &format!("must be a text, not {}", item.kind()),
                    ));
                }
            }
        }
        Ok(out)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Keys that hold a story's dependencies.
const DEPENDS: [&str; 4] = ["dependsOn", "depends_on", "dependencies", "blockedBy"];

/// Reads the story at `path`, the `position`-th of its list.
pub(super) fn read(node: &Node, path: &str, position: usize, format: Format, source: &Source<'_>) -> Result<Story> {
    if !matches!(node.value, Value::Object(_)) {
        return Err(source.wrong(node, path, &format!("must be a story, not {}", node.kind())));
    }
    for key in ["id", "title"] {
        let Some(found) = node.get(key) else { return Err(source.wrong(node, &join(path, key), "is missing")) };
        if !matches!(found.value, Value::Text(_) | Value::Number(_)) {
            return Err(source.wrong(found, &join(path, key), &format!("must be a text, not {}", found.kind())));
        }
    }
    let title = source.text(node, path, &["title"])?;
    Ok(Story {
        id: source.text(node, path, &["id"])?,
        title: title.split_whitespace().collect::<Vec<_>>().join(" "),
        description: source.text(node, path, &["description", "details", "request"])?,
        acceptance: source.texts(
            node,
            path,
            &["acceptanceCriteria", "acceptance_criteria", "acceptance", "criteria", "plan"],
        )?,
        priority: priority(node, path, position, source)?,
        passes: passes(node, path, format, source)?,
        notes: source.text(node, path, &["notes"])?,
        depends_on: source.texts(node, path, &DEPENDS)?,
        commands: source.texts(node, path, &["commands", "validationCommands", "validation"])?,
        line: super::line_of(source.text, node.span.start),
    })
}

fn priority(node: &Node, path: &str, position: usize, source: &Source<'_>) -> Result<i64> {
    let Some(found) = node.get("priority") else {
        return Ok(i64::try_from(position).unwrap_or(i64::MAX).saturating_add(1));
    };
    let read = match &found.value {
        Value::Number(digits) => digits.parse::<i64>().ok(),
        Value::Text(word) => match word.trim().to_ascii_lowercase().as_str() {
            "critical" | "urgent" => Some(0),
            "high" => Some(1),
            "medium" | "normal" => Some(2),
            "low" => Some(3),
            digits => digits.parse::<i64>().ok(),
        },
        _ => None,
    };
    read.ok_or_else(|| {
        source.wrong(found, &join(path, "priority"), "must be a whole number, or critical, high, medium or low")
    })
}

fn passes(node: &Node, path: &str, format: Format, source: &Source<'_>) -> Result<bool> {
    if let Some(found) = node.get("passes") {
        return match found.value {
            Value::Bool(passes) => Ok(passes),
            _ => {
                Err(source.wrong(found, &join(path, "passes"), &format!("must be true or false, not {}", found.kind())))
            }
        };
    }
    if !matches!(format, Format::Iannuttall | Format::Queue) {
        return Ok(false);
    }
    let Some(found) = node.get("status") else { return Ok(false) };
    let Value::Text(status) = &found.value else {
        return Err(source.wrong(found, &join(path, "status"), &format!("must be a text, not {}", found.kind())));
    };
    match status.as_str() {
        "done" | "completed" | "complete" => Ok(true),
        // Rejected work is not to be done; it counts as settled.
        "rejected" => Ok(true),
        "open" | "in_progress" | "in-progress" | "draft" | "todo" | "doing" | "pending" | "blocked" => Ok(false),
        _ => Err(source.wrong(found, &join(path, "status"), "must be open, in_progress or done")),
    }
}
