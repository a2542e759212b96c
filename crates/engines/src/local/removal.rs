//! Removing a sandbox's directory, whatever programs inside have made of it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cove_core::error::{Context, Error, ErrorKind, Result};

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
            open_up(dir, 0);
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

fn open_up(dir: &Path, depth: usize) {
    let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if depth < 256 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path(), depth + 1);
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
}
