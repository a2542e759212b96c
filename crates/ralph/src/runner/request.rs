//! What people ask of a run that is there.

use std::time::Duration;

use cove_core::run::{Phase, RunRecord, RunRequest, StoryStatus};
use cove_core::{Ending, Error, ErrorKind, Fact, Result, RunId};
use tokio::sync::oneshot;

use super::Runner;
use crate::run::{Command, Place, place};

/// Until an owner has put a request on record.
const ANSWER: Duration = Duration::from_secs(30);
/// Until the owner of a run that has ended is gone.
const GONE: Duration = Duration::from_secs(30);

impl Runner {
    /// Asks a run to stop or to pause. Work under way is ended at once and counts as interrupted; the
    /// phase changes when that is done. Repeating is harmless.
    ///
    /// # Errors
    /// `NotFound` without such a run, `Conflict` when it has ended or is paused already.
    pub async fn request(&self, id: &RunId, request: RunRequest) -> Result<()> {
        let record = self.shared.deps.records.run(id).await?;
        if request == RunRequest::Stop && record.phase == Phase::Stopped {
            return Ok(());
        }
        self.tell(&record, |answer| Command::Request(request, answer)).await
    }

    /// Lets a paused run go on, also one that waits for a provider.
    ///
    /// # Errors
    /// `NotFound` without such a run, `Conflict` when it is not paused.
    pub async fn resume(&self, id: &RunId) -> Result<()> {
        let record = self.shared.deps.records.run(id).await?;
        self.tell(&record, Command::Resume).await
    }

    async fn tell(
        &self,
        record: &RunRecord,
        command: impl FnOnce(oneshot::Sender<Result<()>>) -> Command,
    ) -> Result<()> {
        let ended = || Error::new(ErrorKind::Conflict, format!("The run {} {}", record.name, record.phase.told()));
        if record.phase.is_final() {
            return Err(match record.ending {
                Some(Ending::Succeeded) => ended().next("Nothing is left to do; `cove runs apply` takes its work"),
                _ => ended().next(format!("`cove runs retry {}` begins it again", record.name)),
            });
        }
        let owner = self.shared.live().get(&record.id).cloned();
        let owner = match owner {
            Some(owner) => owner,
            None => {
                // Its owner gave up on a failure of the records; another one tries.
                let _changing = self.changing.lock().await;
                let record = self.shared.deps.records.run(&record.id).await?;
                if record.phase.is_final() {
                    return Err(ended());
                }
                match self.launch(record.clone()) {
                    Err(e) if e.kind() != ErrorKind::Conflict => return Err(e),
                    _ => {}
                }
                let launched = self.shared.live().get(&record.id).cloned();
                launched.ok_or_else(ended)?
            }
        };
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            owner.send(command(answer)).await.map_err(|_| ended())?;
            answered.await.map_err(|_| ended())?
        };
        tokio::time::timeout(ANSWER, exchange)
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, format!("The run {} does not answer", record.name))))
    }

    /// Begins a run again that ended without having done everything: what passed stays, stories that
    /// were given up get fresh limits, and the bounds of the run count from here on.
    ///
    /// # Errors
    /// `NotFound` without such a run, `Conflict` when it has not ended, or succeeded, or when a living
    /// run has its name.
    pub async fn retry(&self, id: &RunId) -> Result<RunRecord> {
        self.wait_until_unowned(id).await?;
        let _changing = self.changing.lock().await;
        let mut record = self.shared.deps.records.run(id).await?;
        if !record.phase.is_final() {
            return Err(Error::new(ErrorKind::Conflict, format!("The run {} {}", record.name, record.phase.told()))
                .next(format!("Stop it first: `cove runs stop {}`", record.name)));
        }
        if record.ending == Some(Ending::Succeeded) {
            return Err(Error::new(ErrorKind::Conflict, format!("The run {} has succeeded", record.name))
                .next("Nothing is left to do; a new run begins with `cove run`"));
        }
        let before = format!(
            "Begun again after {} iterations and {} tokens: bounds count from here",
            record.iterations,
            record.usage.tokens()
        );
        for story in record.stories.iter_mut().filter(|story| story.status != StoryStatus::Passed) {
            story.status = StoryStatus::Open;
            story.attempts = 0;
            story.failures.clear();
        }
        record.iterations = 0;
        record.infrastructure_failures = 0;
        record.usage = cove_core::Usage::default();
        record.worked_millis = 0;
        record.ending = None;
        record.reason = None;
        record.request = None;
        record.phase = Phase::Queued;
        let facts = vec![Fact::Note { text: before }, Fact::PhaseChanged { phase: Phase::Queued, reason: None }];
        self.shared.commit(&mut record, facts).await?;
        self.launch(record.clone())?;
        Ok(record)
    }

    /// Deletes everything of a run that has ended: sandboxes, repository, logs, ledger. What was
    /// delivered to the user's repository stays. Harmless when repeated.
    ///
    /// # Errors
    /// `Conflict` when it has not ended.
    pub async fn remove(&self, id: &RunId) -> Result<()> {
        let record = match self.shared.deps.records.run(id).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        if !record.phase.is_final() {
            return Err(Error::new(ErrorKind::Conflict, format!("The run {} {}", record.name, record.phase.told()))
                .next(format!("Stop it first: `cove runs stop {}`", record.name)));
        }
        self.wait_until_unowned(id).await?;
        let _changing = self.changing.lock().await;
        for sandbox in self.shared.deps.records.sandboxes().await? {
            if sandbox.spec.labels.get(crate::run::crew::RUN_LABEL).is_some_and(|run| run == id.as_str()) {
                self.shared.deps.sandboxes.remove(&sandbox.id).await?;
            }
        }
        // The record goes last: until then the removal can be repeated.
        place::clear(Place::new(&self.shared.deps.data_dir, id).root().to_owned()).await?;
        self.shared.deps.records.forget_run(id).await
    }

    /// The owner of a run that has ended is about to go.
    async fn wait_until_unowned(&self, id: &RunId) -> Result<()> {
        let gone = async {
            while self.shared.deps.records.run(id).await?.phase.is_final() && self.shared.live().contains_key(id) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        };
        tokio::time::timeout(GONE, gone).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("The run {id} is still being tidied up"))
                .next("Try again in a moment"))
        })
    }
}
