//! Where this process stands in the host's control group hierarchies.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What limits need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// Generation of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// A mounted hierarchy and our own group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Our group's directory.
    pub own: PathBuf,
    /// v1: its controllers. v2: empty, as they differ from group to group.
    pub controllers: Vec<String>,
}

/// Every hierarchy this process belongs to and can see.
pub fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    Ok(parse(&mounts, &groups))
}

/// Joins `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub fn parse(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let memberships: Vec<(Vec<&str>, &str)> = cgroup.lines().filter_map(membership).collect();
    let mut out: Vec<Hierarchy> = Vec::new();
    for mount in mountinfo.lines().filter_map(mount_line) {
        let version = match mount.kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => continue,
        };
        let path = memberships.iter().find(|(controllers, _)| match version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => controllers.iter().any(|c| mount.options.split(',').any(|o| o == *c)),
        });
        let Some((controllers, path)) = path else { continue };
        let Some(own) = below_mount(&mount, path) else { continue };
        let controllers = controllers.iter().map(|c| (*c).to_owned()).collect();
        // The same hierarchy may be mounted twice; the last mount on one path covers the others.
        out.retain(|known| {
            known.mount != mount.point && !(known.version == version && known.controllers == controllers)
        });
        out.push(Hierarchy { version, mount: mount.point, own, controllers });
    }
    out
}

/// `id:controllers:path`; no controllers for v2.
fn membership(line: &str) -> Option<(Vec<&str>, &str)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    Some((controllers.split(',').filter(|c| !c.is_empty()).collect(), path))
}

struct MountLine<'a> {
    root: String,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

/// One line of proc_pid_mountinfo(5).
fn mount_line(line: &str) -> Option<MountLine<'_>> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, point) = (unescape(front.next()?), unescape(front.next()?));
    let mut back = back.split(' ');
    let (kind, _source, options) = (back.next()?, back.next()?, back.next()?);
    Some(MountLine { root, point: PathBuf::from(point), kind, options })
}

/// `\040` and its like.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The directory of group `path` in a mount that may show a part of the hierarchy only.
fn below_mount(mount: &MountLine<'_>, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if path.components().any(|c| c == Component::ParentDir) {
        // Our group lies outside of our cgroup namespace; there is nothing below which we may build.
        return None;
    }
    // In a container without a cgroup namespace, the mount's root is the container's group.
    let inner = path.strip_prefix(&mount.root).or_else(|_| path.strip_prefix("/")).ok()?;
    Some(mount.point.join(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
29 1 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
30 29 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 29 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 29 0:29 / /sys/fs/cgroup/pids rw shared:3 - cgroup cgroup rw,pids
33 29 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";

    fn own(found: &[Hierarchy], controller: &str) -> Option<PathBuf> {
        found.iter().find(|h| h.controllers.iter().any(|c| c == controller)).map(|h| h.own.clone())
    }

    #[test]
    fn v1_and_hybrid() {
        let groups = "4:pids:/\n3:memory:/jobs/a b\n2:cpu,cpuacct:/user.slice\n0::/x";
        let found = parse(V1, groups);
        assert_eq!(own(&found, "memory").unwrap(), Path::new("/sys/fs/cgroup/memory/jobs/a b"));
        assert_eq!(own(&found, "cpu").unwrap(), Path::new("/sys/fs/cgroup/cpu,cpuacct/user.slice"));
        assert_eq!(own(&found, "pids").unwrap(), Path::new("/sys/fs/cgroup/pids/"));
        let unified: Vec<_> = found.iter().filter(|h| h.version == Version::V2).collect();
        assert_eq!(unified.len(), 1);
        assert_eq!(unified[0].own, Path::new("/sys/fs/cgroup/unified/x"));
    }

    #[test]
    fn v2_alone() {
        let mounts = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let found = parse(mounts, "0::/user.slice/user-1000.slice/session-3.scope\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope"));
    }

    #[test]
    fn a_container_that_sees_its_part_only() {
        let mounts = "25 1 0:22 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let found = parse(mounts, "3:memory:/docker/abc/sub\n");
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/memory/sub"));
    }

    #[test]
    fn odd_lines_are_passed_over() {
        for (mounts, groups) in [
            ("", ""),
            ("garbage", "more:garbage"),
            ("25 1 0:22 / /cg rw - cgroup2 cgroup2 rw", "0::/../../elsewhere"),
            ("25 1 0:22 / /cg rw - cgroup2 cgroup2 rw", "1:memory:/"),
        ] {
            assert!(parse(mounts, groups).is_empty(), "{mounts} {groups}");
        }
        assert_eq!(unescape("a\\040b\\"), "a b\\");
    }
}
