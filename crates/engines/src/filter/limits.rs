//! Resource limits of every process in a sandbox.

use cove_core::Limits;
use nix::sys::resource::Resource;

/// Limit of core dumps in bytes. Too little for any file, and the one value at which the kernel also
/// spares a program that the host's `core_pattern` pipes dumps to: with 0 it would be run, as root
/// on the host and fed by the sandbox.
pub const CORE: u64 = 1;

/// Resource limits: those asked for and those that nothing in a sandbox needs. `counted_alone` says that
/// the kernel counts the sandbox's processes for itself, not with those of a user of the host.
pub fn resources(limits: &Limits, counted_alone: bool) -> Vec<(Resource, u64)> {
    let mut out = vec![
        (Resource::RLIMIT_CORE, CORE),
        (Resource::RLIMIT_MEMLOCK, 8 << 20),
        (Resource::RLIMIT_MSGQUEUE, 1 << 20),
        (Resource::RLIMIT_RTPRIO, 0),
    ];
    if let Some(files) = limits.open_files {
        out.push((Resource::RLIMIT_NOFILE, files));
    }
    if let Some(count) = limits.pids
        && counted_alone
    {
        // Beside the control group, and where there is none.
        out.push((Resource::RLIMIT_NPROC, count));
    }
    if let Some(bytes) = limits.disk_bytes {
        // A little below, so that one file alone never takes the whole.
        out.push((Resource::RLIMIT_FSIZE, bytes.saturating_sub(4096).max(4096)));
    }
    out
}
