//! What a supervisor needs from an engine that runs sandboxes on this machine.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cove_core::{Attestation, InstanceId, Report, Result, SandboxId, SandboxSpec, Swept};
use cove_guest::wire::Probe;
use serde_json::Value;

/// Home directory of the sandbox's user in sandboxes with a root of their own.
pub const HOME: &str = "/home/ralph";

/// Name of the sandbox's user.
pub const USER: &str = "ralph";

/// Where the egress door's socket stands inside sandboxes with a root of their own.
pub const DOOR: &str = "/run/cove/door.sock";

/// Which sandbox, and where its files are on the host.
#[derive(Debug, Clone)]
pub struct Place {
    /// The sandbox.
    pub id: SandboxId,
    /// Its directory, owner-only; the launcher may make anything in it that does not collide with
    /// `spec.json`, `info.json`, `control.sock`, `supervisor.log` and `lock`.
    pub dir: PathBuf,
    /// Whose sandbox it is.
    pub instance: InstanceId,
    /// The guest program on the host, executable.
    pub guest: PathBuf,
    /// What the engine's `prepare` found out in the daemon (an unpacked root, the cgroup mode).
    pub options: Value,
}

/// Builds sandboxes. Runs in the supervisor while it has a single thread, so it may fork.
pub trait Launcher {
    /// Builds the sandbox and starts the guest in it with `guest_channel` as descriptor
    /// [`cove_guest::wire::CHANNEL_FD`] and every restriction in force.
    ///
    /// # Errors
    /// `Unsupported` with the control's name, or `NotStarted` with the step that failed. What was
    /// built by then is gone again.
    fn launch(&self, place: &Place, spec: &SandboxSpec, guest_channel: OwnedFd) -> Result<Box<dyn Launched>>;
}

/// A sandbox that was built.
pub trait Launched: Send {
    /// The guest's process id as the supervisor sees it. A child of the supervisor, except where a
    /// container engine started it.
    fn init(&self) -> libc::pid_t;

    /// What the guest shall look at for [`judge`](Self::judge).
    fn probe(&self, _spec: &SandboxSpec) -> Probe {
        Probe::default()
    }

    /// Compares the proof with the specification. May add to the report what only the host can read.
    fn judge(&self, spec: &SandboxSpec, report: &Report) -> Attestation;

    /// Variables of every process under those of the spec: `HOME`, `PATH`, `USER`, `LANG`, `TERM`.
    fn environment(&self, _spec: &SandboxSpec) -> BTreeMap<String, String> {
        base_environment(HOME, USER)
    }

    /// Where a working directory or home of the spec is for the guest.
    fn inside(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    /// The door's socket and the port to offer it at, as the guest sees them; only asked when the
    /// spec has a door. Port 0 takes a free one.
    fn door(&self, _socket: &Path) -> (PathBuf, u16) {
        (PathBuf::from(DOOR), cove_guest::wire::DOOR_PORT)
    }

    /// Directories on the host that count towards the disk limit.
    fn writable(&self, spec: &SandboxSpec) -> Vec<PathBuf> {
        spec.mounts.iter().filter(|mount| !mount.read_only).map(|mount| mount.source.clone()).collect()
    }

    /// Kills every process inside and waits until none lives. Repeatable. Need not reap the guest:
    /// the supervisor does.
    fn kill_all(&mut self) -> Result<()>;

    /// How many kills the memory limit caused so far.
    fn oom_kills(&self) -> u64 {
        0
    }

    /// Removes mounts, cgroups and whatever else the launch made outside of processes. Repeatable.
    fn release(&mut self) -> Result<()>;
}

/// Finds and removes what a supervisor that is gone has left outside of its directory.
pub trait Remains: Send + Sync {
    /// Every sandbox of `instance` of which something is left (cgroups, mounts, processes).
    fn find(&self, instance: &InstanceId) -> Result<Vec<SandboxId>>;

    /// Kills its processes and removes its cgroups and mounts; the directory is the caller's.
    /// Repeatable; what is not there is no error.
    fn clear(&self, place: &Place) -> Result<Vec<Swept>>;
}

/// The base variables.
pub fn base_environment(home: &str, user: &str) -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", home),
        ("USER", user),
        ("LANG", "C.UTF-8"),
        ("TERM", "xterm-256color"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
