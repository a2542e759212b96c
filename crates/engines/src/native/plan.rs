//! What a sandbox's file system shall consist of: decided here from the specification, built by
//! [`super::root`]. Nothing here changes the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cove_core::{Error, ErrorKind, Network, Result, Root, SandboxSpec, User};

use super::cgroup::{Controller, Version};
use super::host_root::{self, Piece};
use super::identity::Identity;
use super::sys::attr::{NODEV, NOEXEC, RDONLY};
use crate::supervisor::launch::{DOOR, HOME, USER};

/// Where the sandbox can read its own limits, as language runtimes expect it.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// The guest program inside; a copy, so that nothing done to it reaches the host's.
pub const GUEST: &str = "/run/cove/guest";

const MIB: u64 = 1 << 20;

/// Device nodes that programs expect; shown, as a user namespace cannot make them.
const DEVICES: &[(&str, bool)] =
    &[("null", true), ("zero", true), ("full", true), ("random", true), ("urandom", true), ("tty", false)];

/// A tree of the host that becomes part of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// On the host.
    pub source: PathBuf,
    /// Mount attributes beside `nosuid`.
    pub attributes: u64,
    /// Whose files are shown as the sandbox user's (root only).
    pub shown_as_users: Option<User>,
}

/// One step of building the root, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A directory of the root.
    Directory(PathBuf),
    /// A symbolic link of the root; one that exists is left alone.
    Link { at: PathBuf, to: PathBuf },
    /// A small read-only file with this content.
    File { at: PathBuf, content: String },
    /// The tree of that index, on a directory or a file.
    Show { tree: usize, at: PathBuf, directory: bool },
    /// A memory-backed directory.
    Memory { at: PathBuf, bytes: u64, mode: u32, attributes: u64 },
    /// `/proc` with its masks.
    Proc,
    /// `/dev/pts` of its own.
    Terminals,
    /// The working directory, where nothing else has made it.
    Workdir,
    /// The guest program's copy.
    Guest,
    /// What was written up to here in that memory-backed directory stays as it is.
    Seal(PathBuf),
}

/// All that the builder needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub identity: Identity,
    /// Trees to open with the host's eyes.
    pub trees: Vec<Tree>,
    /// The tree that the root is layered on; `None` for an empty root.
    pub layered_on: Option<usize>,
    pub read_only_root: bool,
    /// Bound on what is written to a writable root, in bytes.
    pub upper_bytes: u64,
    pub steps: Vec<Step>,
    pub workdir: PathBuf,
    /// Bound of the memory-backed working directory in bytes.
    pub workdir_bytes: u64,
    /// Directories inside that something writable is mounted on.
    pub writable: Vec<PathBuf>,
}

impl Plan {
    /// Plans the root of `spec`. `directory` is the unpacked root of an archive or image.
    ///
    /// # Errors
    /// `NotFound` or `Refused` with the path, for a source that cannot or must not be shown.
    pub fn new(
        spec: &SandboxSpec,
        identity: Identity,
        directory: Option<&Path>,
        groups: &[(Controller, Version, PathBuf)],
    ) -> Result<Self> {
        let scratch = scratch(spec);
        let mut plan = Self {
            identity,
            trees: Vec::new(),
            layered_on: None,
            read_only_root: spec.hardening.read_only_root,
            upper_bytes: scratch,
            steps: Vec::new(),
            workdir: spec.workdir.clone(),
            workdir_bytes: scratch,
            writable: ["/tmp", "/run", "/dev", "/proc", HOME].map(PathBuf::from).to_vec(),
        };
        plan.base(spec, directory)?;
        plan.accounts(spec);
        plan.system(groups);
        plan.directories(spec)?;
        plan.steps.push(Step::Workdir);
        plan.own(spec)?;
        Ok(plan)
    }

    /// The resolved source of what is shown at a place.
    pub fn source_at(&self, target: &Path) -> Option<&Path> {
        self.steps.iter().find_map(|step| match step {
            Step::Show { tree, at, .. } if at == target => Some(self.trees.get(*tree)?.source.as_path()),
            _ => None,
        })
    }

