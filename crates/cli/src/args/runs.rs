//! `cove runs`, `cove logs`, `cove status`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Page, duration};
use crate::names::runs;

/// Commands on runs. RUN is a name, an identifier or an unambiguous beginning of one.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// All runs, newest first
    #[command(alias = "ls")]
    List(Page),
    /// One run: stories, gates, spend
    Show {
        /// The run
        #[arg(add = runs())]
        run: String,
    },
    /// End a run; work under way is lost, accepted work stays
    Stop {
        /// The runs
        #[arg(required = true, add = runs())]
        run: Vec<String>,
    },
    /// Hold a run until it is resumed
    Pause {
        /// The run
        #[arg(add = runs())]
        run: String,
    },
    /// Go on with a paused or interrupted run
    Resume {
        /// The run
        #[arg(add = runs())]
        run: String,
    },
    /// Try the stories that did not pass again
    Retry {
        /// The run
        #[arg(add = runs())]
        run: String,
    },
    /// What a run changed
    Diff {
        /// The run
        #[arg(add = runs())]
        run: String,
        /// Only this story
        #[arg(long)]
        story: Option<String>,
    },
    /// Bring a run's branch into a repository; never forced
    Apply {
        /// The run
        #[arg(add = runs())]
        run: String,
        /// Repository to bring it into; the run's own source by default
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// Check the branch out
        #[arg(long)]
        switch: bool,
    },
    /// Write a run's branch as a bundle, its diff and its record into a directory
    Export {
        /// The run
        #[arg(add = runs())]
        run: String,
        /// The directory; made when absent
        #[arg(value_name = "DIRECTORY")]
        to: PathBuf,
    },
    /// Forget a run, its ledger and its files
    #[command(alias = "remove", alias = "delete")]
    Rm {
        /// The runs
        #[arg(required = true, add = runs())]
        run: Vec<String>,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
        /// Stop it first when it is not over
        #[arg(long)]
        force: bool,
        /// Show what would be removed and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// What a run did.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The run; the newest by default
    #[arg(add = runs())]
    pub run: Option<String>,
    /// Stay and print what happens from now on; the exit code is the run's
    #[arg(short, long)]
    pub follow: bool,
    /// The live view, as cove run shows it (with --follow on a terminal)
    #[arg(long, requires = "follow")]
    pub live: bool,
    /// Begin after this position
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: u64,
    /// The agent's output as it came
    #[arg(long, conflicts_with_all = ["follow", "after"])]
    pub raw: bool,
    /// Of this attempt instead of the newest (with --raw)
    #[arg(long, requires = "raw")]
    pub attempt: Option<String>,
    /// Put the time before each line
    #[arg(long)]
    pub timestamps: bool,
    /// Stop following after this time, with exit code 124
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "follow")]
    pub timeout: Option<Duration>,
}

/// The daemon and its unfinished runs, or one run.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The run
    #[arg(add = runs())]
    pub run: Option<String>,
    /// Tell the run's state by the exit code too: 8 while it goes on, 12 while it waits, then as it ended
    #[arg(long, requires = "run")]
    pub exit_status: bool,
}
