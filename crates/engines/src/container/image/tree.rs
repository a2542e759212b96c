//! A directory as a tar, and its identity. The directory may be shown to a sandbox that changes it
//! meanwhile, so it is walked by descriptor and no link is followed.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use sha2::{Digest as _, Sha256};

use crate::images::Bounds;

/// Directories in directories; each holds a descriptor while it is walked.
const DEPTH: usize = 200;

/// A name for what the directory holds: it changes when a file's place, mode, size, times or inode do.
pub(super) fn identity(directory: &Path, bounds: &Bounds) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(directory.as_os_str().as_bytes());
    walk(directory, bounds, &mut |entry| {
        let stat = entry.stat;
        digest.update((entry.path.as_os_str().len() as u64).to_le_bytes());
        digest.update(entry.path.as_os_str().as_bytes());
        digest.update(stat.st_mode.to_le_bytes());
        if !is(stat, SFlag::S_IFDIR) {
            for number in [stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec] {
                digest.update(number.to_le_bytes());
            }
            digest.update(stat.st_ino.to_le_bytes());
        }
        Ok(())
    })?;
    Ok(format!("tree-{}", &hex::encode(digest.finalize())[..32]))
}

/// Writes the directory as a tar that belongs to root, without set-user-id, set-group-id and sticky bits
/// of files. Devices, sockets, pipes, what is mounted in it and what may not be read are left out.
pub(super) fn write(directory: &Path, bounds: &Bounds, out: impl Write) -> Result<()> {
    let mut builder = tar::Builder::new(out);
    let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut bytes_left = bounds.bytes;
    let gone = |e: std::io::Error| Error::new(ErrorKind::Interrupted, super::GONE).because(e);
    walk(directory, bounds, &mut |entry| {
        let (stat, path) = (entry.stat, entry.path);
        let mut header = tar::Header::new_gnu();
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        if is(stat, SFlag::S_IFDIR) {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(stat.st_mode & 0o1777);
            return builder.append_data(&mut header, path, std::io::empty()).map_err(gone);
        }
        header.set_mode(stat.st_mode & 0o777);
        if is(stat, SFlag::S_IFLNK) {
            let Ok(to) = readlinkat(entry.above, entry.name) else { return Ok(()) };
            header.set_entry_type(tar::EntryType::Symlink);
            return builder.append_link(&mut header, path, Path::new(&to)).map_err(gone);
        }
        if !is(stat, SFlag::S_IFREG) {
            return Ok(());
        }
        #[allow(clippy::useless_conversion, reason = "its width differs between architectures")]
        let shared = u64::from(stat.st_nlink) > 1;
        if shared && let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
            header.set_entry_type(tar::EntryType::Link);
            return builder.append_link(&mut header, path, first).map_err(gone);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let Ok(file) = openat(entry.above, entry.name, flags, Mode::empty()) else { return Ok(()) };
        let opened = fstat(&file).context(ErrorKind::Internal, "A file cannot be read")?;
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(changed(path));
        }
        let size = u64::try_from(opened.st_size).unwrap_or(0);
        bytes_left = bytes_left.checked_sub(size).ok_or_else(|| {
            Error::new(ErrorKind::Exhausted, format!("{} holds more than {} bytes", directory.display(), bounds.bytes))
        })?;
        header.set_size(size);
        header.set_entry_type(tar::EntryType::Regular);
        let mut exact = Exact { file: File::from(file), left: size, short: false };
        builder.append_data(&mut header, path, &mut exact).map_err(gone)?;
        if exact.short {
            return Err(changed(path));
        }
        if shared {
            links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        Ok(())
    })?;
    builder.into_inner().map(drop).map_err(gone)
}

fn changed(path: &Path) -> Error {
    Error::new(ErrorKind::Conflict, format!("{} changed while it was read", path.display()))
        .next("Try again when nothing writes to it")
}

/// A file of the size that its header says, whatever happens to it meanwhile.
struct Exact {
    file: File,
    left: u64,
    short: bool,
}

impl Read for Exact {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        if room == 0 {
            return Ok(0);
        }
        let mut read = self.file.read(&mut into[..room])?;
        if read == 0 {
            self.short = true;
            into[..room].fill(0);
            read = room;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// What a walk shows.
struct Entry<'a> {
    /// Below the directory.
    path: &'a Path,
    above: &'a OwnedFd,
    name: &'a CStr,
    stat: &'a FileStat,
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn walk(directory: &Path, bounds: &Bounds, visit: &mut dyn FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let top = open(directory, flags, Mode::empty())
        .context(ErrorKind::NotFound, format!("{} cannot be opened", directory.display()))?;
    let device = fstat(&top).context(ErrorKind::Internal, "A directory cannot be read")?.st_dev;
    let mut walk = Walk { device, entries_left: bounds.entries, visit };
    walk.directory(&top, Path::new(""), 0)
}

struct Walk<'a> {
    device: u64,
    entries_left: u64,
    visit: &'a mut dyn FnMut(&Entry<'_>) -> Result<()>,
}

