//! All runs of one daemon: asked for, queued, owned by one task each, and continued after a restart.

mod output;
mod request;
mod submit;

pub use submit::check_request;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cove_control::Sandboxes;
use cove_core::run::{AgentChoice, RunRecord, StoryStatus};
use cove_core::{Agent, Clock, Door, Ending, Error, ErrorKind, Fact, Records, Result, RunId};
use cove_git::Git;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::run::{Command, Owner};

/// Changes that a slow follower may fall behind before it has to look at the records instead.
const CHANGES: usize = 1024;
/// Commands that wait for one owner.
const COMMANDS: usize = 16;
/// Runs looked at, at a start and when a name is chosen.
pub(crate) const RUNS: usize = 100_000;
/// Waiting for owners at the end.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Finds the adapter of an agent.
pub type Agents = Arc<dyn Fn(&AgentChoice) -> Result<Arc<dyn Agent>> + Send + Sync>;

/// What runs need.
pub struct Dependencies {
    /// Where runs and ledgers are kept.
    pub records: Arc<dyn Records>,
    /// Makes sandboxes.
    pub sandboxes: Arc<Sandboxes>,
    /// Opens ways out.
    pub door: Arc<dyn Door>,
    /// Finds agents.
    pub agents: Agents,
    /// Git.
    pub git: Git,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Where runs keep their repositories and logs, below `runs/`.
    pub data_dir: PathBuf,
    /// Runs that work at the same time; others wait in the order they came.
    pub max_concurrent_runs: usize,
}

/// How long the loop waits where nothing tells it.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Before the first repetition after a failure of the infrastructure; doubles, up to a minute.
    pub first_backoff: Duration,
    /// For an agent that has said its last words and does not end.
    pub final_grace: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first_backoff: Duration::from_secs(2), final_grace: Duration::from_secs(20) }
    }
}

/// Runs PRDs. Dropping it ends every owner at once, as a crash would; [`Runner::shutdown`] is the
/// orderly way.
pub struct Runner {
    pub(crate) shared: Arc<Shared>,
    owners: Mutex<JoinSet<()>>,
    /// One change of the set of runs at a time: names are chosen and owners started under it.
    changing: tokio::sync::Mutex<()>,
}

/// What owners and workers share.
pub(crate) struct Shared {
    pub(crate) deps: Dependencies,
    pub(crate) pace: Pace,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) stopping: CancellationToken,
    changes: broadcast::Sender<(RunId, u64)>,
    live: Mutex<HashMap<RunId, mpsc::Sender<Command>>>,
    /// Small jobs that outlive their worker.
    tended: Mutex<JoinSet<()>>,
}

impl Runner {
    /// A runner without runs; [`recover`](Self::recover) continues those on record.
    pub fn new(deps: Dependencies) -> Arc<Self> {
        Self::with_pace(deps, Pace::default())
    }