    /// Every path inside that Landlock shall let be written.
    pub fn open_to_writing(&self) -> Vec<PathBuf> {
        let own = if self.read_only_root { self.workdir.clone() } else { PathBuf::from("/") };
        self.writable.iter().cloned().chain([own]).collect()
    }

    /// Adds a tree and its showing.
    fn show(&mut self, source: PathBuf, at: PathBuf, attributes: u64, directory: bool, shown_as_users: Option<User>) {
        self.trees.push(Tree { source, attributes, shown_as_users });
        self.steps.push(Step::Show { tree: self.trees.len() - 1, at, directory });
    }

    fn base(&mut self, spec: &SandboxSpec, directory: Option<&Path>) -> Result<()> {
        let directory = match (&spec.root, directory) {
            (Root::Host, _) => {
                for piece in host_root::pieces(Path::new("/")) {
                    match piece {
                        Piece::Link { at, to } => self.steps.push(Step::Link { at, to }),
                        Piece::View(path) => {
                            let is_directory = path.is_dir();
                            self.show(own(&path), path, RDONLY | NODEV, is_directory, None);
                        }
                    }
                }
                return Ok(());
            }
            (Root::Directory(path), None) => path.as_path(),
            (_, Some(path)) => path,
            (Root::Archive(_) | Root::Image(_), None) => {
                return Err(Error::new(ErrorKind::Unsupported, "The root was not unpacked before the launch"));
            }
        };
        let (source, owner) = existing(directory, "The root")?;
        if !source.is_dir() {
            return Err(Error::invalid(format!("The root {} is not a directory", directory.display())));
        }
        self.trees.push(Tree { source, attributes: RDONLY | NODEV, shown_as_users: self.shown(owner) });
        self.layered_on = Some(self.trees.len() - 1);
        Ok(())
    }

    fn shown(&self, owner: User) -> Option<User> {
        self.identity.privileged.then_some(owner)
    }

    fn accounts(&mut self, spec: &SandboxSpec) {
        for (name, content) in accounts(spec.user) {
            self.steps.push(Step::File { at: Path::new("/etc").join(name), content });
        }
    }

    /// `/proc`, `/sys` and `/dev`.
    fn system(&mut self, groups: &[(Controller, Version, PathBuf)]) {
        let memory = |at: &str, bytes, mode, attributes| Step::Memory { at: at.into(), bytes, mode, attributes };
        self.steps.push(Step::Proc);
        self.steps.push(memory("/sys", MIB, 0o755, NODEV | NOEXEC));
        self.groups(groups);
        self.steps.push(Step::Seal("/sys".into()));
        self.steps.push(memory("/dev", MIB, 0o755, NODEV | NOEXEC));
        for (name, required) in DEVICES {
            let node = Path::new("/dev").join(name);
            if *required || node.exists() {
                self.show(own(&node), node, NOEXEC, false, None);
            }
        }
        for (at, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            self.steps.push(Step::Link { at: Path::new("/dev").join(at), to: to.into() });
        }
        self.steps.push(Step::Directory("/dev/shm".into()));
        self.steps.push(Step::Terminals);
    }

    /// The sandbox's own groups: v2 as the root of its hierarchy, v1 one directory a controller.
    fn groups(&mut self, groups: &[(Controller, Version, PathBuf)]) {
        let attributes = RDONLY | NODEV | NOEXEC;
        if groups.iter().all(|(_, version, _)| *version == Version::V2) {
            if let Some((_, _, path)) = groups.first() {
                self.show(own(path), CGROUPS.into(), attributes, true, None);
            }
            return;
        }
        for (controller, _, path) in groups {
            self.show(own(path), Path::new(CGROUPS).join(controller.name()), attributes, true, None);
        }
    }

