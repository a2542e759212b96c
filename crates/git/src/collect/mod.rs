//! Taking work out of a hostile clone, as objects only.
//!
//! ```text
//! workspace (hostile)                quarantine (ours)              bare (ours)
//! .git/HEAD, refs ── parsed by us ─► commit id
//! .git/objects ──── copied by fd ──► objects, own config ─ fetch ─► objects checked, keep_ref
//! files ─────────── read by fd ────► fast-import stream
//! ```
//!
//! `git` never runs with the workspace's `.git` as repository nor with its files as work tree, so
//! that its configuration, hooks, index, attributes, alternates, grafts and nested repositories
//! have nobody to speak to. Everything is opened one path component at a time without following
//! links ([`place`]); what is read has bounds ([`Bounds`]).

mod harvest;
mod head;
mod ignored;
mod judge;
pub(crate) mod place;
mod record;
pub(crate) mod survey;

#[cfg(test)]
#[path = "tests.rs"]
mod bounds_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::change::{Change, RawChange};
use crate::git::Git;
use crate::layered::Layered;
use crate::message::CommitMessage;
use crate::name;
use crate::object::TreeEntry;
use crate::source::bare_config;
use place::View;

/// What [`Git::collect`] took out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectedWork {
    /// The commit that holds the work, a descendant of the base; the base itself when nothing could
    /// be taken (`refused` then says why).
    pub commit: String,
    /// Commits between base and it.
    pub commits: u32,
    /// Paths that differ from the base.
    pub changes: Vec<Change>,
    /// Why the work must not be accepted, one sentence each: links out of the tree, submodules,
    /// names that mean `.git`, … Empty for acceptable work.
    pub refused: Vec<String>,
    /// Remarks that do not speak against the work: history rewritten, nested repositories left out.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Bounds on what is read from a workspace. What exceeds one is refused, never cut silently.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Files, links and directories in the work tree that are looked at.
    pub entries: usize,
    /// New or changed files in the work tree.
    pub edits: usize,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all new or changed files, and of all copied objects.
    pub total_bytes: u64,
    /// Object files copied.
    pub objects: usize,
    /// Commits between base and HEAD.
    pub commits: u32,
    /// Directory depth.
    pub depth: usize,
    /// Time for looking at the work tree.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            edits: 100_000,
            file_bytes: 256 << 20,
            total_bytes: 2 << 30,
            objects: 500_000,
            commits: 10_000,
            depth: 200,
            time: Duration::from_secs(300),
        }
    }
}

/// Work as found in the quarantine.
struct Found {
    commit: String,
    commits: u32,
    changes: Vec<RawChange>,
    refused: Vec<String>,
    notes: Vec<String>,
}

impl Git {
    /// Takes everything a sandbox did in `workspace` (made by [`Git::checkout`] from `base`) out of
    /// it: its commits as they are, and what is not committed as one more commit with `message`.
    /// The objects are checked and stored in `bare` under the reference `keep_ref`, which is
    /// replaced. `None` when nothing differs from `base`.
    ///
    /// Files that the tree's `.gitignore` files name are left out unless tracked. When HEAD does not
    /// descend from `base` or its history cannot be read, the files become one commit on `base` and
    /// `notes` says so. Whatever the workspace holds, nothing in it is executed and nothing outside
    /// it is read.
    ///
    /// # Errors
    /// Those of the host and of `bare` only; what the content does wrong is in
    /// [`CollectedWork::refused`].
    pub async fn collect(
        &self,
        workspace: &Path,
        bare: &Path,
        base: &str,
        keep_ref: &str,
        message: &CommitMessage,
    ) -> Result<Option<CollectedWork>> {
        let source = Source::plain(workspace);
        self.collect_within(&source, bare, base, keep_ref, message, &Bounds::default()).await
    }

    /// As [`collect`](Self::collect), from a layered workspace made by [`Git::layer`]: what comes out is
    /// the same, and only what changed is read.
    ///
    /// # Errors
    /// As [`collect`](Self::collect).
    pub async fn collect_layered(
        &self,
        workspace: &Layered,
        bare: &Path,
        base: &str,
        keep_ref: &str,
        message: &CommitMessage,
    ) -> Result<Option<CollectedWork>> {
        let source = Source {
            view: View { upper: workspace.upper(), lower: Some(workspace.prepared.path().to_owned()) },
            below: Arc::clone(&workspace.prepared.tree),
            known: Some((workspace.commit.clone(), Arc::clone(&workspace.tree))),
        };
        self.collect_within(&source, bare, base, keep_ref, message, &Bounds::default()).await
    }

