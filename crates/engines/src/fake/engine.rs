//! The port's implementation.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cove_core::engine::PtySize;
use cove_core::{
    Attestation, Capabilities, Control, Engine, EngineKind, Error, ErrorKind, Exec, ExecInput, ExecOutput, ExecSpec,
    ExitReason, ExitStatus, Output, Result, SandboxId, SandboxInfo, SandboxSpec, SandboxState, Swept,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::script::{End, Process, Script};

/// Something that goes wrong once, at the next call it fits.
#[derive(Debug, Clone)]
pub enum Fault {
    /// `create` fails with this kind; nothing is left.
    Create(ErrorKind),
    /// `create` takes this long.
    SlowCreate(Duration),
    /// `exec` fails with this kind.
    Exec(ErrorKind),
    /// `remove` fails with this kind and removes nothing.
    Remove(ErrorKind),
}

/// An engine whose sandboxes are entries in a table and whose processes are a script.
pub struct FakeEngine {
    capabilities: Capabilities,
    script: Script,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<SandboxId, Sandbox>,
    faults: VecDeque<Fault>,
    created: u64,
    started: u64,
}

struct Sandbox {
    info: SandboxInfo,
    spec: Arc<SandboxSpec>,
    killed: watch::Sender<bool>,
}

impl FakeEngine {
    /// An engine that claims every control and runs `script` for every process.
    pub fn new(script: Script) -> Self {
        let capabilities = Control::ALL.into_iter().fold(Capabilities::default(), Capabilities::proven);
        let capabilities = capabilities.missing(Control::Layers, "The fake has no kernel that shows layers");
        Self { capabilities, script, state: Mutex::default() }
    }

    /// As [`new`](Self::new), from an async function.
    pub fn scripted<F, T>(script: F) -> Self
    where
        F: Fn(Process) -> T + Send + Sync + 'static,
        T: Future<Output = End> + Send + 'static,
    {
        Self::new(Arc::new(move |process| Box::pin(script(process))))
    }

    /// Claims only these controls.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Adds a fault; faults of one sort happen in the order added.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// Sandboxes created so far, removed ones included.
    pub fn created(&self) -> u64 {
        self.lock().created
    }

    /// Processes started so far.
    pub fn started(&self) -> u64 {
        self.lock().started
    }

    /// Sandboxes that exist now.
    pub fn living(&self) -> Vec<SandboxId> {
        self.lock().sandboxes.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut state = self.lock();
        let at = state.faults.iter().position(fits)?;
        state.faults.remove(at)
    }
}

fn missing(id: &SandboxId) -> Error {
    Error::not_found(format!("There is no sandbox {id}"))
}

fn injected(kind: ErrorKind, what: &str) -> Error {
    Error::new(kind, format!("{what} failed as scripted"))
}

#[async_trait]
impl Engine for FakeEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Fake
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        spec.validate()?;
        if let Some((control, why)) = self.capabilities.lacking(spec).into_iter().next() {
            return Err(
                Error::new(ErrorKind::Unsupported, format!("{control} is not offered: {why}")).with("control", control)
            );
        }
        if let Some(Fault::SlowCreate(delay)) = self.fault(|f| matches!(f, Fault::SlowCreate(_))) {
            tokio::time::sleep(delay).await;
        }
        if let Some(Fault::Create(kind)) = self.fault(|f| matches!(f, Fault::Create(_))) {
            return Err(injected(kind, "Creating the sandbox"));
        }
        let mut state = self.lock();
        let name = if spec.name.is_empty() { format!("cove-{}", id.short()) } else { spec.name.clone() };
        if state.sandboxes.contains_key(id) || state.sandboxes.values().any(|s| s.info.name == name) {
            return Err(Error::new(ErrorKind::Conflict, format!("The sandbox {id} or its name exists already")));
        }
        let info = SandboxInfo {
            id: id.clone(),
            name,
            engine: EngineKind::Fake,
            state: SandboxState::Running,
            spec: spec.clone(),
            attestation: Some(Attestation {
                proven: cove_core::capability::required(spec),
                waived: spec.hardening.accept_missing.iter().copied().collect(),
                ..Attestation::default()
            }),
            created_at: jiff::Timestamp::now(),
        };
        let sandbox = Sandbox { info: info.clone(), spec: Arc::new(spec.clone()), killed: watch::Sender::new(false) };
        state.sandboxes.insert(id.clone(), sandbox);
        state.created += 1;
        Ok(info)
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        if spec.argv.is_empty() {
            return Err(Error::invalid("The command is empty"));
        }
        if let Some(Fault::Exec(kind)) = self.fault(|f| matches!(f, Fault::Exec(_))) {
            return Err(injected(kind, "Starting the process"));
        }
        let (input, stdin) = mpsc::channel(16);
        let (output, receiver) = mpsc::channel(16);
        let (process, killed) = {
            let mut state = self.lock();
            let nth = state.started + 1;
            let sandbox = state.sandboxes.get(id).ok_or_else(|| missing(id))?;
            if sandbox.info.state != SandboxState::Running {
                return Err(Error::new(ErrorKind::Conflict, format!("The sandbox {id} does not run")));
            }
            let killed = sandbox.killed.subscribe();
            let spec_inside = Arc::clone(&sandbox.spec);
            state.started = nth;
            let process = Process {
                sandbox: id.clone(),
                spec: spec_inside,
                exec: spec.clone(),
                nth,
                stdin,
                output: output.clone(),
            };
            (process, killed)
        };
        let (signal, signaled) = watch::channel(0);
        let play = (self.script)(process);
        let task = Arc::new(Owned(tokio::spawn(run(play, output, killed, signaled, spec.timeout()))));
        Ok(Exec {
            input: Box::new(Input { to: Some(input), signal, pty: spec.pty.is_some(), _task: Arc::clone(&task) }),
            output: Box::new(FakeOutput { from: receiver, over: false, _task: task }),
        })
    }

    async fn stop(&self, id: &SandboxId, _grace: Duration) -> Result<()> {
        if let Some(sandbox) = self.lock().sandboxes.get_mut(id) {
            sandbox.killed.send_replace(true);
            if sandbox.info.state == SandboxState::Running {
                let exit = ExitStatus { code: 137, reason: ExitReason::Killed };
                sandbox.info.state = SandboxState::Stopped { exit };
            }
        }
        Ok(())
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        if let Some(Fault::Remove(kind)) = self.fault(|f| matches!(f, Fault::Remove(_))) {
            return Err(injected(kind, "Removing the sandbox"));
        }
        if let Some(sandbox) = self.lock().sandboxes.remove(id) {
            sandbox.killed.send_replace(true);
        }
        Ok(())
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.lock().sandboxes.get(id).map(|s| s.info.clone()).ok_or_else(|| missing(id))
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        Ok(self.lock().sandboxes.values().map(|s| s.info.clone()).collect())
    }

    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        let mut swept = Vec::new();
        self.lock().sandboxes.retain(|id, sandbox| {
            let keep = known.contains(id);
            if !keep {
                sandbox.killed.send_replace(true);
                swept.push(Swept { kind: "sandbox".to_owned(), name: id.to_string() });
            }
            keep
        });
        Ok(swept)
    }
}

