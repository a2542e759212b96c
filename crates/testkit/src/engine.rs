//! A scripted engine: sandboxes are entries of a table, commands are words it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use cove_core::engine::PtySize;
use cove_core::{
    Attestation, Capabilities, Control, Engine, EngineKind, Error, ErrorKind, Exec, ExecInput, ExecOutput, ExecSpec,
    ExitReason, ExitStatus, Output, Result, SandboxId, SandboxInfo, SandboxSpec, SandboxState, Swept,
};
use tokio::sync::{mpsc, watch};

/// An engine that makes nothing. Commands it knows: `echo TEXT…`, `cat`, `env NAME`, `fail CODE TEXT`,
/// `flood BYTES`, `size` (prints the terminal's size after every resize until stdin ends) and `hang`;
/// any other exits with 127.
///
/// It can be told to fail ([`FakeEngine::fail_next`]), to lose a sandbox ([`FakeEngine::lose`]) and to
/// hold creations back ([`FakeEngine::hold`]).
#[derive(Debug)]
pub struct FakeEngine {
    kind: EngineKind,
    capabilities: Capabilities,
    table: Mutex<Table>,
    held: watch::Sender<bool>,
    processes: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Table {
    sandboxes: BTreeMap<SandboxId, (SandboxInfo, watch::Sender<bool>)>,
    failures: Vec<(&'static str, ErrorKind)>,
    calls: Vec<String>,
}

impl FakeEngine {
    /// An engine of the given kind that claims every control except those named.
    pub fn new(kind: EngineKind, without: &[Control]) -> Arc<Self> {
        let without: BTreeSet<Control> = without.iter().copied().collect();
        let capabilities = Control::ALL.into_iter().fold(Capabilities::default(), |caps, control| {
            if without.contains(&control) {
                caps.missing(control, "The test's engine goes without it")
            } else {
                caps.proven(control)
            }
        });
        Arc::new(Self {
            kind,
            capabilities,
            table: Mutex::default(),
            held: watch::channel(false).0,
            processes: Arc::default(),
        })
    }

    /// The next call of this method (`create`, `exec`, `stop`, `remove`, `inspect`, `list`, `sweep`) fails so.
    pub fn fail_next(&self, method: &'static str, kind: ErrorKind) {
        self.table().failures.push((method, kind));
    }

    /// Creations wait while held.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Forgets a sandbox without anybody asking, as a crash would.
    pub fn lose(&self, id: &SandboxId) {
        if let Some((_, end)) = self.table().sandboxes.remove(id) {
            end.send_replace(true);
        }
    }

    /// Puts a sandbox there that no record knows.
    pub fn plant(&self, spec: &SandboxSpec) -> SandboxId {
        let id = SandboxId::new();
        let info = self.info(&id, spec);
        self.table().sandboxes.insert(id.clone(), (info, watch::channel(false).0));
        id
    }

    /// The calls so far, as `method id`.
    pub fn calls(&self) -> Vec<String> {
        self.table().calls.clone()
    }

    /// Processes that have not ended.
    pub fn living_processes(&self) -> usize {
        self.processes.load(Ordering::SeqCst)
    }

    /// Ids of the sandboxes it has.
    pub fn ids(&self) -> Vec<SandboxId> {
        self.table().sandboxes.keys().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn begin(&self, method: &'static str, what: &str) -> Result<MutexGuard<'_, Table>> {
        let mut table = self.table();
        table.calls.push(format!("{method} {what}"));
        match table.failures.iter().position(|(m, _)| *m == method) {
            Some(at) => {
                let (_, kind) = table.failures.remove(at);
                Err(Error::new(kind, format!("The test made {method} fail")))
            }
            None => Ok(table),
        }
    }

    fn info(&self, id: &SandboxId, spec: &SandboxSpec) -> SandboxInfo {
        SandboxInfo {
            id: id.clone(),
            name: spec.name.clone(),
            engine: self.kind,
            state: SandboxState::Running,
            spec: spec.clone(),
            attestation: Some(Attestation::default()),
            created_at: jiff::Timestamp::now(),
        }
    }
}

fn missing(id: &SandboxId) -> Error {
    Error::not_found(format!("There is no sandbox {id}"))
}

#[async_trait]
impl Engine for FakeEngine {
    fn kind(&self) -> EngineKind {
        self.kind
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        drop(self.begin("create", id.as_str())?);
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.map_err(|_| Error::internal("The engine is gone"))?;
        let info = self.info(id, spec);
        let mut table = self.table();
        if table.sandboxes.contains_key(id) {
            return Err(Error::new(ErrorKind::Conflict, format!("There is a sandbox {id} already")));
        }
        table.sandboxes.insert(id.clone(), (info.clone(), watch::channel(false).0));
        Ok(info)
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        let ended = {
            let table = self.begin("exec", id.as_str())?;
            let (info, end) = table.sandboxes.get(id).ok_or_else(|| missing(id))?;
            if info.state != SandboxState::Running {
                return Err(Error::new(ErrorKind::Conflict, format!("The sandbox {id} does not run")));
            }
            end.subscribe()
        };
        Ok(play(spec.clone(), ended, self.processes.clone()))
    }

    async fn stop(&self, id: &SandboxId, _grace: Duration) -> Result<()> {
        let mut table = self.begin("stop", id.as_str())?;
        if let Some((info, end)) = table.sandboxes.get_mut(id) {
            end.send_replace(true);
            if info.state == SandboxState::Running {
                info.state = SandboxState::Stopped { exit: ExitStatus { code: 143, reason: ExitReason::Killed } };
            }
        }
        Ok(())
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        if let Some((_, end)) = self.begin("remove", id.as_str())?.sandboxes.remove(id) {
            end.send_replace(true);
        }
        Ok(())
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let table = self.begin("inspect", id.as_str())?;
        table.sandboxes.get(id).map(|(info, _)| info.clone()).ok_or_else(|| missing(id))
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        Ok(self.begin("list", "")?.sandboxes.values().map(|(info, _)| info.clone()).collect())
    }

    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        let mut table = self.begin("sweep", "")?;
        let gone: Vec<SandboxId> = table.sandboxes.keys().filter(|id| !known.contains(id)).cloned().collect();
        for id in &gone {
            table.sandboxes.remove(id);
        }
        Ok(gone.into_iter().map(|id| Swept { kind: "sandbox".to_owned(), name: id.to_string() }).collect())
    }
}

enum Said {
    Bytes(Vec<u8>),
    Closed,
    Signal(i32),
    Size(PtySize),
}

struct Input {
    said: mpsc::Sender<Said>,
    pty: bool,
}

struct Heard(mpsc::Receiver<Output>);

#[async_trait]
impl ExecInput for Input {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let gone = |_| Error::new(ErrorKind::Interrupted, "The process has closed its stdin");
        self.said.send(Said::Bytes(bytes.to_vec())).await.map_err(gone)
    }

    async fn close(&mut self) -> Result<()> {
        let _ = self.said.send(Said::Closed).await;
        Ok(())
    }

    async fn resize(&mut self, size: PtySize) -> Result<()> {
        if !self.pty {
            return Err(Error::invalid("The process has no terminal"));
        }
        let _ = self.said.send(Said::Size(size)).await;
        Ok(())
    }

    async fn signal(&mut self, signal: i32) -> Result<()> {
        let _ = self.said.send(Said::Signal(signal)).await;
        Ok(())
    }
}

#[async_trait]
impl ExecOutput for Heard {
    async fn next(&mut self) -> Result<Option<Output>> {
        Ok(self.0.recv().await)
    }
}

/// The task ends when the process does, its sandbox ends, or nobody holds either direction.
fn play(spec: ExecSpec, mut ended: watch::Receiver<bool>, processes: Arc<AtomicUsize>) -> Exec {
    let (said, mut inbox) = mpsc::channel(16);
    let (say, heard) = mpsc::channel(16);
    let pty = spec.pty.is_some();
    let living = Living::begin(processes);
    tokio::spawn(async move {
        let _living = living;
        let timeout = spec.timeout().unwrap_or(Duration::from_secs(86_400));
        let exit = tokio::select! {
            exit = act(&spec, &mut inbox, &say) => exit,
            _ = ended.wait_for(|ended| *ended) => ExitStatus { code: 137, reason: ExitReason::Killed },
            () = tokio::time::sleep(timeout) => ExitStatus { code: 137, reason: ExitReason::Timeout },
            () = say.closed() => return,
        };
        let _ = say.send(Output::Exit(exit)).await;
    });
    Exec { input: Box::new(Input { said, pty }), output: Box::new(Heard(heard)) }
}

/// Counts a process for as long as it lives.
struct Living(Arc<AtomicUsize>);

impl Living {
    fn begin(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn act(spec: &ExecSpec, inbox: &mut mpsc::Receiver<Said>, say: &mpsc::Sender<Output>) -> ExitStatus {
    let words: Vec<&str> = spec.argv.iter().map(String::as_str).collect();
    let out = async |bytes: Vec<u8>| drop(say.send(Output::Stdout(bytes)).await);
    match words[..] {
        ["echo", ref rest @ ..] => out(format!("{}\n", rest.join(" ")).into_bytes()).await,
        ["env", name] => out(format!("{}\n", spec.env.get(name).map_or("", String::as_str)).into_bytes()).await,
        ["fail", code, text] => {
            let _ = say.send(Output::Stderr(format!("{text}\n").into_bytes())).await;
            return ExitStatus::exited(code.parse().unwrap_or(1));
        }
        ["flood", bytes] => {
            let mut left: usize = bytes.parse().unwrap_or(0);
            while left > 0 {
                let piece = left.min(32 << 10);
                out(vec![b'x'; piece]).await;
                left -= piece;
            }
        }
        ["cat" | "size" | "hang"] => {
            while let Some(said) = inbox.recv().await {
                match said {
                    Said::Bytes(bytes) if words[0] == "cat" => out(bytes).await,
                    Said::Size(size) => out(format!("{}x{}\n", size.cols, size.rows).into_bytes()).await,
                    Said::Closed if words[0] != "hang" => break,
                    Said::Signal(signal) => {
                        return ExitStatus { code: 128 + signal, reason: ExitReason::Signaled { signal } };
                    }
                    Said::Bytes(_) | Said::Closed => {}
                }
            }
            if words[0] == "hang" {
                std::future::pending::<()>().await;
            }
        }
        _ => {
            let _ = say.send(Output::Stderr(b"no such command\n".to_vec())).await;
            return ExitStatus::exited(127);
        }
    }
    ExitStatus::exited(0)
}