    pub(crate) async fn collect_within(
        &self,
        source: &Source,
        bare: &Path,
        base: &str,
        keep_ref: &str,
        message: &CommitMessage,
        bounds: &Bounds,
    ) -> Result<Option<CollectedWork>> {
        name::check_id(base)?;
        name::check_ref(keep_ref)?;
        let bare = bare.canonicalize().context(ErrorKind::NotFound, format!("There is no {}", bare.display()))?;
        let collection = Collection { git: self, source, bare: &bare, base, keep_ref, message, bounds };
        match collection.run().await {
            Ok(found) => Ok(found.map(|f| CollectedWork {
                commit: f.commit,
                commits: f.commits,
                changes: f.changes.iter().map(RawChange::public).collect(),
                refused: f.refused,
                notes: f.notes,
            })),
            Err(error) if error.kind() == ErrorKind::Refused => Ok(Some(CollectedWork {
                commit: base.to_owned(),
                refused: vec![error.chain().join(": ")],
                ..CollectedWork::default()
            })),
            Err(error) => Err(error),
        }
    }
}

/// What is taken from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    view: View,
    /// What lies under the changes of a layered workspace.
    below: Arc<Vec<TreeEntry>>,
    /// A commit whose tree is known already.
    known: Option<(String, Arc<Vec<TreeEntry>>)>,
}

impl Source {
    pub(crate) fn plain(workspace: &Path) -> Self {
        Self { view: View::plain(workspace), below: Arc::default(), known: None }
    }
}

struct Collection<'a> {
    git: &'a Git,
    source: &'a Source,
    bare: &'a Path,
    base: &'a str,
    keep_ref: &'a str,
    message: &'a CommitMessage,
    bounds: &'a Bounds,
}

impl Collection<'_> {
    async fn run(&self) -> Result<Option<Found>> {
        let base_tree = match &self.source.known {
            Some((commit, tree)) if commit == self.base => Arc::clone(tree),
            _ => Arc::new(self.git.tree(self.bare, self.base).await?),
        };
        let view = self.source.view.clone();
        let head = blocking(move || head::read(&view)).await?;
        let mut notes = Vec::new();
        match head {
            Ok(head) if head == self.base => {}
            Ok(head) => match self.with_history(&head, &base_tree).await {
                Ok(found) => return Ok(found),
                // Whatever is wrong with the clone's own history, the files still count.
                Err(error) => notes.push(format!(
                    "The commits in the workspace were not taken, its files became one commit: {}",
                    error.chain().join(": ")
                )),
            },
            Err(reason) => notes.push(format!("{reason}; the files became one commit")),
        }
        let quarantine = Quarantine::new(self.bare, self.base.len())?;
        let found = self.files_onto(&quarantine, self.base, Arc::clone(&base_tree), 0).await?;
        let Some(mut found) = found else { return Ok(None) };
        notes.append(&mut found.notes);
        found.notes = notes;
        self.accept(&quarantine, found, &base_tree).await
    }

    /// Takes HEAD's commits too. Every failure is the content's.
    async fn with_history(&self, head: &str, base_tree: &[TreeEntry]) -> Result<Option<Found>> {
        if head.len() != self.base.len() {
            return Err(Error::new(ErrorKind::Refused, "HEAD has another kind of id than the repository"));
        }
        let quarantine = Quarantine::new(self.bare, head.len())?;
        let (workspace, bare, into, bounds) =
            (self.source.view.clone(), self.bare.to_owned(), quarantine.path(), self.bounds.clone());
        let packs = blocking(move || harvest::copy(&workspace, &bare, &into, &bounds)).await??;
        for pack in packs {
            // The index is made anew: it is content of the clone as well.
            self.git.call(&quarantine.path(), ["index-pack"]).arg(&pack).hostile().ok().await?;
        }
        if !self.git.contains(&quarantine.path(), head, self.base).await? {
            return Err(Error::new(ErrorKind::Refused, "HEAD does not descend from the commit the work began at"));
        }
        let most = (self.bounds.commits + 1).to_string();
        let args = ["rev-list", "--count", "--max-count", &most, head, "--not", self.base];
        let count = self.git.call(&quarantine.path(), args).hostile().ok().await?;
        let count: u32 = String::from_utf8_lossy(&count).trim().parse().unwrap_or(u32::MAX);
        if count > self.bounds.commits {
            return Err(Error::new(ErrorKind::Refused, format!("There are more than {} commits", self.bounds.commits)));
        }
        let tree = Arc::new(self.git.tree(&quarantine.path(), head).await?);
        let found = match self.files_onto(&quarantine, head, tree, count).await? {
            Some(found) => found,
            None => Found {
                commit: head.to_owned(),
                commits: count,
                changes: Vec::new(),
                refused: Vec::new(),
                notes: Vec::new(),
            },
        };
        self.accept(&quarantine, found, base_tree).await
    }

    /// The files of the workspace as a commit on `parent`; `None` when they equal it.
    async fn files_onto(
        &self,
        quarantine: &Quarantine,
        parent: &str,
        tree: Arc<Vec<TreeEntry>>,
        commits: u32,
    ) -> Result<Option<Found>> {
        let (source, bounds, length) = (self.source.clone(), self.bounds.clone(), parent.len());
        let surveying = move || survey::survey(&source.view, &tree, &source.below, length, &bounds);
        let survey = blocking(surveying).await??;
        let mut found = Found {
            commit: parent.to_owned(),
            commits,
            changes: Vec::new(),
            refused: survey.refused,
            notes: survey.notes,
        };
        if survey.edits.is_empty() {
            return Ok((!found.refused.is_empty() || commits > 0).then_some(found));
        }
        let (workspace, bounds, message, onto) =
            (self.source.view.clone(), self.bounds.clone(), self.message.clone(), parent.to_owned());
        let spool = quarantine.path().join("stream");
        let stream =
            blocking(move || record::stream(&workspace, &survey.edits, &onto, &message, &spool, &bounds)).await??;
        let args = ["fast-import", "--quiet", "--done", "--date-format=raw"];
        let out = self.git.call(&quarantine.path(), args).stdin_file(stream).bound(4096).ok().await?;
        let _ = std::fs::remove_file(quarantine.path().join("stream"));
        let commit = String::from_utf8_lossy(&out).trim().to_owned();
        name::check_id(&commit)?;
        found.commit = commit;
        found.commits += 1;
        Ok(Some(found))
    }

    /// Judges the content, then moves the objects over.
    async fn accept(
        &self,
        quarantine: &Quarantine,
        mut found: Found,
        base_tree: &[TreeEntry],
    ) -> Result<Option<Found>> {
        found.changes = self.git.raw_changes(&quarantine.path(), self.base, &found.commit).await?;
        if found.changes.is_empty() {
            // Commits that together change nothing are no work.
            return Ok((!found.refused.is_empty()).then(|| Found {
                commit: self.base.to_owned(),
                commits: 0,
                ..found
            }));
        }
        found.refused.extend(judge::judge(self.git, &quarantine.path(), base_tree, &found.changes, self.bounds).await?);
        found.refused.truncate(100);
        quarantine.point_at(&found.commit)?;
        let args =
            ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc", "--"];
        let outcome = self
            .git
            .call(self.bare, args)
            .arg(quarantine.path())
            .arg(format!("+{}:{}", Quarantine::REF, self.keep_ref))
            .config("transfer.fsckObjects", "true")
            .config("fetch.fsckObjects", "true")
            .hostile()
            .run()
            .await?;
        if outcome.code != 0 {
            let full = ["No space left", "Permission denied", "cannot lock ref", "Read-only file system"];
            let ours = full.iter().any(|words| outcome.stderr.contains(words));
            let kind = if ours { ErrorKind::Internal } else { ErrorKind::Refused };
            return Err(outcome.error(kind, "The objects did not pass Git's check"));
        }
        Ok(Some(found))
    }
}

