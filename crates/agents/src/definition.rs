//! What an adapter is, as configuration.

use std::collections::{BTreeMap, BTreeSet};

use cove_core::{AgentCapability, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prices::Price;
use crate::template;

/// How one agent program is started and read. Everything a user needs to add an agent of their own.
///
/// Arguments, variables and files are templates. `{model}`, `{maxTurns}`, `{baseUrl}`, `{apiKey}`,
/// `{home}` and `{promptFile}` stand for values of the attempt; `{{` and `}}` stand for braces. There
/// is no placeholder for the prompt: it goes in by stdin or as a file, because one argument holds at
/// most 128 KiB on Linux and arguments are readable by every process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdapterDefinition {
    /// Name in settings and records.
    pub name: String,
    /// The program's file name, looked up in the sandbox's `PATH`.
    pub program: String,
    /// Arguments after the program.
    #[serde(default)]
    pub arguments: Vec<Argument>,
    /// Variables; one whose template names a value that is absent is left out.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How the prompt goes in.
    #[serde(default)]
    pub prompt: PromptChannel,
    /// What it writes to stdout.
    #[serde(default)]
    pub stream: StreamFormat,
    /// What its end must look like.
    #[serde(default)]
    pub terminal: TerminalRule,
    /// Files written into the home before it starts.
    #[serde(default)]
    pub files: Vec<HomeFile>,
    /// Directories it must be able to write to beside the workspace, as templates.
    #[serde(default)]
    pub writable: Vec<String>,
    /// Hosts of its model when no variable names another endpoint.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The same by provider, for a program whose models are written `provider/model`; replaces
    /// `hosts` where the model names a provider in it.
    #[serde(default)]
    pub provider_hosts: BTreeMap<String, Vec<String>>,
    /// Variables by which the program, or this adapter for it, learns of another endpoint and its key.
    #[serde(default)]
    pub endpoints: Vec<ProviderEndpoint>,
    /// What it can do.
    #[serde(default)]
    pub capabilities: BTreeSet<AgentCapability>,
    /// Below this it does not work.
    #[serde(default)]
    pub floor: ResourceFloor,
    /// Prices for estimates, before the built-in ones.
    #[serde(default)]
    pub prices: Vec<Price>,
}

/// One argument, or several that belong together: `["--model", "{model}"]` is left out as a whole when
/// there is no model. A single argument with an absent value is left out too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Argument {
    /// One argument.
    One(String),
    /// Several that are only useful together.
    Group(Vec<String>),
}

impl Argument {
    /// Its parts in order.
    pub fn parts(&self) -> &[String] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Group(parts) => parts,
        }
    }
}

/// How the prompt goes in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "by")]
pub enum PromptChannel {
    /// On stdin, which is closed after it.
    #[default]
    Stdin,
    /// In a file in the home; `{promptFile}` is its absolute path. Stdin is empty and closed.
    File {
        /// Path relative to the home.
        path: String,
    },
}

/// What a program writes to stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StreamFormat {
    /// `stream-json` of Claude Code, and of programs shaped like it.
    Claude,
    /// `codex exec --json`.
    Codex,
    /// `opencode run --format json`.
    OpenCode,
    /// `stream-json` of Gemini CLI.
    Gemini,
    /// The simple events of `docs/agents.md`, one JSON object a line; other lines are text.
    JsonLines,
    /// Text; the last lines are the final message.
    #[default]
    Text,
}

/// What the end of an attempt must look like to count as done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TerminalRule {
    /// Exit code 0. A terminal event that reports a failure still counts.
    #[default]
    ExitCode,
    /// Exit code 0 and a terminal event that reports success.
    Event,
}

/// A file written into the home before the program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HomeFile {
    /// Path relative to the home.
    pub path: String,
    /// Template of its content. The file is left out when a value named in it is absent. Values are
    /// put in as they are: braces of JSON are written twice.
    pub content: String,
}

/// Variables that lead a program to another endpoint than its provider's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderEndpoint {
    /// Variable with the base URL, such as `OPENAI_BASE_URL`.
    pub base_url: String,
    /// Variables of which one must hold a key for the program to start; when none does, the first is
    /// set to a placeholder.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Whether the placeholder is set even without a base URL (the door puts the real key in).
    #[serde(default)]
    pub always: bool,
}

/// Resources below which a program does not work, found by trying.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourceFloor {
    /// Bytes of memory; 0 when unknown.
    pub memory_bytes: u64,
    /// Processes and threads together; 0 when unknown.
    pub pids: u32,
}

impl AdapterDefinition {
    /// Checks what a user may have written.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn validate(&self) -> Result<()> {
        let bad = |field: &str, why: String| Err(Error::invalid(format!("Agent {:?}: {field} {why}", self.name)));
        let name_is_word =
            self.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
        if self.name.is_empty() || self.name.len() > 64 || !name_is_word {
            return bad("name", "must be 1 to 64 lowercase letters, digits, '-' or '_'".to_owned());
        }
        if self.program.is_empty() || self.program.contains('\0') {
            return bad("program", "is empty or has a null byte".to_owned());
        }
        let templates = (self.arguments.iter().flat_map(Argument::parts).map(|t| ("arguments", t)))
            .chain(self.env.values().map(|t| ("env", t)))
            .chain(self.writable.iter().map(|t| ("writable", t)))
            .chain(self.files.iter().map(|f| ("files", &f.content)));
        for (field, text) in templates {
            if let Err(why) = template::check(text) {
                return bad(field, why);
            }
        }
        if let Some(name) = self.env.keys().find(|k| k.is_empty() || k.contains(['=', '\0'])) {
            return bad("env", format!("has no variable name in {name:?}"));
        }
        let prompt = match &self.prompt {
            PromptChannel::File { path } => Some(path),
            PromptChannel::Stdin => None,
        };
        for path in self.files.iter().map(|f| &f.path).chain(prompt) {
            if !stays_below(path) {
                return bad("files", format!("must lie below the home, not at {path:?}"));
            }
        }
        Ok(())
    }
}

/// Whether a relative path names something below its base.
fn stays_below(path: &str) -> bool {
    use std::path::{Component, Path};
    !path.is_empty() && !path.contains('\0') && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}
