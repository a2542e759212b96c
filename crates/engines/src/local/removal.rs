//! Removing a sandbox's directory, whatever programs inside have made of it.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cove_core::error::{Context, Error, ErrorKind, Result};
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// Removes a tree that no mount lies in. Absence is fine.
///
/// # Errors
/// `Internal`, and nothing removed, while something is mounted in it: behind a mount lies what is
/// not ours to delete.
pub fn remove_tree(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(mount) = mount_below(&mounts, dir) {
        return Err(Error::internal(format!("{mount} is still mounted, so {} is kept", dir.display()))
            .next(format!("Unmount {mount} and remove the sandbox again")));
    }
    let removed = match fs::remove_dir_all(dir) {
        // A directory that its owner may not read; only when we are not root.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(dir);
            fs::remove_dir_all(dir)
        }
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(ErrorKind::Internal, format!("{} cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The first mount point in or at `dir`; mountinfo escapes blanks, tabs, newlines and backslashes.
fn mount_below(mountinfo: &str, dir: &Path) -> Option<String> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"))
        .find(|point| Path::new(point).starts_with(dir))
}

/// Lets the owner into every directory of a tree: each opened by its name in the one above, never
/// through a link, and changed by its descriptor.
fn open_up(dir: &Path) {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    if let Ok(place) = nix::fcntl::open(dir, flags, Mode::empty()) {
        open_up_below(&place, 0);
    }
}

fn open_up_below(place: &OwnedFd, depth: usize) {
    // An `O_PATH` descriptor has no other way to change its mode on kernels before 6.6.
    let by_descriptor = format!("/proc/self/fd/{}", place.as_raw_fd());
    let _ = fs::set_permissions(by_descriptor, Permissions::from_mode(0o700));
    let reading = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut entries) = Dir::openat(place, c".", reading, Mode::empty()) else { return };
    let names: Vec<_> = entries.iter().flatten().map(|entry| entry.file_name().to_owned()).collect();
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..") && depth < 256) {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if let Ok(inner) = nix::fcntl::openat(place, name.as_c_str(), flags, Mode::empty()) {
            open_up_below(&inner, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_mounts_below_and_only_there() {
        let table = "36 35 98:0 / /srv/state/a/root rw - ext4 /dev/x rw\n\
                     37 35 98:0 / /srv/with\\040blank/b rw - tmpfs none rw\n";
        for (dir, found) in [
            ("/srv/state/a", true),
            ("/srv/state/a/root", true),
            ("/srv/state", true),
            ("/srv/state/ab", false),
            ("/srv/with blank", true),
            ("/other", false),
        ] {
            assert_eq!(mount_below(table, Path::new(dir)).is_some(), found, "{dir}");
        }
    }

    #[test]
    fn removes_what_was_made_unreadable() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("sandbox");
        fs::create_dir_all(dir.join("closed/deeper")).unwrap();
        fs::set_permissions(dir.join("closed"), Permissions::from_mode(0o0)).unwrap();
        remove_tree(&dir).unwrap();
        assert!(!dir.exists());
        remove_tree(&dir).unwrap();
    }

    #[test]
    fn a_tree_that_changes_meanwhile_never_leads_elsewhere() {
        let race = crate::races::Race::begin();
        let (mut opened, mut removed) = (0, 0);
        while race.rounds() < crate::races::ROUNDS || opened < 200 {
            open_up(&race.tree());
            opened += 1;
        }
        let mode = fs::metadata(race.tree()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "the control: the tree itself was changed");
        while race.tree().exists() && removed < 10_000 {
            // Swapping may keep a directory from being empty for a while.
            let _ = remove_tree(&race.tree());
            removed += 1;
        }
        race.end();
    }
}