/// A repository of ours beside the bare one, whose objects it sees; removed when dropped.
struct Quarantine {
    dir: tempfile::TempDir,
}

impl Quarantine {
    const REF: &'static str = "refs/heads/collected";

    fn new(bare: &Path, id_length: usize) -> Result<Self> {
        let make = || -> std::io::Result<Self> {
            let parent = bare.join("quarantine");
            std::fs::create_dir_all(&parent)?;
            remove_old(&parent);
            let dir = tempfile::Builder::new().prefix("q").tempdir_in(&parent)?;
            let path = dir.path();
            for part in ["objects/pack", "objects/info", "refs/heads"] {
                std::fs::create_dir_all(path.join(part))?;
            }
            std::fs::write(path.join("config"), bare_config(id_length))?;
            std::fs::write(path.join("HEAD"), format!("ref: {}\n", Self::REF))?;
            let mut objects = bare.join("objects").into_os_string().into_encoded_bytes();
            objects.push(b'\n');
            std::fs::write(path.join("objects/info/alternates"), objects)?;
            if bare.join("shallow").is_file() {
                std::fs::copy(bare.join("shallow"), path.join("shallow"))?;
            }
            Ok(Self { dir })
        };
        make().context(ErrorKind::Internal, format!("Could not make a quarantine in {}", bare.display()))
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    fn point_at(&self, commit: &str) -> Result<()> {
        std::fs::write(self.dir.path().join(Self::REF), format!("{commit}\n"))
            .context(ErrorKind::Internal, "Could not write in the quarantine")
    }
}

/// What a daemon that was killed left behind a day ago or longer.
fn remove_old(parent: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > DAY) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(ErrorKind::Internal, "Reading the workspace was cut off")
}
