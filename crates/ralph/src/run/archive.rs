//! When a run takes up another branch: the progress of the former one is put away, never overwritten.
//!
//! ```text
//! progress.txt                              begun anew
//! archive/2026-01-02-former/progress.txt    as it was
//! ```

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cove_core::run::RunRecord;
use cove_core::{Error, ErrorKind, Fact, Result};
use jiff::Timestamp;

use super::files;
use super::owner::Owner;
use crate::progress;
use crate::runner::RUNS;

/// Folder beside the user's progress file.
const ARCHIVE: &str = "archive";
/// Tries where somebody else takes the same name at the same time.
const TRIES: u32 = 5;

/// What earlier runs mean for the progress file.
#[derive(Debug, PartialEq, Eq)]
enum Former {
    /// It is this branch's, or nobody's.
    Same,
    /// It is this other branch's.
    Branch(String),
    /// This run of another branch still writes to it.
    AtWork(String),
}

impl Owner {
    /// Puts the user's progress file away when the last run that used it had another branch. What goes
    /// wrong is told and does not hold the run up.
    pub(super) async fn archive_progress(&self, branch: &str) -> Vec<Fact> {
        let note = |text: String| vec![Fact::Note { text }];
        let path = match &self.record.spec.prd.progress_path {
            Some(path) => path.display().to_string(),
            None => return Vec::new(),
        };
        let archived = async {
            let former = former(&self.record, branch, &self.shared.deps.records.runs(RUNS).await?);
            let branch = match former {
                Former::Same => return Ok(None),
                Former::AtWork(run) => {
                    return Ok(Some(format!("{path} is not archived: the run {run} of another branch still uses it")));
                }
                Former::Branch(branch) => branch,
            };
            let (files, of) = (self.files.clone(), branch.clone());
            let kept = tokio::task::spawn_blocking(move || files.change_branch(&of)).await;
            let kept = kept.map_err(|e| Error::internal("Archiving was cut off").because(e))??;
            Ok(kept.map(|kept| format!("The progress of the branch {branch} is kept as {}", kept.display())))
        };
        match archived.await {
            Ok(told) => told.map(note).unwrap_or_default(),
            Err(error) => {
                let error: Error = error;
                note(format!("{path} could not be archived: {}", error.chain().join(": ")))
            }
        }
    }
}

/// Looks for the last run before this one that began its branch with the same file; `runs` are the
/// newest first.
fn former(record: &RunRecord, branch: &str, runs: &[RunRecord]) -> Former {
    let path = &record.spec.prd.progress_path;
    let others = || runs.iter().filter(|run| run.id != record.id && run.spec.prd.progress_path == *path);
    let began = |run: &&RunRecord| run.branch.is_some();
    let last = others().filter(began).find(|run| run.created_at <= record.created_at);
    let Some(last) = last.and_then(|run| run.branch.clone()).filter(|last| last != branch) else {
        return Former::Same;
    };
    match others().filter(began).find(|run| !run.phase.is_final()) {
        Some(living) => Former::AtWork(living.name.clone()),
        None => Former::Branch(last),
    }
}

/// Copies `text`, which is that of the file at `path`, to a folder of its own. A copy that is there
/// already is as good; nothing is overwritten.
pub(super) fn keep(path: &Path, text: &str, branch: &str, at: Timestamp) -> Result<PathBuf> {
    let failed = |e: std::io::Error| Error::internal(format!("{} could not be copied", path.display())).because(e);
    // Beside the file itself, where the path is a symbolic link.
    let path = std::fs::canonicalize(path).map_err(failed)?;
    let name = path.file_name().ok_or_else(|| Error::invalid("The progress file has no name"))?;
    let archive = path.parent().unwrap_or(Path::new("/")).join(ARCHIVE);
    let old = std::fs::metadata(&path).map_err(failed)?;
    let give = |made: &Path| {
        if std::fs::metadata(made).is_ok_and(|new| (new.uid(), new.gid()) != (old.uid(), old.gid())) {
            // Only root can give a file away, and only root needs to.
            let _ = std::os::unix::fs::lchown(made, Some(old.uid()), Some(old.gid()));
        }
    };
    match std::fs::create_dir(&archive) {
        Ok(()) => give(&archive),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e)),
    }
    let same = |folder: &Path| files::read(&folder.join(name)).is_ok_and(|kept| kept.as_deref() == Some(text));
    for _ in 0..TRIES {
        let taken = |folder: &str| {
            let folder = archive.join(folder);
            folder.symlink_metadata().is_ok() && !same(&folder)
        };
        let folder = archive.join(progress::archive_name(at, branch, taken));
        if same(&folder) {
            return Ok(folder.join(name));
        }
        // Complete before it has its name; a folder with anything in it is not replaced.
        let made = tempfile::Builder::new().prefix(".cove-").tempdir_in(&archive).map_err(failed)?;
        let copy = made.path().join(name);
        let mut file = std::fs::File::create_new(&copy).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o777)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        give(&copy);
        std::fs::set_permissions(made.path(), std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
        give(made.path());
        if std::fs::rename(made.path(), &folder).is_ok() {
            let _ = made.keep();
            if let Ok(archive) = std::fs::File::open(&archive) {
                let _ = archive.sync_all();
            }
            return Ok(folder.join(name));
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("No folder could be made in {}", archive.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_once_and_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress.txt");
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let keep = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let kept = keep(&path, text, "ralph/a", at).unwrap();
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), text);
            kept.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
        };
        // (text, where it is kept)
        let rows =
            [("one", "2026-01-02-a"), ("one", "2026-01-02-a"), ("two", "2026-01-02-a-2"), ("one", "2026-01-02-a")];
        for (text, folder) in rows {
            assert_eq!(keep(text), folder, "{text}");
        }
        assert_eq!(std::fs::read_dir(dir.path().join(ARCHIVE)).unwrap().count(), 2);
    }
}
