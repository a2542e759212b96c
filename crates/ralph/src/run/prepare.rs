//! Starting: the run's own repository, its branch, its gates, and what they say about the base.

use std::sync::Arc;

use cove_core::ledger::GateStatus;
use cove_core::run::Phase;
use cove_core::{Error, ErrorKind, Fact, Result};
use cove_git::{CommitMessage, Git, Merged};
use tokio::sync::mpsc;

use super::crew::{Crew, Message};
use super::owner::{Halt, Owner};
use super::{Place, checks, place};
use crate::gates::{self, READ_BOUND, Snapshot};

/// Ends of failures that no repetition changes.
fn lasting(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Denied
            | ErrorKind::Refused
            | ErrorKind::Unsupported
    )
}

impl Owner {
    /// Whether everything that comes before the first attempt is on record.
    pub(super) fn prepared(&self) -> bool {
        self.record.base.is_some() && self.record.baseline.len() == self.record.gates.len()
    }

    /// Brings the run from `Starting` to `Running`; what is on record already is not done again.
    pub(super) async fn start(&mut self) -> Result<()> {
        let outcome = self.steps().await;
        match outcome {
            Ok(Ok(())) => self.enter(Phase::Running, None, Vec::new()).await,
            Ok(Err(Halt::Request | Halt::Shutdown)) => Ok(()),
            Err(Trouble::Records(error)) => Err(error),
            Err(Trouble::Work(error)) if lasting(error.kind()) => {
                let ending = super::wait::hopeless(&error.told().join(": "), error.next_step());
                self.end(ending).await
            }
            Err(Trouble::Work(error)) => self.back_off(&error).await,
        }
    }

    async fn steps(&mut self) -> Result<Result<(), Halt>, Trouble> {
        if self.record.base.is_none() {
            let (git, place, spec) = (self.shared.deps.git.clone(), self.place.clone(), self.record.spec.clone());
            let (branch, prd) = (spec.branch.clone().unwrap_or_else(|| self.prd.branch()), self.prd.clone());
            let preparing = async {
                clone(&git, &place, &spec.repository).await?;
                let (start, notes) = begin_branch(&git, &place, spec.base.as_deref(), &branch).await?;
                let gates = gates::resolve(spec.gates.as_deref(), &prd, &tree(&git, &place, &start).await?)?;
                Ok((start, gates, notes))
            };
            let (start, gates, notes) = match self.unless_halted(preparing).await {
                Ok(prepared) => prepared.map_err(Trouble::Work)?,
                Err(halt) => return Ok(Err(halt)),
            };
            // Before the branch is on record: a crash in between repeats it.
            let archived = self.archive_progress(&branch).await;
            self.record.base = Some(start.clone());
            self.record.head = Some(start.clone());
            self.record.branch = Some(branch.clone());
            self.record.gates = gates;
            let mut facts = vec![Fact::Prepared { base: start, branch }];
            facts.extend(notes.into_iter().map(|text| Fact::Note { text }));
            facts.extend(archived);
            self.commit(facts).await.map_err(Trouble::Records)?;
        }
        if self.prepared() {
            return Ok(Ok(()));
        }
        let site = self.site();
        let base = self.head().map_err(Trouble::Records)?;
        // The facts of the baseline are few; they are recorded with its result.
        let (to_owner, mut reports) = mpsc::channel(self.record.gates.len() * 4 + 4);
        let crew = Crew::new(Arc::clone(&site), None, to_owner);
        let running = async {
            let results = checks::run(&site, &crew, "baseline", &base, &site.gates).await;
            crew.disband().await;
            results
        };
        let results = self.unless_halted(running).await;
        if let Err(halt) = results {
            crew.disband().await;
            return Ok(Err(halt));
        }
        let results = results.unwrap_or_else(|_| Ok(Vec::new())).map_err(Trouble::Work)?;
        let mut facts = Vec::new();
        while let Ok(Message::Facts { facts: more }) = reports.try_recv() {
            facts.extend(more);
        }
        let named = |broken: bool| -> Vec<&str> {
            let bad = results.iter().filter(|gate| !gate.status.accepts());
            bad.filter(|gate| (gate.status == GateStatus::Errored) == broken).map(|gate| gate.name.as_str()).collect()
        };
        let (red, broken) = (named(false), named(true));
        let mut notes = Vec::new();
        if !red.is_empty() {
            let passing = results.iter().any(|gate| gate.status == GateStatus::Passed);
            let then = if passing {
                "the same failure will not be held against a story"
            } else {
                "no check passes, so a story has to make one pass"
            };
            notes.push(format!("Failing before any work: {}; {then}", red.join(", ")));
        }
        if !results.is_empty() && red.len() == results.len() {
            notes.push("No check passes: until one does, nothing tells whether a story is done".to_owned());
        }
        if !broken.is_empty() {
            notes.push(format!(
                "Not to be run before any work, and held against every story: {}. Is the program there in the sandbox?",
                broken.join(", ")
            ));
        }
        facts.push(Fact::Baseline { gates: results.clone() });
        facts.extend(notes.into_iter().map(|text| Fact::Note { text }));
        self.record.baseline = results;
        self.record.infrastructure_failures = 0;
        self.commit(facts).await.map_err(Trouble::Records)?;
        Ok(Ok(()))
    }
}

