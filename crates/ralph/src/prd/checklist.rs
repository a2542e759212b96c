//! The markdown dialects: plans with `### Task N:` sections, and lists of checkboxes.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use cove_core::{Error, Result};

use super::dialect::{GATES_BOUND, Gates, project_name};
use super::{Format, Prd, STORIES_BOUND, Story, slug};

/// A story with the bytes inside its checkboxes' brackets: the first is the story's own, or, in a plan,
/// all are.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) story: Story,
    pub(super) boxes: Vec<Range<usize>>,
}

/// Reads a markdown PRD.
pub(super) fn parse(text: &str, name: &str, file_name: Option<&Path>) -> Result<Prd> {
    let lines = lines(text);
    let plan = lines.iter().any(|line| task_heading(line).is_some());
    let format = if plan {
        Format::Ralphex
    } else if name.to_ascii_lowercase().starts_with("fix_plan") {
        Format::FixPlan
    } else {
        Format::Checklist
    };
    let items = items(text, format);
    if items.is_empty() {
        return Err(Error::invalid(format!("{name} holds no story: there is no checkbox such as `- [ ] Do this`"))
            .next("Add checkboxes, or write an example with `cove prd init`"));
    }
    if items.len() > STORIES_BOUND {
        return Err(Error::invalid(format!("{name} holds more than {STORIES_BOUND} stories"))
            .with("line", items[STORIES_BOUND].story.line));
    }
    let gates = gates(&lines);
    if gates.list.len() > GATES_BOUND {
        return Err(Error::invalid(format!("{name} names more than {GATES_BOUND} validation commands")));
    }
    let title = lines.iter().find_map(|line| line.heading().filter(|(level, _)| *level == 1));
    let title = title.map(|(_, text)| text.trim().chars().filter(|c| !c.is_control()).take(100).collect::<String>());
    Ok(Prd {
        project: title.filter(|title| !title.is_empty()).unwrap_or_else(|| project_name(file_name)),
        branch_name: None,
        description: String::new(),
        stories: items.into_iter().map(|item| item.story).collect(),
        gates: gates.list,
        format,
    })
}

/// The stories with their checkboxes.
pub(super) fn items(text: &str, format: Format) -> Vec<Item> {
    let lines = lines(text);
    let mut items = if format == Format::Ralphex { plan_items(&lines) } else { list_items(&lines) };
    let mut used: HashMap<String, usize> = HashMap::new();
    for (at, item) in items.iter_mut().enumerate() {
        item.story.priority = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
        // Explicit ids stay as they are, so that a duplicate is reported and not renamed.
        if format != Format::Ralphex && explicit_id(&item.story.title).is_none() {
            let count = used.entry(item.story.id.clone()).or_insert(0);
            *count += 1;
            if *count > 1 {
                item.story.id = format!("{}-{count}", item.story.id);
            }
        }
    }
    items
}

/// A line outside fenced code, without its line ending.
struct Line<'t> {
    number: usize,
    start: usize,
    text: &'t str,
    /// Inside a fence; its text is no markdown.
    code: bool,
}

impl<'t> Line<'t> {
    fn heading(&self) -> Option<(usize, &'t str)> {
        if self.code {
            return None;
        }
        let level = self.text.bytes().take_while(|byte| *byte == b'#').count();
        let rest = self.text.get(level..)?;
        ((1..=6).contains(&level) && rest.starts_with([' ', '\t']))
            .then(|| (level, rest.trim().trim_end_matches('#').trim_end()))
    }

    /// Indentation in columns, the checkbox's inner bytes, whether it is ticked, and the text after it.
    fn checkbox(&self) -> Option<(usize, Range<usize>, bool, &'t str)> {
        if self.code {
            return None;
        }
        let trimmed = self.text.trim_start_matches([' ', '\t']);
        let indent = self.text[..self.text.len() - trimmed.len()].chars().map(|c| if c == '\t' { 4 } else { 1 }).sum();
        let after = bullet(trimmed)?;
        let inner = after.strip_prefix('[')?;
        let end = inner.find(']')?;
        let (mark, rest) = (&inner[..end], &inner[end + 1..]);
        let ticked = match mark {
            "x" | "X" => true,
            " " | "" | "/" | "~" | "-" | ">" | "!" | "?" => false,
            _ => return None,
        };
        if !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
            return None;
        }
        let from = self.start + (self.text.len() - inner.len());
        Some((indent, from..from + end, ticked, rest.trim()))
    }
}

/// What follows a list marker (`-`, `*`, `+`, `1.`, `1)`).
fn bullet(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = if (1..=9).contains(&digits) {
        text[digits..].strip_prefix(['.', ')'])?
    } else {
        text.strip_prefix(['-', '*', '+'])?
    };
    rest.starts_with([' ', '\t']).then(|| rest.trim_start_matches([' ', '\t']))
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut out = Vec::new();
    let mut start = super::without_bom(text).1;
    let mut fence: Option<(u8, usize)> = None;
    for (at, raw) in text[start..].split_inclusive('\n').enumerate() {
        let line = raw.trim_end_matches(['\n', '\r']);
        let trimmed = line.trim_start();
        let mark = trimmed.bytes().next().filter(|byte| matches!(byte, b'`' | b'~'));
        let run = mark.map_or(0, |mark| trimmed.bytes().take_while(|byte| *byte == mark).count());
        let mut code = fence.is_some();
        if let (Some(mark), true) = (mark, run >= 3) {
            match fence {
                None => (fence, code) = (Some((mark, run)), true),
                Some((open, length)) if open == mark && run >= length && trimmed.len() == run => fence = None,
                Some(_) => {}
            }
        }
        out.push(Line { number: at + 1, start, text: line, code });
        start += raw.len();
    }
    out
}

