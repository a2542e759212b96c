//! Builds the root that a [`Plan`] describes; runs in the sandbox's first process, before anything
//! of the sandbox's own has run. Paths inside are resolved so that they cannot leave the new root,
//! whatever links the root file system brings along.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::identity;
use super::plan::{GUEST, Plan, Step, Tree};
use super::sys::{self, attr};
use crate::proof::{MASKED, READ_ONLY};

/// A step that failed, for the error of the launch.
#[derive(Debug)]
pub struct Failure {
    pub step: String,
    pub error: io::Error,
}

/// Names the step of a failure.
pub fn at<T>(step: impl FnOnce() -> String, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| Failure { step: step(), error })
}

/// Directories that a host surely has one of; the new root is put together on top of it, seen by
/// nobody else.
const STAGES: &[&str] = &["/tmp", "/run", "/mnt", "/var", "/usr"];

/// Opens the plan's trees as detached mounts. As root this happens before the user namespace is
/// entered, as ids can only be shifted from outside; else inside, where mounting is allowed.
pub fn open_trees(plan: &Plan) -> Result<Vec<OwnedFd>, Failure> {
    let mut mappings: Vec<(cove_core::User, OwnedFd)> = Vec::new();
    plan.trees
        .iter()
        .map(|tree| at(|| format!("show {}", tree.source.display()), open_tree(plan, tree, &mut mappings)))
        .collect()
}

fn open_tree(plan: &Plan, tree: &Tree, mappings: &mut Vec<(cove_core::User, OwnedFd)>) -> io::Result<OwnedFd> {
    // The path was resolved when the plan was made. Opened once, and only while no part of it has
    // become a link since: what is shown is what was judged.
    let place = sys::open_resolved(&tree.source)?;
    let attributes = attr::NOSUID | tree.attributes;
    if let Some(owner) = tree.shown_as_users {
        if !mappings.iter().any(|(known, _)| *known == owner) {
            match identity::mapping(owner, plan.identity.outside) {
                Ok(mapping) => mappings.push((owner, mapping)),
                // Not root enough; the case of a file system that cannot shift.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some((_, mapping)) = mappings.iter().find(|(known, _)| *known == owner) {
            // Where something mounted below cannot shift, it is left out.
            for recursive in [true, false] {
                let mount = sys::clone_place(place.as_fd(), recursive)?;
                let set = attributes | attr::IDMAP;
                if sys::set_attributes(mount.as_fd(), set, true, recursive, Some(mapping.as_fd())).is_ok() {
                    return Ok(mount);
                }
            }
        }
        // A file system that cannot shift ids shows its files with the owners they have.
        open_to_others(tree, plan.layered_on.is_some_and(|root| plan.trees.get(root) == Some(tree)))?;
    }
    let mount = sys::clone_place(place.as_fd(), true)?;
    sys::set_attributes(mount.as_fd(), attributes, true, true, None)?;
    Ok(mount)
}

/// Whether the sandbox's user can do without the shift: never with a root, whose missing mount points
/// could not be made; with the door after its socket was opened, which lies in a directory that only
/// the daemon enters; with others where everyone may read.
fn open_to_others(tree: &Tree, is_root: bool) -> io::Result<()> {
    let meta = fs::metadata(&tree.source)?;
    let mode = meta.permissions().mode();
    if meta.file_type().is_socket() {
        return fs::set_permissions(&tree.source, fs::Permissions::from_mode(mode | 0o666));
    }
    let needed = if meta.is_dir() { 0o005 } else { 0o004 };
    if is_root || mode & needed != needed {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "its file system cannot show files as another user's; keep it on ext4, xfs, btrfs or tmpfs, \
             or start Cove as the files' owner",
        ));
    }
    Ok(())
}

/// The root being built.
struct Building {
    root: OwnedFd,
    stage: PathBuf,
}

/// Builds the root and enters it. `guest` is the guest program, open for reading.
pub fn build(plan: &Plan, trees: Vec<OwnedFd>, guest: &fs::File) -> Result<(), Failure> {
    let mut trees: Vec<Option<OwnedFd>> = trees.into_iter().map(Some).collect();
    let building = Building::begin(plan, &mut trees)?;
    for step in &plan.steps {
        at(|| format!("{step:?}"), building.step(plan, step, &mut trees, guest))?;
    }
    if plan.read_only_root {
        let sealed = sys::set_attributes(building.root.as_fd(), attr::RDONLY, false, false, None);
        at(|| "make the root read-only".to_owned(), sealed)?;
    }
    // Not earlier: each new file system has a mount namespace of its own until it is attached.
    forbid_namespaces();
    at(|| "enter the root".to_owned(), sys::enter_root(building.root.as_fd()))
}

