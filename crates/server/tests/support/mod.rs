//! A daemon in directories of its own, over a scripted engine and a workload made of records alone.
#![allow(clippy::unwrap_used, dead_code, reason = "tests; not every file uses all of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cove_api::{Client, Delivered};
use cove_control::Sandboxes;
use cove_core::agent::Usage;
use cove_core::run::{AgentChoice, Ending, PrdSource, RunRequest};
use cove_core::{
    AttemptId, Engine, EngineKind, Error, ErrorKind, Fact, Phase, Records, Result, RunId, RunRecord, RunSpec,
};
use cove_server::{Daemon, Foundation, Options, Runs, Wiring};
use cove_stores::Store;
use cove_testkit::FakeEngine;
use jiff::Timestamp;
use tokio::sync::{OnceCell, broadcast};

pub const LONG: Duration = Duration::from_secs(30);

/// Runs that do nothing by themselves.
pub struct ScriptedRuns {
    pub records: Arc<Store>,
    changes: broadcast::Sender<(RunId, u64)>,
    data_dir: PathBuf,
    pub submitted: AtomicUsize,
}

impl ScriptedRuns {
    pub async fn change(&self, id: &RunId, facts: Vec<Fact>, change: impl FnOnce(&mut RunRecord)) -> Result<RunRecord> {
        let mut run = self.records.run(id).await?;
        change(&mut run);
        let entries = self.records.commit(&mut run, facts).await?;
        let _ = self.changes.send((id.clone(), entries.last().map_or(0, |e| e.seq)));
        Ok(run)
    }

    pub async fn note(&self, id: &RunId, text: &str) {
        self.change(id, vec![note(text)], |_| ()).await.unwrap();
    }

    pub async fn finish(&self, id: &RunId, ending: Ending) {
        self.change(id, vec![Fact::Finished { ending: ending.clone() }], |run| {
            run.phase = ending.phase();
            run.ending = Some(ending.clone());
        })
        .await
        .unwrap();
    }

    async fn living(&self) -> Vec<RunId> {
        let runs = self.records.runs(1000).await.unwrap();
        runs.into_iter().filter(|r| !r.phase.is_final()).map(|r| r.id).collect()
    }
}

fn note(text: &str) -> Fact {
    Fact::Note { text: text.to_owned() }
}

fn conflict(text: &str) -> Error {
    Error::new(ErrorKind::Conflict, text)
}

#[async_trait]
impl Runs for ScriptedRuns {
    async fn submit(&self, spec: RunSpec) -> Result<RunRecord> {
        self.submitted.fetch_add(1, Ordering::SeqCst);
        if spec.repository == "/missing" {
            return Err(Error::invalid("There is no repository /missing"));
        }
        let mut run = RunRecord {
            id: RunId::new(),
            name: spec.name.clone(),
            spec,
            version: 0,
            phase: Phase::Running,
            reason: None,
            request: None,
            resume_at: None,
            engine: None,
            base: None,
            branch: None,
            head: None,
            gates: vec![],
            baseline: vec![],
            stories: vec![],
            iterations: 0,
            infrastructure_failures: 0,
            usage: Usage::default(),
            worked_millis: 0,
            ending: None,
            created_at: Timestamp::now(),
            updated_at: Timestamp::now(),
        };
        self.records.commit(&mut run, vec![Fact::Created]).await?;
        Ok(run)
    }

    async fn recover(&self) -> Result<()> {
        for id in self.living().await {
            self.note(&id, "recovered").await;
        }
        Ok(())
    }

    async fn request(&self, id: &RunId, request: RunRequest) -> Result<()> {
        if self.records.run(id).await?.phase.is_final() {
            return Err(conflict("The run is over"));
        }
        match request {
            RunRequest::Stop => self.finish(id, Ending::Stopped).await,
            RunRequest::Pause => drop(self.change(id, vec![], |run| run.phase = Phase::Paused).await?),
        }
        Ok(())
    }

    async fn resume(&self, id: &RunId) -> Result<()> {
        self.change(id, vec![], |run| run.phase = Phase::Running).await.map(drop)
    }

    async fn retry(&self, id: &RunId) -> Result<()> {
        if !self.records.run(id).await?.phase.is_final() {
            return Err(conflict("The run is not over"));
        }
        self.change(id, vec![note("again")], |run| {
            run.phase = Phase::Running;
            run.ending = None;
        })
        .await
        .map(drop)
    }

