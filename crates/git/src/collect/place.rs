//! A directory of the workspace, held by descriptor.
//!
//! Every step opens exactly one name below a held directory without following a link, so that
//! nothing outside the workspace is reached however the tree changes meanwhile. Files are opened
//! without blocking and only used when they are regular.
//!
//! A layered workspace is shown here as overlayfs shows it (without redirects, which it does not do
//! with user attributes): a name among the changes hides the tree's, a whiteout takes it away, and
//! directories of both are one unless that of the changes is opaque.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cove_core::{Error, ErrorKind, Result};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use crate::name::shown_bytes;

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
    /// FIFO, socket, device.
    Other,
}

/// A regular file that was opened, with what `fstat` said of it.
pub(super) struct RegularFile {
    pub file: File,
    pub size: u64,
    pub executable: bool,
}

/// What to look at: a directory, or what overlayfs shows of a directory of changes over a tree.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The directory itself; of a layered one that of the changes.
    pub upper: PathBuf,
    /// The tree below. It is ours and as git laid it out.
    pub lower: Option<PathBuf>,
}

impl View {
    pub(crate) fn plain(directory: &Path) -> Self {
        Self { upper: directory.to_owned(), lower: None }
    }
}

/// One entry of a directory.
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Nothing of it is among the changes: it is the tree's, with everything in it.
    pub unchanged: bool,
}

/// A held directory. With layers, one side may lack it.
pub(super) struct Place {
    upper: Option<OwnedFd>,
    lower: Option<OwnedFd>,
    layered: bool,
}

/// What the changes say of a name.
enum Above {
    /// Nothing.
    Silent,
    /// It is gone: a whiteout.
    Gone,
    /// It is there.
    There,
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);
const FILE: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

impl Place {
    /// The workspace itself; its directories are ours.
    pub(super) fn root(view: &View) -> Result<Self> {
        let opened = |path: &Path| match open(path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(fd),
            Err(Errno::ENOENT) => Err(Error::not_found(format!("There is no workspace {}", path.display()))),
            Err(e) => Err(Error::internal(format!("The workspace {} cannot be opened", path.display())).because(e)),
        };
        let lower = view.lower.as_deref().map(opened).transpose()?;
        Ok(Self { upper: Some(opened(&view.upper)?), layered: lower.is_some(), lower })
    }

    /// What the changes say of a name, which is one component.
    fn above(&self, name: &[u8]) -> Result<Above> {
        let Some(upper) = &self.upper else { return Ok(Above::Silent) };
        if !self.layered {
            return Ok(Above::There);
        }
        match fstatat(upper, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(about) if is_whiteout(&about) => Ok(Above::Gone),
            Ok(_) => Ok(Above::There),
            Err(Errno::ENOENT) => Ok(Above::Silent),
            Err(e) => Err(failure(name, e)),
        }
    }

    /// The side on which a file or link of this name is found.
    fn side(&self, name: &[u8]) -> Result<Option<&OwnedFd>> {
        Ok(match self.above(name)? {
            Above::Silent => self.lower.as_ref(),
            Above::Gone => None,
            Above::There => self.upper.as_ref(),
        })
    }

    /// A directory below; `None` when the name is absent or anything else.
    pub(super) fn dir(&self, name: &[u8]) -> Result<Option<Self>> {
        if !is_name(name) {
            return Ok(None);
        }
        let opened = |side: &OwnedFd| match openat(side, OsStr::from_bytes(name), DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(e) => Err(failure(name, e)),
        };
        let below = || self.lower.as_ref().map_or(Ok(None), opened);
        let (upper, lower) = match self.above(name)? {
            Above::Gone => return Ok(None),
            Above::Silent => (None, below()?),
            Above::There => {
                let Some(upper) = self.upper.as_ref().map_or(Ok(None), opened)? else { return Ok(None) };
                let lower = if self.layered && !is_opaque(&upper) { below()? } else { None };
                (Some(upper), lower)
            }
        };
        let found = upper.is_some() || lower.is_some();
        Ok(found.then_some(Self { upper, lower, layered: self.layered }))
    }

    /// The directory at a relative path, step by step.
    pub(super) fn dir_at(&self, path: &[u8]) -> Result<Option<Self>> {
        let copied = |side: &Option<OwnedFd>| {
            let copied = side.as_ref().map(OwnedFd::try_clone).transpose();
            copied.map_err(|e| Error::internal("A descriptor could not be copied").because(e))
        };
        let mut here = Self { upper: copied(&self.upper)?, lower: copied(&self.lower)?, layered: self.layered };
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            match here.dir(part)? {
                Some(next) => here = next,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    /// A regular file; `None` when the name is absent or anything else.
    pub(super) fn file(&self, name: &[u8]) -> Result<Option<RegularFile>> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(side) = self.side(name)? else { return Ok(None) };
        let fd = match openat(side, OsStr::from_bytes(name), FILE, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO | Errno::ENODEV) => return Ok(None),
            Err(e) => return Err(failure(name, e)),
        };
        let file = File::from(fd);
        let about = file.metadata().map_err(|e| Error::internal("An open file cannot be examined").because(e))?;
        if !about.is_file() {
            return Ok(None);
        }
        Ok(Some(RegularFile { file, size: about.size(), executable: about.mode() & 0o100 != 0 }))
    }