/// What went wrong while starting.
enum Trouble {
    /// The work itself.
    Work(Error),
    /// Putting it on record: the owner cannot go on.
    Records(Error),
}

/// The run's own repository. A clone cut off in the middle never has its name; one that nothing on
/// record stands on yet is made again, as the source may have changed.
async fn clone(git: &Git, place: &Place, source: &str) -> Result<()> {
    let repo = place.repo();
    place::clear(repo.clone()).await?;
    let half_made = place.half_made_repo();
    git.clone_source(source, &half_made).await?;
    std::fs::rename(&half_made, &repo)
        .map_err(|e| Error::internal(format!("{} could not be put in place", repo.display())).because(e))
}

/// The commit that the branch starts at, with the branch standing there.
///
/// A branch of that name in the source is continued when it grew from the base, and moved forward when
/// the base holds all of it; a branch with other work is a conflict.
async fn begin_branch(git: &Git, place: &Place, base: Option<&str>, branch: &str) -> Result<(String, Vec<String>)> {
    let repo = place.repo();
    let base = git.resolve(&repo, base.unwrap_or("HEAD")).await?;
    let standing = match git.resolve(&repo, &format!("refs/heads/{branch}")).await {
        Ok(standing) => standing,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            git.advance(&repo, branch, None, &base).await?;
            return Ok((base, Vec::new()));
        }
        Err(e) => return Err(e),
    };
    if standing == base {
        return Ok((base, Vec::new()));
    }
    // Nothing refers to a merge that may be made here.
    match git.merge(&repo, &standing, &base, &CommitMessage::new("chore: compare")).await {
        Ok(Merged::Commit(both)) if both == standing => {
            let text = format!("The branch {branch} exists and grew from the base; the run continues it");
            Ok((standing, vec![text]))
        }
        Ok(Merged::Commit(both)) if both == base => {
            git.advance(&repo, branch, Some(&standing), &base).await?;
            Ok((base, Vec::new()))
        }
        _ => Err(Error::new(ErrorKind::Conflict, format!("The branch {branch} exists and holds other work"))
            .next("Choose another branch with --branch, or start from that branch with --base")),
    }
}

/// The files of a commit that gates are found in.
async fn tree(git: &Git, place: &Place, commit: &str) -> Result<Snapshot> {
    let repo = place.repo();
    let mut tree = Snapshot { files: git.files(&repo, commit).await?, ..Snapshot::default() };
    for path in gates::wanted(&tree.files) {
        // A file that is too large to be read says nothing about gates.
        if let Ok(Some(content)) = git.read(&repo, commit, &path, READ_BOUND).await {
            tree.contents.insert(path, content);
        }
    }
    Ok(tree)
}

impl Owner {
    /// Everything that was half made while starting, gone.
    pub(super) async fn clear_half_made(&self) {
        let Ok(entries) = std::fs::read_dir(self.place.root()) else { return };
        for entry in entries.filter_map(|entry| entry.ok()) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if (name.starts_with("repo.git.") || name.starts_with("clone-"))
                && let Err(error) = place::clear(entry.path()).await
            {
                tracing::warn!(run = %self.record.id, %error, "a half-made clone is left");
            }
        }
    }
}