    /// The writable directories and the mounts asked for, outer ones first.
    fn directories(&mut self, spec: &SandboxSpec) -> Result<()> {
        enum Place<'a> {
            Memory(Memory),
            Mount(&'a cove_core::Mount),
        }
        let mut places: Vec<(PathBuf, Place<'_>)> =
            memory_backed(spec).into_iter().map(|memory| (memory.at.clone(), Place::Memory(memory))).collect();
        places.extend(spec.mounts.iter().map(|mount| (mount.target.clone(), Place::Mount(mount))));
        places.sort_by_key(|(at, _)| at.components().count());
        for (at, place) in places {
            match place {
                Place::Memory(Memory { bytes, mode, programs, .. }) => {
                    let attributes = NODEV | if programs { 0 } else { NOEXEC };
                    self.writable.push(at.clone());
                    self.steps.push(Step::Memory { at, bytes, mode, attributes });
                }
                Place::Mount(mount) => self.mount(mount, spec)?,
            }
        }
        self.steps.push(Step::Seal("/dev".into()));
        Ok(())
    }

    fn mount(&mut self, mount: &cove_core::Mount, spec: &SandboxSpec) -> Result<()> {
        let (source, owner, directory) = shown_by(mount)?;
        let attributes = NODEV | if mount.read_only { RDONLY } else { 0 };
        // What was given belongs to the sandbox's user already. Without the filter a sandbox could
        // leave set-user-id programs behind, so nobody's files are shown as its own for writing.
        let shown = if mount.give || !(mount.read_only || spec.hardening.seccomp) { None } else { self.shown(owner) };
        if !mount.read_only {
            self.writable.push(mount.target.clone());
        }
        self.show(source, mount.target.clone(), attributes, directory, shown);
        Ok(())
    }

    /// `/run/cove`: the guest and the door.
    fn own(&mut self, spec: &SandboxSpec) -> Result<()> {
        let own = Path::new(GUEST).parent().unwrap_or(Path::new("/run/cove")).to_owned();
        self.steps.push(Step::Memory { at: own.clone(), bytes: 64 * MIB, mode: 0o755, attributes: NODEV });
        self.steps.push(Step::Guest);
        if let Network::Door { socket } = &spec.network {
            let (source, owner) = existing(socket, "The egress door's socket")?;
            if !fs::metadata(&source).is_ok_and(|meta| meta.file_type().is_socket()) {
                return Err(Error::invalid(format!("The egress door {} is not a socket", socket.display())));
            }
            self.show(source, PathBuf::from(DOOR), RDONLY | NODEV | NOEXEC, false, self.shown(owner));
        }
        self.steps.push(Step::Seal(own));
        Ok(())
    }
}

/// The real path of something that only the host's administrator could replace.
fn own(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Files of `/etc` that name the user and the host. Network resolution is the door's.
pub(crate) fn accounts(user: User) -> [(&'static str, String); 6] {
    let User { uid, gid } = user;
    let mut passwd = String::new();
    let mut group = String::new();
    if uid != 0 {
        passwd.push_str("root:x:0:0:root:/root:/usr/sbin/nologin\n");
    }
    if gid != 0 {
        group.push_str("root:x:0:\n");
    }
    passwd.push_str(&format!("{USER}:x:{uid}:{gid}::{HOME}:/bin/sh\n"));
    group.push_str(&format!("{USER}:x:{gid}:\ntty:x:5:\n"));
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    group.push_str("nogroup:x:65534:\n");
    [
        ("passwd", passwd),
        ("group", group),
        ("hosts", "127.0.0.1 localhost cove\n::1 localhost cove\n".to_owned()),
        ("hostname", "cove\n".to_owned()),
        ("resolv.conf", "# Names are resolved by the egress door.\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
    ]
}

/// Bound in bytes of each memory-backed directory that is for the sandbox's own files.
pub(crate) fn scratch(spec: &SandboxSpec) -> u64 {
    (spec.limits.memory_bytes.unwrap_or(2 << 30) / 2).clamp(4 * MIB, 8 << 30)
}

/// A memory-backed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    pub at: PathBuf,
    pub bytes: u64,
    pub mode: u32,
    /// Whether programs in it can be run.
    pub programs: bool,
}

/// The memory-backed directories of a sandbox: the standard ones and those asked for, without those
/// that something is mounted over.
pub(crate) fn memory_backed(spec: &SandboxSpec) -> Vec<Memory> {
    let scratch = scratch(spec);
    let standard = |at: &str, bytes: u64, mode, programs| Memory { at: at.into(), bytes, mode, programs };
    let mut memory = vec![
        standard("/tmp", scratch, 0o1777, true),
        standard("/run", (16 * MIB).min(scratch), 0o755, false),
        standard("/dev/shm", (64 * MIB).min(scratch), 0o1777, false),
        standard(HOME, scratch, 0o755, true),
    ];
    for tmpfs in &spec.tmpfs {
        memory.retain(|known| known.at != tmpfs.target);
        let bytes = tmpfs.size_bytes.max(4096);
        memory.push(Memory { at: tmpfs.target.clone(), bytes, mode: 0o1777, programs: true });
    }
    memory.retain(|known| !spec.mounts.iter().any(|mount| mount.target == known.at));
    memory
}

/// What a mount shows: its source's real path, who owns it, and whether it is a directory.
///
/// # Errors
/// `NotFound`, or `Refused` for what no sandbox may be shown.
pub(crate) fn shown_by(mount: &cove_core::Mount) -> Result<(PathBuf, User, bool)> {
    let (source, owner) = existing(&mount.source, "The mount source")?;
    let refuse =
        |why: &str| Err(Error::new(ErrorKind::Refused, format!("The mount source {} {why}", mount.source.display())));
    let system = ["/proc", "/sys", "/dev"].iter().any(|top| source.starts_with(top));
    if source == Path::new("/") || (system && !source.starts_with("/dev/shm")) {
        return refuse("is the host's root or a kernel file system");
    }
    let kind = fs::metadata(&source).map_err(|error| missing(&mount.source, "The mount source", error))?.file_type();
    if !kind.is_dir() && !kind.is_file() {
        return refuse("is neither a directory nor a regular file");
    }
    Ok((source, owner, kind.is_dir()))
}

/// The real path and the owner of something on the host.
pub(crate) fn existing(path: &Path, what: &str) -> Result<(PathBuf, User)> {
    let real = fs::canonicalize(path).map_err(|error| missing(path, what, error))?;
    let meta = fs::metadata(&real).map_err(|error| missing(path, what, error))?;
    Ok((real, User { uid: meta.uid(), gid: meta.gid() }))
}

fn missing(path: &Path, what: &str, error: std::io::Error) -> Error {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Denied };
    Error::new(kind, format!("{what} {} cannot be opened", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cove_core::{Mount, SandboxId};

    fn plan(spec: &SandboxSpec) -> Result<Plan> {
        Plan::new(spec, Identity::of(&SandboxId::new(), spec.user), None, &[])
    }

    fn mount(source: &str, target: &str) -> Mount {
        Mount { source: source.into(), target: target.into(), read_only: false, give: false }
    }

    #[test]
    fn sources_that_are_not_for_sandboxes() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        for source in ["/", "/proc", "/proc/self", "/dev/null", link.to_str().unwrap()] {
            let mut spec = SandboxSpec::new(Root::Host);
            spec.mounts.push(mount(source, "/data"));
            assert_eq!(plan(&spec).unwrap_err().kind(), ErrorKind::Refused, "{source}");
        }
        let mut spec = SandboxSpec::new(Root::Host);
        spec.mounts.push(mount("/nowhere/at/all", "/data"));
        assert_eq!(plan(&spec).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn outer_mounts_come_first_and_replace_standard_directories() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().to_str().unwrap();
        let mut spec = SandboxSpec::new(Root::Host);
        spec.mounts = vec![mount(source, "/data/inner/deep"), mount(source, "/tmp"), mount(source, "/data")];
        let plan = plan(&spec).unwrap();
        let at = |path: &str| {
            plan.steps.iter().position(|s| matches!(s, Step::Show { at, .. } if at == Path::new(path))).unwrap()
        };
        assert!(at("/data") < at("/data/inner/deep"));
        assert!(!plan.steps.iter().any(|s| matches!(s, Step::Memory { at, .. } if at == Path::new("/tmp"))));
        // The guest's place is made after everything that could lie over it.
        let guest = plan.steps.iter().position(|s| *s == Step::Guest).unwrap();
        assert!(at("/tmp") < guest);
    }
}