/// Sets how many namespaces may be made below the sandbox's user namespace to none. A second lock
/// beside the seccomp filter: where `/proc/sys` cannot be written, the filter stands alone.
fn forbid_namespaces() {
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"] {
        let _ = fs::write(format!("/proc/sys/user/max_{kind}_namespaces"), "0");
    }
}

impl Building {
    fn begin(plan: &Plan, trees: &mut [Option<OwnedFd>]) -> Result<Self, Failure> {
        let stage = STAGES.iter().map(PathBuf::from).find(|path| path.is_dir());
        let stage = at(|| "find a directory to build on".to_owned(), stage.ok_or(io::ErrorKind::NotFound.into()))?;
        at(|| "make the stage".to_owned(), Self::raise(plan, &stage))?;
        let root = match plan.layered_on {
            None => at(|| "make the root".to_owned(), memory(plan.upper_bytes.min(16 << 20), 0o755, attr::NODEV)),
            Some(index) => {
                let lower = at(|| "take the root's tree".to_owned(), taken(trees, index))?;
                at(|| "layer the root (overlay)".to_owned(), layered(&stage, lower))
            }
        }?;
        let place = stage.join("root");
        at(|| "attach the root".to_owned(), open_path(&place).and_then(|p| sys::attach(root.as_fd(), p.as_fd())))?;
        Ok(Self { root, stage })
    }

    /// A memory-backed stage over a directory of the host, in this mount namespace only.
    fn raise(plan: &Plan, stage: &Path) -> io::Result<()> {
        let bytes = if plan.read_only_root { 4 << 20 } else { plan.upper_bytes };
        let mount = memory(bytes, 0o755, attr::NODEV)?;
        sys::attach(mount.as_fd(), open_path(stage)?.as_fd())?;
        for name in ["root", "lower", "upper", "work", "files"] {
            fs::create_dir(stage.join(name))?;
        }
        fs::create_dir(stage.join("void"))?;
        fs::write(stage.join("nothing"), b"")?;
        for name in ["void", "nothing"] {
            fs::set_permissions(stage.join(name), fs::Permissions::from_mode(0o000))?;
        }
        Ok(())
    }

