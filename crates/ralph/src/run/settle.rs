//! After a restart: finishes or undoes what was under way. Every step may be cut off and repeated.

use std::collections::BTreeMap;

use cove_core::ledger::Verdict;
use cove_core::run::StoryStatus;
use cove_core::{AgentEvent, AttemptId, Fact, Result, SandboxId, Usage};
use jiff::Timestamp;

use super::conclude::finished;
use super::crew::RUN_LABEL;
use super::files::Passed;
use super::owner::Owner;

/// Ledger entries read at once.
const PAGE: usize = 1000;

/// What the ledger knows of attempts that the record does not.
#[derive(Default)]
struct Remembered {
    usage: BTreeMap<AttemptId, Usage>,
    words: BTreeMap<AttemptId, String>,
    passed: Vec<(String, AttemptId, Timestamp)>,
}

impl Owner {
    pub(super) async fn settle(&mut self) -> Result<()> {
        if self.record.base.is_none() && self.underway().is_empty() && self.record.version <= 1 {
            return Ok(());
        }
        self.remove_sandboxes().await;
        self.clear_half_made().await;
        self.files.clear_half_written();
        let underway = self.underway();
        if !underway.is_empty() {
            let remembered = self.remember().await?;
            // Accepted work first: others may have to be merged onto it.
            let mut accepted = Vec::new();
            let mut facts = Vec::new();
            for (attempt, at) in underway {
                let usage = remembered.usage.get(&attempt).cloned().unwrap_or_default();
                let story = &mut self.record.stories[at];
                match story.current.as_ref().and_then(|current| current.accepted.clone()) {
                    Some(commit) => accepted.push((at, attempt, commit, usage)),
                    None => {
                        story.current = None;
                        story.status = StoryStatus::Open;
                        facts.push(finished(&attempt, story, Verdict::Interrupted, usage));
                    }
                }
            }
            if !facts.is_empty() {
                self.commit(facts).await?;
            }
            for (at, attempt, commit, usage) in accepted {
                let words = remembered.words.get(&attempt).cloned().unwrap_or_default();
                self.complete(at, &attempt, commit, usage, &words).await?;
            }
        }
        if !self.record.phase.is_final() {
            let problems = self.bring_files_up_to_date().await?;
            if !problems.is_empty() {
                self.commit(problems).await?;
            }
            for dir in [self.place.all_work(), self.place.prepared()] {
                if let Err(error) = super::place::clear(dir).await {
                    tracing::warn!(run = %self.record.id, %error, "workspaces of before are left");
                }
            }
        }
        Ok(())
    }

    /// Sandboxes that a former owner made: those on the record, and those that carry the run's label.
    pub(super) async fn remove_sandboxes(&self) {
        let sandboxes = &self.shared.deps.sandboxes;
        let mut left: Vec<SandboxId> =
            self.record.stories.iter().filter_map(|s| s.current.as_ref()).flat_map(|c| c.sandboxes.clone()).collect();
        match self.shared.deps.records.sandboxes().await {
            Ok(known) => left.extend(
                known
                    .into_iter()
                    .filter(|info| info.spec.labels.get(RUN_LABEL).is_some_and(|run| *run == self.record.id.as_str()))
                    .map(|info| info.id),
            ),
            Err(error) => tracing::warn!(run = %self.record.id, %error, "sandboxes of before cannot be listed"),
        }
        left.sort();
        left.dedup();
        for id in left {
            if let Err(error) = sandboxes.remove(&id).await {
                tracing::warn!(sandbox = %id, %error, "left to the next sweep");
            }
        }
    }

    async fn remember(&self) -> Result<Remembered> {
        let mut out = Remembered::default();
        let mut after = 0;
        loop {
            let page = self.shared.deps.records.entries(&self.record.id, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(out) };
            after = last.seq;
            for entry in page {
                match entry.fact {
                    Fact::Agent { attempt, event: AgentEvent::Usage { usage } } => {
                        drop(out.usage.insert(attempt, usage))
                    }
                    Fact::Agent { attempt, event: AgentEvent::Final { text } } => drop(out.words.insert(attempt, text)),
                    Fact::StoryPassed { story, attempt, .. } => out.passed.push((story, attempt, entry.at)),
                    _ => {}
                }
            }
        }
    }

    /// Repeats in the user's files, and in ours, what is missing there. Returns what went wrong.
    pub(super) async fn bring_files_up_to_date(&mut self) -> Result<Vec<Fact>> {
        if self.record.stories.iter().all(|story| story.commit.is_none()) {
            return Ok(Vec::new());
        }
        let mut remembered = self.remember().await?;
        let passed = remembered.passed.into_iter().map(|(story, attempt, at)| Passed {
            title: self.prd.story(&story).map(|story| story.title.clone()).unwrap_or_default(),
            message: remembered.words.remove(&attempt).unwrap_or_default(),
            story,
            at,
        });
        let passed = passed.collect();
        Ok(self.files.passed(passed).await)
    }
}
