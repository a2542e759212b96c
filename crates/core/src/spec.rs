//! What a sandbox shall be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capability::Control;
use crate::error::{Error, Result};

/// Everything an engine needs to build one sandbox. Every field asked for is in force after
/// `create`, or `create` fails and names the control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SandboxSpec {
    /// Unique among living sandboxes of one instance; empty for a name made from the id.
    #[serde(default)]
    pub name: String,
    /// Where the root file system comes from.
    pub root: Root,
    /// Extra variables of every process; the base is `PATH`, `HOME`, `LANG`, `TERM` and `USER`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Host directories shown inside.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Memory-backed directories beside the standard `/tmp`, `/dev/shm`, `/run` and the home.
    #[serde(default)]
    pub tmpfs: Vec<Tmpfs>,
    /// Bounds on what it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What it may not do.
    #[serde(default)]
    pub hardening: Hardening,
    /// The level of separation asked for.
    #[serde(default)]
    pub isolation: Isolation,
    /// The way out, if any.
    #[serde(default)]
    pub network: Network,
    /// `run.cove.*` labels; the engine adds `managed`, `instance`, `sandbox-id` and `created-at`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Who processes run as, inside.
    #[serde(default)]
    pub user: User,
    /// Working directory of processes, absolute, inside. Created when absent and writable there.
    #[serde(default = "default_workdir")]
    pub workdir: PathBuf,
}

fn default_workdir() -> PathBuf {
    PathBuf::from("/workspace")
}

impl SandboxSpec {
    /// A sandbox with the given root and every protection on.
    pub fn new(root: Root) -> Self {
        Self {
            name: String::new(),
            root,
            env: BTreeMap::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            limits: Limits::default(),
            hardening: Hardening::default(),
            isolation: Isolation::default(),
            network: Network::default(),
            labels: BTreeMap::new(),
            user: User::default(),
            workdir: default_workdir(),
        }
    }

    /// Checks what no engine could honour: relative or traversing paths, nul bytes, zero limits.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] that names the field.
    pub fn validate(&self) -> Result<()> {
        let absolute = |what: &str, path: &std::path::Path| -> Result<()> {
            let traverses = path.components().any(|c| matches!(c, std::path::Component::ParentDir));
            if !path.is_absolute() || traverses || path.as_os_str().as_encoded_bytes().contains(&0) {
                return Err(Error::invalid(format!("{what} {} is not an absolute path without ..", path.display())));
            }
            Ok(())
        };
        absolute("The working directory", &self.workdir)?;
        let mut targets = BTreeSet::new();
        for mount in &self.mounts {
            absolute("The mount source", &mount.source)?;
            absolute("The mount target", &mount.target)?;
            if !targets.insert(&mount.target) {
                return Err(Error::invalid(format!("Two mounts have the target {}", mount.target.display())));
            }
            if reserved(&mount.target) || mount.target.starts_with("/dev") {
                return Err(Error::invalid(format!("The mount target {} is reserved", mount.target.display())));
            }
        }
        for tmpfs in &self.tmpfs {
            absolute("The memory-backed directory", &tmpfs.target)?;
            if reserved(&tmpfs.target) {
                return Err(Error::invalid(format!(
                    "The memory-backed directory {} is reserved",
                    tmpfs.target.display()
                )));
            }
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Error::invalid(format!(
                    "The variable name {name:?} or its value cannot be passed to a process"
                )));
            }
        }
        self.limits.validate()?;
        if self.user.uid == 0 && self.hardening.non_root {
            return Err(Error::invalid("The user is 0 and hardening.nonRoot is on")
                .next("Choose another user, or switch nonRoot off"));
        }
        Ok(())
    }
}

/// Whether a place is the engine's own. `/dev/shm` is the sandbox's.
fn reserved(target: &std::path::Path) -> bool {
    let own = ["/proc", "/sys", "/dev", "/run/cove"].iter().any(|place| target.starts_with(place));
    target == std::path::Path::new("/") || (own && target != std::path::Path::new("/dev/shm"))
}

/// Source of the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "kind", content = "at")]
pub enum Root {
    /// The host's system directories, read-only, without home directories, secrets, sockets and
    /// other users' data.
    Host,
    /// A directory that holds a root file system.
    Directory(PathBuf),
    /// A file: `docker save`, OCI layout or plain tar, each also gzip- or zstd-compressed.
    Archive(PathBuf),
    /// A reference into a registry, with or without digest.
    Image(String),
}