    fn step(&self, plan: &Plan, step: &Step, trees: &mut [Option<OwnedFd>], guest: &fs::File) -> io::Result<()> {
        match step {
            Step::Directory(at) => self.directory(at).map(|_| ()),
            Step::Link { at, to } => self.link(at, to),
            Step::File { at, content } => self.file(at, content),
            Step::Show { tree, at, directory } => {
                let target = if *directory { self.directory(at) } else { self.point(at) }?;
                sys::attach(taken(trees, *tree)?.as_fd(), target.as_fd())
            }
            Step::Memory { at, bytes, mode, attributes } => {
                sys::attach(memory(*bytes, *mode, *attributes)?.as_fd(), self.directory(at)?.as_fd())
            }
            Step::Proc => self.proc(),
            Step::Terminals => {
                let options =
                    [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0600")), ("max", Some("256"))];
                let mount = sys::new_file_system(c"devpts", &options, attr::NOSUID | attr::NOEXEC)?;
                sys::attach(mount.as_fd(), self.directory(Path::new("/dev/pts"))?.as_fd())
            }
            Step::Workdir => self.workdir(plan),
            Step::Guest => self.guest(guest),
            Step::Seal(at) => {
                let place = sys::open_in_root(self.root.as_fd(), at, libc::O_PATH | libc::O_DIRECTORY)?;
                sys::set_attributes(place.as_fd(), attr::RDONLY, false, false, None)
            }
        }
    }

    /// The directory at `path`, made with its parents where absent.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let open = |path: &Path| sys::open_in_root(self.root.as_fd(), path, libc::O_PATH | libc::O_DIRECTORY);
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut so_far = PathBuf::from("/");
        let mut here = open(&so_far)?;
        for component in path.components().filter(|c| matches!(c, Component::Normal(_))) {
            so_far.push(component);
            here = match open(&so_far) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let name = Path::new(component.as_os_str());
                    nix::sys::stat::mkdirat(&here, name, nix::sys::stat::Mode::from_bits_truncate(0o755))?;
                    open(&so_far)?
                }
                other => other?,
            };
        }
        Ok(here)
    }

    /// Parent directory (made where absent) and name of `path`.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a Path)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok((self.directory(parent)?, Path::new(name)))
    }

    /// A file to mount on, made empty where absent.
    fn point(&self, path: &Path) -> io::Result<OwnedFd> {
        let open = || sys::open_in_root(self.root.as_fd(), path, libc::O_PATH);
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (parent, name) = self.parent(path)?;
        match create(parent.as_fd(), name, 0o644) {
            // A link that leads to nothing inside: replaced, as nothing can be mounted on it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                nix::unistd::unlinkat(&parent, name, nix::unistd::UnlinkatFlags::NoRemoveDir)?;
                drop(create(parent.as_fd(), name, 0o644)?);
            }
            other => drop(other?),
        }
        open()
    }

    fn link(&self, path: &Path, to: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match nix::unistd::symlinkat(to, &parent, name) {
            Err(nix::errno::Errno::EEXIST) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Laid over what the root has there, so that the root's own file need not be writable.
    fn file(&self, path: &Path, content: &str) -> io::Result<()> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let source = self.stage.join("files").join(name);
        fs::write(&source, content)?;
        let mount = sys::clone_tree(&sys::c_path(&source)?, false)?;
        sys::set_attributes(
            mount.as_fd(),
            attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC,
            false,
            false,
            None,
        )?;
        sys::attach(mount.as_fd(), self.point(path)?.as_fd())
    }

    fn proc(&self) -> io::Result<()> {
        let locked = attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let mount = sys::new_file_system(c"proc", &[], locked)?;
        sys::attach(mount.as_fd(), self.directory(Path::new("/proc"))?.as_fd())?;
        let present = |path: &str| match sys::open_in_root(self.root.as_fd(), Path::new(path), libc::O_PATH) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        for path in READ_ONLY {
            if let Some(place) = present(path)? {
                let mount = sys::clone_place(place.as_fd(), true)?;
                sys::set_attributes(mount.as_fd(), locked | attr::RDONLY, false, true, None)?;
                sys::attach(mount.as_fd(), place.as_fd())?;
            }
        }
        for path in MASKED {
            if let Some(place) = present(path)? {
                let directory = fs::File::from(place.try_clone()?).metadata()?.is_dir();
                let cover = self.stage.join(if directory { "void" } else { "nothing" });
                let mount = sys::clone_tree(&sys::c_path(&cover)?, false)?;
                sys::set_attributes(mount.as_fd(), locked | attr::RDONLY, false, false, None)?;
                sys::attach(mount.as_fd(), place.as_fd())?;
            }
        }
        Ok(())
    }

    /// Writable where nothing of the root's lies there.
    fn workdir(&self, plan: &Plan) -> io::Result<()> {
        if plan.writable.iter().any(|path| plan.workdir.starts_with(path)) || !plan.read_only_root {
            return self.directory(&plan.workdir).map(|_| ());
        }
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let occupied = match sys::open_in_root(self.root.as_fd(), &plan.workdir, flags) {
            Ok(directory) => {
                let entries = nix::dir::Dir::from_fd(directory)?.into_iter().take(3).count();
                entries > 2
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if occupied {
            return Ok(());
        }
        let place = self.directory(&plan.workdir)?;
        sys::attach(memory(plan.workdir_bytes, 0o755, attr::NODEV)?.as_fd(), place.as_fd())
    }

    fn guest(&self, program: &fs::File) -> io::Result<()> {
        let (parent, name) = self.parent(Path::new(GUEST))?;
        let mut copy = create(parent.as_fd(), name, 0o755)?;
        let mut source = program.try_clone()?;
        io::Seek::seek(&mut source, io::SeekFrom::Start(0))?;
        io::copy(&mut source, &mut copy)?;
        copy.flush()
    }
}

fn create(parent: BorrowedFd<'_>, name: &Path, mode: libc::mode_t) -> io::Result<fs::File> {
    use nix::fcntl::{OFlag, openat};
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name, flags, nix::sys::stat::Mode::from_bits_truncate(mode))?.into())
}

fn taken(trees: &mut [Option<OwnedFd>], index: usize) -> io::Result<OwnedFd> {
    trees.get_mut(index).and_then(Option::take).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).map(OwnedFd::from)
}

/// A memory-backed file system. One entry for each 4 KiB of its size, within bounds, so that small
/// files cannot take more memory than its size says.
fn memory(bytes: u64, mode: u32, attributes: u64) -> io::Result<OwnedFd> {
    let (size, inodes) = (bytes.to_string(), (bytes / 4096).clamp(1024, 1 << 20).to_string());
    let mode = format!("{mode:o}");
    let options = [("size", Some(size.as_str())), ("nr_inodes", Some(inodes.as_str())), ("mode", Some(mode.as_str()))];
    sys::new_file_system(c"tmpfs", &options, attributes | attr::NOSUID)
}

/// An overlay over `lower` with its changes in the stage.
fn layered(stage: &Path, lower: OwnedFd) -> io::Result<OwnedFd> {
    let place = stage.join("lower");
    sys::attach(lower.as_fd(), open_path(&place)?.as_fd())?;
    let text = |name: &str| stage.join(name).to_string_lossy().into_owned();
    let (lower, upper, work) = (text("lower"), text("upper"), text("work"));
    let options = [
        ("lowerdir", Some(lower.as_str())),
        ("upperdir", Some(upper.as_str())),
        ("workdir", Some(work.as_str())),
        ("userxattr", None),
    ];
    sys::new_file_system(&CString::from(c"overlay"), &options, attr::NOSUID | attr::NODEV)
}
