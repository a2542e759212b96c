//! Giving a directory tree to the sandbox's user.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cove_core::{Error, ErrorKind, Result, User};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, fchownat};

use super::sys;

/// Deepest tree that is followed: a directory costs a descriptor while its entries are visited.
const DEPTH: usize = 256;

/// Makes `user` the owner of everything at and below `path`, a resolved path, without following
/// links or leaving the file system. Root only; what belongs to the user already is not touched.
///
/// # Errors
/// `Refused` for a tree that is too deep or whose path leads through a link, else `Denied` with the
/// path.
pub fn give(path: &Path, user: User) -> Result<()> {
    let failed = |error: io::Error| {
        let changed = error.raw_os_error() == Some(libc::ELOOP) || error.kind() == io::ErrorKind::InvalidInput;
        let kind = if changed { ErrorKind::Refused } else { ErrorKind::Denied };
        Error::new(kind, format!("{} cannot be given to the sandbox's user", path.display())).because(error)
    };
    let place = sys::open_resolved(path).map_err(failed)?;
    let stat = fstat(&place).map_err(|error| failed(error.into()))?;
    if (stat.st_uid, stat.st_gid) != (user.uid, user.gid) {
        let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
        fchownat(&place, c"", uid, gid, AtFlags::AT_EMPTY_PATH).map_err(|error| failed(error.into()))?;
    }
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
        return Ok(());
    }
    let directory = openat(&place, c".", directory_flags(), Mode::empty()).map_err(|error| failed(error.into()))?;
    below(directory, stat.st_dev, user, DEPTH).map_err(failed)
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
        give_entry(directory.as_fd(), &name, device, user, depth)?;
    }
    Ok(())
}

/// One entry: opened once, so that what is looked at is what is given. What is gone meanwhile was
/// taken away by whoever else has the tree, and needs no giving.
fn give_entry(directory: BorrowedFd<'_>, name: &CStr, device: u64, user: User, depth: usize) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let entry = match openat(directory, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let stat = fstat(&entry)?;
    if stat.st_dev != device {
        return Ok(());
    }
    if (stat.st_uid, stat.st_gid) != (user.uid, user.gid) {
        let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
        fchownat(&entry, c"", uid, gid, AtFlags::AT_EMPTY_PATH)?;
    }
    if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
        let inner = openat(&entry, c".", directory_flags(), Mode::empty())?;
        drop(entry);
        below(inner, device, user, depth - 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::races::{ROUNDS, Race};

    #[test]
    fn a_tree_that_changes_meanwhile_never_leads_elsewhere() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP giving a tree that changes: not root");
            return;
        }
        let race = Race::begin();
        let user = User { uid: 0x6000_1234, gid: 0x6000_1234 };
        let mut given = 0;
        while race.rounds() < ROUNDS || given < 200 {
            // In the middle of a change it may be refused; what counts is what it touches.
            let _ = give(&race.tree(), user);
            let _ = give(&race.tree().join("swapped/inner"), user);
            given += 1;
        }
        let swapped = std::fs::symlink_metadata(race.tree()).unwrap();
        assert_eq!(swapped.uid(), user.uid, "the control: the tree itself was given");
        race.end();
    }

    #[test]
    fn a_path_through_a_link_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("there")).unwrap();
        std::os::unix::fs::symlink(real.join("there"), real.join("link")).unwrap();
        let error = give(&real.join("link"), User { uid: 1, gid: 1 }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_ne!(std::fs::metadata(real.join("there")).unwrap().uid(), 1);
    }
}
