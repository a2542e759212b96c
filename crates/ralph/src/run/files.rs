//! The PRD and the progress file: the run's own copies, and the user's, brought up to date in place.
//!
//! Only `passes` changes in a PRD, and only an entry is added to a progress file. Every change may be
//! repeated; a file that somebody else changes at the same time is read again.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cove_core::run::RunRecord;
use cove_core::{Error, ErrorKind, Fact, Result};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{Place, archive};
use crate::prd::{self, Format};
use crate::progress::{self, ProgressEntry};

/// A file of the user beyond this is left alone.
const BOUND: u64 = 16 << 20;
/// Tries where somebody else changes the file at the same time.
const TRIES: u32 = 5;

/// A story that passed.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    pub(crate) story: String,
    pub(crate) title: String,
    /// The agent's last words.
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// The files of a run.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    prd: PathBuf,
    progress: PathBuf,
    users_prd: Option<PathBuf>,
    users_progress: Option<PathBuf>,
    format: Format,
    prd_text: String,
    progress_text: String,
    /// Entries of this run are not older.
    since: Timestamp,
    /// What names of half-written files begin with; no other run's do.
    mark: String,
}

impl Files {
    pub(crate) fn new(place: &Place, record: &RunRecord, format: Format) -> Self {
        let source = &record.spec.prd;
        Self {
            prd: place.prd(format.is_json()),
            progress: place.progress(),
            users_prd: source.path.clone(),
            users_progress: source.progress_path.clone(),
            format,
            prd_text: source.text.clone(),
            progress_text: source.progress.clone(),
            since: record.created_at,
            mark: format!(".cove-{}-", record.id.short()),
        }
    }

    /// Removes what a daemon that was killed in the middle of writing left beside the files.
    pub(super) fn clear_half_written(&self) {
        let users = [&self.users_prd, &self.users_progress].into_iter().flatten();
        let mut folders: Vec<PathBuf> =
            [&self.prd, &self.progress].into_iter().chain(users).filter_map(|path| folder_of(path)).collect();
        folders.sort();
        folders.dedup();
        for entry in folders.iter().flat_map(std::fs::read_dir).flatten().flatten() {
            let half = entry.file_name().to_string_lossy().starts_with(&self.mark);
            if half && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "a half-written file is left");
            }
        }
    }

    /// The run's progress so far.
    pub(crate) fn progress(&self) -> String {
        read(&self.progress).ok().flatten().unwrap_or_else(|| self.progress_text.clone())
    }

    /// The run's PRD so far.
    pub(crate) fn prd(&self) -> String {
        read(&self.prd).ok().flatten().unwrap_or_else(|| self.prd_text.clone())
    }

    /// Enters stories that passed, wherever they are not entered yet. What goes wrong with a user's
    /// file is told and does not hold the run up.
    pub(crate) async fn passed(&self, passed: Vec<Passed>) -> Vec<Fact> {
        let files = self.clone();
        let entered = tokio::task::spawn_blocking(move || files.enter(&passed)).await;
        let problems = entered.unwrap_or_else(|e| vec![Error::internal("Updating the files was cut off").because(e)]);
        problems.into_iter().map(|error| Fact::Note { text: error.chain().join(": ") }).collect()
    }

    /// Begins the progress anew where the user's file is another branch's, and keeps a copy of it in
    /// `archive/` beside it. `None` when there is nothing to keep; otherwise where the copy lies.
    /// Harmless when repeated.
    pub(super) fn change_branch(&self, former: &str) -> Result<Option<PathBuf>> {
        let Some(path) = &self.users_progress else { return Ok(None) };
        let Some(text) = read(path)? else { return Ok(None) };
        let anew = progress::begun_anew(&text, self.since);
        if !progress::worth_keeping(&text) || text == anew {
            return Ok(None);
        }
        let kept = archive::keep(path, &text, former, self.since)?;
        // Ours first: when we are cut off here, the user's file still says that this is to be done.
        update(&self.mark, &self.progress, |_| Ok(progress::begun_anew(&self.progress_text, self.since)))?;
        update(&self.mark, path, |now| match now {
            Some(now) if now == text => Ok(anew.clone()),
            _ => Err(Error::new(ErrorKind::Conflict, format!("{} is being changed by somebody else", path.display()))),
        })?;
        Ok(Some(kept))
    }

    fn enter(&self, passed: &[Passed]) -> Vec<Error> {
        let marked = |text: Option<String>| {
            let text = text.ok_or_else(|| Error::not_found("The file is gone"))?;
            passed.iter().try_fold(text, |text, passed| prd::mark(&text, self.format, &passed.story, true, None))
        };
        let noted = |text: Option<String>| {
            Ok(passed.iter().fold(text.unwrap_or_default(), |text, passed| self.with_entry(text, passed)))
        };
        let mut problems = Vec::new();
        let mut keep = |path: &Path, done: Result<()>| {
            if let Err(error) = done {
                let text = format!("{} could not be brought up to date", path.display());
                problems.push(Error::new(error.kind(), text).because(error.chain().join(": ")));
            }
        };
        keep(
            &self.prd,
            update(&self.mark, &self.prd, |text| marked(Some(text.unwrap_or_else(|| self.prd_text.clone())))),
        );
        keep(
            &self.progress,
            update(&self.mark, &self.progress, |text| noted(Some(text.unwrap_or_else(|| self.progress_text.clone())))),
        );
        if let Some(path) = &self.users_prd {
            keep(path, update(&self.mark, path, marked));
        }
        if let Some(path) = &self.users_progress {
            keep(path, update(&self.mark, path, noted));
        }
        problems
    }

    fn with_entry(&self, text: String, passed: &Passed) -> String {
        if self.has_entry(&text, &passed.story) {
            return text;
        }
        let told = progress::told(&passed.message);
        let entry = ProgressEntry {
            at: passed.at,
            story: passed.story.clone(),
            title: passed.title.clone(),
            done: told.done,
            learnings: told.learnings,
            patterns: told.patterns,
        };
        progress::append(&text, &entry)
    }

    /// Whether this run entered the story: a heading `## 2026-01-02 15:04 - US-001` that is not older
    /// than the run.
    fn has_entry(&self, text: &str, story: &str) -> bool {
        // Headings are to the minute.
        let since = self.since.as_second() - self.since.as_second().rem_euclid(60);
        text.lines().filter_map(|line| line.trim_end().strip_prefix("## ")?.split_once(" - ")).any(|(at, of)| {
            let at = DateTime::strptime("%Y-%m-%d %H:%M", at).and_then(|at| at.to_zoned(TimeZone::UTC));
            of == story && at.is_ok_and(|at| at.timestamp().as_second() >= since)
        })
    }
}

