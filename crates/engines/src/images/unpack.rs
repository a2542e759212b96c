//! Applying the layers of an image below a directory.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

/// What an image may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes in all files of all layers, unpacked.
    pub bytes: u64,
    /// Entries in all layers.
    pub entries: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 32 << 30, entries: 2_000_000 }
    }
}

/// Longest path of an entry in bytes (`PATH_MAX`).
const PATH_BOUND: usize = 4096;

/// Whiteouts of the OCI image specification: a name with this prefix removes, the opaque one empties.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A root that layers are applied to, lowest first.
pub(super) struct Layers {
    root: OwnedFd,
    bytes_left: u64,
    entries_left: u64,
    /// Modes of directories, set at the end so that a directory that forbids writing can be filled.
    directories: Vec<(PathBuf, u32)>,
}

impl Layers {
    /// Into an empty directory.
    pub(super) fn into(root: &Path, bounds: &Bounds) -> Result<Self> {
        let root = open(root, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .context(ErrorKind::Internal, format!("{} cannot be opened", root.display()))?;
        Ok(Self { root, bytes_left: bounds.bytes, entries_left: bounds.entries, directories: Vec::new() })
    }

    /// Applies one layer.
    pub(super) fn apply(&mut self, layer: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(layer);
        let entries = archive.entries().context(ErrorKind::Invalid, "A layer is not a tar archive")?;
        for entry in entries {
            let mut entry = entry.context(ErrorKind::Invalid, "A layer is damaged")?;
            self.entries_left = self
                .entries_left
                .checked_sub(1)
                .ok_or_else(|| Error::new(ErrorKind::Exhausted, "The image has too many entries"))?;
            let raw = entry.path_bytes().into_owned();
            let name = String::from_utf8_lossy(&raw).into_owned();
            self.entry(&mut entry, &raw)
                .map_err(|e| Error::new(e.kind(), format!("The entry {name:?} cannot be unpacked")).because(e))?;
        }
        Ok(())
    }

    /// Sets what had to wait.
    pub(super) fn finish(self) -> Result<()> {
        for (path, mode) in self.directories.iter().rev() {
            // Removed by a later layer, or replaced by something else: nothing to set.
            let Ok(directory) = beneath(&self.root, path, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW) else { continue };
            fchmod(&directory, Mode::from_bits_truncate(*mode & 0o777 | 0o500))
                .context(ErrorKind::Internal, format!("The mode of {} cannot be set", path.display()))?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, raw: &[u8]) -> Result<()> {
        let path = inside(raw)?;
        let kind = entry.header().entry_type();
        let mode = entry.header().mode().unwrap_or(0o644);
        let (Some(name), parent) = (path.file_name(), path.parent().unwrap_or(Path::new(""))) else {
            return Ok(()); // the root itself
        };
        let device = matches!(kind, tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo);
        if device {
            // Sandboxes bring their own /dev; anywhere else a device is an attempt.
            return if path.starts_with("dev") {
                Ok(())
            } else {
                Err(Error::invalid("It is a device or a pipe outside /dev").next("Build the image without it"))
            };
        }
        let parent_fd = self.parent(parent)?;
        if name.as_bytes() == OPAQUE {
            return empty(&parent_fd);
        }
        if let Some(removed) = name.as_bytes().strip_prefix(WHITEOUT) {
            if removed.is_empty() || removed == b"." || removed == b".." || removed.contains(&b'/') {
                return Err(Error::invalid("Its whiteout names nothing that can be removed"));
            }
            return clear(&parent_fd, OsStr::from_bytes(removed));
        }
        match kind {
            tar::EntryType::Directory => self.directory(&parent_fd, name, &path, mode),
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let modified = entry.header().mtime().unwrap_or(0);
                self.file(entry, &parent_fd, name, mode)?;
                // Interpreters compare times of sources and what they compiled from them.
                let time = TimeSpec::new(i64::try_from(modified).unwrap_or(0), 0);
                utimensat(&parent_fd, name, &time, &time, UtimensatFlags::NoFollowSymlink)
                    .context(ErrorKind::Internal, "Its time cannot be set")
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| Error::invalid("Its link leads nowhere"))?;
                let target = text(&target)?;
                clear(&parent_fd, name)?;
                symlinkat(target.as_c_str(), &parent_fd, name).context(ErrorKind::Internal, "The link cannot be made")
            }
            tar::EntryType::Link => self.hard_link(entry, &parent_fd, name),
            tar::EntryType::XGlobalHeader => Ok(()),
            other => Err(Error::invalid(format!("Its type {other:?} is not one of an image"))),
        }
    }

