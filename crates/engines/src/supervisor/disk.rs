//! Measures what trees on disk take up, however hostile they are.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag};

/// Deepest nesting that is followed. A tree beyond it cannot be measured with bounded descriptors
/// and counts as too large.
const DEPTH: usize = 256;

/// Most files with several names that are told apart; further ones count once per name.
const LINKED: usize = 200_000;

/// Holds the trees that are measured, so that a path which later leads elsewhere changes nothing.
/// What is not there is left out.
///
/// # Errors
/// Those of opening them.
pub fn hold(roots: &[impl AsRef<Path>]) -> std::io::Result<Vec<OwnedFd>> {
    let mut held = Vec::new();
    for root in roots {
        match nix::fcntl::open(root.as_ref(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(place) => held.push(place),
            Err(nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(held)
}

/// Bytes that the trees occupy, or more than `bound` as soon as that is certain. Directories are
/// walked by descriptor and links never followed, so that a tree that changes meanwhile cannot
/// lead the walk elsewhere.
pub fn usage(roots: &[OwnedFd], bound: u64) -> u64 {
    let mut walk = Walk { bytes: 0, bound, linked: HashSet::new() };
    for root in roots {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match nix::fcntl::openat(root, c".", flags, Mode::empty()) {
            Ok(dir) => walk.directory(dir, 0),
            // A mounted file.
            Err(nix::errno::Errno::ENOTDIR) => {
                let blocks = nix::sys::stat::fstat(root).map_or(0, |stat| stat.st_blocks);
                walk.bytes += u64::try_from(blocks).unwrap_or(0) * 512;
            }
            Err(_) => {}
        }
    }
    walk.bytes
}

struct Walk {
    bytes: u64,
    bound: u64,
    linked: HashSet<(u64, u64)>,
}

impl Walk {
    fn directory(&mut self, dir: OwnedFd, depth: usize) {
        if depth > DEPTH {
            self.bytes = u64::MAX;
            return;
        }
        let Ok(mut dir) = Dir::from_fd(dir) else { return };
        let mut children = Vec::new();
        let Ok(handle) = dir.as_fd().try_clone_to_owned() else { return };
        for entry in dir.iter().flatten() {
            if self.bytes > self.bound {
                return;
            }
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = nix::sys::stat::fstatat(&handle, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let counted =
                stat.st_nlink < 2 || self.linked.len() >= LINKED || self.linked.insert((stat.st_dev, stat.st_ino));
            let directory = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
            if counted || directory {
                self.bytes = self.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
            }
            if directory {
                children.push(name.to_owned());
            }
        }
        drop(dir);
        for name in children {
            if self.bytes > self.bound {
                return;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            if let Ok(child) = nix::fcntl::openat(&handle, name.as_c_str(), flags, Mode::empty()) {
                self.directory(child, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_there_and_nothing_behind_links() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("large"), vec![1; 4 << 20]).unwrap();
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("deeper")).unwrap();
        std::fs::write(tree.path().join("deeper/file"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(tree.path().join("deeper/file"), tree.path().join("again")).unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.path().join("away")).unwrap();
        let bytes = usage(&hold(&[tree.path()]).unwrap(), u64::MAX);
        assert!(((1 << 20)..(2 << 20)).contains(&bytes), "{bytes}");
        assert!(usage(&hold(&[tree.path(), outside.path()]).unwrap(), 1 << 20) > 1 << 20);
    }

    #[test]
    fn a_tree_too_deep_to_measure_is_too_large() {
        let tree = tempfile::tempdir().unwrap();
        let mut path = tree.path().to_owned();
        for _ in 0..DEPTH + 3 {
            path.push("d");
            std::fs::create_dir(&path).unwrap();
        }
        assert_eq!(usage(&hold(&[tree.path()]).unwrap(), 1 << 30), u64::MAX);
    }

    #[test]
    fn a_tree_that_changes_meanwhile_is_never_left() {
        let race = crate::races::Race::begin();
        let outside = race.tree().with_file_name("outside/large");
        std::fs::write(&outside, vec![1; 4 << 20]).unwrap();
        let held = hold(&[race.tree()]).unwrap();
        let mut most = 0;
        while race.rounds() < crate::races::ROUNDS {
            most = most.max(usage(&held, u64::MAX));
        }
        assert!(most > 8192, "the control: the tree itself was measured");
        assert!(most < 1 << 20, "{most} bytes: what lies outside was counted");
        std::fs::remove_file(&outside).unwrap();
        race.end();
    }

    #[test]
    fn a_root_that_is_exchanged_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (tree, large) = (place.path().join("tree"), place.path().join("large"));
        std::fs::create_dir(&tree).unwrap();
        std::fs::create_dir(&large).unwrap();
        std::fs::write(large.join("file"), vec![1; 4 << 20]).unwrap();
        let held = hold(&[&tree]).unwrap();
        std::fs::remove_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&large, &tree).unwrap();
        assert!(usage(&held, u64::MAX) < 1 << 20);
    }
}
