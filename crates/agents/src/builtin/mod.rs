//! The agents that Cove knows by itself.

mod claude;
mod codex;
mod command;
mod gemini;
mod opencode;

use crate::adapter::Prepare;
use crate::definition::AdapterDefinition;

/// Name of the agent that is any program.
pub const COMMAND: &str = "command";

/// A built-in agent.
pub(crate) struct BuiltIn {
    pub(crate) name: &'static str,
    pub(crate) definition: fn() -> AdapterDefinition,
    pub(crate) prepare: Option<Prepare>,
}

pub(crate) const ALL: &[BuiltIn] = &[
    BuiltIn { name: "claude", definition: claude::definition, prepare: None },
    BuiltIn { name: "codex", definition: codex::definition, prepare: Some(codex::prepare) },
    BuiltIn { name: "opencode", definition: opencode::definition, prepare: Some(opencode::prepare) },
    BuiltIn { name: "gemini", definition: gemini::definition, prepare: Some(gemini::prepare) },
    BuiltIn { name: COMMAND, definition: command::definition, prepare: None },
];

/// Definitions of all built-in agents, as an example for one's own.
pub fn definitions() -> Vec<AdapterDefinition> {
    ALL.iter().map(|b| (b.definition)()).collect()
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|&s| s.to_owned()).collect()
}

fn variables(items: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    items.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}
