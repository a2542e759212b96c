//! Proof of what is in force, read from inside the sandbox.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capability::Control;

/// What the guest read about itself and its surroundings, right after the start and under the same
/// restrictions as every other process of the sandbox. Raw facts, no judgement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Real, effective and saved user ids of a process as the agent's (`/proc/self/status` Uid).
    pub uid: [u32; 3],
    /// Group ids likewise.
    pub gid: [u32; 3],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// `CapInh`, `CapPrm`, `CapEff`, `CapBnd`, `CapAmb` as bit sets.
    pub capabilities: BTreeMap<String, u64>,
    /// `NoNewPrivs` of `/proc/self/status`.
    pub no_new_privileges: bool,
    /// `Seccomp` of `/proc/self/status`: 0 off, 1 strict, 2 filter.
    pub seccomp_mode: u32,
    /// Whether a call outside the allow-list (`kexec_load`) returned EPERM or ENOSYS from the filter.
    pub seccomp_refuses: bool,
    /// Whether creating a file in `/` and in `/usr` failed with EROFS or EACCES/EPERM.
    pub root_read_only: bool,
    /// Inode of each `/proc/self/ns/*`.
    pub namespaces: BTreeMap<String, u64>,
    /// Interfaces of `/proc/net/dev`.
    pub interfaces: Vec<String>,
    /// Masked paths that could be read although they should not.
    pub unmasked: Vec<String>,
    /// Paths of the host that should be invisible and are visible.
    pub visible: Vec<String>,
    /// Limit files as read: `memory.max`, `memory.swap.max`, `pids.max`, `cpu.max` (v2 names; v1
    /// values are translated to them), bytes and counts; `cpu.max` as CPUs.
    pub cgroup: BTreeMap<String, f64>,
    /// Soft `RLIMIT_*` values by name (`nofile`, `fsize`, `core`).
    pub rlimits: BTreeMap<String, u64>,
    /// Landlock ABI in force for processes; 0 for none.
    pub landlock: u32,
    /// Process id of the reader inside its namespace.
    pub pid: u32,
    /// Number of processes visible in `/proc`.
    pub visible_processes: u32,
}

/// A control that was asked for and whose proof is different or missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deviation {
    /// The control.
    pub control: Control,
    /// What the specification asks.
    pub expected: String,
    /// What was read inside.
    pub found: String,
}

/// A report with its judgement, stored with the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attestation {
    /// What was read inside.
    pub report: Report,
    /// Controls proven by the report.
    pub proven: Vec<Control>,
    /// Controls that the user accepted to go without.
    pub waived: Vec<Control>,
    /// Empty in a sandbox that runs.
    pub deviations: Vec<Deviation>,
}
