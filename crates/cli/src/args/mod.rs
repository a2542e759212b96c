//! The command line.

mod config;
mod run;
mod runs;
mod sandbox;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use config::{ConfigCommand, EngineCommand, EngineTest, PrdCommand};
pub use run::RunArgs;
pub use runs::{LogsArgs, RunsCommand, StatusArgs};
pub use sandbox::{ExecArgs, SandboxCommand, SandboxCreate};

use crate::output::{ColorChoice, Format};

/// Runs AI agents in hardened, disposable sandboxes and drives them through a PRD to a verified branch.
#[derive(Debug, Parser)]
#[command(
    name = "cove",
    version,
    max_term_width = 100,
    subcommand_required = false,
    arg_required_else_help = false,
    disable_help_subcommand = true,
    after_help = "Begin with: cove doctor, cove demo, cove run\n\
                  More: cove help exit-codes, cove help environment, cove help formatting, cove help labels"
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct Globals {
    /// Format of the data on stdout
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", conflicts_with = "json")]
    pub output: Option<Format>,
    /// JSON, with only these fields where given (separated by commas)
    #[arg(long, global = true, value_name = "FIELDS", num_args = 0..=1, require_equals = true, default_missing_value = "", value_delimiter = ',')]
    pub json: Option<Vec<String>>,
    /// Filter the JSON as jq does; texts are printed without quotes
    #[arg(long, global = true, value_name = "FILTER", conflicts_with = "output")]
    pub jq: Option<String>,
    /// Print identifiers only, and no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto, hide_possible_values = false)]
    pub color: ColorChoice,
    /// Show times in UTC
    #[arg(long, global = true)]
    pub utc: bool,
    /// Work on this repository instead of the one around the current directory
    #[arg(short = 'C', long = "directory", global = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Work a PRD off: one story after the other, each accepted by its gates
    #[command(alias = "start")]
    Run(Box<RunArgs>),
    /// Runs: list, show, stop, pause, resume, retry, diff, apply, export, rm
    #[command(subcommand, alias = "run-list")]
    Runs(RunsCommand),
    /// What a run did, fact by fact
    Logs(LogsArgs),
    /// The daemon and its unfinished runs, or one run
    Status(StatusArgs),
    /// PRD files: init, validate, show, import
    #[command(subcommand)]
    Prd(PrdCommand),
    /// Sandboxes: create, list, show, exec, shell, logs, stop, rm
    #[command(subcommand, alias = "sandboxes")]
    Sandbox(SandboxCommand),
    /// Engines: list, test
    #[command(subcommand, alias = "engines")]
    Engine(EngineCommand),
    /// Settings: get, list, explain, validate, schema
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The background daemon: start, stop, restart, status
    #[command(subcommand)]
    Daemon(DaemonCommand),
    /// Check this machine: kernel, engines, agents, space
    Doctor(DoctorArgs),
    /// See it work: a small repository, a scripted agent, no key and no account
    Demo(DemoArgs),
    /// Run the daemon in the foreground
    Serve(ServeArgs),
    /// Completions for a shell, with the names of runs and sandboxes there are (nushell: without)
    #[command(after_help = "\
Examples:
  cove completion bash > ~/.local/share/bash-completion/completions/cove
  cove completion zsh > ~/.zfunc/_cove                       with ~/.zfunc in fpath
  cove completion fish > ~/.config/fish/completions/cove.fish
  cove completion nushell > cove.nu                          then: use cove.nu *")]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Explain an error code, a setting, or a promise
    Explain {
        /// A code such as `refused`, an exit code, a key of the settings, or the number of a promise
        code: String,
    },
    /// Help on a command or a topic
    Help {
        /// A command, or exit-codes, environment, formatting, labels; man COMMAND prints a manual page
        topic: Vec<String>,
    },
}

/// Commands on the daemon.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum DaemonCommand {
    /// Start it, unless it runs
    Start,
    /// End it; unfinished runs go on with the next one
    Stop,
    /// End it and start this version
    Restart,
    /// Whether it runs, and where
    Status,
}

/// Shells with completions.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, clippy::enum_variant_names, reason = "names of shells")]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Elvish,
    Nushell,
}

/// Where the root file system comes from.
#[derive(Debug, Args)]
#[group(id = "root", multiple = false)]
pub struct RootArgs {
    /// Image to use, instead of the host's system directories
    #[arg(long)]
    pub image: Option<String>,
    /// Directory with a root file system
    #[arg(long, value_name = "DIR")]
    pub root_dir: Option<PathBuf>,
    /// Archive with a root file system
    #[arg(long, value_name = "FILE")]
    pub root_archive: Option<PathBuf>,
}

/// Which part of a long list.
#[derive(Debug, Args)]
pub struct Page {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Only those older than this identifier, the last of the page before
    #[arg(long, value_name = "ID")]
    pub cursor: Option<String>,
}

/// What to check.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Make real sandboxes and try to get out of them
    #[arg(long)]
    pub isolation: bool,
    /// Try everything the catalogue has, each attempt with its control, and score it
    #[arg(long, requires = "isolation")]
    pub full: bool,
    /// Only this engine; every one that isolates when absent
    #[arg(long, value_name = "ENGINE", requires = "isolation")]
    pub engine: Option<String>,
}

/// The demonstration.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Engine to show
    #[arg(long, default_value = "native", value_name = "ENGINE")]
    pub engine: String,
    /// Keep its directory, and say where it is
    #[arg(long)]
    pub keep: bool,
    /// Accept an engine without isolation
    #[arg(long, hide = true)]
    pub i_accept_no_sandbox: bool,
    /// Limits to go without where the host cannot give them
    #[arg(long, value_name = "LIMIT", value_delimiter = ',')]
    pub accept_missing: Vec<String>,
}

/// The daemon.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// End after this time without work; never when absent
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub idle_exit: Option<Duration>,
    /// Listen on this TCP address too; clients show a token
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Name by which clients may address it, beside localhost and IP addresses; repeatable
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub host: Vec<String>,
    /// Become independent of the terminal first
    #[arg(long, hide = true)]
    pub detached: bool,
}

/// A length of time on the command line.
pub fn duration(text: &str) -> Result<Duration, String> {
    cove_core::quantity::parse_duration(text).map_err(|e| one_line(&e))
}

/// A size on the command line, in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    cove_core::quantity::parse_size(text).map_err(|e| one_line(&e))
}

/// What clap puts behind "invalid value 'x' for '--flag'": what to write instead.
fn one_line(error: &cove_core::Error) -> String {
    let next = error.next_step().unwrap_or_else(|| error.message());
    let mut chars = next.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
