//! The adapters there are, and how they are put together. Nothing else names them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cove_api::Delivered;
use cove_control::Sandboxes;
use cove_core::error::Context;
use cove_core::run::RunRequest;
use cove_core::{AttemptId, Engine, EngineKind, ErrorKind, Result, RunId, RunRecord, RunSpec, SystemClock};
use cove_egress::Doors;
use cove_engines::images::Images;
use cove_engines::native::Native;
use cove_engines::{Direct, HelperProgram, LocalEngine, docker, podman};
use cove_git::Git;
use cove_ralph::{Dependencies, Runner};
use tokio::sync::broadcast;

use crate::absent::Absent;
use crate::daemon::Daemon;
use crate::on_demand::{Make, OnDemand};
use crate::options::Options;
use crate::port::{Foundation, Runs, Wiring};

/// Everything this build has, on this machine.
#[derive(Debug, Clone)]
pub struct Standard {
    /// The program that becomes the supervisor of a sandbox.
    pub helper: HelperProgram,
}

impl Standard {
    /// With this program itself as supervisor; its `main` calls [`cove_engines::helper_main`] first.
    ///
    /// # Errors
    /// `Internal` when the path of this program is not known.
    pub fn new() -> Result<Self> {
        Ok(Self { helper: HelperProgram::current()? })
    }
}

impl Standard {
    /// An engine on a container daemon of this machine; looked for when somebody asks for it.
    fn containers(&self, kind: EngineKind, foundation: &Foundation) -> Arc<dyn Engine> {
        let (helper, instance) = (self.helper.clone(), foundation.instance.clone());
        let state = foundation.options.state_dir.clone();
        let images = Images::new(foundation.options.cache_dir.join("images"));
        let used = state.join("engines").join(format!("{kind}.used"));
        let make: Make = Arc::new(move || {
            let found = match kind {
                EngineKind::Docker => docker::kind(&docker::socket()?, &state, &helper)?,
                _ => podman::kind(&podman::socket(&state)?, &state, &helper)?,
            };
            let engine = LocalEngine::new(found.with_images(images.clone()), &state, instance.clone(), helper.clone())?;
            Ok(Arc::new(engine) as Arc<dyn Engine>)
        });
        Arc::new(OnDemand::new(kind, used, make))
    }
}

impl Daemon {
    /// Starts a daemon with everything this build has.
    ///
    /// # Errors
    /// Those of [`Daemon::start_with`].
    pub async fn start(options: Options) -> Result<Self> {
        Self::start_with(options, &Standard::new()?).await
    }
}

#[async_trait]
impl Wiring for Standard {
    async fn engines(&self, foundation: &Foundation) -> Result<Vec<Arc<dyn Engine>>> {
        let (helper, instance) = (self.helper.clone(), foundation.instance.clone());
        let state = foundation.options.state_dir.clone();
        let images = foundation.options.cache_dir.join("images");
        let containers = [EngineKind::Docker, EngineKind::Podman].map(|kind| self.containers(kind, foundation));
        // Probing builds sandboxes and waits for them.
        let probed = tokio::task::spawn_blocking(move || -> Result<Vec<Arc<dyn Engine>>> {
            let native = Native::new(&images, &helper)
                .and_then(|native| LocalEngine::new(native, &state, instance.clone(), helper.clone()));
            let native: Arc<dyn Engine> = match native {
                Ok(engine) => Arc::new(engine),
                Err(error) => Arc::new(Absent::new(EngineKind::Native, &error)),
            };
            let direct = LocalEngine::new(Direct::new(), &state, instance, helper)?;
            let [docker, podman] = containers;
            Ok(vec![native, docker, podman, Arc::new(direct)])
        });
        probed.await.context(ErrorKind::Internal, "Probing the engines failed unexpectedly")?
    }

    async fn runs(&self, foundation: &Foundation, sandboxes: &Sandboxes) -> Result<Arc<dyn Runs>> {
        let options = &foundation.options;
        let egress = cove_egress::Options {
            resolve_overrides: options.resolve_overrides.clone(),
            ..cove_egress::Options::default()
        };
        Ok(Arc::new(Prds(Runner::new(Dependencies {
            records: foundation.records.clone(),
            sandboxes: Arc::new(sandboxes.clone()),
            door: Arc::new(Doors::new(options.state_dir.join("doors"), egress)?),
            agents: Arc::new(cove_agents::catalog),
            git: Git::new()?,
            clock: Arc::new(SystemClock),
            data_dir: options.data_dir.clone(),
            max_concurrent_runs: options.max_concurrent_runs.max(1),
        }))))
    }
}

/// The PRD loop as the daemon's workload.
struct Prds(Arc<Runner>);

#[async_trait]
impl Runs for Prds {
    async fn submit(&self, spec: RunSpec) -> Result<RunRecord> {
        self.0.submit(spec).await
    }

    async fn recover(&self) -> Result<()> {
        self.0.recover().await
    }

    async fn request(&self, id: &RunId, request: RunRequest) -> Result<()> {
        self.0.request(id, request).await
    }

    async fn resume(&self, id: &RunId) -> Result<()> {
        self.0.resume(id).await
    }

    async fn retry(&self, id: &RunId) -> Result<()> {
        self.0.retry(id).await.map(drop)
    }

    async fn remove(&self, id: &RunId) -> Result<()> {
        self.0.remove(id).await
    }

    fn changes(&self) -> broadcast::Receiver<(RunId, u64)> {
        self.0.changes()
    }

    async fn diff(&self, id: &RunId, story: Option<&str>) -> Result<Vec<u8>> {
        self.0.diff(id, story).await
    }

    async fn apply(&self, id: &RunId, repository: &Path, switch: bool) -> Result<Delivered> {
        let done = self.0.apply(id, repository, switch).await?;
        Ok(Delivered { branch: done.branch, commit: done.commit, switched: done.switched, notes: Vec::new() })
    }

    async fn export(&self, id: &RunId, directory: &Path) -> Result<Vec<PathBuf>> {
        self.0.export(id, directory).await
    }

    async fn log(&self, id: &RunId, attempt: Option<&AttemptId>) -> Result<PathBuf> {
        self.0.log(id, attempt).await
    }

    async fn shutdown(&self) {
        self.0.shutdown().await;
    }
}
