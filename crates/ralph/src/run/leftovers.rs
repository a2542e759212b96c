//! What a gate left beside the files of the commit: build output and dependencies for the next gate.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cove_git::Layered;
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::ground::Workspace;

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

/// Moves what `to`, a fresh workspace, does not have from `from` into it. What decides how tests are
/// found or run stays behind where it is not part of installed dependencies.
pub(super) fn of_workspace(from: &Workspace, to: &Workspace) -> io::Result<()> {
    let comes = |path: &str| !crate::tamper::is_planted(path);
    match to {
        Workspace::Plain(path) => carry(&own(from), path, None, &comes),
        Workspace::Layered(layered) => carry(&own(from), &layered.upper(), Some(layered.lower()), &comes),
    }
}

/// Where files lie that a sandbox made. Of a layered workspace everything else is in the next one anyway.
fn own(workspace: &Workspace) -> PathBuf {
    match workspace {
        Workspace::Plain(path) => path.clone(),
        Workspace::Layered(layered) => layered.upper(),
    }
}

/// Moves the [`STORES`] of one home into another, which is empty.
pub(super) fn of_home(from: &Path, to: &Path) -> io::Result<()> {
    for parent in STORES.iter().filter_map(|store| Some(store.split_once('/')?.0)) {
        super::place::make(&to.join(parent)).map_err(io::Error::other)?;
    }
    carry(from, to, None, &|path| {
        STORES.iter().any(|store| *store == path || store.split_once('/').is_some_and(|(parent, _)| parent == path))
    })
}

/// The old tree is hostile: no link is followed, nothing that `to` shows is replaced. What cannot be
/// moved stays behind. `lower` is what `to` is laid over.
fn carry(from: &Path, to: &Path, lower: Option<&Path>, comes: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let open = |path: &Path| openat(nix::fcntl::AT_FDCWD, path, flags(), Mode::empty());
    let to = Shown { upper: open(to)?, lower: lower.map(open).transpose()?, layered: lower.is_some() };
    level(open(from)?, &to, "", DEPTH, comes)
}

fn flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// A directory of the fresh workspace, which is ours alone still.
struct Shown {
    upper: OwnedFd,
    lower: Option<OwnedFd>,
    layered: bool,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Absent,
    /// Absent, and the tree below has something there.
    Hidden,
    Directory,
    Other,
}

/// Of one directory alone; a character device with number 0 is how overlayfs hides.
fn kind(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<Kind> {
    let stat = match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(nix::errno::Errno::ENOENT) => return Ok(Kind::Absent),
        other => other?,
    };
    Ok(match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFCHR if stat.st_rdev == 0 => Kind::Hidden,
        _ => Kind::Other,
    })
}

impl Shown {
    fn kind(&self, name: &CStr) -> nix::Result<Kind> {
        match (kind(self.upper.as_fd(), name)?, &self.lower) {
            (Kind::Absent, Some(lower)) => kind(lower.as_fd(), name),
            (found, _) => Ok(found),
        }
    }

    /// A directory that is shown here.
    fn directory(&self, name: &CStr) -> nix::Result<Self> {
        let lower = match &self.lower {
            Some(lower) if kind(lower.as_fd(), name)? == Kind::Directory => {
                Some(openat(lower, name, flags(), Mode::empty())?)
            }
            _ => None,
        };
        if self.layered && kind(self.upper.as_fd(), name)? == Kind::Absent {
            mkdirat(&self.upper, name, Mode::from_bits_truncate(0o755))?;
        }
        Ok(Self { upper: openat(&self.upper, name, flags(), Mode::empty())?, lower, layered: self.layered })
    }

    /// Takes the place of what is absent here.
    fn receive(&self, from: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        if self.kind(name)? == Kind::Hidden {
            if kind(from, name)? == Kind::Directory {
                // What it took the place of must not shine through.
                Layered::hide_below(openat(from, name, flags(), Mode::empty())?.as_fd())?;
            }
            unlinkat(&self.upper, name, UnlinkatFlags::NoRemoveDir)?;
        }
        Ok(renameat(from, name, &self.upper, name)?)
    }
}

fn level(from: OwnedFd, to: &Shown, path: &str, depth: usize, comes: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let mut from = Dir::from_fd(from)?;
    let names: Vec<_> = from.iter().map(|entry| Ok(entry?.file_name().to_owned())).collect::<nix::Result<_>>()?;
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        let text = name.to_string_lossy();
        let path = if path.is_empty() { text.into_owned() } else { format!("{path}/{text}") };
        let Ok(found) = kind(from.as_fd(), name) else { continue };
        if !comes(&path) || matches!(found, Kind::Hidden | Kind::Absent) {
            continue;
        }
        match to.kind(name) {
            Ok(Kind::Absent | Kind::Hidden) => drop(to.receive(from.as_fd(), name)),
            Ok(Kind::Directory) if depth > 0 && found == Kind::Directory => {
                let inside = openat(&from, name.as_c_str(), flags(), Mode::empty());
                if let (Ok(from), Ok(to)) = (inside, to.directory(name)) {
                    level(from, &to, &path, depth - 1, comes)?;
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
        of_workspace(&Workspace::Plain(from.clone()), &Workspace::Plain(to.clone())).unwrap();
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

    /// A gate's changes over a tree, with what the kernel would have left: whiteouts, a directory that
    /// was replaced, output beside files of the commit.
    #[test]
    fn output_over_a_shared_tree_is_carried_and_the_tree_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [lower, from, to] = ["lower", "from", "to"].map(|name| dir.path().join(name));
        for folder in [lower.join("src/gen"), from.join("src/gen"), from.join("target"), from.join("dist"), to.clone()]
        {
            fs::create_dir_all(folder).unwrap();
        }
        for file in ["src/a", "src/b", "top"] {
            fs::write(lower.join(file), "tree").unwrap();
        }
        for file in ["src/a", "src/gen/out", "target/x", "dist/y"] {
            fs::write(from.join(file), "gate").unwrap();
        }
        let hidden =
            |path: &Path| nix::sys::stat::mknod(path, SFlag::S_IFCHR, Mode::empty(), 0).map(|()| true).unwrap_or(false);
        if !hidden(&from.join("src/b")) || !hidden(&from.join("top")) || !hidden(&to.join("dist")) {
            println!("SKIP output_over_a_shared_tree_is_carried_and_the_tree_is_not: no whiteouts here");
            return;
        }
        carry(&from, &to, Some(&lower), &|_| true).unwrap();
        let read = |path: &str| fs::read_to_string(to.join(path)).unwrap_or_default();
        assert_eq!([read("src/gen/out"), read("target/x"), read("dist/y")], ["gate", "gate", "gate"]);
        // Files of the commit are those of the tree again, whatever the gate did to them.
        for path in ["src/a", "src/b", "top"] {
            assert!(fs::symlink_metadata(to.join(path)).is_err(), "{path}");
        }
        assert_eq!(fs::read_to_string(lower.join("src/a")).unwrap(), "tree");
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
