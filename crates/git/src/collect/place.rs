//! A directory of the workspace, held by descriptor.
//!
//! Every step opens exactly one name below a held directory without following a link, so that
//! nothing outside the workspace is reached however the tree changes meanwhile. Files are opened
//! without blocking and only used when they are regular.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use cove_core::{Error, ErrorKind, Result};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat};

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

pub(super) struct Place(OwnedFd);

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);
const FILE: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

impl Place {
    /// The workspace itself; a directory of ours.
    pub(super) fn root(path: &Path) -> Result<Self> {
        match open(path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            Err(Errno::ENOENT) => Err(Error::not_found(format!("There is no workspace {}", path.display()))),
            Err(e) => Err(Error::internal(format!("The workspace {} cannot be opened", path.display())).because(e)),
        }
    }

    /// A directory below; `None` when the name is absent or anything else.
    pub(super) fn dir(&self, name: &[u8]) -> Result<Option<Self>> {
        if !is_name(name) {
            return Ok(None);
        }
        match openat(&self.0, OsStr::from_bytes(name), DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self(fd))),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(e) => Err(failure(name, e)),
        }
    }

    /// The directory at a relative path, step by step.
    pub(super) fn dir_at(&self, path: &[u8]) -> Result<Option<Self>> {
        let mut here =
            Self(self.0.try_clone().map_err(|e| Error::internal("A descriptor could not be copied").because(e))?);
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
        let fd = match openat(&self.0, OsStr::from_bytes(name), FILE, Mode::empty()) {
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
        match readlinkat(&self.0, OsStr::from_bytes(name)) {
            Ok(target) => Ok(Some(OsString::into_vec(target))),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EINVAL) => Ok(None),
            Err(e) => Err(failure(name, e)),
        }
    }

    /// Everything in it except `.` and `..`, at most `bound`; refused when there is more.
    pub(super) fn entries(&self, bound: usize) -> Result<Vec<(Vec<u8>, Kind)>> {
        let failed =
            |e: Errno| Error::new(ErrorKind::Refused, "A directory of the workspace cannot be read").because(e);
        let mut dir = Dir::openat(&self.0, ".", DIRECTORY, Mode::empty()).map_err(failed)?;
        let mut all = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if all.len() >= bound {
                return Err(Error::new(ErrorKind::Refused, format!("A directory holds more than {bound} entries")));
            }
            let kind = match entry.file_type() {
                Some(Type::Directory) => Kind::Directory,
                Some(Type::File) => Kind::File,
                Some(Type::Symlink) => Kind::Link,
                Some(_) => Kind::Other,
                None => self.kind(name),
            };
            all.push((name.to_vec(), kind));
        }
        Ok(all)
    }

    fn kind(&self, name: &[u8]) -> Kind {
        let Ok(about) = fstatat(&self.0, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            return Kind::Other;
        };
        match SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFLNK => Kind::Link,
            _ => Kind::Other,
        }
    }
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
