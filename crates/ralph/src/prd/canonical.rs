//! Writing the canonical dialect.

use cove_core::Result;
use cove_core::run::GateSpec;
use serde_json::{Map, Value, json};

use super::{Format, Prd, Story};

impl Prd {
    /// The canonical `prd.json`: two spaces of indentation, a final newline, and beside the usual
    /// fields only those that hold something (`dependsOn`, `commands`, `qualityGates`).
    pub fn to_canonical_json(&self) -> String {
        let mut root = Map::new();
        root.insert("project".into(), json!(self.project));
        root.insert("branchName".into(), json!(self.branch()));
        root.insert("description".into(), json!(self.description));
        if !self.gates.is_empty() {
            root.insert("qualityGates".into(), self.gates.iter().map(gate).collect());
        }
        root.insert("userStories".into(), self.stories.iter().map(story).collect());
        let mut text = serde_json::to_string_pretty(&Value::Object(root)).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn gate(gate: &GateSpec) -> Value {
    let plain = gate.name == gate.command
        && gate.timeout_seconds == 1800
        && gate.after.is_empty()
        && gate.protects == crate::gates::scripts_of(&gate.command);
    if plain { json!(gate.command) } else { json!(gate) }
}

fn story(story: &Story) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), json!(story.id));
    out.insert("title".into(), json!(story.title));
    out.insert("description".into(), json!(story.description));
    out.insert("acceptanceCriteria".into(), json!(story.acceptance));
    out.insert("priority".into(), json!(story.priority));
    out.insert("passes".into(), json!(story.passes));
    out.insert("notes".into(), json!(story.notes));
    if !story.depends_on.is_empty() {
        out.insert("dependsOn".into(), json!(story.depends_on));
    }
    if !story.commands.is_empty() {
        out.insert("commands".into(), json!(story.commands));
    }
    Value::Object(out)
}

/// A small PRD to start from, as `cove prd init` writes it.
pub fn example(project: &str) -> String {
    let name = project.split_whitespace().collect::<Vec<_>>().join(" ");
    let name = if name.is_empty() { "My project".to_owned() } else { name };
    let sample = |number: i64, title: &str, description: &str, acceptance: &[&str], depends_on: &[&str]| Story {
        id: format!("US-{number:03}"),
        title: title.to_owned(),
        description: description.to_owned(),
        acceptance: acceptance.iter().map(|text| (*text).to_owned()).collect(),
        priority: number,
        depends_on: depends_on.iter().map(|id| (*id).to_owned()).collect(),
        ..Story::default()
    };
    let prd = Prd {
        project: name.chars().filter(|c| !c.is_control()).take(100).collect(),
        branch_name: None,
        description: "Greet people by name from the command line".to_owned(),
        stories: vec![
            sample(
                1,
                "Add a greeting function",
                "As a developer, I want a function that makes a greeting from a name, so that the rest of the program can use it.",
                &[
                    "The greeting of \"Ada\" is \"Hello, Ada!\"",
                    "An empty name gives \"Hello!\"",
                    "Tests cover both cases",
                    "All checks pass",
                ],
                &[],
            ),
            sample(
                2,
                "Print the greeting from the command line",
                "As a user, I want to pass my name as an argument, so that I am greeted.",
                &[
                    "Without an argument the program prints \"Hello!\"",
                    "The exit code is 0",
                    "A test runs the program",
                    "All checks pass",
                ],
                &["US-001"],
            ),
            sample(
                3,
                "Describe the command in the README",
                "As a new user, I want to read how to run the program.",
                &["The README shows one command and its output", "All checks pass"],
                &["US-002"],
            ),
        ],
        gates: Vec::new(),
        format: Format::Snarktank,
    };
    prd.to_canonical_json()
}

/// Reads a PRD and writes it in the canonical dialect.
///
/// # Errors
/// As [`Prd::parse`].
pub fn convert(text: &str, file_name: Option<&std::path::Path>) -> Result<String> {
    Ok(Prd::parse(text, file_name)?.to_canonical_json())
}
