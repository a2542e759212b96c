//! Records and engines brought together.

use std::collections::BTreeMap;
use std::time::Duration;

use cove_core::{Engine, Result, SandboxId, SandboxInfo, SandboxState, Swept};
use jiff::Timestamp;

use crate::sandboxes::Inner;

/// How long the record of a sandbox that failed is kept for people to read.
const FAILED_KEPT_SECONDS: i64 = 86_400;

/// How many of them, the newest, are kept at most.
const FAILED_KEPT: usize = 100;

/// How often, and how long apart, a sweep waits for creations to end before it leaves the work to the next.
const TRIES: u32 = 50;
const APART: Duration = Duration::from_millis(100);

impl Inner {
    pub(crate) async fn reconcile(&self, keep: &[SandboxId]) -> Result<Vec<Swept>> {
        let mut swept = Vec::new();
        for engine in &self.engines {
            match self.reconcile_one(&**engine, keep).await {
                Ok(removed) => swept.extend(removed),
                Err(error) => {
                    self.trouble.notify_one();
                    tracing::warn!(engine = %engine.kind(), error = %error.chain().join(": "), "not reconciled");
                }
            }
        }
        self.prune(keep).await?;
        Ok(swept)
    }

    async fn reconcile_one(&self, engine: &dyn Engine, keep: &[SandboxId]) -> Result<Vec<Swept>> {
        let seen = engine.list().await?;
        let mut seen: BTreeMap<SandboxId, SandboxInfo> = seen.into_iter().map(|i| (i.id.clone(), i)).collect();
        for record in self.records.sandboxes().await? {
            // One made after the list was taken is not missing: its state is asked for by itself.
            if record.engine == engine.kind() {
                let now = match seen.remove(&record.id) {
                    None if record.state == SandboxState::Running => engine.inspect(&record.id).await.ok(),
                    now => now,
                };
                self.learn(record, now).await?;
            }
        }
        let Some(_alone) = self.alone().await else {
            tracing::debug!(engine = %engine.kind(), "sandboxes are being made; swept next time");
            return Ok(Vec::new());
        };
        let mut known: Vec<SandboxId> = self.records.sandboxes().await?.into_iter().map(|i| i.id).collect();
        known.extend_from_slice(keep);
        let swept = engine.sweep(&known).await?;
        for remain in &swept {
            tracing::info!(engine = %engine.kind(), kind = remain.kind, name = remain.name, "removed a remain");
        }
        Ok(swept)
    }

    /// Waits until no sandbox is being made; new ones wait while the guard is held.
    async fn alone(&self) -> Option<tokio::sync::RwLockWriteGuard<'_, ()>> {
        for _ in 0..TRIES {
            // A waiting writer would hold back every creation behind the slowest one.
            if let Ok(guard) = self.making.try_write() {
                return Some(guard);
            }
            tokio::time::sleep(APART).await;
        }
        None
    }

    /// Forgets failures that are old or too many.
    async fn prune(&self, keep: &[SandboxId]) -> Result<()> {
        let now = Timestamp::now().as_second();
        let records = self.records.sandboxes().await?;
        let failed = records.into_iter().filter(|i| matches!(i.state, SandboxState::Failed { .. }));
        for (place, record) in failed.enumerate() {
            let old = now - record.created_at.as_second() > FAILED_KEPT_SECONDS;
            if keep.contains(&record.id) || !old && place < FAILED_KEPT {
                continue;
            }
            let Some(engine) = self.engines.iter().find(|e| e.kind() == record.engine) else { continue };
            match engine.remove(&record.id).await {
                Ok(()) => self.forget(&record.id).await?,
                Err(error) => tracing::warn!(sandbox = %record.id, %error, "a failed sandbox stays on record"),
            }
        }
        Ok(())
    }
}
