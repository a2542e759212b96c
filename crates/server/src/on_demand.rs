//! An engine that is looked for when somebody asks for it, so that a daemon starts no slower for those that
//! nobody uses, and so that one that comes up later is found.
//!
//! A note in the state directory says that there may be sandboxes of it. Without the note nothing of it is
//! looked for by a sweep: a service that ended because nobody needs it is not started for that.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cove_core::error::Context as _;
use cove_core::{
    Capabilities, Control, Engine, EngineKind, Error, ErrorKind, Exec, ExecSpec, Result, SandboxId, SandboxInfo,
    SandboxSpec, Swept,
};

use crate::absent::Absent;

/// Looks for the engine and proves it; may wait.
pub(crate) type Make = Arc<dyn Fn() -> Result<Arc<dyn Engine>> + Send + Sync>;

/// How long an engine that was not there is not looked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long looking and proving may take for whoever waits; it goes on to its end.
const PATIENCE: Duration = Duration::from_secs(100);

pub(crate) struct OnDemand {
    kind: EngineKind,
    unasked: Capabilities,
    used: PathBuf,
    inner: Arc<Inner>,
}

struct Inner {
    make: Make,
    made: OnceLock<Arc<dyn Engine>>,
    /// Held while it is looked for.
    turn: tokio::sync::Mutex<()>,
    failed: Mutex<Option<(Instant, Absent)>>,
}

impl OnDemand {
    /// `used` is the note's place.
    pub(crate) fn new(kind: EngineKind, used: PathBuf, make: Make) -> Self {
        let why = "Nobody asked for it yet";
        let unasked = Control::ALL.into_iter().fold(Capabilities::default(), |all, control| all.missing(control, why));
        let inner =
            Inner { make, made: OnceLock::new(), turn: tokio::sync::Mutex::default(), failed: Mutex::default() };
        Self { kind, unasked, used, inner: Arc::new(inner) }
    }

    async fn engine(&self) -> Result<&Arc<dyn Engine>> {
        if self.inner.made.get().is_none() {
            let (inner, kind) = (self.inner.clone(), self.kind);
            let looking = tokio::spawn(async move { inner.look(kind).await });
            tokio::time::timeout(PATIENCE, looking)
                .await
                .map_err(|_| {
                    Error::new(ErrorKind::Timeout, format!("The engine {kind} does not show what it can in time"))
                        .next("Try again: it goes on by itself; or use another engine: cove engine list")
                })?
                .context(ErrorKind::Internal, "Looking for an engine failed unexpectedly")??;
        }
        self.inner
            .made
            .get()
            .ok_or_else(|| Error::internal(format!("The engine {} was made and is not there", self.kind)))
    }

    /// The engine, unless there can be no sandbox of it.
    async fn where_used(&self) -> Result<Option<&Arc<dyn Engine>>> {
        if !self.used.exists() {
            return Ok(None);
        }
        self.engine().await.map(Some)
    }

    fn missing(id: &SandboxId) -> Error {
        Error::not_found(format!("There is no sandbox {id}"))
    }
}

impl Inner {
    async fn look(&self, kind: EngineKind) -> Result<()> {
        let _turn = self.turn.lock().await;
        if self.made.get().is_some() {
            return Ok(());
        }
        if let Some((when, absent)) = &*self.failed.lock().unwrap_or_else(PoisonError::into_inner)
            && when.elapsed() < AGAIN
        {
            return absent.refuse();
        }
        let make = self.make.clone();
        let made = tokio::task::spawn_blocking(move || make()).await;
        match made.context(ErrorKind::Internal, "Looking for an engine failed unexpectedly").and_then(|made| made) {
            Ok(engine) => {
                // The turn is ours: nobody set it meanwhile.
                let _ = self.made.set(engine);
                Ok(())
            }
            Err(error) => {
                let absent = Absent::new(kind, &error);
                let refused = absent.refuse();
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), absent));
                refused
            }
        }
    }
}

