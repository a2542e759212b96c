//! Writing what differs from a prepared checkout into a fresh directory of changes, as overlayfs
//! itself would have.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cove_core::{Error, ErrorKind, Result};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::XattrFlags;

use crate::change::{Change, RawChange};
use crate::collect::survey::in_directory;
use crate::layered::OPAQUE;
use crate::name::shown_bytes;
use crate::object::TreeEntry;

/// What is to be written.
pub(crate) struct Seed {
    /// The prepared checkout's tree.
    pub below: Arc<Vec<TreeEntry>>,
    /// What differs from it, by path.
    pub changes: Vec<RawChange>,
    /// Contents of the files and links among the changes, in their order.
    pub contents: Vec<Vec<u8>>,
    /// Commit and full branch name, where they differ from the prepared ones.
    pub repository: Option<(String, String)>,
}

/// Makes `into/upper` and `into/work`, and fills the first. `lower` is the prepared checkout.
pub(crate) fn sow(seed: &Seed, lower: &Path, into: &Path) -> Result<()> {
    let upper = into.join("upper");
    let failed = |e: io::Error| {
        let kind = match e.kind() {
            io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied => ErrorKind::Unsupported,
            io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, format!("Could not lay out {}", into.display())).because(e)
    };
    fs::create_dir_all(into).map_err(failed)?;
    for directory in [&upper, &into.join("work")] {
        fs::create_dir(directory).map_err(failed)?;
    }
    // Without user attributes the kernel cannot replace directories; better known now than inside.
    mark(into, "user.cove.layers").map_err(failed)?;
    fs::create_dir(upper.join(".git")).map_err(failed)?;
    for change in &seed.changes {
        check(&change.path)?;
    }
    for path in gone(&seed.below, &seed.changes) {
        let place = parents(&upper, &path).map_err(failed)?;
        mknod(&place, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).map_err(|e| failed(e.into()))?;
    }
    let mut contents = seed.contents.iter();
    for change in seed.changes.iter().filter(|change| change.new_mode != 0) {
        let place = parents(&upper, &change.path).map_err(failed)?;
        if change.new_mode == Change::SUBMODULE {
            fs::create_dir(&place).and_then(|()| mark(&place, OPAQUE)).map_err(failed)?;
            continue;
        }
        let content = contents.next().ok_or_else(|| Error::internal("A seed lacks a content"))?;
        let written = if change.new_mode == Change::LINK {
            std::os::unix::fs::symlink(OsStr::from_bytes(content), &place)
        } else {
            let mode = if change.new_mode & 0o100 == 0 { 0o666 } else { 0o777 };
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&place);
            file.and_then(|mut file| file.write_all(content))
        };
        written.map_err(failed)?;
    }
    if let Some((commit, branch)) = &seed.repository {
        let git = upper.join(".git");
        fs::write(git.join("packed-refs"), format!("{commit} {branch}\n"))
            .and_then(|()| fs::write(git.join("HEAD"), format!("ref: {branch}\n")))
            .and_then(|()| fs::copy(lower.join(".git/index"), git.join("index")).map(drop))
            .map_err(failed)?;
    }
    Ok(())
}

/// What git refuses to check out is not written by us either.
fn check(path: &[u8]) -> Result<()> {
    let bad =
        |part: &[u8]| matches!(part, b"" | b"." | b"..") || part.len() > 255 || part.eq_ignore_ascii_case(b".git");
    if path.contains(&0) || path.split(|b| *b == b'/').any(bad) {
        return Err(Error::new(ErrorKind::Refused, format!("{} cannot be checked out", shown_bytes(path))));
    }
    Ok(())
}

/// The place of a path, its directories made: plain ones, which show the tree's below.
fn parents(upper: &Path, path: &[u8]) -> io::Result<PathBuf> {
    let mut place = upper.to_owned();
    let mut parts = path.split(|b| *b == b'/').peekable();
    while let Some(part) = parts.next() {
        place.push(OsStr::from_bytes(part));
        if parts.peek().is_none() {
            break;
        }
        match fs::create_dir(&place) {
            // Never through a link that the same tree brings.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(&place)?.is_dir() => {}
            other => other?,
        }
    }
    Ok(place)
}

fn mark(directory: &Path, attribute: &str) -> io::Result<()> {
    Ok(rustix::fs::setxattr(directory, attribute, b"y", XattrFlags::empty())?)
}

/// Where something of the tree below has to be hidden: each removed path, or the topmost directory
/// that has nothing left. Nothing where another file or directory of the changes lies there anyway.
fn gone(below: &[TreeEntry], changes: &[RawChange]) -> BTreeSet<Vec<u8>> {
    let added: Vec<&[u8]> = changes.iter().filter(|c| c.new_mode != 0).map(|c| c.path.as_slice()).collect();
    let removed: Vec<&[u8]> = changes.iter().filter(|c| c.new_mode == 0).map(|c| c.path.as_slice()).collect();
    let inside = |paths: &[&[u8]], directory: &[u8]| {
        paths.iter().filter(|p| p.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))).count()
    };
    let mut places = BTreeSet::new();
    for path in &removed {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let place = &path[..end];
            let whole = end == path.len();
            if !whole && (in_directory(below, place).len() > inside(&removed, place) || inside(&added, place) > 0) {
                continue;
            }
            if !added.contains(&place) && inside(&added, place) == 0 {
                places.insert(place.to_vec());
            }
            break;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChangeStatus;

    #[test]
    fn the_topmost_place_without_anything_left_is_hidden() {
        let below: Vec<TreeEntry> = ["a/b/1", "a/b/2", "a/c", "d/e/f", "g"]
            .map(|p| TreeEntry { path: p.into(), mode: 0o100_644, id: String::new() })
            .into();
        for (changes, hidden) in [
            (vec!["-a/b/1"], vec!["a/b/1"]),
            (vec!["-a/b/1", "-a/b/2"], vec!["a/b"]),
            (vec!["-a/b/1", "-a/b/2", "-a/c"], vec!["a"]),
            (vec!["-a/b/1", "-a/b/2", "+a/b/3"], vec!["a/b/1", "a/b/2"]),
            (vec!["-a/b/1", "-a/b/2", "+a/b"], vec![]),
            (vec!["-d/e/f", "+d"], vec![]),
            (vec!["-d/e/f", "+d/e/x/y"], vec!["d/e/f"]),
            (vec!["-g", "+g/h"], vec![]),
            (vec!["-g"], vec!["g"]),
            (vec!["+x", "+a/b/1"], vec![]),
        ] {
            let made: Vec<RawChange> = changes
                .iter()
                .map(|text| RawChange {
                    path: text[1..].into(),
                    status: ChangeStatus::Modified,
                    old_mode: 0,
                    new_mode: if text.starts_with('+') { 0o100_644 } else { 0 },
                    new_id: String::new(),
                })
                .collect();
            let hidden: BTreeSet<Vec<u8>> = hidden.into_iter().map(Into::into).collect();
            assert_eq!(gone(&below, &made), hidden, "{changes:?}");
        }
    }

    #[test]
    fn what_git_would_not_check_out_is_refused() {
        for bad in ["", "/a", "a//b", "../a", "a/..", "a/./b", ".git/config", "a/.GIT/hooks/x", "a\0b"] {
            assert!(check(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(check(b"a/b.c/.gitignore").is_ok());
    }
}
