//! A checkout that is made once and shown read-only below any number of workspaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::checkout::Packs;
use crate::git::Git;
use crate::object::TreeEntry;

/// How much older than its index a prepared file is. Git compares whole seconds: a file changed later
/// must not share one with the file it was.
const AGE: Duration = Duration::from_secs(10);

/// A clone with a commit checked out, complete since it has its name. Nothing ever writes to it.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    /// What is checked out.
    pub(crate) commit: String,
    /// Full name of the branch that HEAD names.
    pub(crate) branch: String,
    /// Everything in it, by path.
    pub(crate) tree: Arc<Vec<TreeEntry>>,
}

impl Prepared {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is checked out.
    pub fn commit(&self) -> &str {
        &self.commit
    }
}

impl Git {
    /// Makes a checkout of `commit` at `into` that workspaces can be laid over ([`Git::layer`]). It is
    /// built beside `into` and renamed, so that a half-made one never has the name. Files are a little
    /// older than the index, which knows them: `git status` above reads none of them. Packs may be hard
    /// links to those of `bare`.
    ///
    /// # Errors
    /// `Conflict` when `into` exists, `NotFound` when the commit does not exist.
    pub async fn prepare(&self, bare: &Path, commit: &str, branch: &str, into: &Path) -> Result<Prepared> {
        if fs::symlink_metadata(into).is_ok() {
            return Err(Error::new(ErrorKind::Conflict, format!("{} exists already", into.display())));
        }
        let parent = into.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(parent).context(ErrorKind::Internal, format!("Could not make {}", parent.display()))?;
        let partial = tempfile::Builder::new()
            .prefix("half-")
            .tempdir_in(parent)
            .context(ErrorKind::Internal, format!("Could not write in {}", parent.display()))?;
        let made = partial.path().join("tree");
        self.check_out(bare, commit, branch, &made, Packs::Linked).await?;
        let tree = self.tree(bare, commit).await?;
        let (root, aged) = (made.clone(), SystemTime::now().checked_sub(AGE).unwrap_or(SystemTime::UNIX_EPOCH));
        let aging = move || {
            let done = tree.iter().try_for_each(|entry| age(&root, entry, aged));
            done.map(|()| tree)
        };
        let tree = tokio::task::spawn_blocking(aging)
            .await
            .context(ErrorKind::Internal, "Preparing a checkout was cut off")?
            .context(ErrorKind::Internal, "The times of a checkout could not be set")?;
        // In a repository of ours still: nothing of a sandbox has been near it.
        self.call(&made, ["update-index", "-q", "--refresh"])
            .env("GIT_DIR", made.join(".git"))
            .env("GIT_WORK_TREE", &made)
            .ok()
            .await?;
        fs::rename(&made, into).context(ErrorKind::Internal, format!("Could not finish {}", into.display()))?;
        Ok(Prepared {
            path: into.to_owned(),
            commit: commit.to_owned(),
            branch: crate::name::branch_ref(branch)?,
            tree: Arc::new(tree),
        })
    }
}

fn age(root: &Path, entry: &TreeEntry, at: SystemTime) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let path = root.join(std::ffi::OsStr::from_bytes(&entry.path));
    // Whole seconds, as the index compares.
    let time = TimeSpec::new(i64::try_from(since.as_secs()).unwrap_or(0), 0);
    utimensat(nix::fcntl::AT_FDCWD, &path, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}