impl Walk<'_> {
    fn directory(&mut self, above: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH {
            return Err(Error::new(ErrorKind::Exhausted, format!("{} lies too deep", path.display())));
        }
        let again = above.as_fd().try_clone_to_owned().context(ErrorKind::Internal, "A directory cannot be read")?;
        let mut names: Vec<CString> = Vec::new();
        let unreadable = |e: Errno| Error::internal(format!("The directory {path:?} cannot be read")).because(e);
        for entry in Dir::from_fd(again).map_err(unreadable)?.iter() {
            let entry = entry.map_err(unreadable)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
                self.entries_left = self
                    .entries_left
                    .checked_sub(1)
                    .ok_or_else(|| Error::new(ErrorKind::Exhausted, "The directory has too many entries"))?;
            }
        }
        names.sort_unstable();
        for name in &names {
            // Gone since, or not to be seen by us: the sandbox would not see it either.
            let Ok(stat) = fstatat(above, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            (self.visit)(&Entry { path: &path, above, name, stat: &stat })?;
            // What is mounted inside is not part of it: a host's /proc, another disk.
            if is(&stat, SFlag::S_IFDIR) && stat.st_dev == self.device {
                let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let Ok(inside) = openat(above, name.as_c_str(), flags, Mode::empty()) else { continue };
                let device = fstat(&inside).context(ErrorKind::Internal, "A directory cannot be read")?.st_dev;
                if device == self.device {
                    self.directory(&inside, &path, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn names(bytes: &[u8]) -> Vec<(String, tar::EntryType, u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path().unwrap().to_string_lossy().into_owned();
                let (kind, mode) = (entry.header().entry_type(), entry.header().mode().unwrap());
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (path, kind, mode, content)
            })
            .collect()
    }

    #[test]
    fn a_tree_is_written_without_following_links_or_keeping_special_bits() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "host").unwrap();
        let top = dir.path();
        std::fs::create_dir_all(top.join("usr/bin")).unwrap();
        std::fs::write(top.join("usr/bin/tool"), "tool").unwrap();
        std::fs::set_permissions(top.join("usr/bin/tool"), std::fs::Permissions::from_mode(0o4755)).unwrap();
        std::fs::hard_link(top.join("usr/bin/tool"), top.join("usr/bin/zwin")).unwrap();
        symlink(outside.path(), top.join("out")).unwrap();
        let long = format!("usr/{}", "n".repeat(200));
        std::fs::write(top.join(&long), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(top.join("sock")).unwrap();
        let mut bytes = Vec::new();
        write(top, &Bounds::default(), &mut bytes).unwrap();
        let found = names(&bytes);
        let paths: Vec<&str> = found.iter().map(|f| f.0.as_str()).collect();
        assert_eq!(paths, ["out", "usr", "usr/bin", "usr/bin/tool", "usr/bin/zwin", long.as_str()]);
        assert_eq!(found[0].1, tar::EntryType::Symlink);
        assert_eq!((found[3].2, found[3].3.as_slice()), (0o755, &b"tool"[..]));
        assert_eq!(found[4].1, tar::EntryType::Link);
    }

    #[test]
    fn the_identity_follows_every_change() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let now = || identity(top, &Bounds::default()).unwrap();
        std::fs::create_dir(top.join("a")).unwrap();
        std::fs::write(top.join("a/f"), "one").unwrap();
        let mut seen = vec![now()];
        assert_eq!(seen[0], now());
        let steps: [&dyn Fn(); 4] = [
            &|| std::fs::write(top.join("a/f"), "three").unwrap(),
            &|| std::fs::set_permissions(top.join("a/f"), std::fs::Permissions::from_mode(0o700)).unwrap(),
            &|| std::fs::rename(top.join("a/f"), top.join("a/g")).unwrap(),
            &|| symlink("x", top.join("l")).unwrap(),
        ];
        for (number, step) in steps.iter().enumerate() {
            step();
            let next = now();
            assert!(!seen.contains(&next), "step {number}");
            seen.push(next);
        }
    }

    #[test]
    fn bounds_hold() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..5 {
            std::fs::write(dir.path().join(number.to_string()), [0; 100]).unwrap();
        }
        let small = |bytes, entries| Bounds { bytes, entries };
        for bounds in [small(499, 100), small(1000, 4)] {
            let error = write(dir.path(), &bounds, std::io::sink()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exhausted);
        }
        write(dir.path(), &small(500, 5), std::io::sink()).unwrap();
    }
}
