//! A run: one PRD worked off on one repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent::Usage;
use crate::capability::Control;
use crate::door::HostRule;
use crate::id::{AttemptId, RunId, SandboxId};
use crate::ledger::GateResult;
use crate::spec::{Limits, Root};

/// What a person asked for, complete: settings are resolved by the CLI before it is sent, the daemon
/// clamps it by the managed policy, and nothing of it changes during the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunSpec {
    /// Name to show; made from the branch when empty.
    #[serde(default)]
    pub name: String,
    /// Local path or URL of the source repository.
    pub repository: String,
    /// Branch, tag or commit to start from; the repository's `HEAD` when absent.
    #[serde(default)]
    pub base: Option<String>,
    /// Branch to make; the PRD's `branchName` when absent.
    #[serde(default)]
    pub branch: Option<String>,
    /// The PRD.
    pub prd: PrdSource,
    /// Which agent, and how.
    pub agent: AgentChoice,
    /// `auto`, `native`, `docker`, `podman`, `direct` or `fake`.
    #[serde(default = "auto")]
    pub engine: String,
    /// Consent to the engine without isolation; never from a file.
    #[serde(default)]
    pub accept_no_sandbox: bool,
    /// Root of agent and gate sandboxes.
    #[serde(default = "host_root")]
    pub root: Root,
    /// Limits of each sandbox.
    #[serde(default)]
    pub limits: Limits,
    /// Limits that the user accepts to go without where the host cannot give them.
    #[serde(default)]
    pub accept_missing: Vec<Control>,
    /// Hosts that the agent may reach beside those of its own model.
    #[serde(default)]
    pub allow_hosts: Vec<HostRule>,
    /// Hosts refused even where allowed.
    #[serde(default)]
    pub block_hosts: Vec<HostRule>,
    /// Hosts that gates may reach; empty for no network.
    #[serde(default)]
    pub gate_hosts: Vec<HostRule>,
    /// Checks; found in the PRD or detected in the repository when absent.
    #[serde(default)]
    pub gates: Option<Vec<GateSpec>>,
    /// When it stops.
    #[serde(default)]
    pub bounds: Bounds,
    /// Independent stories worked on at once, 1 to 16.
    #[serde(default = "one")]
    pub parallel: u32,
    /// What a completion token in the agent's final message claims.
    #[serde(default)]
    pub token_means: TokenMeaning,
    /// Whether a story may pass without any change when its gates pass.
    #[serde(default)]
    pub allow_empty: bool,
    /// Whether a diff that edits gate definitions or tests only needs the gates as they are in it;
    /// otherwise the originals must pass too.
    #[serde(default)]
    pub trust_test_changes: bool,
    /// Replaces the built-in prompt template.
    #[serde(default)]
    pub prompt_template: Option<String>,
    /// Warnings of the settings, repeated in the ledger.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl RunSpec {
    /// A run of `prd` on `repository` with everything else as it is when nothing is said.
    pub fn new(repository: impl Into<String>, prd: PrdSource) -> Self {
        Self {
            name: String::new(),
            repository: repository.into(),
            base: None,
            branch: None,
            prd,
            agent: AgentChoice::default(),
            engine: auto(),
            accept_no_sandbox: false,
            root: host_root(),
            limits: Limits::default(),
            accept_missing: Vec::new(),
            allow_hosts: Vec::new(),
            block_hosts: Vec::new(),
            gate_hosts: Vec::new(),
            gates: None,
            bounds: Bounds::default(),
            parallel: one(),
            token_means: TokenMeaning::default(),
            allow_empty: false,
            trust_test_changes: false,
            prompt_template: None,
            warnings: Vec::new(),
        }
    }
}

fn auto() -> String {
    "auto".to_owned()
}

fn host_root() -> Root {
    Root::Host
}

fn one() -> u32 {
    1
}

/// The PRD as read, and where to write back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrdSource {
    /// File of the user, updated in place (only `passes` and `notes`); absent for none.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Its text when the run was asked for.
    pub text: String,
    /// The user's progress file, appended to; absent for none.
    #[serde(default)]
    pub progress_path: Option<PathBuf>,
    /// Its text when the run was asked for.
    #[serde(default)]
    pub progress: String,
}

