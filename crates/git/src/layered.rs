//! A workspace that is a prepared checkout with changes of its own, as overlayfs shows the two.
//!
//! ```text
//! <changes>/upper   what differs from the prepared checkout: our seed, then the sandbox's work
//! <changes>/work    overlayfs' own
//! ```

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cove_core::{Error, ErrorKind, Result};

use crate::change::RawChange;
use crate::checkout::{self, Packs};
use crate::git::Git;
use crate::name;
use crate::object::TreeEntry;
use crate::prepared::Prepared;
use crate::seed;

/// The attribute of a directory of changes that hides what lies below it (`userxattr`).
pub(crate) const OPAQUE: &str = "user.overlay.opaque";

/// Paths that a seed may hold. A prepared checkout that is further away is better made anew.
const MOST: usize = 500;
/// Bytes of the files of a seed.
const BYTES: usize = 64 << 20;

/// A workspace for a sandbox that can mount layers.
#[derive(Debug, Clone)]
pub struct Layered {
    /// What lies below.
    pub(crate) prepared: Arc<Prepared>,
    changes: PathBuf,
    /// What the workspace shows before anything is done in it.
    pub(crate) commit: String,
    pub(crate) tree: Arc<Vec<TreeEntry>>,
}

impl Layered {
    /// The tree below, to be mounted read-only.
    pub fn lower(&self) -> &Path {
        self.prepared.path()
    }

    /// The directory that holds `upper` and `work`.
    pub fn changes(&self) -> &Path {
        &self.changes
    }

    /// Where the changes lie.
    pub fn upper(&self) -> PathBuf {
        self.changes.join("upper")
    }

    /// Makes a directory among the changes hide what the tree below has in its place.
    ///
    /// # Errors
    /// Those of the file system, which may have no user attributes.
    pub fn hide_below(directory: BorrowedFd<'_>) -> std::io::Result<()> {
        Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", rustix::fs::XattrFlags::empty())?)
    }

    /// The same workspace after its directory was renamed.
    #[must_use]
    pub fn moved(&self, changes: PathBuf) -> Self {
        Self { changes, ..self.clone() }
    }
}

impl Git {
    /// Makes a workspace at `into` (absent or empty) that shows `commit` on the local branch `branch`,
    /// as [`Git::checkout`] would lay it out, by laying what differs over `prepared`. It holds no file
    /// that `prepared` has alike. `bare` is where `prepared` came from.
    ///
    /// # Errors
    /// `Exhausted` when the commit differs in too much: prepare it, and lay over that. `Unsupported` when
    /// the file system has no user attributes or the kernel no whiteouts for us. `Conflict` when `into`
    /// has content.
    pub async fn layer(
        &self,
        bare: &Path,
        prepared: &Arc<Prepared>,
        commit: &str,
        branch: &str,
        into: &Path,
    ) -> Result<Layered> {
        name::check_id(commit)?;
        let branch = name::branch_ref(branch)?;
        let mut changes = Vec::new();
        if commit != prepared.commit {
            changes = self.raw_changes(bare, &prepared.commit, commit).await?;
        }
        if changes.len() > MOST {
            let text = format!("{} paths differ from the prepared checkout, more than {MOST}", changes.len());
            return Err(Error::new(ErrorKind::Exhausted, text));
        }
        let is_blob = |change: &&RawChange| !matches!(change.new_mode, 0 | crate::Change::SUBMODULE);
        let ids: Vec<String> = changes.iter().filter(is_blob).map(|change| change.new_id.clone()).collect();
        let contents = self.blobs(bare, &ids, BYTES).await?;
        let tree = match changes.is_empty() {
            true => Arc::clone(&prepared.tree),
            false => Arc::new(changed(&prepared.tree, &changes)),
        };
        let plan = seed::Seed {
            below: Arc::clone(&prepared.tree),
            changes,
            contents,
            repository: (commit != prepared.commit || branch != prepared.branch)
                .then(|| (commit.to_owned(), branch.clone())),
        };
        let (from, lower, to) = (bare.to_owned(), prepared.path().to_owned(), into.to_owned());
        let sowing = move || -> Result<()> {
            seed::sow(&plan, &lower, &to)?;
            let known = lower.join(".git/objects");
            let objects = to.join("upper/.git/objects");
            checkout::copy_objects(&from.join("objects"), &objects, Packs::Copied, &|path| known.join(path).exists())
                .map_err(|e| Error::internal(format!("Could not lay out {}", to.display())).because(e))
        };
        crate::collect::blocking(sowing).await??;
        if commit != prepared.commit {
            // Entries that stay keep what the index knows of their files.
            let index = into.join("upper/.git/index");
            self.call(bare, ["read-tree", "-i", "-m", commit]).env("GIT_INDEX_FILE", index).ok().await?;
        }
        Ok(Layered { prepared: Arc::clone(prepared), changes: into.to_owned(), commit: commit.to_owned(), tree })
    }
}

/// The tree that `changes` make of `below`.
fn changed(below: &[TreeEntry], changes: &[RawChange]) -> Vec<TreeEntry> {
    let touched: std::collections::HashSet<&[u8]> = changes.iter().map(|change| change.path.as_slice()).collect();
    let mut tree: Vec<TreeEntry> =
        below.iter().filter(|entry| !touched.contains(entry.path.as_slice())).cloned().collect();
    tree.extend(changes.iter().filter(|change| change.new_mode != 0).map(|change| TreeEntry {
        path: change.path.clone(),
        mode: change.new_mode,
        id: change.new_id.clone(),
    }));
    tree.sort_by(|a, b| a.path.cmp(&b.path));
    tree
}
