//! The native engine: sandboxes from namespaces, control groups, an own root, seccomp, Landlock and
//! the loss of every capability, built by Cove itself without a daemon; as root and as a user.
//!
//! One sandbox, from the outside in:
//!
//! ```text
//! supervisor (host) ── clone3 ──► first process: user, mount, pid, net, ipc, uts namespaces
//!   makes the groups                waits
//!   maps the user, enters it ────►  cgroup namespace, own mounts
//!                                   root from the plan, pivot, /proc masked
//!                                   limits, capabilities, no_new_privs, Landlock, seccomp
//!   pipe closes ◄──────────────── exec /run/cove/guest (PID 1)
//! ```
//!
//! As root, the user inside is an id of the host that nobody has, other for each sandbox; files are
//! given to it, or shown as its own by shifting ids at the mount. Else it is the caller.

mod cgroup;
mod give;
mod host_root;
mod identity;
mod judge;
mod launch;
mod lockdown;
mod plan;
mod remains;
mod root;
mod seccomp;
mod sys;
mod syscalls;

pub use launch::NativeLauncher;
pub use remains::NativeRemains;

use crate::supervisor::launch::Launcher;

/// The supervisor's side.
pub fn launcher() -> Box<dyn Launcher> {
    Box::new(NativeLauncher::default())
}
