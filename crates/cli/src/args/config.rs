//! `cove config`, `cove engine`, `cove prd`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::RootArgs;

/// Commands on settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// The value of one key
    Get {
        /// The key, with or without ralph.
        #[arg(add = crate::names::keys())]
        key: String,
    },
    /// Every key, its value and its origin
    #[command(alias = "ls")]
    List {
        /// Only what is not the default
        #[arg(long)]
        changed: bool,
    },
    /// What a key means, its value, where that came from and what it overrides
    Explain {
        /// The key, with or without ralph.
        #[arg(add = crate::names::keys())]
        key: String,
    },
    /// Check the files: those in force, or the ones given
    Validate {
        /// Files to check
        file: Vec<PathBuf>,
    },
    /// JSON Schema of the files
    Schema {
        /// That of the managed policy
        #[arg(long)]
        policy: bool,
    },
    /// Where files lie
    Paths,
}

/// Commands on engines.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// Which engines work here
    #[command(alias = "ls")]
    List,
    /// Every control by every engine, what is missing and how to get it, and a real sandbox of each,
    /// read from inside; exit code 0 when runs of these settings can begin
    Test(EngineTest),
}

/// What to test.
#[derive(Debug, Args)]
pub struct EngineTest {
    /// Only this engine; it decides the exit code then, otherwise the one that auto takes
    #[arg(add = crate::names::engines())]
    pub engine: Option<String>,
    /// Make no sandboxes; tell only what the probes found
    #[arg(long)]
    pub no_live: bool,
    #[command(flatten)]
    pub root: RootArgs,
}

/// Commands on PRD files.
#[derive(Debug, Subcommand)]
pub enum PrdCommand {
    /// Write a prd.json to begin with
    Init {
        /// The file
        #[arg(default_value = "prd.json")]
        file: PathBuf,
        /// Name of the project; the directory's by default
        #[arg(long)]
        project: Option<String>,
        /// Replace an existing file
        #[arg(long)]
        force: bool,
    },
    /// Check a PRD: form, identifiers, dependencies
    Validate {
        /// The file
        #[arg(default_value = "prd.json")]
        file: PathBuf,
    },
    /// The stories of a PRD, in the order of work
    Show {
        /// The file
        #[arg(default_value = "prd.json")]
        file: PathBuf,
    },
    /// Turn a PRD of another form (Markdown checklist, another runner's JSON) into prd.json
    Import {
        /// The file to read
        file: PathBuf,
        /// The file to write; - for stdout
        #[arg(long = "to", default_value = "prd.json", value_name = "FILE")]
        to: PathBuf,
        /// Replace an existing file
        #[arg(long)]
        force: bool,
    },
}