/// Which agent, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentChoice {
    /// `claude`, `codex`, `opencode`, `gemini`, `command`, or one defined in settings.
    pub name: String,
    /// Model name as the agent understands it.
    #[serde(default)]
    pub model: Option<String>,
    /// Replaces the program and its leading arguments; required for `command`.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Appended to the arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables of the agent's process.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Host directories shown read-only at the same path, to the agent and to gates: an agent or a
    /// toolchain installed outside the system's directories.
    #[serde(default)]
    pub mounts: Vec<PathBuf>,
    /// Definition of an agent of one's own, as in settings.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub definition: Option<serde_json::Value>,
}

/// A check that a commit must pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateSpec {
    /// Unique name, shown in reports.
    pub name: String,
    /// Command line for `/bin/sh -c`, run in the checkout's root.
    pub command: String,
    /// Seconds until it counts as failed.
    #[serde(default = "gate_timeout")]
    pub timeout_seconds: u64,
    /// Files of the check itself (scripts, configuration, tests), as globs from the repository's root.
    /// A diff that touches them needs the originals to pass too.
    #[serde(default)]
    pub protects: Vec<String>,
}

fn gate_timeout() -> u64 {
    1800
}

/// When a run stops. `None` or 0 means no bound, except where a default is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bounds {
    /// Attempts of the whole run, infrastructure failures not counted.
    pub iterations: u32,
    /// Attempts at one story before it is given up.
    pub attempts_per_story: u32,
    /// Seconds of wall clock for the whole run, pauses not counted.
    pub wall_seconds: Option<u64>,
    /// Tokens of the whole run.
    pub tokens: Option<u64>,
    /// US dollars of the whole run, reported or estimated.
    pub cost_usd: Option<f64>,
    /// Seconds for one attempt's agent.
    pub attempt_seconds: u64,
    /// Seconds without any output of the agent.
    pub idle_seconds: u64,
    /// Model turns of one attempt.
    pub turns: Option<u32>,
    /// Consecutive failures of the infrastructure before the run fails.
    pub infrastructure_failures: u32,
    /// Identical failures in a row (same gates, same diff or same error) before a story counts as stuck.
    pub stuck_after: u32,
    /// Whether a provider's limit pauses the run until its reset; otherwise it ends there.
    pub wait_for_provider: bool,
    /// Bytes of an agent's output kept per attempt; more is counted and dropped.
    pub output_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            iterations: 50,
            attempts_per_story: 5,
            wall_seconds: None,
            tokens: None,
            cost_usd: None,
            attempt_seconds: 1800,
            idle_seconds: 600,
            turns: None,
            infrastructure_failures: 3,
            stuck_after: 3,
            wait_for_provider: true,
            output_bytes: 64 << 20,
        }
    }
}

/// What a completion token claims; never more than a claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenMeaning {
    /// This story is done.
    #[default]
    Story,
    /// The whole PRD is done.
    Prd,
}

/// Where a run stands.
///
/// ```text
/// queued ─► starting ─► running ─► finishing ─► succeeded | incomplete | limit_reached
///    │          │        │  ▲ ▲
///    │          │        │  │ └── paused (a person, or a provider until its reset)
///    │          │        │  └──── waiting_input
///    └──────────┴────────┴──────► failed | stopped
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the diagram says it")]
pub enum Phase {
    Queued,
    Starting,
    Running,
    WaitingInput,
    Paused,
    Finishing,
    Succeeded,
    Incomplete,
    LimitReached,
    Failed,
    Stopped,
}

impl Phase {
    /// Whether nothing more will happen by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Incomplete | Self::LimitReached | Self::Failed | Self::Stopped)
    }

    /// Its snake-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::WaitingInput => "waiting_input",
            Self::Paused => "paused",
            Self::Finishing => "finishing",
            Self::Succeeded => "succeeded",
            Self::Incomplete => "incomplete",
            Self::LimitReached => "limit_reached",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// The end of a sentence that begins with a run's name.
    pub fn told(self) -> &'static str {
        match self {
            Self::Queued => "waits for its turn",
            Self::Starting => "is starting",
            Self::Running => "is running",
            Self::WaitingInput => "waits for an answer",
            Self::Paused => "is paused",
            Self::Finishing => "is finishing",
            Self::Succeeded => "has succeeded",
            Self::Incomplete => "has ended with work left",
            Self::LimitReached => "was ended by a limit",
            Self::Failed => "has failed",
            Self::Stopped => "was stopped",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "how")]
