//! A sandbox under trial.

use std::fs::{File, Permissions};
use std::io::{ErrorKind as IoKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_core::engine::{Collected, Exec, ExecSpec, Output, collect};
use cove_core::sandbox::{ExitReason, ExitStatus, SandboxInfo, SandboxState};
use cove_core::{Mount, SandboxId, SandboxSpec};

use super::Setup;
use crate::eventually;

/// Longest that anything may take; generous, because a trial must not depend on the machine's speed.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Where the shared directory is inside; also the working directory.
pub const WORK: &str = "/workspace";

/// Bytes kept of an output.
const KEPT: usize = 8 << 20;

/// One sandbox.
pub struct Bench<'a> {
    /// The set-up.
    pub setup: &'a Setup,
    /// Its id.
    pub id: SandboxId,
    /// What `create` returned.
    pub info: SandboxInfo,
}

impl<'a> Bench<'a> {
    /// The least sandbox.
    pub async fn new(setup: &'a Setup) -> Self {
        Self::with(setup, |_| ()).await
    }

    /// A sandbox of a changed specification.
    pub async fn with(setup: &'a Setup, change: impl FnOnce(&mut SandboxSpec)) -> Self {
        let mut spec = setup.spec.clone();
        change(&mut spec);
        let id = SandboxId::new();
        let info = within("create", setup.engine.create(&id, &spec)).await.unwrap_or_else(|error| {
            panic!("create failed: {}", error.chain().join(": "));
        });
        assert_eq!(info.state, SandboxState::Running);
        Self { setup, id, info }
    }

    /// A sandbox with a directory of the host, writable for all, at [`WORK`].
    pub async fn shared(setup: &'a Setup) -> (Self, PathBuf) {
        let dir = shared_dir(setup, "shared");
        let mount = Mount { source: dir.clone(), target: WORK.into(), read_only: false, give: false };
        (Self::with(setup, |spec| spec.mounts.push(mount)).await, dir)
    }

    /// Starts a process.
    pub async fn exec(&self, spec: &ExecSpec) -> Exec {
        within("exec", self.setup.engine.exec(&self.id, spec)).await.unwrap_or_else(|error| {
            panic!("exec failed: {}", error.chain().join(": "));
        })
    }

    /// Runs a program to its end.
    pub async fn run(&self, spec: &ExecSpec, stdin: &[u8]) -> Collected {
        let exec = self.exec(spec).await;
        within("the program", collect(exec, stdin, KEPT)).await.expect("the streams end with an exit")
    }

    /// Runs a shell script to its end.
    pub async fn sh(&self, script: &str) -> Collected {
        self.run(&sh(script), b"").await
    }

    /// The stdout of a script that must succeed.
    pub async fn text(&self, script: &str) -> String {
        let said = self.sh(script).await;
        assert!(said.exit.success(), "{script}: {:?}, stderr: {}", said.exit, String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
    }

    /// Its state now.
    pub async fn state(&self) -> SandboxState {
        within("inspect", self.setup.engine.inspect(&self.id)).await.expect("it is known").state
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> SandboxState {
        eventually("the end of the sandbox", DEADLINE, async || self.state().await != SandboxState::Running).await;
        self.state().await
    }

    /// Removes it.
    pub async fn remove(self) {
        within("remove", self.setup.engine.remove(&self.id)).await.expect("remove");
    }
}

/// A shell script.
pub fn sh(script: &str) -> ExecSpec {
    ExecSpec::new(["/bin/sh", "-c", script])
}

/// Awaits with the deadline.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not end within {DEADLINE:?}"),
    }
}

/// Reads until a line of stdout holds `word`; what was read.
pub async fn until(exec: &mut Exec, word: &str) -> String {
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains(word) {
        match within(word, exec.output.next()).await.expect("the stream goes on") {
            Some(Output::Stdout(bytes)) => said.extend(bytes),
            Some(Output::Stderr(bytes)) => panic!("stderr: {}", String::from_utf8_lossy(&bytes)),
            other => panic!("{word:?} did not come: {other:?} after {}", String::from_utf8_lossy(&said)),
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Reads to the end; stdout and the exit.
pub async fn rest(exec: &mut Exec) -> (String, ExitStatus) {
    let mut said = Vec::new();
    loop {
        match within("the end", exec.output.next()).await.expect("the stream goes on") {
            Some(Output::Stdout(bytes)) => said.extend(bytes),
            Some(Output::Stderr(_)) => {}
            Some(Output::Exit(exit)) => return (String::from_utf8_lossy(&said).into_owned(), exit),
            None => panic!("the stream ended without an exit"),
        }
    }
}

/// A directory that every user may use.
pub fn shared_dir(setup: &Setup, name: &str) -> PathBuf {
    let dir = setup.scratch.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    dir
}

/// The reason of an ended sandbox.
pub fn reason(state: &SandboxState) -> Option<ExitReason> {
    match state {
        SandboxState::Stopped { exit } => Some(exit.reason.clone()),
        _ => None,
    }
}

/// Tells from outside whether processes inside live: they hold a pipe in the shared directory open
/// for writing.
pub struct Pulse(File);

impl Pulse {
    /// Opens the pipe `name` in a shared directory.
    pub fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        let made = std::process::Command::new("mkfifo").arg("-m").arg("666").arg(&path).status().unwrap();
        assert!(made.success());
        // O_NONBLOCK, as the kernel has it on every architecture that engines run on.
        Self(File::options().read(true).custom_flags(0o4000).open(path).unwrap())
    }

    /// Waits for the first word of a process, so that its holding the pipe is certain.
    pub async fn begins(&mut self) {
        eventually("the first sign of life", DEADLINE, async || matches!(self.0.read(&mut [0; 64]), Ok(1..))).await;
    }

    /// Whether a first word was said, by a process that may be gone.
    pub fn has_begun(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 64]), Ok(1..))
    }

    /// Waits until no process holds the pipe.
    pub async fn ends(&mut self) {
        eventually("the end of every process", DEADLINE, async || matches!(self.0.read(&mut [0; 64]), Ok(0))).await;
    }

    /// Whether some process holds the pipe.
    pub fn beats(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 64]), Err(error) if error.kind() == IoKind::WouldBlock)
    }
}

/// A script whose grandchild, in a session of its own and with no parent left, holds the pipe; then
/// `then`.
pub fn with_daemon(pipe: &str, then: &str) -> String {
    format!(
        "(setsid sh -c '(exec 9>{pipe}; echo alive >&9; exec sleep 100000 >/dev/null 2>&1 </dev/null) & ' &) ; {then}"
    )
}
