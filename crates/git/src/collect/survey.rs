//! What of the work tree differs from a commit's tree, by reading and hashing every file.
//!
//! Several threads share a queue of directories; each opens its directory anew from the root, so
//! that the number of open descriptors does not grow with the tree.
//!
//! Of a layered workspace only the changes are read: what lies below them is known, and directories
//! without changes that the tree below has as the commit has them are not even listed.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use cove_core::{Error, ErrorKind, Result};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::Bounds;
use super::ignored::{self, Patterns};
use super::judge::means_git;
use super::place::{Entry, Kind, Place, RegularFile, View};
use crate::change::Change;
use crate::name::shown_bytes;
use crate::object::TreeEntry;

const EXECUTABLE: u32 = 0o100_755;
const REGULAR: u32 = 0o100_644;

/// One difference, by path from the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Edit {
    Remove(Vec<u8>),
    Write(Vec<u8>),
}

#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Removals first, each group by path.
    pub edits: Vec<Edit>,
    pub refused: Vec<String>,
    pub notes: Vec<String>,
}

/// Compares with `tree`; `below` is the tree under a layered workspace, empty for a plain one. Both are
/// in order of path. Contents are read again when they are recorded: what is there then counts.
pub(super) fn survey(
    workspace: &View,
    tree: &[TreeEntry],
    below: &[TreeEntry],
    id_length: usize,
    bounds: &Bounds,
) -> Result<Survey> {
    let root = Place::root(workspace)?;
    let walk = Walk::new(&root, tree, below, id_length, bounds);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let parts: Vec<Result<Part>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| walk.work())).collect();
        workers
            .into_iter()
            .map(|w| w.join().unwrap_or_else(|_| Err(Error::internal("A reader of the workspace failed"))))
            .collect()
    });
    let mut seen = vec![false; tree.len()];
    let mut all = Survey::default();
    for part in parts {
        let part = part?;
        part.seen.into_iter().for_each(|at| seen[at] = true);
        all.edits.extend(part.edits);
        all.refused.extend(part.refused);
        all.notes.extend(part.notes);
    }
    all.edits.extend(tree.iter().zip(&seen).filter(|(_, seen)| !**seen).map(|(e, _)| Edit::Remove(e.path.clone())));
    if all.edits.len() > bounds.edits {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} files are new or changed, more than {}", all.edits.len(), bounds.edits),
        )
        .next("Name generated files in .gitignore"));
    }
    all.edits.sort();
    all.refused.sort();
    all.notes.sort();
    all.notes.truncate(20);
    Ok(all)
}

struct Walk<'a> {
    root: &'a Place,
    tree: &'a [TreeEntry],
    below: &'a [TreeEntry],
    /// Directories in which `tree` and `below` differ.
    differing: HashSet<&'a [u8]>,
    id_length: usize,
    bounds: &'a Bounds,
    begun: Instant,
    entries: AtomicUsize,
    stopped: AtomicBool,
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    jobs: Vec<Job>,
    /// Directories queued or in work.
    open: usize,
}

struct Job {
    path: Vec<u8>,
    depth: usize,
    /// Inside an ignored directory: only tracked files count.
    ignored: bool,
    above: Option<Arc<Patterns>>,
}

#[derive(Default)]
struct Part {
    seen: Vec<usize>,
    edits: Vec<Edit>,
    refused: Vec<String>,
    notes: Vec<String>,
    buffer: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(
        root: &'a Place,
        tree: &'a [TreeEntry],
        below: &'a [TreeEntry],
        id_length: usize,
        bounds: &'a Bounds,
    ) -> Self {
        Self {
            root,
            tree,
            below,
            differing: if below.is_empty() { HashSet::new() } else { differing(tree, below) },
            id_length,
            bounds,
            begun: Instant::now(),
            entries: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            queue: Mutex::new(Queue {
                jobs: vec![Job { path: Vec::new(), depth: 0, ignored: false, above: None }],
                open: 1,
            }),
            wake: Condvar::new(),
        }
    }