pub enum Ending {
    /// Every story passed.
    Succeeded,
    /// Stories remain that were given up.
    Incomplete {
        /// One sentence.
        reason: String,
    },
    /// A bound was reached.
    LimitReached {
        /// Which: `iterations`, `wall`, `tokens`, `cost`, `provider`.
        limit: String,
        /// One sentence.
        reason: String,
    },
    /// It could not go on.
    Failed {
        /// One sentence.
        reason: String,
    },
    /// A person stopped it.
    Stopped,
}

impl Ending {
    /// The phase that goes with it.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Succeeded => Phase::Succeeded,
            Self::Incomplete { .. } => Phase::Incomplete,
            Self::LimitReached { .. } => Phase::LimitReached,
            Self::Failed { .. } => Phase::Failed,
            Self::Stopped => Phase::Stopped,
        }
    }

    /// Exit code of a CLI that followed the run to this end.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Incomplete { .. } => 10,
            Self::LimitReached { .. } => 11,
            Self::Failed { .. } | Self::Stopped => 1,
        }
    }

    /// One sentence.
    pub fn reason(&self) -> String {
        match self {
            Self::Succeeded => "Every story passed".to_owned(),
            Self::Stopped => "Stopped on request".to_owned(),
            Self::Incomplete { reason } | Self::LimitReached { reason, .. } | Self::Failed { reason } => reason.clone(),
        }
    }
}

/// A run's whole state: what is needed to go on after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Identifier.
    pub id: RunId,
    /// Unique memorable name.
    pub name: String,
    /// What was asked for.
    pub spec: RunSpec,
    /// Raised by one with every commit; 0 before the first.
    pub version: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Why it is paused, failed or given up, for people.
    pub reason: Option<String>,
    /// A person asked for this; the loop obeys at its next step.
    pub request: Option<RunRequest>,
    /// When a pause ends by itself.
    #[schemars(with = "Option<String>")]
    pub resume_at: Option<Timestamp>,
    /// Engine that was chosen.
    pub engine: Option<String>,
    /// Commit that the branch started from.
    pub base: Option<String>,
    /// Branch name.
    pub branch: Option<String>,
    /// Commit that the branch stands at: the last accepted one.
    pub head: Option<String>,
    /// Gates in force, resolved once.
    pub gates: Vec<GateSpec>,
    /// Their results on the base commit; a gate that passed on the branch since counts as passed.
    pub baseline: Vec<GateResult>,
    /// Stories in PRD order.
    pub stories: Vec<StoryState>,
    /// Attempts counted against `bounds.iterations`.
    pub iterations: u32,
    /// Consecutive infrastructure failures.
    pub infrastructure_failures: u32,
    /// What all attempts used.
    pub usage: Usage,
    /// Milliseconds of wall clock spent working, pauses left out.
    pub worked_millis: u64,
    /// How it ended.
    pub ending: Option<Ending>,
    /// When it was asked for.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When the state last changed.
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
}

/// What a person asked of a living run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RunRequest {
    /// Stop after ending what is under way.
    Stop,
    /// Pause after the current attempt; work under way is ended and counts as interrupted.
    Pause,
}

/// Where one story stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoryState {
    /// Story id as in the PRD.
    pub id: String,
    /// Title.
    pub title: String,
    /// Ids it depends on.
    pub depends_on: Vec<String>,
    /// State.
    pub status: StoryStatus,
    /// Attempts counted against `bounds.attempts_per_story`.
    pub attempts: u32,
    /// The attempt under way.
    pub current: Option<CurrentAttempt>,
    /// Last verdict's text, given to the next attempt.
    pub feedback: Option<String>,
    /// Fingerprints of the last failures, newest last, at most 16, for stuck detection.
    pub failures: Vec<String>,
    /// Commit that passed it.
    pub commit: Option<String>,
}

/// State of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StoryStatus {
    /// Not begun, or to be tried again.
    Open,
    /// An attempt is under way.
    Working,
    /// Accepted by gates, in this run or, as the PRD said, before it.
    Passed,
    /// Given up.
    GivenUp,
}

/// An attempt under way: what a restart has to clean up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentAttempt {
    /// Identifier.
    pub id: AttemptId,
    /// Commit it starts from.
    pub base: String,
    /// Sandboxes made for it.
    pub sandboxes: Vec<SandboxId>,
    /// Commit that passed its gates and is about to become the branch's head. Written before the
    /// branch moves, so that a crash in between neither loses nor doubles it.
    pub accepted: Option<String>,
}
