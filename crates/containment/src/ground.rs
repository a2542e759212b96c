//! What sandboxes are asked of: an engine, or a daemon that has one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cove_core::engine::{Collected, collect};
use cove_core::{Engine, Error, ErrorKind, Exec, ExecSpec, Result, SandboxId, SandboxInfo, SandboxSpec};

/// Most of a program's output that is kept; the longest list answers with less.
const OUTPUT: usize = 1 << 20;

/// Makes, drives and ends sandboxes for the attempts.
#[async_trait]
pub trait Ground: Send + Sync {
    /// The engine's name.
    fn name(&self) -> String;
    /// As [`Engine::create`], with an id of its own choice.
    async fn create(&self, spec: &SandboxSpec) -> Result<SandboxInfo>;
    /// As [`Engine::exec`].
    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec>;
    /// As [`Engine::inspect`].
    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo>;
    /// As [`Engine::stop`], without grace.
    async fn stop(&self, id: &SandboxId) -> Result<()>;
    /// As [`Engine::remove`].
    async fn remove(&self, id: &SandboxId) -> Result<()>;

    /// Runs a program to its end, within `bound`.
    async fn run(&self, id: &SandboxId, spec: &ExecSpec, bound: Duration) -> Result<Collected> {
        let exec = self.exec(id, spec).await?;
        tokio::time::timeout(bound, collect(exec, b"", OUTPUT)).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("A program in sandbox {id} did not end within {}s", bound.as_secs()))
        })?
    }
}

/// An engine in this process.
pub struct EngineGround(pub Arc<dyn Engine>);

#[async_trait]
impl Ground for EngineGround {
    fn name(&self) -> String {
        self.0.kind().to_string()
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<SandboxInfo> {
        // What the service above an engine does.
        spec.validate()?;
        self.0.create(&SandboxId::new(), spec).await
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        self.0.exec(id, spec).await
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.0.inspect(id).await
    }

    async fn stop(&self, id: &SandboxId) -> Result<()> {
        self.0.stop(id, Duration::ZERO).await
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        self.0.remove(id).await
    }
}
