//! The port to whatever makes sandboxes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capability::Capabilities;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SandboxId;
use crate::sandbox::{ExitStatus, SandboxInfo};
use crate::spec::{SandboxSpec, User};

/// The engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Namespaces, cgroups and filters built by Cove itself; no daemon.
    Native,
    /// Docker Engine.
    Docker,
    /// Podman.
    Podman,
    /// Apple's container tool.
    Apple,
    /// A Kubernetes cluster.
    Kubernetes,
    /// A plain process: no isolation.
    Direct,
    /// Scripted, for tests.
    Fake,
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Apple => "apple",
            Self::Kubernetes => "kubernetes",
            Self::Direct => "direct",
            Self::Fake => "fake",
        })
    }
}

/// Makes, drives and ends sandboxes.
///
/// Methods on a sandbox that does not exist fail with [`ErrorKind::NotFound`], except [`remove`](Self::remove)
/// and [`stop`](Self::stop) which succeed. All may be called from several tasks at once.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Which engine this is.
    fn kind(&self) -> EngineKind;

    /// What it can do on this host, as its probe found when the adapter was made.
    fn capabilities(&self) -> &Capabilities;

    /// Sees to it that [`capabilities`](Self::capabilities) tell what this host has. An engine that is costly to
    /// prove may wait with it until somebody asks, and tells until then that it was not asked. Repeating is
    /// cheap; others prove themselves when they are made.
    ///
    /// # Errors
    /// `Unavailable`, `Denied` or `Unsupported`, why there is no such engine here and what to do.
    async fn prove(&self) -> Result<()> {
        Ok(())
    }

    /// Builds and starts a sandbox and proves it.
    ///
    /// On success it runs and its attestation has no deviation. On failure nothing of it is left.
    /// Repeating with the id of a living sandbox fails with [`ErrorKind::Conflict`].
    ///
    /// # Errors
    /// `Invalid` for a spec no engine could honour, `Unsupported` with the control's name for one
    /// this engine cannot, `NotStarted` when the proof differs or building failed.
    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo>;

    /// Starts a process. Output that the caller does not take in time slows the process down; it is
    /// not lost.
    ///
    /// # Errors
    /// `Conflict` when the sandbox does not run. A command that cannot be found or run is not an
    /// error here: it exits with 127 or 126 and a line on stderr.
    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec>;

    /// Ends everything inside: TERM, then KILL after `grace`. Afterwards no process of it lives.
    /// The state and logs stay until [`remove`](Self::remove). Repeating is harmless.
    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()>;

    /// Ends it if need be and removes every trace: processes, mounts, cgroups, directories.
    /// The sources of mounts are not touched. Repeating is harmless.
    async fn remove(&self, id: &SandboxId) -> Result<()>;

    /// What is known now.
    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo>;

    /// Every sandbox of this instance, in any state, also those made before a restart.
    async fn list(&self) -> Result<Vec<SandboxInfo>>;

    /// Removes what this instance made and `known` does not name: sandboxes and also half-made or
    /// half-removed remains (mounts, cgroups, directories). Never touches what it did not make.
    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>>;
}

/// A remain that a sweep removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// `sandbox`, `cgroup`, `mount`, `directory`, `process`.
    pub kind: String,
    /// Its path or id.
    pub name: String,
}

/// A process to start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecSpec {
    /// Program and arguments; the program is looked up in the sandbox's `PATH` when it has no `/`.
    pub argv: Vec<String>,
    /// Variables over those of the sandbox.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Working directory inside; the sandbox's when absent.
    #[serde(default)]
    pub workdir: Option<PathBuf>,
    /// Another user than the sandbox's; only ids that the sandbox maps.
    #[serde(default)]
    pub user: Option<User>,
    /// A terminal of this size instead of pipes; output then comes as stdout only.
    #[serde(default)]
    pub pty: Option<PtySize>,
    /// Ends the process and its descendants after this many milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

impl ExecSpec {
    /// The given program and arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The deadline as a duration.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_ms.map(Duration::from_millis)
    }
}

/// Terminal size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PtySize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// A started process: its two directions can be driven by different tasks. Dropping both ends it.
pub struct Exec {
    /// To the process.
    pub input: Box<dyn ExecInput>,
    /// From the process.
    pub output: Box<dyn ExecOutput>,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exec")
    }
}

/// The direction to a process.
#[async_trait]
pub trait ExecInput: Send {
    /// Writes to stdin. Fails with `Interrupted` when the process has closed it.
    async fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Closes stdin; on a terminal sends end-of-file. Harmless when repeated.
    async fn close(&mut self) -> Result<()>;
    /// Changes the terminal's size; `Invalid` without a terminal.
    async fn resize(&mut self, size: PtySize) -> Result<()>;
    /// Sends a signal to the process's group.
    async fn signal(&mut self, signal: i32) -> Result<()>;
}

/// The direction from a process.
#[async_trait]
pub trait ExecOutput: Send {
    /// The next piece; the last is [`Output::Exit`], then `None`. `Err(Interrupted)` when the
    /// sandbox vanished. Safe to cancel.
    async fn next(&mut self) -> Result<Option<Output>>;
}

/// One piece from a process, in order within its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of stdout, or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of stderr.
    Stderr(Vec<u8>),
    /// The process and its streams are done.
    Exit(ExitStatus),
}

/// Everything a short process said; see [`collect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Its end.
    pub exit: ExitStatus,
    /// The first `bound` bytes of stdout.
    pub stdout: Vec<u8>,
    /// The first `bound` bytes of stderr.
    pub stderr: Vec<u8>,
    /// Whether more was said than kept.
    pub truncated: bool,
}

/// Feeds `stdin`, closes it, and collects at most `bound` bytes of each stream until the end.
///
/// # Errors
/// Those of the streams; `Interrupted` when they end without an exit.
pub async fn collect(exec: Exec, stdin: &[u8], bound: usize) -> Result<Collected> {
    let Exec { mut input, mut output } = exec;
    // A process that never reads its stdin ends the write with `Interrupted`; its output counts.
    let mut feeding = Some(Box::pin(async move {
        if !stdin.is_empty() {
            let _ = input.write(stdin).await;
        }
        let _ = input.close().await;
        // Kept to the end: leaving early could be taken for leaving altogether.
        input
    }));
    let mut fed = None;
    let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
    loop {
        let piece = {
            // Both directions at once: a process that answers as it reads would wait for ever if
            // all of stdin came before any of its output was taken.
            let mut next = output.next();
            std::future::poll_fn(|context| {
                if let Some(future) = &mut feeding
                    && let Poll::Ready(input) = future.as_mut().poll(context)
                {
                    feeding = None;
                    fed = Some(input);
                }
                next.as_mut().poll(context)
            })
            .await?
        };
        let (kept, bytes) = match piece {
            None => break,
            Some(Output::Stdout(bytes)) => (&mut stdout, bytes),
            Some(Output::Stderr(bytes)) => (&mut stderr, bytes),
            Some(Output::Exit(exit)) => return Ok(Collected { exit, stdout, stderr, truncated }),
        };
        let room = bound.saturating_sub(kept.len());
        truncated |= bytes.len() > room;
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    drop(fed);
    Err(Error::new(ErrorKind::Interrupted, "The process's output ended before the process did"))
}
