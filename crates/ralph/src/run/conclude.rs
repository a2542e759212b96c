//! What a concluded attempt means for its story: counters, feedback, giving up. Each sort of failure
//! has its own counter; only what the agent answers for counts against the story.

use cove_core::ledger::Verdict;
use cove_core::run::{StoryState, StoryStatus};
use cove_core::{ErrorKind, Fact, Result, Usage};

use super::attempt::{Conclusion, Worked};
use super::owner::Owner;
use super::wait::hopeless;

/// Fingerprints kept.
const FAILURES: usize = 16;

impl Owner {
    /// Records the end of an attempt that was not accepted.
    pub(super) async fn conclude(&mut self, worked: Worked) -> Result<()> {
        let Worked { job, usage, conclusion } = worked;
        let mut counts = None;
        let verdict = match conclusion {
            Conclusion::Rejected { verdict, feedback, fingerprint } => {
                counts = Some((feedback, fingerprint));
                verdict
            }
            Conclusion::Limited { resets_at, reason } => {
                let later = match self.after.limited.take() {
                    Some((Some(at), _)) => Some(resets_at.map_or(at, |new| new.max(at))),
                    _ => resets_at,
                };
                self.after.limited = Some((later, reason.clone()));
                Verdict::ProviderLimit { reason }
            }
            Conclusion::Hopeless { reason, next } => {
                self.after.ending = Some(hopeless(&reason, next.as_deref()));
                Verdict::AgentFailed { reason }
            }
            Conclusion::Bound(bound) => {
                self.after.bound = Some(bound);
                Verdict::AgentFailed { reason: bound.reason(&self.record.spec.bounds) }
            }
            // Our own cancellation shows as an interrupted call at times.
            Conclusion::Broken(error)
                if error.kind() == ErrorKind::Interrupted
                    && (self.record.request.is_some() || self.shared.stopping.is_cancelled()) =>
            {
                Verdict::Interrupted
            }
            Conclusion::Broken(error) => {
                tracing::warn!(run = %self.record.id, error = %error.chain().join(": "), "the infrastructure failed");
                let reason = error.told().join(": ");
                self.after.broken = Some(error);
                Verdict::Infrastructure { reason }
            }
            Conclusion::Ready { .. } | Conclusion::Interrupted => Verdict::Interrupted,
        };
        // The infrastructure held, whatever the agent made of it.
        if counts.is_some() {
            self.record.infrastructure_failures = 0;
            self.provider_pauses = 0;
            self.record.iterations += 1;
        }
        let bounds = self.record.spec.bounds.clone();
        let story = &mut self.record.stories[job.story];
        story.current = None;
        story.status = StoryStatus::Open;
        let mut facts = vec![finished(&job.attempt, story, verdict, usage)];
        if let Some((feedback, fingerprint)) = counts {
            story.attempts += 1;
            story.feedback = Some(feedback);
            story.failures.push(fingerprint);
            let from = story.failures.len().saturating_sub(FAILURES);
            story.failures.drain(..from);
            if let Some(reason) = given_up(story, bounds.attempts_per_story, bounds.stuck_after) {
                story.status = StoryStatus::GivenUp;
                facts.push(Fact::Note { text: format!("Story {} is given up: {reason}", story.id) });
            }
        }
        self.budget.settle(&job.attempt);
        self.commit(facts).await
    }

    /// Attempts that nobody works on any more are tried again.
    pub(super) async fn give_back_orphans(&mut self) -> Result<()> {
        let orphans = self.underway();
        if orphans.is_empty() {
            return Ok(());
        }
        self.remove_sandboxes().await;
        let mut facts = Vec::new();
        for (attempt, at) in orphans {
            let usage = self.budget.of(&attempt);
            let story = &mut self.record.stories[at];
            story.current = None;
            story.status = StoryStatus::Open;
            let reason = "The worker failed unexpectedly".to_owned();
            facts.push(finished(&attempt, story, Verdict::Infrastructure { reason: reason.clone() }, usage));
            self.budget.settle(&attempt);
            self.after.broken = Some(cove_core::Error::internal(reason));
        }
        self.commit(facts).await
    }
}

/// The fact that ends an attempt.
pub(super) fn finished(attempt: &cove_core::AttemptId, story: &StoryState, verdict: Verdict, usage: Usage) -> Fact {
    Fact::AttemptFinished { attempt: attempt.clone(), story: story.id.clone(), verdict, usage }
}

/// Why a story is given up, if it is.
fn given_up(story: &StoryState, most: u32, stuck_after: u32) -> Option<String> {
    let stuck = usize::try_from(stuck_after).unwrap_or(usize::MAX);
    if stuck > 0 && story.failures.len() >= stuck.min(FAILURES) {
        let last = &story.failures[story.failures.len() - stuck.min(FAILURES)..];
        if last.iter().all(|print| *print == last[0]) {
            return Some(format!("it is stuck, the last {} attempts failed in the same way", last.len()));
        }
    }
    (most > 0 && story.attempts >= most).then(|| format!("{} attempts failed", story.attempts))
}
