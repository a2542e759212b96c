//! `cove sandbox`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Page, RootArgs, duration, size};
use crate::names::{engines, sandboxes};

/// Commands on sandboxes. SANDBOX is a name, an identifier or an unambiguous beginning of one.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Make a sandbox; it stays until it is removed
    Create(Box<SandboxCreate>),
    /// All sandboxes
    #[command(alias = "ls")]
    List(Page),
    /// One sandbox with its proof of isolation
    Show {
        /// The sandbox
        #[arg(add = sandboxes())]
        sandbox: String,
    },
    /// Run a command inside; the exit code is the command's
    Exec(ExecArgs),
    /// A shell inside
    Shell {
        /// The sandbox
        #[arg(add = sandboxes())]
        sandbox: String,
    },
    /// What its supervisor recorded
    Logs {
        /// The sandbox
        #[arg(add = sandboxes())]
        sandbox: String,
    },
    /// End everything inside; its files stay until it is removed
    Stop {
        /// The sandboxes
        #[arg(required = true, add = sandboxes())]
        sandbox: Vec<String>,
    },
    /// Remove sandboxes with everything in them
    #[command(alias = "remove", alias = "delete")]
    Rm {
        /// The sandboxes
        #[arg(required = true, add = sandboxes())]
        sandbox: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Show what would be removed and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Make a sandbox.
#[derive(Debug, Args)]
pub struct SandboxCreate {
    /// Its name; made up when absent
    #[arg(long)]
    pub name: Option<String>,
    /// Engine: auto, native, docker, podman, none
    #[arg(long, add = engines())]
    pub engine: Option<String>,
    /// Accept an engine without any isolation
    #[arg(long)]
    pub i_accept_no_sandbox: bool,
    /// Limits to go without where the host cannot give them
    #[arg(long, value_name = "LIMIT", value_delimiter = ',')]
    pub accept_missing: Vec<String>,
    #[command(flatten)]
    pub root: RootArgs,
    /// Host directory shown inside: SOURCE:TARGET, read-only, or SOURCE:TARGET:rw; repeatable
    #[arg(long, value_name = "SOURCE:TARGET[:rw]")]
    pub mount: Vec<String>,
    /// Variable of every process: NAME passes it on, NAME=VALUE sets it; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Label KEY=VALUE; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// CPUs
    #[arg(long, value_name = "N")]
    pub cpus: Option<f64>,
    /// Memory, such as 512m
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// Disk, such as 2g
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub disk: Option<u64>,
    /// Processes
    #[arg(long, value_name = "N")]
    pub pids: Option<u64>,
    /// End it by force after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_time: Option<Duration>,
}

/// Run a command inside.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The sandbox
    #[arg(add = sandboxes())]
    pub sandbox: String,
    /// Give it a terminal; the default when both ends are one
    #[arg(short, long, overrides_with = "no_tty")]
    pub tty: bool,
    /// Give it no terminal
    #[arg(long)]
    pub no_tty: bool,
    /// Do not pass stdin on
    #[arg(short = 'n', long)]
    pub no_stdin: bool,
    /// Variable: NAME passes it on, NAME=VALUE sets it; repeatable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// End the command after this time, with exit code 124
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Program and arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub argv: Vec<String>,
}
