//! Who the sandbox's user is on the host.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cove_core::{SandboxId, User};

use super::sys::{self, Fork};

/// First of the user ids that stand for sandboxes on the host, and how many there are. They lie in
/// the range that distributions leave to containers (up to 0x6FFFFFFF) and belong to nobody.
const FIRST: u32 = 0x6000_0000;
const COUNT: u32 = 0x0fff_0000;

/// One user inside, one user outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Ids inside.
    pub inside: User,
    /// Ids on the host.
    pub outside: User,
    /// Whether we are root on the host, so that the two differ from us and files must be given.
    pub privileged: bool,
}

impl Identity {
    /// As root, ids that nobody on the host has, different for each sandbox; else our own.
    pub fn of(id: &SandboxId, inside: User) -> Self {
        let (uid, gid) = sys::own_ids();
        let mapped = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let range = range(&mapped("/proc/self/uid_map")).zip(range(&mapped("/proc/self/gid_map")));
        // Root with no ids to give, as in a user namespace of one user, is a user like others.
        let Some((uids, gids)) = range.filter(|_| uid == 0) else {
            return Self { inside, outside: User { uid, gid }, privileged: false };
        };
        // FNV-1a: any even spread will do, the id is random already.
        let hash = id.as_str().bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        let outside = User { uid: uids.0 + hash % uids.1, gid: gids.0 + hash % gids.1 };
        Self { inside, outside, privileged: true }
    }

    /// Writes the maps of the user namespace of `pid`.
    pub fn map(&self, pid: libc::pid_t) -> io::Result<()> {
        if !self.privileged {
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        }
        fs::write(format!("/proc/{pid}/uid_map"), format!("{} {} 1\n", self.inside.uid, self.outside.uid))?;
        fs::write(format!("/proc/{pid}/gid_map"), format!("{} {} 1\n", self.inside.gid, self.outside.gid))
    }
}

/// First and count of the ids that may stand for sandboxes, given a map of `/proc/self`. On a whole
/// machine those above; in a container the upper half of its largest block, where no accounts are.
fn range(map: &str) -> Option<(u32, u32)> {
    const ACCOUNTS: u32 = 20_000;
    let blocks = map.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u32>().ok());
        Some((fields.next()??, fields.nth(1)??))
    });
    let (first, count) = blocks.max_by_key(|(_, count)| *count)?;
    if first <= FIRST && count - (FIRST - first).min(count) >= COUNT {
        return Some((FIRST, COUNT));
    }
    // Without the last ones: 65534 is nobody's, in the other sense.
    (count > 2 * ACCOUNTS).then(|| (first + count / 2, count / 2 - 16))
}

/// A user namespace that only says how the ids of a mount are shown: files of `owner` as those of
/// `shown`. Needs root.
pub fn mapping(owner: User, shown: User) -> io::Result<OwnedFd> {
    let (reader, writer) = std::io::pipe()?;
    match sys::fork_into(libc::CLONE_NEWUSER)? {
        Fork::Child => {
            drop(writer);
            // Lives until the parent has opened the namespace and closes the pipe.
            let _ = io::Read::read(&mut &reader, &mut [0]);
            sys::exit_now(0)
        }
        Fork::Parent { pid, pidfd } => {
            drop(reader);
            let opened = fs::write(format!("/proc/{pid}/uid_map"), format!("{} {} 1\n", owner.uid, shown.uid))
                .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), format!("{} {} 1\n", owner.gid, shown.gid)))
                .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")));
            drop(writer);
            if !sys::wait_ended(pidfd.as_fd(), Duration::from_secs(10)).unwrap_or(false) {
                sys::kill(pid);
            }
            sys::reap(pid);
            opened.map(OwnedFd::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (map, expected) in [
            ("         0          0 4294967295\n", Some((FIRST, COUNT))),
            ("0 100000 65536\n", Some((32_768, 32_752))),
            ("0 1000 1\n1 100000 65536\n", Some((32_769, 32_752))),
            ("0 1000 1\n", None),
            ("0 0 1610612737\n", Some((805_306_368, 805_306_352))),
            ("", None),
            ("nonsense", None),
        ] {
            assert_eq!(range(map), expected, "{map}");
        }
    }

    #[test]
    fn ids_outside_are_never_those_of_people() {
        let inside = User { uid: 1000, gid: 1000 };
        for _ in 0..100 {
            let identity = Identity::of(&SandboxId::new(), inside);
            if identity.privileged {
                assert!((0x6000_0000..0x7000_0000).contains(&identity.outside.uid));
            } else {
                assert_eq!(identity.outside.uid, sys::own_ids().0);
            }
        }
    }
}
