//! The JSON dialects: which one a text is, and its root.

use std::path::Path;

use cove_core::run::GateSpec;
use cove_core::{Error, Result};

use super::spanned::{self, Node, Value};
use super::story::{self, Source};
use super::{Format, Prd, STORIES_BOUND};

/// Reads a JSON PRD. `name` stands in messages.
pub(super) fn parse(text: &str, name: &str, file_name: Option<&Path>) -> Result<Prd> {
    let source = Source { text, name };
    let root = root(text, &source, file_name)?;
    let (format, key) = detect(&root, &source)?;
    let list = root.get(key).map_or_else(|| Err(source.wrong(&root, key, "is missing")), Ok)?;
    let Value::List(items) = &list.value else {
        return Err(source.wrong(list, key, &format!("must be a list, not {}", list.kind())));
    };
    if items.is_empty() {
        return Err(source
            .wrong(list, key, "holds no story")
            .next("Add at least one story, or write an example with `cove prd init`"));
    }
    if items.len() > STORIES_BOUND {
        return Err(source.wrong(list, key, &format!("holds more than {STORIES_BOUND} stories")));
    }
    let stories = items
        .iter()
        .enumerate()
        .map(|(at, item)| story::read(item, &format!("{key}[{at}]"), at, format, &source))
        .collect::<Result<Vec<_>>>()?;
    let project = source.text(&root, "", &["project", "name", "title"])?;
    Ok(Prd {
        project: if project.is_empty() { project_name(file_name) } else { project },
        branch_name: Some(source.text(&root, "", &["branchName", "branch"])?).filter(|branch| !branch.is_empty()),
        description: source.text(&root, "", &["description", "overview"])?,
        stories,
        gates: gates(&root, &source)?,
        format,
    })
}

/// The root node; also used to find the place of an edit.
pub(super) fn root(text: &str, source: &Source<'_>, file_name: Option<&Path>) -> Result<Node> {
    let comments = file_name.and_then(Path::extension).is_some_and(|extension| extension != "json");
    let read = spanned::parse(text, comments).or_else(|fault| {
        // The queue dialect allows comments; told by its shape, as a caller may have no file name.
        spanned::parse(text, true).ok().filter(|root| root.get("tasks").is_some()).ok_or(fault)
    });
    let root = read.map_err(|fault| {
        let line = super::line_of(text, fault.at);
        let begin = text.as_bytes()[..fault.at].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&text.as_bytes()[begin..fault.at]).chars().count() + 1;
        Error::invalid(format!("{} is not valid JSON: line {line}, column {column}: {}", source.name, fault.what))
            .with("line", line)
            .with("column", column)
    })?;
    if !matches!(root.value, Value::Object(_)) {
        return Err(source.wrong(
            &root,
            "the top level",
            &format!("must be an object with `userStories`, not {}", root.kind()),
        ));
    }
    Ok(root)
}

/// The dialect and the key of its list of stories.
pub(super) fn detect(root: &Node, source: &Source<'_>) -> Result<(Format, &'static str)> {
    if let Some(list) = root.get("userStories") {
        let rich = (root.get("name").is_some() && root.get("project").is_none())
            || root.get("metadata").is_some()
            || items(list).iter().any(|story| story.any(&["labels", "completionNotes"]).is_some());
        return Ok((if rich { Format::RalphTui } else { Format::Snarktank }, "userStories"));
    }
    if let Some(list) = root.get("stories") {
        // Either state field is read; the one that is there is the one that is marked.
        let flags = items(list).iter().any(|story| story.get("passes").is_some());
        return Ok((if flags { Format::Snarktank } else { Format::Iannuttall }, "stories"));
    }
    if root.get("tasks").is_some() {
        return Ok((Format::Queue, "tasks"));
    }
    if let Some((key, wrapped)) = root.any(&["prd", "PRD"]) {
        return Err(source
            .wrong(wrapped, key, "wraps the whole PRD")
            .next(format!("Move what is inside `{key}` to the top level of the file")));
    }
    Err(source
        .wrong(root, "userStories", "is missing")
        .next("Name the list of stories `userStories`; `cove prd init` writes an example"))
}

pub(super) fn items(list: &Node) -> &[Node] {
    if let Value::List(items) = &list.value { items } else { &[] }
}

/// A project's name where the text has none: the file's, or its directory's for names that say nothing.
pub(super) fn project_name(file_name: Option<&Path>) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(path) = file_name else { return "project".to_owned() };
    let name = stem(path);
    let plain = ["prd", "fix_plan", "plan", "tasks", "ralph-tasks", "queue", "todo", "implementation_plan"];
    if !name.is_empty() && !plain.contains(&name.to_lowercase().as_str()) {
        return name.strip_prefix("prd-").unwrap_or(&name).to_owned();
    }
    let directory = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    directory
        .filter(|name| !matches!(name.as_str(), "" | "tasks" | ".ralph" | "ralph" | "plans"))
        .unwrap_or_else(|| "project".to_owned())
}

/// Checks of the whole PRD: texts are command lines, objects are gates as in settings.
fn gates(root: &Node, source: &Source<'_>) -> Result<Vec<GateSpec>> {
    let Some((key, list)) = root.any(&["qualityGates", "gates", "validationCommands", "validation"]) else {
        return Ok(Vec::new());
    };
    let mut found = Gates::default();
    let single = std::slice::from_ref(list);
    let items = match &list.value {
        Value::List(items) => items.as_slice(),
        Value::Text(_) => single,
        _ => return Err(source.wrong(list, key, &format!("must be a list of commands, not {}", list.kind()))),
    };
    for (at, item) in items.iter().enumerate() {
        let path = format!("{key}[{at}]");
        match &item.value {
            Value::Text(command) => found.command(command),
            Value::Object(_) => {
                let gate: GateSpec = serde_json::from_str(&source.text[item.span.clone()])
                    .map_err(|error| source.wrong(item, &path, &format!("is not a gate: {error}")))?;
                if gate.command.trim().is_empty() || gate.name.trim().is_empty() {
                    return Err(source.wrong(item, &path, "needs a `name` and a `command`"));
                }
                found.add(gate);
            }
            _ => return Err(source.wrong(item, &path, &format!("must be a command or a gate, not {}", item.kind()))),
        }
    }
    if found.list.len() > GATES_BOUND {
        return Err(source.wrong(list, key, &format!("holds more than {GATES_BOUND} checks")));
    }
    Ok(found.list)
}

/// Most checks that a PRD may name.
pub(super) const GATES_BOUND: usize = 100;

/// Gates with names of their own.
#[derive(Default)]
pub(super) struct Gates {
    pub(super) list: Vec<GateSpec>,
}

impl Gates {
    /// A gate for a bare command line; blank ones are passed over.
    pub(super) fn command(&mut self, command: &str) {
        let command = command.trim();
        if !command.is_empty() {
            self.add(GateSpec {
                name: command.to_owned(),
                command: command.to_owned(),
                timeout_seconds: 1800,
                protects: crate::gates::scripts_of(command),
                after: Vec::new(),
            });
        }
    }

    fn add(&mut self, mut gate: GateSpec) {
        let short: String = gate.name.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(60).collect();
        gate.name.clone_from(&short);
        let mut number = 2;
        while self.list.iter().any(|other| other.name == gate.name) {
            gate.name = format!("{short} ({number})");
            number += 1;
        }
        self.list.push(gate);
    }
}
