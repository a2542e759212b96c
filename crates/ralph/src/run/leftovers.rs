//! What a gate left beside the files of the commit: copied for the gates that need it.
//!
//! The tree that is read is hostile, though nothing runs in it any more: no link is followed, nothing
//! that the new tree has is replaced, and only directories, regular files and links are copied.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mkdirat};
use nix::unistd::symlinkat;

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

/// Room for what is carried over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Files, links and directories.
    pub(super) entries: u64,
    /// Bytes of files.
    pub(super) bytes: u64,
}

impl Room {
    /// What gates need of each other.
    pub(super) const GATE: Self = Self { entries: 1_000_000, bytes: 16 << 30 };
    /// Stores of package managers, which every gate gets.
    pub(super) const STORES: Self = Self { entries: 200_000, bytes: 1 << 30 };
}

/// Copies what `to`, a fresh checkout, does not have from `from` into it. What decides how tests are
/// found or run stays behind where it is not part of installed dependencies; those come only from a
/// gate that `installs`.
pub(super) fn of_workspace(from: &Path, to: &Path, installs: bool) -> io::Result<()> {
    copy(from, to, Room::GATE, &|path| {
        !crate::tamper::is_planted(path) && (installs || !crate::tamper::is_installed(path))
    })
}

/// Copies the [`STORES`] of one home into another.
pub(super) fn of_home(from: &Path, to: &Path, room: Room) -> io::Result<()> {
    for parent in STORES.iter().filter_map(|store| Some(store.split_once('/')?.0)) {
        super::place::make(&to.join(parent)).map_err(io::Error::other)?;
    }
    copy(from, to, room, &|path| {
        STORES.iter().any(|store| {
            path == *store
                || path.strip_prefix(store).is_some_and(|rest| rest.starts_with('/'))
                || store.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        })
    })
}

fn copy(from: &Path, to: &Path, mut room: Room, comes: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let open = |path: &Path| openat(nix::fcntl::AT_FDCWD, path, DIRECTORY, Mode::empty());
    level(open(from)?, open(to)?.as_fd(), "", DEPTH, &mut room, comes)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const FILE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
const NEW: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_EXCL).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn level(
    from: OwnedFd,
    to: BorrowedFd<'_>,
    path: &str,
    depth: usize,
    room: &mut Room,
    comes: &dyn Fn(&str) -> bool,
) -> io::Result<()> {
    let mut from = Dir::from_fd(from)?;
    let names: Vec<_> = from.iter().map(|entry| Ok(entry?.file_name().to_owned())).collect::<nix::Result<_>>()?;
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        let text = name.to_string_lossy();
        let path = if path.is_empty() { text.into_owned() } else { format!("{path}/{text}") };
        if !comes(&path) {
            continue;
        }
        let name = name.as_c_str();
        let Ok(stat) = fstatat(from.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let here = fstatat(to, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|stat| stat.st_mode & SFlag::S_IFMT.bits());
        room.entries = room.entries.checked_sub(1).ok_or_else(full)?;
        match (kind, here) {
            (SFlag::S_IFDIR, here) if depth > 0 => {
                match here {
                    Err(nix::errno::Errno::ENOENT) => mkdirat(to, name, Mode::S_IRWXU)?,
                    Ok(kind) if kind == SFlag::S_IFDIR.bits() => {}
                    _ => continue,
                }
                let inside = |at: BorrowedFd<'_>| openat(at, name, DIRECTORY, Mode::empty());
                if let (Ok(from), Ok(to)) = (inside(from.as_fd()), inside(to)) {
                    level(from, to.as_fd(), &path, depth - 1, room, comes)?;
                }
            }
            (SFlag::S_IFLNK, Err(nix::errno::Errno::ENOENT)) => {
                if let Ok(target) = readlinkat(from.as_fd(), name) {
                    symlinkat(target.as_os_str(), to, name)?;
                }
            }
            (SFlag::S_IFREG, Err(nix::errno::Errno::ENOENT)) => {
                file(from.as_fd(), to, name, room)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copies one regular file with its permissions, special bits left out.
fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, room: &mut Room) -> io::Result<()> {
    let Ok(source) = openat(from, name, FILE, Mode::empty()) else { return Ok(()) };
    let mut source = File::from(source);
    let metadata = source.metadata()?;
    if !metadata.is_file() {
        return Ok(());
    }
    room.bytes = room.bytes.checked_sub(metadata.len()).ok_or_else(full)?;
    let mut target = File::from(openat(to, name, NEW, Mode::S_IRUSR | Mode::S_IWUSR)?);
    io::copy(&mut io::Read::take(&mut source, metadata.len()), &mut target)?;
    // Build tools compare times.
    target.set_times(std::fs::FileTimes::new().set_modified(metadata.modified()?))?;
    let mode = Mode::from_bits_truncate(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777);
    fchmodat(to, name, mode, FchmodatFlags::FollowSymlink)?;
    Ok(())
}

fn full() -> io::Error {
    io::Error::other("there is more of it than is carried over")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn output_is_copied_and_the_checkout_stays_as_it_is() {
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
        fs::set_permissions(from.join("src/gen/x"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::write(from.join("conftest.py"), "old").unwrap();
        fs::write(to.join("check.sh"), "new").unwrap();
        fs::write(outside.join("secret"), "s").unwrap();
        symlink(&outside, from.join("docs")).unwrap();
        symlink(&outside, from.join("link")).unwrap();
        nix::unistd::mkfifo(&from.join("fifo"), Mode::S_IRWXU).unwrap();
        fs::write(from.join("lib"), "a file now").unwrap();
        of_workspace(&from, &to, false).unwrap();
        let read = |path: &str| fs::read_to_string(to.join(path)).unwrap_or_default();
        assert_eq!(read("check.sh"), "new");
        assert_eq!(read("src/gen/x"), "old");
        assert_eq!(fs::metadata(to.join("src/gen/x")).unwrap().permissions().mode() & 0o7777, 0o755);
        for path in [".git/config", ".cargo", "conftest.py", "docs/secret", "node_modules", "fifo"] {
            assert!(!to.join(path).exists(), "{path}");
        }
        assert!(to.join("lib").is_dir());
        assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "s");
        of_workspace(&from, &to, true).unwrap();
        assert_eq!(read("node_modules/x/conftest.py"), "old");
        assert!(from.join("src/gen/x").exists(), "it may be needed again");
    }

    #[test]
    fn stores_of_a_home_are_copied_and_settings_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, outside) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        for folder in [from.join(".cargo/registry"), from.join(".npm"), outside.join("pkg"), to.clone()] {
            fs::create_dir_all(folder).unwrap();
        }
        for file in [".npmrc", ".npm/x", ".cargo/config.toml", ".cargo/registry/x"] {
            fs::write(from.join(file), "x").unwrap();
        }
        symlink(&outside, from.join("go")).unwrap();
        of_home(&from, &to, Room::GATE).unwrap();
        assert!(to.join(".npm/x").exists() && to.join(".cargo/registry/x").exists());
        assert!(!to.join(".npmrc").exists() && !to.join(".cargo/config.toml").exists());
        assert!(outside.join("pkg").exists() && !to.join("go/pkg").exists());
    }

    #[test]
    fn there_is_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(from.join(".npm")).unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(from.join(".npm/x"), [0; 100]).unwrap();
        for room in [Room { entries: 1, bytes: 1000 }, Room { entries: 10, bytes: 99 }] {
            assert!(of_home(&from, &to, room).is_err(), "{room:?}");
        }
    }
}