    fn work(&self) -> Result<Part> {
        let mut part = Part::default();
        while let Some(job) = self.next() {
            let done = self.directory(&job, &mut part);
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.open -= 1;
            if done.is_err() {
                self.stopped.store(true, Ordering::Relaxed);
            }
            if queue.open == 0 || done.is_err() {
                self.wake.notify_all();
            }
            drop(queue);
            done?;
        }
        Ok(part)
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stopped.load(Ordering::Relaxed) || queue.open == 0 {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                return Some(job);
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(&self, job: Job) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.push(job);
        queue.open += 1;
        self.wake.notify_one();
    }

    fn directory(&self, job: &Job, part: &mut Part) -> Result<()> {
        if self.begun.elapsed() > self.bounds.time {
            return Err(Error::new(ErrorKind::Refused, "Reading the workspace takes too long"));
        }
        // Gone or replaced since it was listed: then nothing of it is there.
        let Some(dir) = self.root.dir_at(&job.path)? else { return Ok(()) };
        let patterns =
            if job.ignored { job.above.clone() } else { ignored::patterns(&dir, &job.path, job.above.clone())? };
        let entries = dir.entries(self.bounds.entries)?;
        if self.entries.fetch_add(entries.len(), Ordering::Relaxed) + entries.len() > self.bounds.entries {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("The workspace holds more than {} entries", self.bounds.entries),
            ));
        }
        for Entry { name, kind, unchanged } in entries {
            let mut path = Vec::with_capacity(job.path.len() + 1 + name.len());
            if !job.path.is_empty() {
                path.extend_from_slice(&job.path);
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if name == b".git" {
                if !job.path.is_empty() && !job.ignored {
                    part.notes.push(format!(
                        "The nested repository in {} was not taken, its files were",
                        shown_bytes(&job.path)
                    ));
                }
                continue;
            }
            let tracked = at(self.tree, &path);
            let skipped = tracked.is_none()
                && (job.ignored || ignored::is_ignored(patterns.as_ref(), &path, kind == Kind::Directory));
            if kind == Kind::Directory {
                if let Some((at, entry)) = tracked
                    && entry.mode == Change::SUBMODULE
                {
                    part.seen.push(at);
                    continue;
                }
                let inside = in_directory(self.tree, &path);
                if skipped && inside.is_empty() {
                    continue;
                }
                if unchanged && !inside.is_empty() && !self.differing.contains(path.as_slice()) {
                    part.seen.extend(inside);
                    continue;
                }
                if job.depth >= self.bounds.depth {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        format!("The workspace's directories are nested deeper than {}", self.bounds.depth),
                    ));
                }
                if means_git(&name) && inside.is_empty() {
                    part.refused.push(format!("{} has a name that some systems take for .git", shown_bytes(&path)));
                    continue;
                }
                self.push(Job { path, depth: job.depth + 1, ignored: skipped, above: patterns.clone() });
                continue;
            }
            if skipped {
                continue;
            }
            if tracked.is_none() && means_git(&name) {
                part.refused.push(format!("{} has a name that some systems take for .git", shown_bytes(&path)));
                continue;
            }
            let known = if unchanged { at(self.below, &path) } else { None };
            let found = match kind {
                Kind::File | Kind::Link if known.is_some() => known.map(|(_, e)| (e.mode, Some(e.id.clone()))),
                Kind::File => dir.file(&name)?.map(|f| self.identify_file(f, &path, &mut part.buffer)).transpose()?,
                Kind::Link => dir.link(&name)?.map(|target| (Change::LINK, self.id(&target))),
                _ => None,
            };
            // Neither file nor link: not part of a tree. A tracked one then counts as removed.
            let Some((mode, id)) = found else { continue };
            match tracked {
                Some((at, entry)) if entry.mode == mode && Some(&entry.id) == id.as_ref() => part.seen.push(at),
                Some((at, _)) => {
                    part.seen.push(at);
                    part.edits.push(Edit::Write(path));
                }
                None => part.edits.push(Edit::Write(path)),
            }
            if part.edits.len() > self.bounds.edits {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("More than {} files are new or changed", self.bounds.edits),
                )
                .next("Name generated files in .gitignore"));
            }
        }
        Ok(())
    }

    /// Mode and id; no id when the file changed while it was read.
    fn identify_file(&self, found: RegularFile, path: &[u8], buffer: &mut Vec<u8>) -> Result<(u32, Option<String>)> {
        if found.size > self.bounds.file_bytes {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} is larger than {} bytes", shown_bytes(path), self.bounds.file_bytes),
            ));
        }
        let mode = if found.executable { EXECUTABLE } else { REGULAR };
        let id = if self.id_length == 64 {
            hash_file::<Sha256>(found.file, found.size, buffer)
        } else {
            hash_file::<Sha1>(found.file, found.size, buffer)
        };
        let id =
            id.map_err(|e| Error::new(ErrorKind::Refused, format!("{} cannot be read", shown_bytes(path))).because(e))?;
        Ok((mode, id))
    }

    fn id(&self, content: &[u8]) -> Option<String> {
        let head = format!("blob {}\0", content.len());
        Some(if self.id_length == 64 {
            hex(&Sha256::new().chain_update(head).chain_update(content).finalize())
        } else {
            hex(&Sha1::new().chain_update(head).chain_update(content).finalize())
        })
    }
}