    async fn remove(&self, id: &RunId) -> Result<()> {
        if !self.records.run(id).await?.phase.is_final() {
            return Err(conflict("The run is not over"));
        }
        self.records.forget_run(id).await
    }

    fn changes(&self) -> broadcast::Receiver<(RunId, u64)> {
        self.changes.subscribe()
    }

    async fn diff(&self, _: &RunId, story: Option<&str>) -> Result<Vec<u8>> {
        Ok(format!("diff of {}\n", story.unwrap_or("all")).into_bytes())
    }

    async fn apply(&self, _: &RunId, repository: &Path, switch: bool) -> Result<Delivered> {
        let branch = repository.display().to_string();
        Ok(Delivered { branch, commit: "c".repeat(40), switched: switch, notes: vec![] })
    }

    async fn export(&self, id: &RunId, directory: &Path) -> Result<Vec<PathBuf>> {
        let file = directory.join("ledger.json");
        std::fs::write(&file, id.as_str()).unwrap();
        Ok(vec![file])
    }

    async fn log(&self, id: &RunId, attempt: Option<&AttemptId>) -> Result<PathBuf> {
        match attempt {
            Some(attempt) => Err(Error::not_found(format!("There is no attempt {attempt}"))),
            None => Ok(self.data_dir.join(format!("{id}.log"))),
        }
    }

    async fn shutdown(&self) {
        for id in self.living().await {
            self.note(&id, "interrupted").await;
        }
    }
}

/// Parts kept outside the daemon, as engines outlive it.
pub struct Parts {
    pub native: Arc<FakeEngine>,
    pub direct: Arc<FakeEngine>,
    pub runs: OnceCell<Arc<ScriptedRuns>>,
}

#[async_trait]
impl Wiring for Parts {
    async fn engines(&self, _: &Foundation) -> Result<Vec<Arc<dyn Engine>>> {
        Ok(vec![self.native.clone(), self.direct.clone()])
    }

    async fn runs(&self, foundation: &Foundation, _: &Sandboxes) -> Result<Arc<dyn Runs>> {
        let runs = Arc::new(ScriptedRuns {
            records: foundation.records.clone(),
            changes: broadcast::channel(64).0,
            data_dir: foundation.options.data_dir.clone(),
            submitted: AtomicUsize::new(0),
        });
        assert!(self.runs.set(runs.clone()).is_ok(), "parts serve one daemon");
        Ok(runs)
    }
}

/// Directories, and the engines in them.
pub struct Place {
    own: Option<tempfile::TempDir>,
    dir: PathBuf,
    native: Arc<FakeEngine>,
    direct: Arc<FakeEngine>,
}

/// A daemon that runs there.
pub struct Served {
    pub daemon: Daemon,
    pub client: Client,
    pub runs: Arc<ScriptedRuns>,
    pub native: Arc<FakeEngine>,
}

impl Place {
    pub fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        let place = Self::at(own.path().to_owned());
        Self { own: Some(own), ..place }
    }

    /// In a directory that another process owns.
    pub fn at(dir: PathBuf) -> Self {
        Self {
            own: None,
            dir,
            native: FakeEngine::new(EngineKind::Native, &[]),
            direct: FakeEngine::new(EngineKind::Direct, &[cove_core::Control::IsolationContainer]),
        }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    pub fn options(&self) -> Options {
        let at = |name| self.dir.join(name);
        Options::new(at("data"), at("state"), at("cache"))
    }

    pub async fn serve(&self) -> Served {
        self.serve_with(self.options()).await.unwrap()
    }

    pub async fn serve_with(&self, options: Options) -> Result<Served> {
        let parts = Parts { native: self.native.clone(), direct: self.direct.clone(), runs: OnceCell::const_new() };
        let daemon = Daemon::start_with(options, &parts).await?;
        let client = Client::unix(daemon.socket());
        Ok(Served { daemon, client, runs: parts.runs.get().unwrap().clone(), native: self.native.clone() })
    }
}

pub fn spec(name: &str) -> RunSpec {
    serde_json::from_value(serde_json::json!({
        "name": name,
        "repository": "/nowhere",
        "prd": PrdSource { text: "{\"secret\": 1}".into(), ..PrdSource::default() },
        "agent": AgentChoice { name: "command".into(), ..AgentChoice::default() },
    }))
    .unwrap()
}
