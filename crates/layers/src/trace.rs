//! A span around every operation, and its end as an event.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cove_core::{Capabilities, Engine, EngineKind, Exec, ExecSpec, Result, SandboxId, SandboxInfo, SandboxSpec, Swept};
use tracing::{Instrument as _, Span, debug_span};

/// Traces an engine's operations.
pub struct Traced {
    inner: Arc<dyn Engine>,
}

impl Traced {
    /// Traces an engine.
    pub fn new(inner: Arc<dyn Engine>) -> Self {
        Self { inner }
    }

    fn span(&self, op: &'static str, id: Option<&SandboxId>) -> Span {
        let sandbox = id.map(tracing::field::display);
        debug_span!("engine", engine = %self.inner.kind(), op, sandbox)
    }
}

/// Runs inside the span. What fails is the caller's to report; here it is a detail.
async fn watched<T>(span: Span, work: impl Future<Output = Result<T>>) -> Result<T> {
    async {
        let begun = Instant::now();
        let done = work.await;
        let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &done {
            Ok(_) => tracing::debug!(millis, "done"),
            Err(error) => tracing::debug!(millis, code = error.kind().code(), %error, "failed"),
        }
        done
    }
    .instrument(span)
    .await
}

#[async_trait]
impl Engine for Traced {
    fn kind(&self) -> EngineKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self) -> Result<()> {
        watched(self.span("prove", None), self.inner.prove()).await
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        watched(self.span("create", Some(id)), self.inner.create(id, spec)).await
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        watched(self.span("exec", Some(id)), self.inner.exec(id, spec)).await
    }

    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        watched(self.span("stop", Some(id)), self.inner.stop(id, grace)).await
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        watched(self.span("remove", Some(id)), self.inner.remove(id)).await
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        watched(self.span("inspect", Some(id)), self.inner.inspect(id)).await
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        watched(self.span("list", None), self.inner.list()).await
    }

    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        watched(self.span("sweep", None), self.inner.sweep(known)).await
    }
}