/// The entry at a path, and its place.
fn at<'a>(tree: &'a [TreeEntry], path: &[u8]) -> Option<(usize, &'a TreeEntry)> {
    let place = tree.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok()?;
    Some((place, &tree[place]))
}

/// The places of everything below a directory; in order of path they follow each other.
pub(crate) fn in_directory(tree: &[TreeEntry], path: &[u8]) -> std::ops::Range<usize> {
    let mut prefix = path.to_vec();
    prefix.push(b'/');
    let begin = tree.partition_point(|entry| entry.path.as_slice() < prefix.as_slice());
    let end = tree[begin..].partition_point(|entry| entry.path.starts_with(&prefix));
    begin..begin + end
}

/// Every directory that holds something at any depth that two trees do not have alike.
fn differing<'a>(one: &'a [TreeEntry], other: &'a [TreeEntry]) -> HashSet<&'a [u8]> {
    let mut directories: HashSet<&[u8]> = HashSet::new();
    let mut note = |entry: &'a TreeEntry| {
        let mut path = entry.path.as_slice();
        while let Some(at) = path.iter().rposition(|b| *b == b'/') {
            path = &path[..at];
            if !directories.insert(path) {
                break;
            }
        }
    };
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    loop {
        match (one.peek(), other.peek()) {
            (None, None) => return directories,
            (Some(a), Some(b)) if a == b => {
                one.next();
                other.next();
            }
            (Some(a), Some(b)) if a.path == b.path => {
                note(a);
                one.next();
                other.next();
            }
            (Some(a), b) if b.is_none_or(|b| a.path < b.path) => {
                note(a);
                one.next();
            }
            (_, Some(b)) => {
                note(b);
                other.next();
            }
            (Some(_), None) => {
                one.next();
            }
        }
    }
}

/// The id git gives a blob of exactly `size` bytes; `None` when the file is shorter by now.
fn hash_file<D: sha1::Digest>(mut file: File, size: u64, buffer: &mut Vec<u8>) -> std::io::Result<Option<String>> {
    const PIECE: usize = 128 << 10;
    buffer.resize(PIECE, 0);
    let mut digest = D::new();
    digest.update(format!("blob {size}\0"));
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let count = file.read(&mut buffer[..want])?;
        if count == 0 {
            return Ok(None);
        }
        digest.update(&buffer[..count]);
        left -= count as u64;
    }
    Ok(Some(hex(&digest.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}
