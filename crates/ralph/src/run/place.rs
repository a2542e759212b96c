//! Where a run keeps its things.
//!
//! ```text
//! <data>/runs/<run>/
//!   repo.git            own bare repository: the branch, and refs/cove/attempts/<story>/<n>
//!   prd.json, progress.txt   the run's copies of the user's files
//!   attempts/<attempt>/agent.log, gates/*.log   kept
//!   stores/, tripwires.json   what the base's checks left, for later ones
//!   work/<attempt>/…    workspaces and homes given to sandboxes; gone with the attempt
//!   prepared/<…>        checkouts that workspaces are laid over; gone with the run's work
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

    /// Where checkouts lie that sandboxes share and none writes to.
    pub(crate) fn prepared(&self) -> PathBuf {
        self.root.join("prepared")
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

/// Removes a directory tree; harmless when there is none. Symbolic links inside are not followed. No
/// sandbox that writes to it may live.
pub(crate) async fn clear(dir: PathBuf) -> Result<()> {
    let removed = tokio::task::spawn_blocking(move || match remove(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal(format!("The directory {} could not be removed", dir.display())).because(e))
        }
        _ => Ok(()),
    });
    removed.await.map_err(|e| Error::internal("Removing a directory was cut off").because(e))?
}

/// Also what a sandbox of ours, an ordinary user's, or overlayfs has closed to its owner.
fn remove(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            open_up(dir, 0);
            std::fs::remove_dir_all(dir)
        }
        other => other,
    }
}

fn open_up(dir: &Path, depth: usize) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth < 256 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path(), depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn closed_directories_are_removed_too() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir_all(work.join("closed/deeper")).unwrap();
        std::fs::set_permissions(work.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
        clear(work.clone()).await.unwrap();
        assert!(!work.exists());
        clear(work).await.unwrap();
    }
}
