//! The port to whatever keeps records.

use async_trait::async_trait;

use crate::error::Result;
use crate::id::{RunId, SandboxId};
use crate::ledger::{Entry, NewEntry};
use crate::run::RunRecord;
use crate::sandbox::SandboxInfo;

/// Keeps runs, their ledgers and sandboxes. What a method acknowledged survives a power loss.
#[async_trait]
pub trait Records: Send + Sync {
    /// Stores a run's new state together with the facts that led to it: both or neither.
    /// `record.version` must be the stored one (0 for a new run); it is raised by one in the result.
    /// Returns the entries with their places.
    ///
    /// # Errors
    /// `Conflict` when another writer was first, or the name of a new run is taken by a living one.
    async fn commit(&self, record: &mut RunRecord, facts: Vec<NewEntry>) -> Result<Vec<Entry>>;

    /// One run. `NotFound` when there is none.
    async fn run(&self, id: &RunId) -> Result<RunRecord>;

    /// All runs, newest first, at most `limit`.
    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>>;

    /// Forgets a run and its ledger. Harmless when repeated.
    async fn forget_run(&self, id: &RunId) -> Result<()>;

    /// Ledger entries after position `after`, in order, at most `limit`.
    async fn entries(&self, id: &RunId, after: u64, limit: usize) -> Result<Vec<Entry>>;

    /// Stores what is known of a sandbox, replacing what was.
    async fn put_sandbox(&self, info: &SandboxInfo) -> Result<()>;

    /// All sandboxes on record, newest first.
    async fn sandboxes(&self) -> Result<Vec<SandboxInfo>>;

    /// Forgets a sandbox. Harmless when repeated.
    async fn forget_sandbox(&self, id: &SandboxId) -> Result<()>;
}
