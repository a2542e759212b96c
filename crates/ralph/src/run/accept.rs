//! Acceptance: the only place where the branch moves.
//!
//! Three steps, each of which may be the last before a crash: the commit is put on record as accepted;
//! the branch moves by compare-and-swap; state and facts say so in one record. The user's files follow
//! and are brought up to date again after a crash.

use cove_core::ledger::{GateStatus, Verdict};
use cove_core::run::StoryStatus;
use cove_core::{AttemptId, ErrorKind, Fact, Result, Usage};
use cove_git::Git;

use super::attempt::{self, Conclusion, Job, Worked};
use super::conclude::finished;
use super::files::Passed;
use super::owner::Owner;
use super::wave::{Line, Work};

impl Owner {
    /// Takes in work that passed its gates; where the head has moved since, after a merge and another
    /// run of the gates.
    pub(super) async fn accept(&mut self, worked: Worked) -> Result<()> {
        let Worked { job, usage, conclusion: Conclusion::Ready { commit, protected, green, message } } = worked else {
            return self.conclude(worked).await;
        };
        let head = self.head()?;
        if head == job.base {
            return self.take_in(job, usage, commit, &green, &message).await;
        }
        if self.record.request.is_some() || self.shared.stopping.is_cancelled() {
            return self.conclude(Worked { job, usage, conclusion: Conclusion::Interrupted }).await;
        }
        let line = Line::new();
        let work: Work = Box::pin(attempt::merge(
            self.site(),
            job,
            attempt::Onto { head, commit, protected, green, message },
            line.to_owner.clone(),
            line.cancel.clone(),
        ));
        for worked in self.drive(vec![work], line).await? {
            if let Worked { job, usage, conclusion: Conclusion::Ready { commit, green, message, .. } } = worked {
                self.take_in(job, usage, commit, &green, &message).await?;
            }
        }
        Ok(())
    }

    async fn take_in(&mut self, job: Job, usage: Usage, commit: String, green: &[String], message: &str) -> Result<()> {
        // What passes on the branch from here on is not excused by the base any more.
        for gate in self.record.baseline.iter_mut().filter(|gate| green.contains(&gate.name)) {
            gate.status = GateStatus::Passed;
        }
        if let Some(current) = &mut self.record.stories[job.story].current {
            current.accepted = Some(commit.clone());
        }
        self.commit(Vec::new()).await?;
        self.complete(job.story, &job.attempt, commit, usage, message).await
    }

    /// Moves the branch and records it. Every step may have happened before.
    pub(super) async fn complete(
        &mut self,
        at: usize,
        attempt: &AttemptId,
        commit: String,
        usage: Usage,
        message: &str,
    ) -> Result<()> {
        let site = self.site();
        let (git, repo) = (&self.shared.deps.git, self.place.repo());
        let head = self.head()?;
        let mut tries = 0;
        loop {
            match move_branch(git, &repo, &site.branch, &head, &commit).await {
                Ok(()) => break,
                Err(e) if e.kind() == ErrorKind::Conflict => {
                    let reason = format!("The run's branch {} was moved by somebody else", site.branch);
                    return self.end(super::wait::hopeless(&reason, None)).await;
                }
                // On record as accepted, it is finished at the next start where it cannot be now.
                Err(e) if tries == 3 => return Err(e),
                Err(error) => {
                    tracing::warn!(run = %self.record.id, %error, "the branch could not be moved; trying again");
                    tries += 1;
                    tokio::time::sleep(self.shared.pace.first_backoff).await;
                }
            }
        }
        self.record.head = Some(commit.clone());
        self.record.iterations += 1;
        self.record.infrastructure_failures = 0;
        self.provider_pauses = 0;
        let story = &mut self.record.stories[at];
        story.attempts += 1;
        story.status = StoryStatus::Passed;
        story.commit = Some(commit.clone());
        story.current = None;
        story.feedback = None;
        story.failures.clear();
        let facts = vec![
            finished(attempt, story, Verdict::Accepted, usage),
            Fact::StoryPassed { story: story.id.clone(), attempt: attempt.clone(), commit: commit.clone() },
        ];
        let passed = Passed {
            story: story.id.clone(),
            title: story.title.clone(),
            message: message.to_owned(),
            at: self.shared.deps.clock.now(),
        };
        self.budget.settle(attempt);
        self.commit(facts).await?;
        let problems = self.files.passed(vec![passed]).await;
        if problems.is_empty() { Ok(()) } else { self.commit(problems).await }
    }
}

/// Moves the branch, unless that has happened before.
async fn move_branch(git: &Git, repo: &std::path::Path, branch: &str, from: &str, to: &str) -> Result<()> {
    if git.resolve(repo, &format!("refs/heads/{branch}")).await? == to {
        return Ok(());
    }
    git.advance(repo, branch, Some(from), to).await
}
