//! No operation takes forever.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cove_core::{
    Capabilities, Engine, EngineKind, Error, ErrorKind, Exec, ExecSpec, Result, SandboxId, SandboxInfo, SandboxSpec,
    Swept,
};
use tokio::time::timeout;

/// How long each operation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Building a sandbox, the preparation of its root included.
    pub create: Duration,
    /// Starting a process (not running it).
    pub exec: Duration,
    /// Stopping, beyond the grace that is asked for.
    pub stop: Duration,
    /// Removing one.
    pub remove: Duration,
    /// Looking at one, and listing all.
    pub look: Duration,
    /// A sweep.
    pub sweep: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            create: Duration::from_secs(15 * 60),
            exec: Duration::from_secs(60),
            stop: Duration::from_secs(120),
            remove: Duration::from_secs(5 * 60),
            look: Duration::from_secs(60),
            sweep: Duration::from_secs(10 * 60),
        }
    }
}

/// Ends operations at their deadline with [`ErrorKind::Timeout`].
pub struct Bounded {
    inner: Arc<dyn Engine>,
    deadlines: Deadlines,
}

impl Bounded {
    /// Bounds an engine.
    pub fn new(inner: Arc<dyn Engine>, deadlines: Deadlines) -> Self {
        Self { inner, deadlines }
    }
}

async fn within<T>(what: &str, deadline: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(deadline, work).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, format!("{what} took longer than {deadline:?}"))
            .next("Try again; if it repeats, look at the load of the host and at cove doctor"))
    })
}

#[async_trait]
impl Engine for Bounded {
    fn kind(&self) -> EngineKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self) -> Result<()> {
        self.inner.prove().await
    }

    /// At the deadline what was half built is removed, so that nothing of it is left.
    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        let made = within("Creating a sandbox", self.deadlines.create, self.inner.create(id, spec)).await;
        if let Err(error) = &made
            && error.kind() == ErrorKind::Timeout
            && let Err(left) = within("Removing a sandbox", self.deadlines.remove, self.inner.remove(id)).await
        {
            tracing::warn!(sandbox = %id, error = %left, "what was half built could not be removed; a sweep will");
        }
        made
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        within("Starting a process", self.deadlines.exec, self.inner.exec(id, spec)).await
    }

    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        let deadline = self.deadlines.stop.saturating_add(grace);
        within("Stopping a sandbox", deadline, self.inner.stop(id, grace)).await
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        within("Removing a sandbox", self.deadlines.remove, self.inner.remove(id)).await
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        within("Looking at a sandbox", self.deadlines.look, self.inner.inspect(id)).await
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        within("Listing sandboxes", self.deadlines.look, self.inner.list()).await
    }

    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        within("Sweeping", self.deadlines.sweep, self.inner.sweep(known)).await
    }
}
