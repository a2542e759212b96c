//! An engine that cannot be used, so that people see why.

use std::time::Duration;

use async_trait::async_trait;
use cove_core::{
    Capabilities, Control, Engine, EngineKind, Error, ErrorKind, Exec, ExecSpec, Result, SandboxId, SandboxInfo,
    SandboxSpec, Swept,
};

/// Stands where an engine would, with the reason why there is none. Nothing is made, and what an
/// earlier daemon made is left alone.
pub(crate) struct Absent {
    kind: EngineKind,
    class: ErrorKind,
    capabilities: Capabilities,
    why: String,
    next: String,
}

impl Absent {
    pub(crate) fn new(kind: EngineKind, error: &Error) -> Self {
        let why = error.told().join(": ");
        let capabilities =
            Control::ALL.into_iter().fold(Capabilities::default(), |all, control| all.missing(control, why.clone()));
        let next = error.next_step().unwrap_or("`cove doctor` shows what this host lacks").to_owned();
        let class = match error.kind() {
            told @ (ErrorKind::Denied | ErrorKind::Unsupported) => told,
            _ => ErrorKind::Unavailable,
        };
        Self { kind, class, capabilities, why, next }
    }

    pub(crate) fn refuse<T>(&self) -> Result<T> {
        Err(Error::new(self.class, format!("The engine {} cannot be used: {}", self.kind, self.why))
            .next(self.next.clone()))
    }
}

#[async_trait]
impl Engine for Absent {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn prove(&self) -> Result<()> {
        self.refuse()
    }

    async fn create(&self, _: &SandboxId, _: &SandboxSpec) -> Result<SandboxInfo> {
        self.refuse()
    }

    async fn exec(&self, _: &SandboxId, _: &ExecSpec) -> Result<Exec> {
        self.refuse()
    }

    async fn stop(&self, _: &SandboxId, _: Duration) -> Result<()> {
        self.refuse()
    }

    async fn remove(&self, _: &SandboxId) -> Result<()> {
        self.refuse()
    }

    async fn inspect(&self, _: &SandboxId) -> Result<SandboxInfo> {
        self.refuse()
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        self.refuse()
    }

    async fn sweep(&self, _: &[SandboxId]) -> Result<Vec<Swept>> {
        self.refuse()
    }
}
