//! Messages on the guest's channel: one JSON document per `SEQPACKET` message, file descriptors
//! beside it as `SCM_RIGHTS`.
//!
//! Both sides bound what they read. The supervisor treats all that comes from the guest as hostile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The descriptor at which a guest finds its channel.
pub const CHANNEL_FD: i32 = 3;

/// Largest message in bytes; a longer one ends the conversation.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// Most descriptors beside one message.
pub const MESSAGE_FDS: usize = 4;

/// Largest [`Command`] document in bytes.
pub const COMMAND_BYTES: usize = 4 << 20;

/// The loopback port inside a sandbox that leads to its egress door.
pub const DOOR_PORT: u16 = 3128;

/// The argument of a guest that a container engine starts: its channel is not there yet, it fetches it.
pub const JOIN: &str = "join";

/// Where such a guest finds its supervisor.
pub const JOIN_SOCKET: &str = "/run/cove/join.sock";

/// Most bytes of filters that come along with a [`Join`].
pub const PROGRAM_BYTES: u64 = 256 << 10;

/// What a guest that fetches its channel gets, with the channel and the filters as descriptors beside it:
/// restrictions that the engine which started it cannot express.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Directories to make first, in memory-backed places that the sandbox's user may write.
    pub directories: Vec<String>,
    /// `RLIMIT_*` numbers and the values that soft and hard limits are lowered to.
    pub limits: Vec<(u32, u64)>,
    /// Landlock rules.
    pub landlock: Option<Landlock>,
    /// How many seccomp programs the second descriptor holds: each its number of instructions, then
    /// the instructions as the kernel takes them.
    pub filters: u32,
    /// Paths whose device and inode the guest tells.
    pub look: Vec<String>,
}

/// Landlock rules in the kernel's numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Landlock {
    /// Accesses that are refused where no rule allows them.
    pub handled: u64,
    /// Scopes.
    pub scoped: u64,
    /// The accesses among them that exist for files.
    pub of_files: u64,
    /// Paths with what is allowed at and below them; those that do not exist are left out.
    pub paths: Vec<(String, u64)>,
}

/// The answer to a [`Join`]; then the guest speaks on its channel as always.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Joined {
    /// Device and inode of each path asked for; `None` where there is nothing.
    pub places: Vec<Option<(u64, u64)>>,
    /// What could not be put into force; empty when all is.
    pub trouble: String,
}

/// From the supervisor to the guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum Order {
    /// Look around in a forked child and answer with [`Notice::Report`].
    Probe(Probe),
    /// Start a process. Descriptors: a readable file holding a [`Command`] document, then the
    /// process's stdin, stdout and stderr; with a terminal only the document.
    Exec {
        /// Chosen by the supervisor, never reused.
        id: u64,
        /// A terminal of this many columns and rows instead of the three pipes.
        pty: Option<(u16, u16)>,
    },
    /// Send a signal to the process's group; nothing when it has ended.
    Signal {
        /// The exec.
        id: u64,
        /// Signal number.
        signal: i32,
    },
    /// Kill the process and every descendant of it, also those in sessions of their own.
    Kill {
        /// The exec.
        id: u64,
    },
    /// Listen on `127.0.0.1` and carry each connection to a Unix socket; answered by
    /// [`Notice::Relayed`].
    Relay {
        /// Port to listen on; 0 for any free one.
        port: u16,
        /// The socket's path as the guest sees it.
        socket: String,
    },
    /// Send SIGTERM to everything inside; answered by [`Notice::Quiet`] once nothing is left.
    Terminate,
}

/// What to start; travels in a file because argument lists outgrow a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments; a program without `/` is looked up in `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: String,
}

/// What to look at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// Paths whose contents must not be readable; those that are come back in `unmasked`.
    pub masked: Vec<String>,
    /// Paths that must not exist; those that do come back in `visible`.
    pub hidden: Vec<String>,
    /// The Landlock ABI that the launcher put in force, and a path inside that the user's
    /// permissions allow to open for writing and only Landlock refuses. `None` reports 0.
    pub landlock: Option<(u32, String)>,
}

/// From the guest to the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "notice")]
pub enum Notice {
    /// The guest listens to orders.
    Ready,
    /// Answer to [`Order::Probe`].
    Report {
        /// What was seen.
        facts: Box<Facts>,
    },
    /// The probe failed.
    Blind {
        /// Why.
        message: String,
    },
    /// The process runs. With a terminal, its master side comes along as a descriptor.
    Started {
        /// The exec.
        id: u64,
        /// Its process id as the guest sees it.
        pid: i32,
    },
    /// The process could not be started: 127 when the program does not exist, else 126.
    Failed {
        /// The exec.
        id: u64,
        /// 126 or 127.
        code: i32,
        /// A line for stderr.
        message: String,
    },
    /// What was asked for beside the program (a terminal, a further process) is not to be had here.
    Refused {
        /// The exec.
        id: u64,
        /// Why.
        message: String,
    },
    /// The process ended.
    Exited {
        /// The exec.
        id: u64,
        /// Exit code; 128 + signal when a signal ended it.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// Answer to [`Order::Relay`].
    Relayed {
        /// The port in use; `None` when it failed.
        port: Option<u16>,
        /// Why it failed.
        message: String,
    },
    /// Nothing but the guest is left inside.
    Quiet,
}

/// What a probe saw. The same shape as `cove_core::Report`, held here so that the guest needs
/// nothing of `core`; a test in `cove-engines` compares the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "documented at cove_core::Report")]
pub struct Facts {
    pub uid: [u32; 3],
    pub gid: [u32; 3],
    pub groups: Vec<u32>,
    pub capabilities: BTreeMap<String, u64>,
    pub no_new_privileges: bool,
    pub seccomp_mode: u32,
    pub seccomp_refuses: bool,
    pub root_read_only: bool,
    pub namespaces: BTreeMap<String, u64>,
    pub interfaces: Vec<String>,
    pub unmasked: Vec<String>,
    pub visible: Vec<String>,
    pub cgroup: BTreeMap<String, f64>,
    pub rlimits: BTreeMap<String, u64>,
    pub landlock: u32,
    pub pid: u32,
    pub visible_processes: u32,
}
