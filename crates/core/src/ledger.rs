//! The append-only record of everything a run did.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentEvent, Usage};
use crate::door::DoorEvent;
use crate::id::{AttemptId, RunId, SandboxId};
use crate::run::{Ending, Phase};

/// A fact with its place and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Position within the run, from 1 without gaps.
    pub seq: u64,
    /// The run.
    pub run: RunId,
    /// When it was recorded.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// A fact about to be recorded; the store gives it its place.
pub type NewEntry = Fact;

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "fact")]
pub enum Fact {
    /// The run was asked for.
    Created,
    /// The phase changed.
    PhaseChanged {
        /// To this.
        phase: Phase,
        /// Why, where there is more to say.
        reason: Option<String>,
    },
    /// The repository was cloned and the branch begun.
    Prepared {
        /// Commit that the branch starts at.
        base: String,
        /// Branch name.
        branch: String,
    },
    /// The gates ran on the base commit.
    Baseline {
        /// Each gate's result.
        gates: Vec<GateResult>,
    },
    /// Intent: an attempt at a story begins.
    AttemptStarted {
        /// The attempt.
        attempt: AttemptId,
        /// Story id.
        story: String,
        /// 1 for the first try.
        number: u32,
        /// Commit it starts from.
        base: String,
    },
    /// A sandbox was made for the attempt.
    SandboxStarted {
        /// The attempt; none for the baseline.
        attempt: Option<AttemptId>,
        /// The sandbox.
        sandbox: SandboxId,
        /// `agent` or `gate`.
        role: String,
        /// Engine name.
        engine: String,
    },
    /// The agent did or said something.
    Agent {
        /// The attempt.
        attempt: AttemptId,
        /// What.
        event: AgentEvent,
    },
    /// The door let something through or refused it.
    Egress {
        /// The attempt.
        attempt: Option<AttemptId>,
        /// The decision.
        event: DoorEvent,
    },
    /// The agent's commits were taken out.
    Collected {
        /// The attempt.
        attempt: AttemptId,
        /// The commit to judge; absent when nothing changed.
        commit: Option<String>,
        /// Files changed against the base.
        files: u32,
        /// Things about the diff that a reader should know (control files edited, tests deleted, …).
        flags: Vec<String>,
    },
    /// A gate ran on the attempt's commit.
    GateFinished {
        /// The attempt.
        attempt: AttemptId,
        /// Its result.
        gate: GateResult,
    },
    /// One reason why the attempt's work is not accepted; comes right before the attempt's end.
    Refusal {
        /// The attempt.
        attempt: AttemptId,
        /// Stable code of the reason, as listed in `docs/gates.md`.
        code: String,
        /// One sentence.
        text: String,
    },
    /// The attempt is over.
    AttemptFinished {
        /// The attempt.
        attempt: AttemptId,
        /// Story id.
        story: String,
        /// Its verdict.
        verdict: Verdict,
        /// What it used.
        usage: Usage,
    },
    /// The branch moved; the story passed. One record with the attempt that did it.
    StoryPassed {
        /// Story id.
        story: String,
        /// The attempt.
        attempt: AttemptId,
        /// The commit that the branch stands at now.
        commit: String,
    },
    /// A person or a policy intervened.
    Note {
        /// One sentence.
        text: String,
    },
    /// The run is over.
    Finished {
        /// How.
        ending: Ending,
    },
}

/// What became of one gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateResult {
    /// Gate name.
    pub name: String,
    /// Command line as run.
    pub command: String,
    /// Result.
    pub status: GateStatus,
    /// Exit code, where it ended by itself.
    pub code: Option<i32>,
    /// Milliseconds.
    pub millis: u64,
    /// End of its output, at most 16 KiB.
    pub tail: String,
    /// Tests that ran, skipped ones left out, where the output is that of a test runner we know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<u64>,
}

/// Result of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GateStatus {
    /// Exit code 0.
    Passed,
    /// Another exit code.
    Failed,
    /// Failed, and failed on the base commit already; does not count against the story.
    FailedBefore,
    /// Its time was up.
    TimedOut,
    /// It could not be run.
    Errored,
}

impl GateStatus {
    /// Whether it lets a story pass.
    pub fn accepts(self) -> bool {
        matches!(self, Self::Passed | Self::FailedBefore)
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "verdict")]
pub enum Verdict {
    /// Gates passed; the branch moved.
    Accepted,
    /// Gates failed; the commit is kept on a side ref.
    GatesFailed {
        /// Their names.
        gates: Vec<String>,
    },
    /// The agent failed, or was stopped by a limit.
    AgentFailed {
        /// One sentence.
        reason: String,
    },
    /// Nothing was changed.
    NoChange,
    /// The work was refused for what it holds (escaping links, control files, conflict).
    Refused {
        /// One sentence.
        reason: String,
    },
    /// The provider's limit.
    ProviderLimit {
        /// One sentence.
        reason: String,
    },
    /// Ours or the host's failure; does not count against the story.
    Infrastructure {
        /// One sentence.
        reason: String,
    },
    /// Cut off by a restart or by a person; does not count against the story.
    Interrupted,
}
