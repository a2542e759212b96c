//! What a gate left beside the files of the commit: build output and dependencies for the next gate.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};

/// Directories deeper than this stay behind.
const DEPTH: usize = 64;

/// What of a home is carried over: stores of package managers. Programs read their settings from the
/// rest of it.
const STORES: [&str; 12] = [
    ".cache",
    ".npm",
    ".pnpm-store",
    ".yarn",
    ".bun",
    ".local",
    ".rustup",
    ".cargo/registry",
    ".cargo/git",
    ".m2/repository",
    ".gradle/caches",
    "go/pkg",
];

/// Moves what `to`, a fresh checkout, does not have from `from` into it. What decides how tests are
/// found or run stays behind where it is not part of installed dependencies.
pub(super) fn of_workspace(from: &Path, to: &Path) -> io::Result<()> {
    carry(from, to, &|path| !crate::tamper::is_planted(path))
}

/// Moves the [`STORES`] of one home into another, which is empty.
pub(super) fn of_home(from: &Path, to: &Path) -> io::Result<()> {
    for parent in STORES.iter().filter_map(|store| Some(store.split_once('/')?.0)) {
        super::place::make(&to.join(parent)).map_err(io::Error::other)?;
    }
    carry(from, to, &|path| {
        STORES.iter().any(|store| *store == path || store.split_once('/').is_some_and(|(parent, _)| parent == path))
    })
}

/// The old tree is hostile: no link is followed, nothing that `to` has is replaced. What cannot be moved
/// stays behind.
fn carry(from: &Path, to: &Path, comes: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let open = |path: &Path| openat(nix::fcntl::AT_FDCWD, path, flags(), Mode::empty());
    level(open(from)?, open(to)?.as_fd(), "", DEPTH, comes)
}

fn flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn level(from: OwnedFd, to: BorrowedFd<'_>, path: &str, depth: usize, comes: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let mut from = Dir::from_fd(from)?;
    let names: Vec<_> = from.iter().map(|entry| Ok(entry?.file_name().to_owned())).collect::<nix::Result<_>>()?;
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        let text = name.to_string_lossy();
        let path = if path.is_empty() { text.into_owned() } else { format!("{path}/{text}") };
        if !comes(&path) {
            continue;
        }
        let is_directory = |at: BorrowedFd<'_>| {
            fstatat(at, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
        };
        match is_directory(to) {
            Err(nix::errno::Errno::ENOENT) => drop(renameat(&from, name.as_c_str(), to, name.as_c_str())),
            Ok(true) if depth > 0 && is_directory(from.as_fd()) == Ok(true) => {
                let inside = |at: BorrowedFd<'_>| openat(at, name.as_c_str(), flags(), Mode::empty());
                if let (Ok(from), Ok(to)) = (inside(from.as_fd()), inside(to)) {
                    level(from, to.as_fd(), &path, depth - 1, comes)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn output_is_carried_and_the_checkout_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, outside) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        for folder in [from.join("src/gen"), from.join("node_modules/x"), from.join(".git"), from.join(".cargo")] {
            fs::create_dir_all(folder).unwrap();
        }
        for folder in [to.join("src"), to.join(".git"), to.join("docs"), to.join("lib"), outside.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in ["check.sh", "src/gen/x", "node_modules/x/conftest.py", ".git/config", ".cargo/config.toml"] {
            fs::write(from.join(file), "old").unwrap();
        }
        fs::write(from.join("conftest.py"), "old").unwrap();
        fs::write(to.join("check.sh"), "new").unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        symlink(&outside, from.join("docs")).unwrap();
        symlink(&outside, from.join("link")).unwrap();
        fs::write(from.join("lib"), "a file now").unwrap();
        of_workspace(&from, &to).unwrap();
        let read = |path: &str| fs::read_to_string(to.join(path)).unwrap_or_default();
        assert_eq!(read("check.sh"), "new");
        assert_eq!(read("src/gen/x"), "old");
        assert_eq!(read("node_modules/x/conftest.py"), "old");
        for path in [".git/config", ".cargo", "conftest.py", "docs/secret"] {
            assert!(!to.join(path).exists(), "{path}");
        }
        assert!(to.join("lib").is_dir());
        assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "s");
    }
    #[test]
    fn stores_of_a_home_are_carried_and_settings_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, outside) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        for folder in [from.join(".cargo/registry"), from.join(".npm"), outside.join("pkg"), to.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in [".npmrc", ".npm/x", ".cargo/config.toml", ".cargo/registry/x"] {
            fs::write(from.join(file), "x").unwrap();
        }
        symlink(&outside, from.join("go")).unwrap();
        of_home(&from, &to).unwrap();
        assert!(to.join(".npm/x").exists() && to.join(".cargo/registry/x").exists());
        assert!(!to.join(".npmrc").exists() && !to.join(".cargo/config.toml").exists());
        assert!(outside.join("pkg").exists() && !to.join("go/pkg").exists());
    }
}
