//! Where a run keeps its things.
//!
//! ```text
//! <data>/runs/<run>/
//!   repo.git            own bare repository: the branch, and refs/cove/attempts/<story>/<n>
//!   prd.json, progress.txt   the run's copies of the user's files
//!   attempts/<attempt>/agent.log, gates/*.log   kept
//!   stores/, tripwires.json   what the base's checks left, for later ones
//!   work/<attempt>/…    checkouts and homes given to sandboxes; gone with the attempt
//! ```

use std::path::{Path, PathBuf};

use cove_core::{AttemptId, Error, Result, RunId};

/// The directories of one run.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    pub(crate) fn new(data_dir: &Path, run: &RunId) -> Self {
        Self { root: data_dir.join("runs").join(run.as_str()) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.root.join("repo.git")
    }

    /// A name that no clone before a crash has used.
    pub(crate) fn half_made_repo(&self) -> PathBuf {
        self.root.join(format!("repo.git.{}", AttemptId::new().short()))
    }

    pub(crate) fn prd(&self, is_json: bool) -> PathBuf {
        self.root.join(if is_json { "prd.json" } else { "prd.md" })
    }

    pub(crate) fn progress(&self) -> PathBuf {
        self.root.join("progress.txt")
    }

    /// What is kept of an attempt; the baseline has none and is called so.
    pub(crate) fn logs(&self, attempt: Option<&AttemptId>) -> PathBuf {
        self.root.join("attempts").join(attempt.map_or("baseline", AttemptId::as_str))
    }

    pub(crate) fn agent_log(&self, attempt: &AttemptId) -> PathBuf {
        self.logs(Some(attempt)).join("agent.log")
    }

    /// What package managers fetched for the checks of the base commit, where only the user's own code ran.
    pub(crate) fn stores(&self) -> PathBuf {
        self.root.join("stores")
    }

    /// What the base's checks showed when tests that must fail were among theirs.
    pub(crate) fn tripwires(&self) -> PathBuf {
        self.root.join("tripwires.json")
    }

    pub(crate) fn all_work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// What sandboxes of an attempt may write to.
    pub(crate) fn work(&self, attempt: Option<&AttemptId>) -> PathBuf {
        self.all_work().join(attempt.map_or("baseline", AttemptId::as_str))
    }
}

/// Makes a directory and its parents, for its owner alone.
pub(crate) fn make(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Error::internal(format!("The directory {} could not be made", dir.display())).because(e))
}

/// Removes a directory tree; harmless when there is none. Symbolic links inside are not followed.
pub(crate) async fn clear(dir: PathBuf) -> Result<()> {
    let removed = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal(format!("The directory {} could not be removed", dir.display())).because(e))
        }
        _ => Ok(()),
    });
    removed.await.map_err(|e| Error::internal("Removing a directory was cut off").because(e))?
}