    /// As [`new`](Self::new), at another pace.
    pub fn with_pace(deps: Dependencies, pace: Pace) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(deps.max_concurrent_runs.clamp(1, 1024)));
        let shared = Shared {
            deps,
            pace,
            slots,
            stopping: CancellationToken::new(),
            changes: broadcast::Sender::new(CHANGES),
            live: Mutex::default(),
            tended: Mutex::default(),
        };
        Arc::new(Self { shared: Arc::new(shared), owners: Mutex::default(), changing: tokio::sync::Mutex::default() })
    }

    /// Run and last ledger position after every change. A follower that lags reads the records.
    pub fn changes(&self) -> broadcast::Receiver<(RunId, u64)> {
        self.shared.changes.subscribe()
    }

    /// Continues every run that has not ended. Called once, at the start.
    ///
    /// # Errors
    /// Those of the records. A run that cannot be continued is logged and left.
    pub async fn recover(&self) -> Result<()> {
        let _changing = self.changing.lock().await;
        let mut unfinished: Vec<RunRecord> =
            self.shared.deps.records.runs(RUNS).await?.into_iter().filter(|run| !run.phase.is_final()).collect();
        // In the order they were asked for, which is their place in the queue.
        unfinished.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        for record in unfinished {
            let id = record.id.clone();
            match self.launch(record.clone()) {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Conflict) => {
                    tracing::warn!(run = %id, error = %e, "the run is not continued now");
                }
                Err(e) => self.give_up(record, &e).await,
            }
        }
        Ok(())
    }

    /// Ends a run that nobody can own any more: its PRD or its agent cannot be read.
    async fn give_up(&self, mut record: RunRecord, error: &Error) {
        tracing::error!(run = %record.id, %error, "the run cannot be continued");
        for current in record.stories.iter_mut().filter_map(|story| story.current.take()) {
            for sandbox in &current.sandboxes {
                if let Err(error) = self.shared.deps.sandboxes.remove(sandbox).await {
                    tracing::warn!(%sandbox, %error, "left to the next sweep");
                }
            }
        }
        for story in record.stories.iter_mut().filter(|story| story.status == StoryStatus::Working) {
            story.status = StoryStatus::Open;
        }
        let ending = Ending::Failed { reason: format!("The run cannot be continued: {error}") };
        record.phase = ending.phase();
        record.reason = Some(ending.reason());
        record.ending = Some(ending.clone());
        record.request = None;
        let facts =
            vec![Fact::PhaseChanged { phase: record.phase, reason: record.reason.clone() }, Fact::Finished { ending }];
        if let Err(error) = self.shared.commit(&mut record, facts).await {
            tracing::error!(run = %record.id, %error, "its end cannot be recorded");
        }
    }

    /// Ends work under way, which is recorded as interrupted, and waits for it. Runs go on at the next
    /// [`recover`](Self::recover).
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        let mut owners = std::mem::take(&mut *self.owners());
        let ended = async { while owners.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN, ended).await.is_err() {
            tracing::error!("runs did not end in time; they are cut off");
        }
        owners.shutdown().await;
        let mut tended = std::mem::take(&mut *self.shared.tended());
        let ended = async { while tended.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN, ended).await.is_err() {
            tracing::warn!("sandboxes under way are left to the next start");
        }
    }

    fn owners(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails once the end has begun.
    fn open(&self) -> Result<()> {
        if self.shared.stopping.is_cancelled() {
            return Err(Error::new(ErrorKind::Unavailable, "The daemon is ending").next("Try again in a moment"));
        }
        Ok(())
    }

    /// Starts the owner of a run that has none.
    fn launch(&self, record: RunRecord) -> Result<()> {
        self.open()?;
        let id = record.id.clone();
        let (sender, commands) = mpsc::channel(COMMANDS);
        let owner = Owner::new(Arc::clone(&self.shared), record, commands)?;
        if self.shared.live().contains_key(&id) {
            return Err(Error::new(ErrorKind::Conflict, format!("The run {id} is being worked on")));
        }
        self.shared.live().insert(id.clone(), sender);
        let shared = Arc::clone(&self.shared);
        let mut owners = self.owners();
        while owners.try_join_next().is_some() {}
        owners.spawn(async move {
            let _living = Living { shared, id };
            owner.live().await;
        });
        Ok(())
    }
}

/// Takes the run off the list of living ones, however its owner ends.
struct Living {
    shared: Arc<Shared>,
    id: RunId,
}

impl Drop for Living {
    fn drop(&mut self) {
        self.shared.live().remove(&self.id);
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, HashMap<RunId, mpsc::Sender<Command>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tended(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a small job to its end, whoever asked for it. It must not hold this.
    pub(crate) fn tend(&self, job: impl Future<Output = ()> + Send + 'static) {
        let mut tended = self.tended();
        while tended.try_join_next().is_some() {}
        tended.spawn(job);
    }

    /// One step of a run; wakes those who follow it.
    pub(crate) async fn commit(&self, record: &mut RunRecord, facts: Vec<Fact>) -> Result<()> {
        record.updated_at = self.deps.clock.now();
        let mut tries = 0;
        let entries = loop {
            match self.deps.records.commit(record, facts.clone()).await {
                Err(e) if e.kind().retryable() && tries < 5 => {
                    tries += 1;
                    tracing::warn!(run = %record.id, error = %e, "a step could not be recorded; trying again");
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                }
                done => break done?,
            }
        };
        if let Some(last) = entries.last() {
            // Nobody may be listening.
            let _ = self.changes.send((record.id.clone(), last.seq));
        }
        Ok(())
    }
}
