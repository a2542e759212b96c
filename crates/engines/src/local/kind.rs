//! What tells one local engine from another.

use async_trait::async_trait;
use cove_core::{Capabilities, EngineKind, Result, SandboxId, SandboxSpec, Swept};
use serde_json::Value;

use crate::supervisor::launch::Remains;

/// The daemon's side of a local engine; its supervisor's side is a
/// [`Launcher`](crate::supervisor::launch::Launcher).
#[async_trait]
pub trait Kind: Send + Sync + 'static {
    /// Which engine this is; the supervisor chooses its launcher by it.
    fn kind(&self) -> EngineKind;

    /// What was proven on this host.
    fn capabilities(&self) -> &Capabilities;

    /// Refuses what the capability table cannot express. The table has been compared with the spec
    /// already.
    ///
    /// # Errors
    /// `Invalid` or `Unsupported`.
    fn check(&self, _spec: &SandboxSpec) -> Result<()> {
        Ok(())
    }

    /// Slow work before the supervisor starts, such as unpacking a root. The value reaches the
    /// launcher as `Place::options`. Must leave nothing behind that belongs to this sandbox alone.
    async fn prepare(&self, _id: &SandboxId, _spec: &SandboxSpec) -> Result<Value> {
        Ok(Value::Null)
    }

    /// Removes what it made for several sandboxes and nobody needs any more. Part of a sweep; failing
    /// harms nothing.
    async fn tidy(&self) -> Result<Vec<Swept>> {
        Ok(Vec::new())
    }

    /// What supervisors may leave behind.
    fn remains(&self) -> &dyn Remains;
}
