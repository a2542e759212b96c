//! Errors say which engine, which sandbox and which operation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cove_core::{
    Capabilities, Engine, EngineKind, Error, Exec, ExecSpec, Result, SandboxId, SandboxInfo, SandboxSpec, Swept,
};

/// Adds `engine`, `op` and, where there is one, `sandbox` to every error that lacks them.
pub struct Contextual {
    inner: Arc<dyn Engine>,
}

impl Contextual {
    /// Adds context to an engine's errors.
    pub fn new(inner: Arc<dyn Engine>) -> Self {
        Self { inner }
    }

    fn place<'a>(&self, op: &'static str, id: Option<&'a SandboxId>) -> impl Fn(Error) -> Error + use<'a> {
        let engine = self.inner.kind();
        move |error| {
            let lacks = |error: &Error, name: &str| error.context().iter().all(|(known, _)| *known != name);
            let mut error = error;
            if lacks(&error, "engine") {
                error = error.with("engine", engine);
            }
            if let Some(id) = id
                && lacks(&error, "sandbox")
            {
                error = error.with("sandbox", id);
            }
            if lacks(&error, "op") { error.with("op", op) } else { error }
        }
    }
}

#[async_trait]
impl Engine for Contextual {
    fn kind(&self) -> EngineKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self) -> Result<()> {
        self.inner.prove().await.map_err(self.place("prove", None))
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        self.inner.create(id, spec).await.map_err(self.place("create", Some(id)))
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        self.inner.exec(id, spec).await.map_err(self.place("exec", Some(id)))
    }

    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        self.inner.stop(id, grace).await.map_err(self.place("stop", Some(id)))
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        self.inner.remove(id).await.map_err(self.place("remove", Some(id)))
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.inner.inspect(id).await.map_err(self.place("inspect", Some(id)))
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        self.inner.list().await.map_err(self.place("list", None))
    }

    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        self.inner.sweep(known).await.map_err(self.place("sweep", None))
    }
}