#[async_trait]
impl Engine for OnDemand {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.made.get().map_or(&self.unasked, |engine| engine.capabilities())
    }

    async fn prove(&self) -> Result<()> {
        self.engine().await.map(drop)
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        let engine = self.engine().await?;
        let noted = || -> std::io::Result<()> {
            std::fs::create_dir_all(self.used.parent().unwrap_or(&self.used))?;
            std::fs::write(&self.used, "")
        };
        noted().context(ErrorKind::Internal, format!("{} cannot be written", self.used.display()))?;
        engine.create(id, spec).await
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        self.where_used().await?.ok_or_else(|| Self::missing(id))?.exec(id, spec).await
    }

    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        match self.where_used().await? {
            Some(engine) => engine.stop(id, grace).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        match self.where_used().await? {
            Some(engine) => engine.remove(id).await,
            None => Ok(()),
        }
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.where_used().await?.ok_or_else(|| Self::missing(id))?.inspect(id).await
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        match self.where_used().await? {
            Some(engine) => engine.list().await,
            None => Ok(Vec::new()),
        }
    }

    /// Nobody makes sandboxes meanwhile, which is what whoever sweeps sees to.
    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        let Some(engine) = self.where_used().await? else { return Ok(Vec::new()) };
        let swept = engine.sweep(known).await?;
        if swept.is_empty() && engine.list().await?.is_empty() {
            // Gone or not: with the note there is one sweep more.
            let _ = std::fs::remove_file(&self.used);
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cove_engines::FakeEngine;
    use cove_engines::fake::Table;

    use super::*;

    fn counted(dir: &std::path::Path, fail: usize) -> (OnDemand, Arc<AtomicUsize>) {
        let looks = Arc::new(AtomicUsize::new(0));
        let counter = looks.clone();
        let make: Make = Arc::new(move || {
            if counter.fetch_add(1, Ordering::SeqCst) < fail {
                return Err(Error::new(ErrorKind::Unavailable, "no socket").next("start it"));
            }
            Ok(Arc::new(FakeEngine::new(Table::default().script())))
        });
        (OnDemand::new(EngineKind::Docker, dir.join("engines/docker.used"), make), looks)
    }

    fn spec() -> SandboxSpec {
        SandboxSpec::new(cove_core::Root::Host)
    }

    #[tokio::test]
    async fn nothing_is_looked_for_until_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, looks) = counted(dir.path(), 0);
        let id = SandboxId::new();
        assert!(engine.list().await.unwrap().is_empty() && engine.sweep(&[]).await.unwrap().is_empty());
        engine.remove(&id).await.unwrap();
        assert_eq!(engine.inspect(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!engine.capabilities().has(Control::IsolationContainer));
        assert_eq!(looks.load(Ordering::SeqCst), 0);
        let (one, other) = tokio::join!(engine.prove(), engine.prove());
        assert!(one.is_ok() && other.is_ok() && engine.capabilities().has(Control::IsolationContainer));
        assert_eq!(looks.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn one_that_is_not_there_says_why_and_is_looked_for_later() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, looks) = counted(dir.path(), 1);
        for _ in 0..3 {
            let error = engine.prove().await.unwrap_err();
            assert_eq!((error.kind(), error.next_step()), (ErrorKind::Unavailable, Some("start it")));
            assert!(error.to_string().contains("no socket"), "{error}");
        }
        assert_eq!(looks.load(Ordering::SeqCst), 1);
        if let Some((when, _)) = &mut *engine.inner.failed.lock().unwrap() {
            *when = when.checked_sub(AGAIN).unwrap();
        }
        engine.prove().await.unwrap();
    }

    #[tokio::test]
    async fn the_note_lasts_as_long_as_there_may_be_something() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, _) = counted(dir.path(), 0);
        let id = SandboxId::new();
        engine.create(&id, &spec()).await.unwrap();
        assert!(engine.used.exists());
        engine.sweep(std::slice::from_ref(&id)).await.unwrap();
        assert!(engine.used.exists());
        // Another daemon, later: what there was is found.
        engine.remove(&id).await.unwrap();
        engine.sweep(&[]).await.unwrap();
        assert!(!engine.used.exists());
    }
}
