//! One run from its request to its end: a state machine with one owning task.
//!
//! ```text
//!            ┌───────────────── resume ◄──────────────┐
//!            ▼                                        │
//! Queued ─► Starting ─► Running ─► Finishing ─► Succeeded | Incomplete | LimitReached
//!   │          │          │ ▲
//!   │          │          ▼ │  a person, or a provider until its reset
//!   ├──────────┼────── Paused
//!   └──────────┴──────────┴──────► Failed | Stopped          (retry: back to Queued)
//! ```
//!
//! * [`Owner`] alone changes the record; every change is one `Records::commit` of state and facts.
//! * Workers ([`attempt`], [`checks`]) do what takes long. They report over a bounded channel, end when
//!   their token is cancelled, and take their sandboxes with them.
//! * **Starting** clones, resolves base, branch and gates, and runs the gates on the base.
//! * **Running** goes in waves: up to `parallel` independent stories begin at the same head; when all
//!   are concluded, those that passed are accepted in the order of the PRD, the first by moving the
//!   branch, the others after a merge and another run of the gates ([`accept`]).
//! * An attempt is on record, with the ids of its sandboxes, before anything of it exists, and an accepted
//!   commit before the branch moves: after a crash anywhere [`settle`] finishes or undoes it.

mod accept;
mod agent;
mod archive;
mod attempt;
mod baseline;
mod bench;
mod budget;
mod checks;
mod choice;
mod conclude;
pub(crate) mod crew;
mod events;
mod feedback;
mod files;
mod ground;
mod leftovers;
mod owner;
pub(crate) mod place;
mod prepare;
mod settle;
mod taken;
mod text;
mod trial;
mod wait;
mod wave;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cove_core::ledger::GateResult;
use cove_core::run::GateSpec;
use cove_core::{Agent, RunId, RunSpec};

pub(crate) use files::Files;
pub(crate) use owner::{Command, Owner};
pub(crate) use place::Place;

use crate::evidence::Tripwire;
use crate::prd::Prd;
use crate::runner::Shared;
use crate::tamper::ControlFiles;
use budget::Budget;
use ground::Ground;

/// Where the repository lies inside.
pub(crate) const WORKSPACE: &str = "/workspace";
/// The home of agent and gates inside.
pub(crate) const HOME: &str = "/home/ralph";

/// What every worker of a run may read; nothing of it changes while they work.
pub(crate) struct Site {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: RunId,
    pub(crate) spec: RunSpec,
    pub(crate) prd: Prd,
    pub(crate) place: Place,
    /// The engine that was chosen when the run was asked for.
    pub(crate) engine: String,
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) branch: String,
    pub(crate) gates: Vec<GateSpec>,
    pub(crate) baseline: Vec<GateResult>,
    /// Commit that the run began at.
    pub(crate) base: String,
    /// What the base's checks showed when tests that must fail were among theirs, by gate.
    pub(crate) wires: BTreeMap<String, Tripwire>,
    /// The user's PRD and progress file, where they lie in the repository.
    pub(crate) control: ControlFiles,
    pub(crate) budget: Arc<Budget>,
    /// What workspaces are laid over.
    pub(crate) ground: Arc<Ground>,
}

impl Site {
    /// Whether sandboxes have a file system of their own. Without isolation they see the host's paths.
    pub(crate) fn isolates(&self) -> bool {
        self.engine != "direct"
    }

    /// What processes call a directory of ours that is mounted at `target`.
    pub(crate) fn seen(&self, source: &Path, target: &str) -> PathBuf {
        if self.isolates() { PathBuf::from(target) } else { source.to_owned() }
    }
}
