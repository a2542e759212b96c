//! What a sandbox is and how it ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attestation::Attestation;
use crate::engine::EngineKind;
use crate::id::SandboxId;
use crate::spec::SandboxSpec;

/// Lifecycle.
///
/// ```text
/// creating ──► running ──► stopped ──► (removed)
///     └──────────┴───► failed ──► (removed)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum SandboxState {
    /// Intent is recorded; the engine may or may not have begun.
    Creating,
    /// Attested; processes may be started.
    Running,
    /// Everything inside is dead.
    Stopped {
        /// How it ended.
        exit: ExitStatus,
    },
    /// Could not be started, or was lost.
    Failed {
        /// One sentence.
        reason: String,
    },
}

/// How a process or a whole sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExitStatus {
    /// Exit code; 128 + signal when ended by a signal.
    pub code: i32,
    /// Why it ended.
    pub reason: ExitReason,
}

impl ExitStatus {
    /// Ended by itself with this code.
    pub fn exited(code: i32) -> Self {
        Self { code, reason: ExitReason::Exited }
    }

    /// Whether it ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.code == 0 && self.reason == ExitReason::Exited
    }
}

/// Why something ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum ExitReason {
    /// By itself.
    Exited,
    /// By a signal from inside or from the kernel.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// The memory limit; the kernel killed it.
    OutOfMemory,
    /// The disk limit.
    DiskFull,
    /// The wall-clock limit.
    Timeout,
    /// We were asked to end it.
    Killed,
    /// Its supervisor or guest vanished.
    Lost,
}

/// What is known about one sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SandboxInfo {
    /// Identifier.
    pub id: SandboxId,
    /// Unique name among living ones.
    pub name: String,
    /// Who made it.
    pub engine: EngineKind,
    /// Where it stands.
    pub state: SandboxState,
    /// What was asked for.
    pub spec: SandboxSpec,
    /// The proof, once it ran.
    pub attestation: Option<Attestation>,
    /// When it was asked for.
    #[schemars(with = "String")]
    pub created_at: jiff::Timestamp,
}