    /// The whole of a small regular file; refused when larger than `bound`.
    pub(super) fn small(&self, name: &[u8], bound: u64) -> Result<Option<Vec<u8>>> {
        let Some(found) = self.file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        found
            .file
            .take(bound + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::new(ErrorKind::Refused, format!("{} cannot be read", shown_bytes(name))).because(e))?;
        if bytes.len() as u64 > bound {
            return Err(Error::new(ErrorKind::Refused, format!("{} is larger than {bound} bytes", shown_bytes(name))));
        }
        Ok(Some(bytes))
    }

    /// The target of a symbolic link; `None` when the name is absent or anything else.
    pub(super) fn link(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        if !is_name(name) {
            return Ok(None);
        }
        let Some(side) = self.side(name)? else { return Ok(None) };
        match readlinkat(side, OsStr::from_bytes(name)) {
            Ok(target) => Ok(Some(OsString::into_vec(target))),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EINVAL) => Ok(None),
            Err(e) => Err(failure(name, e)),
        }
    }

    /// Everything in it except `.` and `..`, at most `bound`; refused when there is more.
    pub(super) fn entries(&self, bound: usize) -> Result<Vec<Entry>> {
        let too_many = || Error::new(ErrorKind::Refused, format!("A directory holds more than {bound} entries"));
        let mut all = Vec::new();
        let mut said = HashSet::new();
        if let Some(upper) = &self.upper {
            for (name, kind) in listed(upper, bound)?.ok_or_else(too_many)? {
                let gone = self.layered && kind == Kind::Other && {
                    let about = fstatat(upper, OsStr::from_bytes(&name), AtFlags::AT_SYMLINK_NOFOLLOW);
                    about.is_ok_and(|about| is_whiteout(&about))
                };
                if self.lower.is_some() {
                    said.insert(name.clone());
                }
                if !gone {
                    all.push(Entry { name, kind, unchanged: false });
                }
            }
        }
        if let Some(lower) = &self.lower {
            for (name, kind) in listed(lower, bound)?.ok_or_else(too_many)? {
                if !said.contains(&name) {
                    all.push(Entry { name, kind, unchanged: true });
                }
            }
        }
        if all.len() > bound {
            return Err(too_many());
        }
        Ok(all)
    }
}

type Names = Vec<(Vec<u8>, Kind)>;

/// Names and kinds in a directory; `None` when there are more than `bound`.
fn listed(side: &OwnedFd, bound: usize) -> Result<Option<Names>> {
    let failed = |e: Errno| Error::new(ErrorKind::Refused, "A directory of the workspace cannot be read").because(e);
    let mut dir = Dir::openat(side, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
    let mut all = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        if all.len() >= bound {
            return Ok(None);
        }
        let kind = match entry.file_type() {
            Some(Type::Directory) => Kind::Directory,
            Some(Type::File) => Kind::File,
            Some(Type::Symlink) => Kind::Link,
            Some(_) => Kind::Other,
            None => kind_of(side, name),
        };
        all.push((name.to_vec(), kind));
    }
    Ok(Some(all))
}

fn kind_of(side: &OwnedFd, name: &[u8]) -> Kind {
    let Ok(about) = fstatat(side, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW) else {
        return Kind::Other;
    };
    match SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    }
}

/// How overlayfs says that a name of the tree below is gone: a character device with number 0.
fn is_whiteout(about: &FileStat) -> bool {
    SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR && about.st_rdev == 0
}

/// Whether a directory of changes hides the tree's of the same name.
fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    let length = rustix::fs::fgetxattr(directory, crate::layered::OPAQUE, &mut value);
    length.is_ok_and(|length| value.get(..length) == Some(b"y"))
}

/// One component: what the kernel resolves in one step below the directory.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !matches!(name, b"." | b"..")
        && !name.iter().any(|b| matches!(b, b'/' | 0))
}

fn failure(name: &[u8], error: Errno) -> Error {
    let kind = match error {
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EIO => ErrorKind::Internal,
        _ => ErrorKind::Refused,
    };
    Error::new(kind, format!("{} in the workspace cannot be opened", shown_bytes(name))).because(error)
}
