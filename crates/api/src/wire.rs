//! Shapes that `cove-core` does not have.

use std::path::PathBuf;

use cove_core::capability::Finding;
use cove_core::engine::PtySize;
use cove_core::{Control, Engine, EngineKind, ExitStatus, InstanceId, Isolation, SandboxSpec};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// What a server is and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of Cove.
    pub version: String,
    /// Identity of this control plane.
    pub instance: InstanceId,
    /// Process id of the daemon.
    pub pid: u32,
    /// When it started.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// Where its records are.
    pub data_dir: PathBuf,
    /// Where its sockets, locks and sandboxes are.
    pub state_dir: PathBuf,
    /// Runs that are not over.
    pub living_runs: u32,
    /// Sandboxes that live.
    pub living_sandboxes: u32,
    /// Engines that can isolate on this host, best first.
    pub engines: Vec<EngineKind>,
}

/// A sandbox to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSandbox {
    /// `auto` or an engine's name.
    #[serde(default = "auto")]
    pub engine: String,
    /// Consent to the engine without isolation.
    #[serde(default)]
    pub accept_no_sandbox: bool,
    /// What it shall be.
    pub spec: SandboxSpec,
}

fn auto() -> String {
    "auto".to_owned()
}

/// Where a run's branch shall go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Apply {
    /// Repository that takes the branch, a path on the server's machine.
    pub repository: PathBuf,
    /// Whether to switch its work tree to the branch.
    #[serde(default)]
    pub switch: bool,
}

/// A branch that was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// Its name in the repository that took it.
    pub branch: String,
    /// The commit that it stands at.
    pub commit: String,
    /// Whether the work tree was switched to it.
    pub switched: bool,
    /// Things a person should know, such as why it was not switched.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Where a run's files shall go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Export {
    /// Directory on the server's machine.
    pub directory: PathBuf,
}

/// What an export wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// Files, absolute.
    pub files: Vec<PathBuf>,
}

/// What an engine can do on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineReport {
    /// Which engine.
    pub kind: EngineKind,
    /// Whether it can make a sandbox of any level here.
    pub available: bool,
    /// Why not.
    pub why: Option<String>,
    /// Levels of separation proven, weakest first.
    pub isolation: Vec<Isolation>,
    /// Every control with its finding.
    pub controls: Vec<ControlReport>,
}

/// One control of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControlReport {
    /// The control.
    pub control: Control,
    /// What the probe found.
    #[serde(flatten)]
    pub finding: Finding,
}

impl EngineReport {
    /// The report of an engine.
    pub fn of(engine: &dyn Engine) -> Self {
        let capabilities = engine.capabilities();
        let levels = [
            (Control::IsolationProcess, Isolation::Process),
            (Control::IsolationContainer, Isolation::Container),
            (Control::IsolationGvisor, Isolation::Gvisor),
            (Control::IsolationVm, Isolation::Vm),
        ];
        let isolation: Vec<Isolation> =
            levels.iter().filter(|(control, _)| capabilities.has(*control)).map(|(_, level)| *level).collect();
        let why = capabilities.why_missing(Control::IsolationContainer).filter(|_| isolation.is_empty());
        Self {
            kind: engine.kind(),
            available: !isolation.is_empty(),
            why: why.map(str::to_owned),
            isolation,
            controls: capabilities.table().map(|(control, finding)| ControlReport { control, finding }).collect(),
        }
    }
}

/// First byte of a binary message to a process: bytes for its stdin follow.
pub const STDIN: u8 = 0;
/// First byte of a binary message from a process: bytes of its stdout or terminal follow.
pub const STDOUT: u8 = 1;
/// First byte of a binary message from a process: bytes of its stderr follow.
pub const STDERR: u8 = 2;

/// A text message to a process, after the first one, which is an `ExecSpec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExecControl {
    /// Close stdin; on a terminal, end-of-file.
    Eof,
    /// The terminal has this size now.
    Resize(PtySize),
    /// Send this signal to the process's group. Overtakes bytes that wait for stdin.
    Signal(i32),
}

/// A text message from a process; the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExecNews {
    /// The process and its streams are done.
    Exit(ExitStatus),
    /// It could not be started, or was lost.
    Error(Problem),
}