/// The text of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>> {
    let failed = |e: std::io::Error| Error::internal(format!("{} could not be read", path.display())).because(e);
    let length = match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(Error::invalid(format!("{} is not a file", path.display())));
        }
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if length > BOUND {
        return Err(Error::invalid(format!("{} is too long", path.display())).with("bytes", length));
    }
    std::fs::read_to_string(path).map(Some).map_err(failed)
}

/// Replaces a file by what `change` makes of it, unless that is the same.
fn update(mark: &str, path: &Path, change: impl Fn(Option<String>) -> Result<String>) -> Result<()> {
    for _ in 0..TRIES {
        let before = read(path)?;
        let after = change(before.clone())?;
        if before.as_deref() == Some(after.as_str()) {
            return Ok(());
        }
        let prepared = prepare(mark, path, &after)?;
        if read(path)? == before {
            return prepared.put();
        }
    }
    Err(Error::new(ErrorKind::Conflict, format!("{} is being changed by somebody else", path.display())))
}

/// The file itself: a symbolic link stays one.
fn behind(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn folder_of(path: &Path) -> Option<PathBuf> {
    behind(path).parent().map(Path::to_owned)
}

/// A complete new version beside the file.
struct Prepared {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

fn prepare(mark: &str, path: &Path, text: &str) -> Result<Prepared> {
    let failed = |e: std::io::Error| Error::internal(format!("{} could not be written", path.display())).because(e);
    let path_behind = behind(path);
    let parent = path_behind.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(mark).tempfile_in(parent).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let mode = match std::fs::metadata(&path_behind) {
        Ok(old) => {
            let new = file.as_file().metadata().map_err(failed)?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                // Only root can give a file away, and only root needs to.
                let _ = std::os::unix::fs::chown(file.path(), Some(old.uid()), Some(old.gid()));
            }
            old.mode() & 0o7777
        }
        Err(_) => 0o644,
    };
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(Prepared { file, path: path_behind })
}

impl Prepared {
    fn put(self) -> Result<()> {
        let failed = |path: &Path| format!("{} could not be replaced", path.display());
        let path = self.path;
        self.file.persist(&path).map_err(|e| Error::internal(failed(&path)).because(e.error))?;
        // The new name is durable once its directory is.
        if let Some(Ok(parent)) = path.parent().map(std::fs::File::open) {
            let _ = parent.sync_all();
        }
        Ok(())
    }
}
