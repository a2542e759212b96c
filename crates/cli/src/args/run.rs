//! `cove run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cove_core::run::GateSpec;
use cove_settings::Flag;
use serde_json::{Value, json};

use super::duration;

/// Work a PRD off.
#[derive(Debug, Default, Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  cove run                                     prd.json of this repository with the agent of the settings
  cove run --agent codex --agent-env OPENAI_API_KEY --max-cost 5
  cove run prd.md --gate 'tests=cargo test' --gate 'lint=cargo clippy -- -D warnings'
  cove run --agent command --agent-command './agent.sh' --detach
  cove run --dry-run                           what would be done, and with which settings

The run goes on in a background daemon: Ctrl-C only detaches. Keys reach the agent only through
--agent-env. The exit code tells how the run ended; see cove help exit-codes."
)]
pub struct RunArgs {
    /// PRD file: prd.json or a Markdown checklist
    #[arg(value_name = "PRD", conflicts_with = "prd_flag")]
    pub prd: Option<PathBuf>,
    /// The same as PRD
    #[arg(long = "prd", value_name = "FILE")]
    pub prd_flag: Option<PathBuf>,
    /// Repository to work on: a directory or an address; the one around the current directory by default
    #[arg(long, value_name = "PATH|URL")]
    pub repo: Option<String>,
    /// Name of the run; made from the branch by default
    #[arg(long)]
    pub name: Option<String>,
    /// Branch, tag or commit to start from; HEAD by default
    #[arg(long, value_name = "REVISION")]
    pub base: Option<String>,
    /// Branch to make; the PRD's by default
    #[arg(long)]
    pub branch: Option<String>,
    /// Prompt template to use instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub prompt: Option<PathBuf>,

    /// Agent: claude, codex, opencode, gemini, command, or one of the settings
    #[arg(long, help_heading = "Agent", add = crate::names::agents())]
    pub agent: Option<String>,
    /// Model, as the agent names it
    #[arg(long, help_heading = "Agent")]
    pub model: Option<String>,
    /// Program and leading arguments instead of the agent's own, quoted as in a shell
    #[arg(long, value_name = "COMMAND", help_heading = "Agent")]
    pub agent_command: Option<String>,
    /// One more argument for the agent; repeatable
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, help_heading = "Agent")]
    pub agent_arg: Vec<String>,
    /// Variable for the agent: NAME passes it on, NAME=VALUE sets it; repeatable
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Agent")]
    pub agent_env: Vec<String>,
    /// Directory shown to the agent and to checks, read-only at the same path; repeatable
    #[arg(long, value_name = "DIR", help_heading = "Agent")]
    pub agent_mount: Vec<PathBuf>,

    /// Engine: auto, native, docker, podman, none
    #[arg(long, help_heading = "Sandbox", add = crate::names::engines())]
    pub engine: Option<String>,
    /// Accept an engine without any isolation
    #[arg(long, help_heading = "Sandbox")]
    pub i_accept_no_sandbox: bool,
    /// Limits to go without where the host cannot give them, such as limit-memory
    #[arg(long, value_name = "LIMIT", value_delimiter = ',', help_heading = "Sandbox")]
    pub accept_missing: Vec<String>,
    /// Image to run in, instead of the host's system directories
    #[arg(long, group = "root", help_heading = "Sandbox")]
    pub image: Option<String>,
    /// Directory with a root file system to run in
    #[arg(long, value_name = "DIR", group = "root", help_heading = "Sandbox")]
    pub root_dir: Option<PathBuf>,
    /// Archive with a root file system to run in
    #[arg(long, value_name = "FILE", group = "root", help_heading = "Sandbox")]
    pub root_archive: Option<PathBuf>,
    /// CPUs of each sandbox
    #[arg(long, value_name = "N", help_heading = "Sandbox")]
    pub cpus: Option<f64>,
    /// Memory of each sandbox, such as 4g
    #[arg(long, value_name = "SIZE", help_heading = "Sandbox")]
    pub memory: Option<String>,
    /// Disk of each sandbox, such as 10g
    #[arg(long, value_name = "SIZE", help_heading = "Sandbox")]
    pub disk: Option<String>,
    /// Processes of each sandbox
    #[arg(long, value_name = "N", help_heading = "Sandbox")]
    pub pids: Option<u64>,
    /// Host that the agent may reach; repeatable
    #[arg(long, value_name = "HOST", help_heading = "Sandbox")]
    pub allow_host: Vec<String>,
    /// Host refused even where allowed; repeatable
    #[arg(long, value_name = "HOST", help_heading = "Sandbox")]
    pub block_host: Vec<String>,
    /// Host that gates may reach; repeatable
    #[arg(long, value_name = "HOST", help_heading = "Sandbox")]
    pub gate_host: Vec<String>,

    /// Check that every commit must pass; repeatable, replaces those found
    #[arg(long, value_name = "NAME=COMMAND", value_parser = gate, help_heading = "Acceptance")]
    pub gate: Vec<GateSpec>,
    /// Let a story pass without any change when its gates pass
    #[arg(long, help_heading = "Acceptance")]
    pub allow_empty: bool,
    /// Judge changed tests and gates by their new version alone
    #[arg(long, help_heading = "Acceptance")]
    pub trust_test_changes: bool,

    /// Attempts of the whole run
    #[arg(long, value_name = "N", help_heading = "Bounds")]
    pub max_iterations: Option<u32>,
    /// Attempts at one story
    #[arg(long, value_name = "N", help_heading = "Bounds")]
    pub max_attempts: Option<u32>,
    /// Wall clock of the whole run
    #[arg(long, value_name = "DURATION", help_heading = "Bounds")]
    pub max_time: Option<String>,
    /// Tokens of the whole run
    #[arg(long, value_name = "N", help_heading = "Bounds")]
    pub max_tokens: Option<u64>,
    /// US dollars of the whole run
    #[arg(long, value_name = "USD", help_heading = "Bounds")]
    pub max_cost: Option<f64>,
    /// Model turns of one attempt
    #[arg(long, value_name = "N", help_heading = "Bounds")]
    pub max_turns: Option<u32>,
    /// Time for one attempt
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Bounds")]
    pub attempt_timeout: Option<Duration>,
    /// Time without output after which an attempt is ended
    #[arg(long, value_name = "DURATION", help_heading = "Bounds")]
    pub idle_timeout: Option<String>,
    /// Independent stories worked on at once, 1 to 16
    #[arg(long, value_name = "N", help_heading = "Bounds")]
    pub parallel: Option<u32>,

    /// Start it and return at once
    #[arg(short, long, conflicts_with = "foreground", help_heading = "Following")]
    pub detach: bool,
    /// Do everything in this process, without the daemon; Ctrl-C then interrupts the run
    #[arg(long, help_heading = "Following")]
    pub foreground: bool,
    /// Show what would be done and do nothing
    #[arg(long, help_heading = "Following")]
    pub dry_run: bool,
    /// Refuse to start when a repository's setting had to be ignored
    #[arg(long, help_heading = "Following")]
    pub strict: bool,
    /// Stop following after this time, with exit code 124; the run goes on
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Following")]
    pub timeout: Option<Duration>,
    /// Plain lines also on a terminal
    #[arg(long, help_heading = "Following")]
    pub plain: bool,
    /// Put the time before each line
    #[arg(long, help_heading = "Following")]
    pub timestamps: bool,
}

