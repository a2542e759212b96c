//! One wave of attempts, and the loop that listens while workers work.

use std::future::Future;
use std::pin::Pin;

use cove_core::run::{CurrentAttempt, Phase, StoryStatus};
use cove_core::{AttemptId, Ending, Fact, Result, SandboxId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Conclusion, Job, Worked};
use super::budget::Bound;
use super::choice::{Choice, choose};
use super::crew::Message;
use super::owner::Owner;

/// Reports that wait for the owner.
const REPORTS: usize = 64;

/// A worker, not yet started.
pub(super) type Work = Pin<Box<dyn Future<Output = Worked> + Send>>;

/// The way from workers to the owner, and the one back.
pub(super) struct Line {
    pub(super) to_owner: mpsc::Sender<Message>,
    pub(super) reports: mpsc::Receiver<Message>,
    pub(super) cancel: CancellationToken,
}

impl Line {
    pub(super) fn new() -> Self {
        let (to_owner, reports) = mpsc::channel(REPORTS);
        Self { to_owner, reports, cancel: CancellationToken::new() }
    }
}

impl Owner {
    /// Chooses stories and works on them, or ends the run.
    pub(super) async fn wave(&mut self) -> Result<()> {
        let bounds = self.record.spec.bounds.clone();
        let most = usize::try_from(self.record.spec.parallel.clamp(1, 16)).unwrap_or(1);
        let stories = match choose(&self.record, &self.prd, most) {
            Choice::Done => return self.end(Ending::Succeeded).await,
            Choice::Blocked { reason } => return self.end(Ending::Incomplete { reason }).await,
            Choice::Work(stories) => stories,
        };
        let left = match bounds.iterations {
            0 => usize::MAX,
            bound => usize::try_from(bound.saturating_sub(self.record.iterations)).unwrap_or(usize::MAX),
        };
        let wall = self.wall_end().is_some_and(|end| end <= tokio::time::Instant::now());
        let reached =
            self.budget.reached().or(wall.then_some(Bound::Wall)).or((left == 0).then_some(Bound::Iterations));
        if let Some(bound) = reached {
            return self.limit(bound).await;
        }
        let jobs = self.begin(stories.into_iter().take(left)).await?;
        let site = self.site();
        let line = Line::new();
        let work = jobs.into_iter().map(|job| -> Work {
            let (site, to_owner, cancel) = (site.clone(), line.to_owner.clone(), line.cancel.clone());
            Box::pin(attempt::work(site, job, to_owner, cancel))
        });
        let work: Vec<Work> = work.collect();
        let mut ready = self.drive(work, line).await?;
        ready.sort_by_key(|worked| worked.job.story);
        for worked in ready {
            if self.record.phase == Phase::Running {
                self.accept(worked).await?;
            }
        }
        self.after_wave().await
    }

    /// Puts attempts on record before anything of them exists.
    async fn begin(&mut self, stories: impl Iterator<Item = usize>) -> Result<Vec<Job>> {
        let head = self.head()?;
        let progress = self.files.progress();
        let passed = self.passed();
        let (mut jobs, mut facts) = (Vec::new(), Vec::new());
        for at in stories {
            let story = &mut self.record.stories[at];
            let job = Job {
                attempt: AttemptId::new(),
                story: at,
                number: story.attempts + 1,
                base: head.clone(),
                sandbox: SandboxId::new(),
                feedback: story.feedback.clone(),
                progress: progress.clone(),
                passed,
            };
            story.status = StoryStatus::Working;
            story.current = Some(CurrentAttempt {
                id: job.attempt.clone(),
                base: head.clone(),
                sandboxes: vec![job.sandbox.clone()],
                accepted: None,
            });
            facts.push(Fact::AttemptStarted {
                attempt: job.attempt.clone(),
                story: story.id.clone(),
                number: job.number,
                base: head.clone(),
            });
            jobs.push(job);
        }
        self.commit(facts).await?;
        Ok(jobs)
    }

