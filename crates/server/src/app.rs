//! What every handler shares.

use std::collections::HashSet;
use std::sync::Arc;

use cove_control::{Findable, Sandboxes, find};
use cove_core::{Error, Records, Result, RunId, RunRecord, SandboxId, SandboxState};
use cove_stores::{RunGlance, Store};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::Activity;
use crate::idempotency::Keys;
use crate::metrics::Metrics;
use crate::options::Options;
use crate::port::Runs;
use crate::token::Expected;

/// Requests worked on at once, streams left out.
const AT_ONCE: usize = 128;

/// Label with the run that a sandbox is for.
const RUN_LABEL: &str = "run.cove.run-id";

/// Shared by all handlers.
pub(crate) type Shared = Arc<App>;

pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) records: Arc<Store>,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) runs: Arc<dyn Runs>,
    pub(crate) metrics: Metrics,
    pub(crate) activity: Activity,
    pub(crate) keys: Keys,
    pub(crate) token: Option<Expected>,
    pub(crate) started_at: Timestamp,
    /// Places for requests that are worked on.
    pub(crate) places: Semaphore,
    /// Ends streams and connections.
    pub(crate) stop: CancellationToken,
    /// Changes that go on when their client leaves, and sockets that were handed over.
    pub(crate) tasks: TaskTracker,
}

impl App {
    pub(crate) fn new(
        options: Options,
        records: Arc<Store>,
        sandboxes: Sandboxes,
        runs: Arc<dyn Runs>,
        stop: CancellationToken,
    ) -> Result<Shared> {
        let token = options.tcp.as_ref().map(|tcp| Expected::new(&tcp.token)).transpose()?;
        Ok(Arc::new(Self {
            options,
            records,
            sandboxes,
            runs,
            metrics: Metrics::default(),
            activity: Activity::new(),
            keys: Keys::default(),
            token,
            started_at: Timestamp::now(),
            places: Semaphore::new(AT_ONCE),
            stop,
            tasks: TaskTracker::new(),
        }))
    }

    /// The run that a person means, as its id.
    pub(crate) async fn run_id(&self, text: &str) -> Result<RunId> {
        if let Ok(id) = text.parse::<RunId>() {
            return Ok(id);
        }
        let named: Vec<Named> = self.records.glance().await?.into_iter().map(Named).collect();
        find(&named, text).map(|found| found.0.id.clone())
    }

    /// The run that a person means.
    pub(crate) async fn find_run(&self, text: &str) -> Result<RunRecord> {
        self.records.run(&self.run_id(text).await?).await
    }

    /// Works to the end even when the client leaves in the middle.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let task = self.tasks.spawn(work);
        task.await.unwrap_or_else(|e| Err(Error::internal("The request failed unexpectedly").because(e)))
    }

    /// Removes sandboxes whose run is over or gone: what a failing engine or a crash left to us.
    pub(crate) async fn reap(&self) -> Result<()> {
        // Sandboxes before runs: one of a run that lives again later is not among them.
        let sandboxes = self.records.sandboxes().await?;
        let living: HashSet<String> = self
            .records
            .glance()
            .await?
            .into_iter()
            .filter(|r| !r.phase.is_final())
            .map(|r| r.id.to_string())
            .collect();
        for info in sandboxes {
            let run = info.spec.labels.get(RUN_LABEL);
            // What failed has nothing left, and its record is there to be read.
            let failed = matches!(info.state, SandboxState::Failed { .. });
            if failed || run.is_none_or(|run| living.contains(run)) {
                continue;
            }
            match self.sandboxes.remove(&info.id).await {
                Ok(()) => tracing::info!(sandbox = %info.id, "removed what an ended run left"),
                Err(error) => tracing::warn!(sandbox = %info.id, %error, "an ended run's sandbox is still there"),
            }
        }
        Ok(())
    }

    /// Sandboxes that living runs work with.
    pub(crate) async fn in_use(&self) -> Result<Vec<SandboxId>> {
        let living = self.records.living_runs().await?;
        Ok(living
            .into_iter()
            .flat_map(|run| run.stories)
            .filter_map(|story| story.current)
            .flat_map(|attempt| attempt.sandboxes)
            .collect())
    }

    /// Whether a run has something to do by itself; one that waits for a person has not.
    pub(crate) async fn busy(&self) -> Result<bool> {
        use cove_core::Phase::{Paused, WaitingInput};
        Ok(self.records.living_runs().await?.iter().any(|run| match run.phase {
            WaitingInput => false,
            Paused => run.resume_at.is_some(),
            phase => !phase.is_final(),
        }))
    }
}

struct Named(RunGlance);

impl Findable for Named {
    const WHAT: &'static str = "run";
    const PREFIX: &'static str = RunId::PREFIX;
    const LISTED_BY: &'static str = "cove runs list";

    fn id(&self) -> &str {
        self.0.id.as_str()
    }
    fn name(&self) -> &str {
        &self.0.name
    }
    fn living(&self) -> bool {
        !self.0.phase.is_final()
    }
}
