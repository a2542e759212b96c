//! Marking a story in the user's own file: the smallest edit that says it.

use std::ops::Range;

use cove_core::{Error, Result};

use super::spanned::{Node, Value};
use super::story::Source;
use super::{Format, TEXT_BOUND, checklist, dialect};

/// Longest `notes` that we add to.
const NOTES_BOUND: usize = 8 << 10;

/// The text with the story's state changed and every other byte as it was. In JSON, `note` is added to
/// `notes` on a line of its own unless it stands there already; markdown has no place for it. Doing it
/// twice is the same as doing it once.
///
/// # Errors
/// `NotFound` when no story has that id; `Invalid` when the text can no longer be read as that dialect
/// (somebody edited it meanwhile).
pub fn mark(text: &str, format: Format, story: &str, passes: bool, note: Option<&str>) -> Result<String> {
    if text.len() > TEXT_BOUND {
        return Err(Error::invalid("The PRD has grown beyond its bound").with("bytes", text.len()));
    }
    let edits = if format.is_json() {
        json_edits(text, story, passes, note)?
    } else {
        markdown_edits(text, format, story, passes)?
    };
    Ok(apply(text, edits))
}

/// Replaces the ranges, which do not overlap.
fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut out = String::with_capacity(text.len() + 64);
    let mut at = 0;
    for (range, replacement) in edits {
        out.push_str(&text[at..range.start]);
        out.push_str(&replacement);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

fn missing(story: &str) -> Error {
    Error::not_found(format!("The PRD has no story `{}` any more", story.escape_debug()))
        .next("Put the story back, or start the run again with the PRD as it is now")
}

fn markdown_edits(text: &str, format: Format, story: &str, passes: bool) -> Result<Vec<(Range<usize>, String)>> {
    let item =
        checklist::items(text, format).into_iter().find(|item| item.story.id == story).ok_or_else(|| missing(story))?;
    // In a plan the boxes below the heading are the only state; in a list the story has its own.
    let count = if format == Format::Ralphex { item.boxes.len() } else { 1 };
    let wanted = if passes { "x" } else { " " };
    let ticked = |range: &Range<usize>| matches!(&text[range.clone()], "x" | "X");
    Ok(item
        .boxes
        .into_iter()
        .take(count)
        .filter(|range| ticked(range) != passes)
        .map(|range| (range, wanted.to_owned()))
        .collect())
}

fn json_edits(text: &str, story: &str, passes: bool, note: Option<&str>) -> Result<Vec<(Range<usize>, String)>> {
    let source = Source { text, name: "The PRD" };
    let root = dialect::root(text, &source, None)?;
    let (format, key) = dialect::detect(&root, &source)?;
    let stories = root.get(key).map(dialect::items).unwrap_or_default();
    let is_it = |node: &&Node| match node.get("id").map(|id| &id.value) {
        Some(Value::Text(id)) => id.trim() == story,
        Some(Value::Number(id)) => id == story,
        _ => false,
    };
    let node = stories.iter().find(is_it).ok_or_else(|| missing(story))?;
    let mut edits = Vec::new();
    let mut added = Vec::new();

    if matches!(format, Format::Iannuttall | Format::Queue) && node.get("passes").is_none() {
        let done = matches!(node.get("status").map(|s| &s.value), Some(Value::Text(s)) if matches!(s.as_str(), "done" | "completed" | "complete" | "rejected"));
        if done != passes {
            let open = if format == Format::Queue { "\"todo\"" } else { "\"open\"" };
            set(node, "status", if passes { "\"done\"" } else { open }, &mut edits, &mut added);
        }
    } else if !matches!(node.get("passes").map(|p| &p.value), Some(Value::Bool(now)) if *now == passes) {
        set(node, "passes", if passes { "true" } else { "false" }, &mut edits, &mut added);
    }

    if let Some(note) = note.map(str::trim).filter(|note| !note.is_empty()) {
        let before = match node.get("notes").map(|notes| &notes.value) {
            Some(Value::Text(before)) => before.as_str(),
            None => "",
            Some(_) => {
                return Err(Error::invalid(format!("`notes` of story `{}` is not a text", story.escape_debug())));
            }
        };
        let there = before == note
            || before.starts_with(&format!("{note}\n"))
            || before.ends_with(&format!("\n{note}"))
            || before.contains(&format!("\n{note}\n"));
        if !there && before.len() + note.len() < NOTES_BOUND {
            let after = if before.trim().is_empty() {
                note.to_owned()
            } else {
                format!("{}\n{note}", before.trim_end_matches('\n'))
            };
            set(node, "notes", &serde_json::Value::String(after).to_string(), &mut edits, &mut added);
        }
    }
    if !added.is_empty() {
        edits.push(insertion(text, node, &added));
    }
    Ok(edits)
}

/// Replaces the member's value, `null` included, or leaves it to be added.
fn set(node: &Node, key: &str, value: &str, edits: &mut Vec<(Range<usize>, String)>, added: &mut Vec<String>) {
    match node.members().iter().find(|member| member.key == key) {
        Some(member) => edits.push((member.node.span.clone(), value.to_owned())),
        None => added.push(format!("\"{key}\": {value}")),
    }
}

/// New members after the last one, laid out as the members before them are.
fn insertion(text: &str, node: &Node, added: &[String]) -> (Range<usize>, String) {
    let members = node.members();
    let (Some(first), Some(last)) = (members.first(), members.last()) else {
        return (node.span.start + 1..node.span.start + 1, added.join(", "));
    };
    let lead = &text[node.span.start + 1..first.key_start];
    // A comment there is nothing to repeat.
    let lead = if lead.trim().is_empty() && !lead.is_empty() { lead } else { " " };
    let lead = if lead.contains('\n') { lead } else { " " };
    let at = last.node.span.end;
    (at..at, added.iter().map(|member| format!(",{lead}{member}")).collect())
}