impl RunArgs {
    /// The PRD file, however it was given.
    pub fn prd_file(&self) -> Option<&PathBuf> {
        self.prd.as_ref().or(self.prd_flag.as_ref())
    }

    /// The flags that stand for a setting.
    pub fn flags(&self) -> Vec<Flag> {
        let mut out = Vec::new();
        let mut add = |name: &'static str, key: &'static str, value: Option<Value>| {
            if let Some(value) = value {
                out.push(Flag { name, key, value });
            }
        };
        let text = |value: &Option<String>| value.clone().map(Value::String);
        add("--agent", "agent.name", text(&self.agent));
        add("--model", "agent.model", text(&self.model));
        add("--engine", "container.engine", text(&self.engine));
        // One root replaces the other, whichever layer it came from.
        if self.image.is_some() || self.root_dir.is_some() || self.root_archive.is_some() {
            add("--image", "container.image", Some(json!(self.image)));
            add("--root-dir", "container.rootDir", Some(json!(self.root_dir)));
            add("--root-archive", "container.rootArchive", Some(json!(self.root_archive)));
        }
        add("--cpus", "container.resources.cpu", self.cpus.map(|n| json!(n)));
        add("--memory", "container.resources.memory", text(&self.memory));
        add("--disk", "container.resources.storage", text(&self.disk));
        add("--pids", "container.resources.pids", self.pids.map(|n| json!(n)));
        add("--gate", "gates", Some(&self.gate).filter(|gates| !gates.is_empty()).map(|gates| json!(gates)));
        add("--allow-empty", "loop.allowEmpty", self.allow_empty.then_some(json!(true)));
        add("--trust-test-changes", "loop.trustTestChanges", self.trust_test_changes.then_some(json!(true)));
        add("--max-iterations", "loop.maxIterations", self.max_iterations.map(|n| json!(n)));
        add("--max-attempts", "loop.maxAttempts", self.max_attempts.map(|n| json!(n)));
        add("--max-time", "loop.maxTime", text(&self.max_time));
        add("--max-tokens", "loop.maxTokens", self.max_tokens.map(|n| json!(n)));
        add("--max-cost", "loop.maxCostUsd", self.max_cost.map(|n| json!(n)));
        add("--max-turns", "loop.maxTurns", self.max_turns.map(|n| json!(n)));
        let millis = |duration: Duration| json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        add("--attempt-timeout", "container.timeout", self.attempt_timeout.map(millis));
        add("--idle-timeout", "loop.idleTimeout", text(&self.idle_timeout));
        add("--parallel", "loop.parallel", self.parallel.map(|n| json!(n)));
        out
    }
}

/// `NAME=COMMAND`.
fn gate(text: &str) -> Result<GateSpec, String> {
    match text.split_once('=') {
        Some((name, command)) if !name.trim().is_empty() && !command.trim().is_empty() => Ok(GateSpec {
            name: name.trim().to_owned(),
            command: command.trim().to_owned(),
            timeout_seconds: 1800,
            protects: Vec::new(),
        }),
        _ => Err("write NAME=COMMAND, such as 'tests=cargo test'".to_owned()),
    }
}