    fn directory(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, mode: u32) -> Result<()> {
        let there = openat(parent, name, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        if there.is_err() {
            clear(parent, name)?;
            mkdirat(parent, name, Mode::from_bits_truncate(0o755)).context(ErrorKind::Internal, "It cannot be made")?;
        }
        self.directories.push((path.to_path_buf(), mode));
        Ok(())
    }

    fn file(&mut self, entry: &mut impl Read, parent: &OwnedFd, name: &OsStr, mode: u32) -> Result<()> {
        clear(parent, name)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(parent, name, flags, Mode::from_bits_truncate(0o600))
            .context(ErrorKind::Internal, "The file cannot be made")?;
        let mut file = File::from(file);
        let copied = std::io::copy(&mut entry.take(self.bytes_left.saturating_add(1)), &mut file)
            .context(ErrorKind::Invalid, "Its content cannot be read or written")?;
        self.bytes_left = self
            .bytes_left
            .checked_sub(copied)
            .ok_or_else(|| Error::new(ErrorKind::Exhausted, "The image holds more bytes than its bound allows"))?;
        // Without set-user-id, set-group-id and sticky bits: nobody gains rights inside.
        fchmod(&file, Mode::from_bits_truncate(mode & 0o777)).context(ErrorKind::Internal, "Its mode cannot be set")
    }

    fn hard_link(&self, entry: &tar::Entry<'_, impl Read>, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let target = entry.link_name_bytes().ok_or_else(|| Error::invalid("Its link leads nowhere"))?;
        let target = inside(&target)?;
        let (Some(target_name), target_parent) = (target.file_name(), target.parent().unwrap_or(Path::new(""))) else {
            return Err(Error::invalid("Its link leads to the root"));
        };
        let from = beneath(&self.root, target_parent, OFlag::O_DIRECTORY)
            .map_err(|e| Error::invalid("Its link leads to what is not there").because(e))?;
        clear(parent, name)?;
        // Without AT_SYMLINK_FOLLOW: a link to a link links the link itself.
        linkat(&from, target_name, parent, name, AtFlags::empty())
            .map_err(|e| Error::invalid("Its link leads to what cannot be linked").because(e))
    }

    /// The directory that holds an entry, made where it is missing. Links in it stay below the root.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd> {
        if let Ok(directory) = beneath(&self.root, path, OFlag::O_DIRECTORY) {
            return Ok(directory);
        }
        let mut so_far = PathBuf::new();
        for part in path.components() {
            let above = beneath(&self.root, &so_far, OFlag::O_DIRECTORY)
                .map_err(|e| Error::invalid("A parent of it is no directory").because(e))?;
            so_far.push(part);
            match mkdirat(&above, part.as_os_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(Error::internal("A parent of it cannot be made").because(e)),
            }
        }
        beneath(&self.root, path, OFlag::O_DIRECTORY)
            .map_err(|e| Error::invalid("A parent of it is no directory, or a link that leads nowhere").because(e))
    }
}

/// Opens `path` below `root`; every link in it is resolved as if `root` were `/` (openat2(2)).
fn beneath(root: &OwnedFd, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    openat2(root, path, how)
}

/// An entry's name as a path below the root.
fn inside(raw: &[u8]) -> Result<PathBuf> {
    if raw.len() > PATH_BOUND || raw.contains(&0) {
        return Err(Error::invalid("Its name is too long or holds a nul byte"));
    }
    let mut out = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(raw)).components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => {
                return Err(Error::invalid("Its name leads out of the root with ..").next("Do not use this archive"));
            }
            _ => {}
        }
    }
    Ok(out)
}

fn text(bytes: &[u8]) -> Result<CString> {
    if bytes.is_empty() || bytes.len() > PATH_BOUND {
        return Err(Error::invalid("Its link target is empty or too long"));
    }
    CString::new(bytes).map_err(|e| Error::invalid("Its link target holds a nul byte").because(e))
}

/// Removes whatever has this name, without following it.
fn clear(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {
            let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
            std::fs::remove_dir_all(path).context(ErrorKind::Internal, "What stands in its place cannot be removed")
        }
        Err(e) => Err(Error::internal("What stands in its place cannot be removed").because(e)),
    }
}

fn empty(directory: &OwnedFd) -> Result<()> {
    let path = Path::new("/proc/self/fd").join(directory.as_fd().as_raw_fd().to_string());
    let children = std::fs::read_dir(path).context(ErrorKind::Internal, "A directory cannot be listed")?;
    for child in children {
        let child = child.context(ErrorKind::Internal, "A directory cannot be listed")?;
        clear(directory, &child.file_name())?;
    }
    Ok(())
}
