//! Giving a directory tree to the sandbox's user.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cove_core::{Error, ErrorKind, Result, User};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{Gid, Uid, fchownat};

/// Deepest tree that is followed: a directory costs a descriptor while its entries are visited.
const DEPTH: usize = 256;

/// Makes `user` the owner of everything at and below `path`, without following links or leaving the
/// file system. Root only; what belongs to the user already is not touched.
///
/// # Errors
/// `Refused` for a tree that is too deep, else `Denied` with the path.
pub fn give(path: &Path, user: User) -> Result<()> {
    let failed = |error: io::Error| {
        let kind = if error.kind() == io::ErrorKind::InvalidInput { ErrorKind::Refused } else { ErrorKind::Denied };
        Error::new(kind, format!("{} cannot be given to the sandbox's user", path.display())).because(error)
    };
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    if !meta.is_dir() {
        return std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).map_err(failed);
    }
    let directory =
        openat(nix::fcntl::AT_FDCWD, path, directory_flags(), Mode::empty()).map_err(|e| failed(e.into()))?;
    if (meta.uid(), meta.gid()) != (user.uid, user.gid) {
        nix::unistd::fchown(&directory, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
            .map_err(|e| failed(e.into()))?;
    }
    below(directory, meta.dev(), user, DEPTH).map_err(failed)
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn below(directory: OwnedFd, device: u64, user: User, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the tree is deeper than {DEPTH} directories"),
        ));
    }
    let mut directory = Dir::from_fd(directory)?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        let stat = fstatat(directory.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            continue;
        }
        if (stat.st_uid, stat.st_gid) != (user.uid, user.gid) {
            let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
            fchownat(directory.as_fd(), name.as_c_str(), uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
            let inner = openat(directory.as_fd(), name.as_c_str(), directory_flags(), Mode::empty())?;
            below(inner, device, user, depth - 1)?;
        }
    }
    Ok(())
}