/// One process from start to end.
async fn run(
    play: impl Future<Output = End>,
    output: mpsc::Sender<Output>,
    mut killed: watch::Receiver<bool>,
    mut signaled: watch::Receiver<i32>,
    timeout: Option<Duration>,
) {
    let end = tokio::select! {
        biased;
        _ = killed.wait_for(|killed| *killed) => ended(137, ExitReason::Killed),
        signal = signal(&mut signaled) => ended(128 + signal, ExitReason::Signaled { signal }),
        () = tokio::time::sleep(timeout.unwrap_or(Duration::MAX)) => ended(137, ExitReason::Timeout),
        end = play => end,
    };
    if let End::Exit(exit) = end {
        let _ = output.send(Output::Exit(exit)).await;
    }
}

fn ended(code: i32, reason: ExitReason) -> End {
    End::Exit(ExitStatus { code, reason })
}

async fn signal(signaled: &mut watch::Receiver<i32>) -> i32 {
    match signaled.wait_for(|signal| *signal != 0).await.map(|signal| *signal) {
        Ok(signal) => signal,
        // The input half is gone; only that half sends signals.
        Err(_) => std::future::pending().await,
    }
}

struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Input {
    to: Option<mpsc::Sender<Vec<u8>>>,
    signal: watch::Sender<i32>,
    pty: bool,
    _task: Arc<Owned>,
}

#[async_trait]
impl ExecInput for Input {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let closed = || Error::new(ErrorKind::Interrupted, "The process has closed its stdin");
        self.to.as_ref().ok_or_else(closed)?.send(bytes.to_vec()).await.map_err(|_| closed())
    }

    async fn close(&mut self) -> Result<()> {
        self.to = None;
        Ok(())
    }

    async fn resize(&mut self, _size: PtySize) -> Result<()> {
        if self.pty { Ok(()) } else { Err(Error::invalid("The process has no terminal")) }
    }

    async fn signal(&mut self, signal: i32) -> Result<()> {
        self.signal.send_replace(signal);
        Ok(())
    }
}

struct FakeOutput {
    from: mpsc::Receiver<Output>,
    over: bool,
    _task: Arc<Owned>,
}

#[async_trait]
impl ExecOutput for FakeOutput {
    async fn next(&mut self) -> Result<Option<Output>> {
        if self.over {
            return Ok(None);
        }
        let piece = self.from.recv().await;
        self.over = !matches!(piece, Some(Output::Stdout(_) | Output::Stderr(_)));
        match piece {
            Some(piece) => Ok(Some(piece)),
            None => Err(Error::new(ErrorKind::Interrupted, "The sandbox vanished")),
        }
    }
}