/// A host directory or file shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// Absolute path on the host. Symbolic links in it are followed once, before the mount.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether the tree is given to the sandbox's user first (for directories we made ourselves).
    #[serde(default)]
    pub give: bool,
}

/// A memory-backed directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tmpfs {
    /// Absolute path inside.
    pub target: PathBuf,
    /// Size bound in bytes.
    pub size_bytes: u64,
}

/// Bounds; `None` means not asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// CPUs' worth of time, 0.01 and up.
    pub cpus: Option<f64>,
    /// Memory in bytes, 4 MiB and up. Swap beyond it is always 0.
    pub memory_bytes: Option<u64>,
    /// Processes and threads together, 2 and up.
    pub pids: Option<u64>,
    /// Bytes on disk in all writable mounts together, and of any single file.
    pub disk_bytes: Option<u64>,
    /// Open files per process.
    pub open_files: Option<u64>,
    /// Wall-clock seconds from start to forced end.
    pub wall_seconds: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpus: Some(2.0),
            memory_bytes: Some(2 << 30),
            pids: Some(512),
            disk_bytes: Some(10 << 30),
            open_files: Some(65_536),
            wall_seconds: None,
        }
    }
}

impl Limits {
    /// No bound at all; for tests and for engines that offer none.
    pub const NONE: Self =
        Self { cpus: None, memory_bytes: None, pids: None, disk_bytes: None, open_files: None, wall_seconds: None };

    /// The wall-clock bound as a duration.
    pub fn wall(&self) -> Option<Duration> {
        self.wall_seconds.map(Duration::from_secs)
    }

    fn validate(&self) -> Result<()> {
        if self.cpus.is_some_and(|c| !(0.01..=4096.0).contains(&c)) {
            return Err(Error::invalid("limits.cpus lies outside 0.01 to 4096"));
        }
        if self.memory_bytes.is_some_and(|m| m < 4 << 20) {
            return Err(Error::invalid("limits.memoryBytes lies below 4 MiB"));
        }
        if self.pids.is_some_and(|p| p < 2) {
            return Err(Error::invalid("limits.pids lies below 2"));
        }
        if self.disk_bytes.is_some_and(|d| d < 1 << 20) {
            return Err(Error::invalid("limits.diskBytes lies below 1 MiB"));
        }
        if self.open_files.is_some_and(|n| n < 16) {
            return Err(Error::invalid("limits.openFiles lies below 16"));
        }
        if self.wall_seconds == Some(0) {
            return Err(Error::invalid("limits.wallSeconds is 0"));
        }
        Ok(())
    }
}

/// Protections; the default is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hardening {
    /// The root file system cannot be written.
    pub read_only_root: bool,
    /// `PR_SET_NO_NEW_PRIVS` on every process.
    pub no_new_privileges: bool,
    /// Cove's own seccomp allow-list on every process.
    pub seccomp: bool,
    /// A user other than 0 inside.
    pub non_root: bool,
    /// Landlock rules over the writable paths where the kernel has Landlock. Best effort by nature:
    /// its absence is reported, not refused.
    pub landlock: bool,
    /// Capabilities kept, by kernel name (`CAP_CHOWN`); empty for none.
    pub capabilities: BTreeSet<String>,
    /// Limits the user accepts to go without when the host cannot give them.
    pub accept_missing: BTreeSet<Control>,
}

impl Default for Hardening {
    fn default() -> Self {
        Self {
            read_only_root: true,
            no_new_privileges: true,
            seccomp: true,
            non_root: true,
            landlock: true,
            capabilities: BTreeSet::new(),
            accept_missing: BTreeSet::new(),
        }
    }
}

/// Level of separation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// A plain process of the host: no isolation.
    Process,
    /// Namespaces, cgroups and filters on the host's kernel.
    #[default]
    Container,
    /// A kernel in user space between the sandbox and the host's.
    Gvisor,
    /// A machine of its own.
    Vm,
}

/// The way out of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "mode")]
pub enum Network {
    /// Loopback only.
    #[default]
    None,
    /// Loopback only, and `127.0.0.1:3128` inside leads to this Unix socket of an egress door.
    /// The engine sets `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and their lowercase twins.
    Door {
        /// Absolute path of the socket on the host.
        socket: PathBuf,
    },
    /// The host's own network. Only the engine without isolation offers it.
    Host,
}

/// Who processes run as, inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
}

impl Default for User {
    /// `ralph`, 1000:1000.
    fn default() -> Self {
        Self { uid: 1000, gid: 1000 }
    }
}
