//! A tree in which somebody swaps directories and files for links while the host works on it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Fewest swaps that a trial goes through.
pub const ROUNDS: u64 = 10_000;

/// A tree, its enemy, and what lies outside of it.
pub struct Race {
    place: tempfile::TempDir,
    rounds: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    enemy: Option<JoinHandle<()>>,
    before: Vec<(PathBuf, u32, u32, u32, Vec<u8>)>,
}

impl Race {
    /// Lays the tree out and begins to swap: `swapped` is a directory at one moment and a link out
    /// of the tree at the next, `swapped-file` likewise a file.
    pub fn begin() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().canonicalize().expect("it has a path");
        for directory in ["tree/swapped/inner", "tree/still/deep", "spare", "outside/inner/deep"] {
            fs::create_dir_all(path.join(directory)).expect("a directory");
        }
        for file in ["tree/swapped/inner/file", "tree/swapped-file", "tree/still/deep/file"] {
            fs::write(path.join(file), vec![1; 8192]).expect("a file");
        }
        for file in ["outside/secret", "outside/inner/file", "outside/inner/deep/file"] {
            fs::write(path.join(file), "whole").expect("a file");
            fs::set_permissions(path.join(file), fs::Permissions::from_mode(0o640)).expect("its mode");
        }
        symlink(path.join("outside"), path.join("spare/directory")).expect("a link");
        symlink(path.join("outside/secret"), path.join("spare/file")).expect("a link");
        symlink("../../outside/inner", path.join("spare/relative")).expect("a link");
        let before = about(&path.join("outside"));
        let (rounds, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let enemy = {
            let (rounds, over) = (Arc::clone(&rounds), Arc::clone(&over));
            std::thread::spawn(move || {
                let pairs = [
                    ("tree/swapped", "spare/directory"),
                    ("tree/swapped-file", "spare/file"),
                    ("tree/still/deep", "spare/relative"),
                ];
                while !over.load(Ordering::Relaxed) {
                    for (one, other) in pairs {
                        let (one, other) = (path.join(one), path.join(other));
                        // Fails once the tree is gone, which some trials want.
                        let _ = renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE);
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self { place, rounds, over, enemy: Some(enemy), before }
    }

    /// The tree that the host works on; its path has no link in it.
    pub fn tree(&self) -> PathBuf {
        self.place.path().canonicalize().expect("it has a path").join("tree")
    }

    /// Swaps so far.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Ends the swapping and checks that nothing outside of the tree changed.
    pub fn end(mut self) {
        self.halt();
        assert!(self.rounds() >= ROUNDS, "only {} rounds", self.rounds());
        let path = self.place.path().canonicalize().expect("it has a path");
        assert_eq!(about(&path.join("outside")), self.before, "something outside of the tree changed");
    }

    fn halt(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(enemy) = self.enemy.take() {
            enemy.join().expect("the enemy does not panic");
        }
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Path, owner, group, mode and content of everything below.
fn about(dir: &Path) -> Vec<(PathBuf, u32, u32, u32, Vec<u8>)> {
    let mut out = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).expect("a directory").flatten().map(|entry| entry.path()));
        }
        let content = if meta.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
        out.push((path, meta.uid(), meta.gid(), meta.mode(), content));
    }
    out.sort();
    out
}
