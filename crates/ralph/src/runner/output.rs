//! What a run yields: its diff, its branch, its files.

use std::path::{Path, PathBuf};

use cove_core::run::RunRecord;
use cove_core::{AttemptId, Entry, Error, ErrorKind, Fact, Result, RunId};
use cove_git::Delivered;

use super::Runner;
use crate::prd::Prd;
use crate::run::{Files, Place};

/// Bytes of a diff.
const DIFF: usize = 16 << 20;
/// Ledger entries read at once.
const PAGE: usize = 1000;

impl Runner {
    /// What the run changed so far, or what one story changed, as a patch.
    ///
    /// # Errors
    /// `NotFound` without such a run or story, `Conflict` while there is nothing to compare.
    pub async fn diff(&self, id: &RunId, story: Option<&str>) -> Result<Vec<u8>> {
        let record = self.shared.deps.records.run(id).await?;
        let repo = self.place(id).repo();
        let nothing = || Error::new(ErrorKind::Conflict, format!("The run {} has changed nothing yet", record.name));
        let (from, to) = match story {
            None => (record.base.clone().ok_or_else(nothing)?, record.head.clone().ok_or_else(nothing)?),
            Some(story) => self.bounds_of(&record, story).await?,
        };
        self.shared.deps.git.diff(&repo, &from, &to, DIFF).await
    }

    /// The branch's head before a story was accepted, and after.
    async fn bounds_of(&self, record: &RunRecord, story: &str) -> Result<(String, String)> {
        let state = record
            .stories
            .iter()
            .find(|s| s.id == story)
            .ok_or_else(|| Error::not_found(format!("The run {} has no story {story}", record.name)))?;
        let commit = state.commit.clone().ok_or_else(|| {
            Error::new(ErrorKind::Conflict, format!("No work on the story {story} was accepted in this run"))
        })?;
        let mut before = record.base.clone().unwrap_or_else(|| commit.clone());
        let mut after = 0;
        loop {
            let page = self.shared.deps.records.entries(&record.id, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok((before, commit)) };
            after = last.seq;
            for entry in page {
                match entry.fact {
                    Fact::StoryPassed { story: passed, .. } if passed == story => return Ok((before, commit)),
                    Fact::StoryPassed { commit, .. } => before = commit,
                    _ => {}
                }
            }
        }
    }

    /// Brings the branch, as far as it was accepted, into a repository of the user.
    ///
    /// # Errors
    /// `Conflict` when nothing was accepted, and those of [`cove_git::Git::deliver`].
    pub async fn apply(&self, id: &RunId, repository: &Path, switch: bool) -> Result<Delivered> {
        let record = self.shared.deps.records.run(id).await?;
        let branch = self.branch(&record)?;
        self.shared.deps.git.deliver(&self.place(id).repo(), branch, repository, switch).await
    }

    /// The branch, where something on it was accepted.
    fn branch<'r>(&self, record: &'r RunRecord) -> Result<&'r str> {
        let accepted = record.head.is_some() && record.head != record.base;
        record.branch.as_deref().filter(|_| accepted).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, format!("The run {} has accepted no work", record.name))
                .next(format!("See why: `cove logs {}`", record.name))
        })
    }

    /// Writes what the run yields into a directory: patch, bundle, PRD, progress and ledger. Returns the
    /// files. Files of these names are replaced.
    ///
    /// # Errors
    /// `NotFound` without such a run, `Internal` where the directory cannot be written.
    pub async fn export(&self, id: &RunId, dir: &Path) -> Result<Vec<PathBuf>> {
        let record = self.shared.deps.records.run(id).await?;
        std::fs::create_dir_all(dir)
            .map_err(|e| Error::internal(format!("{} could not be made", dir.display())).because(e))?;
        let prd = Prd::parse(&record.spec.prd.text, record.spec.prd.path.as_deref())?;
        let files = Files::new(&self.place(id), &record, prd.format);
        let mut out = Vec::new();
        let mut write = |name: &str, content: &[u8]| {
            let path = dir.join(name);
            std::fs::write(&path, content)
                .map_err(|e| Error::internal(format!("{} could not be written", path.display())).because(e))?;
            out.push(path);
            Ok::<(), Error>(())
        };
        write(if prd.format.is_json() { "prd.json" } else { "prd.md" }, files.prd().as_bytes())?;
        write("progress.txt", files.progress().as_bytes())?;
        write("run.json", &json(&record)?)?;
        let mut ledger = Vec::new();
        for entry in self.ledger(id).await? {
            ledger.extend(
                serde_json::to_vec(&entry).map_err(|e| Error::internal("The ledger cannot be written").because(e))?,
            );
            ledger.push(b'\n');
        }
        write("ledger.ndjson", &ledger)?;
        if let Ok(branch) = self.branch(&record) {
            write("changes.patch", &self.diff(id, None).await?)?;
            let bundle = dir.join("branch.bundle");
            self.shared.deps.git.bundle(&self.place(id).repo(), branch, &bundle).await?;
            out.push(bundle);
        }
        Ok(out)
    }

    async fn ledger(&self, id: &RunId) -> Result<Vec<Entry>> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let after = all.last().map_or(0, |entry| entry.seq);
            let page = self.shared.deps.records.entries(id, after, PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// The file that holds the raw output of an attempt's agent; of the last attempt when none is named.
    ///
    /// # Errors
    /// `NotFound` without such a run or attempt, or before its agent has begun.
    pub async fn log(&self, id: &RunId, attempt: Option<&AttemptId>) -> Result<PathBuf> {
        let record = self.shared.deps.records.run(id).await?;
        let missing = || Error::not_found(format!("The run {} has no agent's output yet", record.name));
        let place = self.place(id);
        let attempt = match attempt {
            Some(attempt) => attempt.clone(),
            None => {
                let started = self.ledger(id).await?.into_iter().rev().filter_map(|entry| match entry.fact {
                    Fact::AttemptStarted { attempt, .. } => Some(attempt),
                    _ => None,
                });
                let mut with_log = started.filter(|attempt| place.agent_log(attempt).is_file());
                with_log.next().ok_or_else(missing)?
            }
        };
        let log = place.agent_log(&attempt);
        if log.is_file() { Ok(log) } else { Err(missing()) }
    }

    fn place(&self, id: &RunId) -> Place {
        Place::new(&self.shared.deps.data_dir, id)
    }
}

fn json(record: &RunRecord) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(record).map_err(|e| Error::internal("The run's record cannot be written").because(e))
}