/// `### Task 3: Title` or `### Iteration 3: Title`.
fn task_heading(line: &Line<'_>) -> Option<(String, String)> {
    let (level, text) = line.heading()?;
    let (word, rest) = text.split_once(' ')?;
    let kind = word.to_ascii_lowercase();
    if !(2..=4).contains(&level) || !matches!(kind.as_str(), "task" | "iteration") {
        return None;
    }
    let (number, title) = rest.split_once(':').unwrap_or((rest, ""));
    let number = number.trim();
    let plain = number.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    if number.is_empty() || number.len() > 20 || !plain || !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let title = if title.trim().is_empty() { text } else { title.trim() };
    Some((format!("{kind}-{number}"), title.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn plan_items(lines: &[Line<'_>]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut open = false;
    for line in lines {
        if let Some((id, title)) = task_heading(line) {
            items.push(Item { story: Story { id, title, line: line.number, ..Story::default() }, boxes: Vec::new() });
            open = true;
        } else if line.heading().is_some_and(|(level, _)| level <= 3) {
            open = false;
        } else if let (true, Some(item)) = (open, items.last_mut()) {
            if let Some((_, inner, ticked, text)) = line.checkbox() {
                item.story.passes = ticked && (item.boxes.is_empty() || item.story.passes);
                item.boxes.push(inner);
                if !text.is_empty() {
                    item.story.acceptance.push(text.to_owned());
                }
            } else if item.boxes.is_empty() {
                item.story.description.push_str(line.text);
                item.story.description.push('\n');
            }
        }
    }
    for item in &mut items {
        item.story.description = item.story.description.trim().to_owned();
    }
    items
}

fn list_items(lines: &[Line<'_>]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut level: Option<usize> = None;
    for line in lines {
        if let Some((indent, inner, ticked, text)) = line.checkbox() {
            match (items.last_mut(), level) {
                (Some(item), Some(top)) if indent > top + 1 => {
                    item.boxes.push(inner);
                    if !text.is_empty() {
                        item.story.acceptance.push(text.to_owned());
                    }
                }
                _ => {
                    level = Some(indent);
                    items.push(Item { story: list_story(text, ticked, line.number), boxes: vec![inner] });
                }
            }
        } else if line.heading().is_some() {
            level = None;
        } else if let (Some(top), Some(item)) = (level, items.last_mut()) {
            // Indented text below an item belongs to it; anything else ends it.
            let trimmed = line.text.trim_start_matches([' ', '\t']);
            let indent = line.text.len() - trimmed.len();
            if !trimmed.is_empty() && (indent > top + 1 || (indent > top && line.text.starts_with('\t'))) {
                item.story.description.push_str(trimmed);
                item.story.description.push('\n');
            } else if !trimmed.is_empty() {
                level = None;
            }
        }
    }
    for item in &mut items {
        item.story.description = item.story.description.trim().to_owned();
    }
    items
}

fn list_story(text: &str, passes: bool, line: usize) -> Story {
    let title = text.replace("**", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let title: String = title.chars().filter(|c| !c.is_control()).take(400).collect();
    let id = explicit_id(&title).map_or_else(
        || {
            let slug = slug(&title, 40);
            if slug.is_empty() { format!("item-{line}") } else { slug }
        },
        str::to_owned,
    );
    Story { id, title, passes, line, ..Story::default() }
}

/// An id that the text begins with, such as `US-001:` or `[T-3]`: letters, a dash, digits.
fn explicit_id(title: &str) -> Option<&str> {
    let bracketed = title.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(id, _)| id);
    let id = bracketed.or_else(|| title.split_once(':').map(|(id, _)| id))?.trim_matches('`');
    let (letters, digits) = id.rsplit_once('-')?;
    let good = !letters.is_empty()
        && id.len() <= 20
        && letters.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && letters.starts_with(|c: char| c.is_ascii_alphabetic())
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then_some(id)
}

/// The commands below a heading such as `## Validation Commands`: list items (in backticks or plain)
/// and lines of fenced code.
fn gates(lines: &[Line<'_>]) -> Gates {
    let mut found = Gates::default();
    let mut inside = false;
    for line in lines {
        if let Some((_, text)) = line.heading() {
            let text = text.to_ascii_lowercase();
            inside = ["validation commands", "validation", "quality gates", "quality checks"]
                .contains(&text.trim_end_matches(':'));
        } else if inside && line.code {
            let text = line.text.trim();
            if !text.starts_with("```") && !text.starts_with("~~~") && !text.starts_with('#') {
                found.command(text.strip_prefix("$ ").unwrap_or(text));
            }
        } else if inside && let Some(text) = bullet(line.text.trim_start()) {
            let quoted = text.split_once('`').and_then(|(_, rest)| rest.split_once('`')).map(|(code, _)| code);
            let plain = if line.checkbox().is_some() { "" } else { text };
            found.command(quoted.unwrap_or(plain));
        }
    }
    found
}