    /// Runs workers to their end while it records what they report and obeys people and bounds.
    /// Concludes what was not accepted; returns the others.
    pub(super) async fn drive(&mut self, work: Vec<Work>, line: Line) -> Result<Vec<Worked>> {
        let Line { to_owner, mut reports, cancel } = line;
        // Workers hold senders of their own; the channel ends with them.
        drop(to_owner);
        // Whatever makes this function return, the workers are told.
        let _guard = cancel.clone().drop_guard();
        let mut workers = JoinSet::new();
        for work in work {
            workers.spawn(work);
        }
        let mut ready = Vec::new();
        let wall = self.wall_end();
        let mut over_wall = false;
        while !workers.is_empty() {
            let far = tokio::time::Instant::now() + std::time::Duration::from_secs(3600);
            tokio::select! {
                biased;
                () = self.shared.stopping.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
                Some(command) = self.commands.recv() => {
                    if self.hear(command).await {
                        cancel.cancel();
                    }
                }
                () = tokio::time::sleep_until(wall.unwrap_or(far)), if wall.is_some() && !over_wall => {
                    over_wall = true;
                    cancel.cancel();
                }
                Some(message) = reports.recv() => self.report(message, &mut reports).await?,
                Some(joined) = workers.join_next() => {
                    // What it reported last comes before its end.
                    while let Ok(message) = reports.try_recv() {
                        self.report(message, &mut reports).await?;
                    }
                    match joined {
                        Ok(mut worked) => {
                            if over_wall && matches!(worked.conclusion, Conclusion::Interrupted) {
                                worked.conclusion = Conclusion::Bound(Bound::Wall);
                            }
                            if matches!(worked.conclusion, Conclusion::Bound(_)) {
                                // It is the whole run's bound.
                                cancel.cancel();
                            }
                            if matches!(worked.conclusion, Conclusion::Ready { .. }) {
                                ready.push(worked);
                            } else {
                                self.conclude(worked).await?;
                            }
                        }
                        Err(error) => tracing::error!(run = %self.record.id, %error, "a worker failed unexpectedly"),
                    }
                }
            }
        }
        Ok(ready)
    }

    /// Records a report and those that wait behind it, in one step.
    async fn report(&mut self, first: Message, reports: &mut mpsc::Receiver<Message>) -> Result<()> {
        let (mut facts, mut answers) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        for _ in 0..REPORTS {
            match next {
                Some(Message::Facts { facts: more }) => facts.extend(more),
                Some(Message::Intend { attempt, sandboxes, done }) => {
                    let stories = &mut self.record.stories;
                    let current = stories.iter_mut().filter_map(|s| s.current.as_mut()).find(|c| c.id == attempt);
                    if let Some(current) = current {
                        current.sandboxes.extend(sandboxes);
                        answers.push(done);
                    }
                }
                None => break,
            }
            next = reports.try_recv().ok();
        }
        self.commit(facts).await?;
        for done in answers {
            let _ = done.send(());
        }
        Ok(())
    }

    /// What the wave as a whole led to: an end, a pause, or the next wave.
    async fn after_wave(&mut self) -> Result<()> {
        // A worker that failed unexpectedly left its attempt open.
        self.give_back_orphans().await?;
        if self.record.phase != Phase::Running {
            return Ok(());
        }
        let after = std::mem::take(&mut self.after);
        if let Some(ending) = after.ending {
            return self.end(ending).await;
        }
        if let Some(bound) = after.bound {
            return self.limit(bound).await;
        }
        if self.record.request.is_some() || self.shared.stopping.is_cancelled() {
            return Ok(());
        }
        if let Some((resets_at, reason)) = after.limited {
            if !self.record.spec.bounds.wait_for_provider {
                let limit = Bound::Provider.name().to_owned();
                return self.end(Ending::LimitReached { limit, reason }).await;
            }
            return self.wait_for_provider(resets_at, reason).await;
        }
        match after.broken {
            Some(error) => self.back_off(&error).await,
            None => Ok(()),
        }
    }

    /// Ends the run at a bound.
    async fn limit(&mut self, bound: Bound) -> Result<()> {
        let reason = bound.reason(&self.record.spec.bounds);
        self.end(Ending::LimitReached { limit: bound.name().to_owned(), reason }).await
    }
}
