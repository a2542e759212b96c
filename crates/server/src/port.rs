//! What the daemon needs of the parts it wires together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cove_api::Delivered;
use cove_control::Sandboxes;
use cove_core::run::RunRequest;
use cove_core::{AttemptId, Engine, InstanceId, Result, RunId, RunRecord, RunSpec};
use cove_stores::Store;
use tokio::sync::broadcast;

use crate::options::Options;

/// The workload that runs are. Methods on a run that does not exist fail with `NotFound`.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Takes a run on.
    async fn submit(&self, spec: RunSpec) -> Result<RunRecord>;
    /// Continues every run that is not over; called once, before anything else.
    async fn recover(&self) -> Result<()>;
    /// Asks a living run to stop or pause.
    async fn request(&self, id: &RunId, request: RunRequest) -> Result<()>;
    /// Goes on with a paused run.
    async fn resume(&self, id: &RunId) -> Result<()>;
    /// Tries the open stories of an ended run again.
    async fn retry(&self, id: &RunId) -> Result<()>;
    /// Removes an ended run with all it kept.
    async fn remove(&self, id: &RunId) -> Result<()>;
    /// Tells of commits: the run, and the last place in its ledger. Missing some is harmless.
    fn changes(&self) -> broadcast::Receiver<(RunId, u64)>;
    /// What a run or one of its stories changed.
    async fn diff(&self, id: &RunId, story: Option<&str>) -> Result<Vec<u8>>;
    /// Delivers its branch into a repository.
    async fn apply(&self, id: &RunId, repository: &Path, switch: bool) -> Result<Delivered>;
    /// Writes its files into a directory.
    async fn export(&self, id: &RunId, directory: &Path) -> Result<Vec<PathBuf>>;
    /// The file with an agent's raw output; of the last attempt when none is named.
    async fn log(&self, id: &RunId, attempt: Option<&AttemptId>) -> Result<PathBuf>;
    /// Ends work in a way that [`recover`](Self::recover) continues.
    async fn shutdown(&self);
}

/// What there is before engines and runs.
#[derive(Debug, Clone)]
pub struct Foundation {
    /// Identity of this control plane.
    pub instance: InstanceId,
    /// The records.
    pub records: Arc<Store>,
    /// As given.
    pub options: Options,
}

/// Makes the adapters. The one place that knows which there are.
#[async_trait]
pub trait Wiring: Send + Sync {
    /// The engines of this host, probed.
    async fn engines(&self, foundation: &Foundation) -> Result<Vec<Arc<dyn Engine>>>;
    /// The workload over them.
    async fn runs(&self, foundation: &Foundation, sandboxes: &Sandboxes) -> Result<Arc<dyn Runs>>;
}
