//! What a script sees and may do.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use cove_core::{Error, ErrorKind, ExecSpec, ExitStatus, Output, Result, SandboxId, SandboxSpec};
use tokio::sync::mpsc;

/// Decides what each process does.
pub type Script = Arc<dyn Fn(Process) -> Pin<Box<dyn Future<Output = End> + Send>> + Send + Sync>;

/// How a scripted process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exit(ExitStatus),
    /// The sandbox vanishes in the middle.
    Lost,
}

impl End {
    /// Ends by itself with `code`.
    pub fn code(code: i32) -> Self {
        Self::Exit(ExitStatus::exited(code))
    }
}

/// A process of a fake sandbox. Dropping it without an end means it was killed.
pub struct Process {
    pub(super) sandbox: SandboxId,
    pub(super) spec: Arc<SandboxSpec>,
    pub(super) exec: ExecSpec,
    pub(super) nth: u64,
    pub(super) stdin: mpsc::Receiver<Vec<u8>>,
    pub(super) output: mpsc::Sender<Output>,
}

impl Process {
    /// The sandbox it runs in.
    pub fn sandbox(&self) -> &SandboxId {
        &self.sandbox
    }

    /// The sandbox's specification.
    pub fn spec(&self) -> &SandboxSpec {
        &self.spec
    }

    /// What was asked for.
    pub fn exec(&self) -> &ExecSpec {
        &self.exec
    }

    /// 1 for the first process that this engine ever started.
    pub fn nth(&self) -> u64 {
        self.nth
    }

    /// The label `run.cove.role` of its sandbox; empty without one.
    pub fn role(&self) -> &str {
        self.spec.labels.get("run.cove.role").map_or("", String::as_str)
    }

    /// The last argument: the command line where a shell was asked for.
    pub fn command(&self) -> &str {
        self.exec.argv.last().map_or("", String::as_str)
    }

    /// The host's path behind a path inside, through the mount with the longest matching target.
    /// Relative paths start at the working directory.
    pub fn path(&self, inside: impl AsRef<Path>) -> Option<PathBuf> {
        self.locate(inside.as_ref()).map(|(path, _)| path)
    }

    fn locate(&self, inside: &Path) -> Option<(PathBuf, bool)> {
        let workdir = self.exec.workdir.as_ref().unwrap_or(&self.spec.workdir);
        let inside = workdir.join(inside);
        let mount = self
            .spec
            .mounts
            .iter()
            .filter(|mount| inside.starts_with(&mount.target))
            .max_by_key(|mount| mount.target.components().count())?;
        let rest = inside.strip_prefix(&mount.target).ok()?;
        let path = if rest.as_os_str().is_empty() { mount.source.clone() } else { mount.source.join(rest) };
        Some((path, mount.read_only))
    }

    /// Writes a file inside, with its parent directories.
    ///
    /// # Errors
    /// `Refused` where no writable mount lies behind the path.
    pub fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.writable(inside.as_ref())?;
        let failed = |e| Error::internal(format!("{} could not be written", path.display())).because(e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&path, content).map_err(failed)
    }

    /// Removes a file inside; harmless when there is none.
    ///
    /// # Errors
    /// `Refused` where no writable mount lies behind the path.
    pub fn remove(&self, inside: impl AsRef<Path>) -> Result<()> {
        let path = self.writable(inside.as_ref())?;
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::internal(format!("{} could not be removed", path.display())).because(e))
            }
            _ => Ok(()),
        }
    }

    fn writable(&self, inside: &Path) -> Result<PathBuf> {
        match self.locate(inside) {
            Some((path, false)) => Ok(path),
            _ => Err(Error::new(ErrorKind::Refused, format!("{} is read-only inside", inside.display()))),
        }
    }

    /// A file's content as text; `None` where there is none.
    pub fn read(&self, inside: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(inside)?).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until stdin is closed and returns all of it.
    pub async fn stdin(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = self.stdin.recv().await {
            all.extend_from_slice(&bytes);
        }
        all
    }

    /// Says something on stdout; waits where the reader is slow.
    pub async fn stdout(&self, bytes: impl Into<Vec<u8>>) {
        let _ = self.output.send(Output::Stdout(bytes.into())).await;
    }

    /// Says something on stderr; waits where the reader is slow.
    pub async fn stderr(&self, bytes: impl Into<Vec<u8>>) {
        let _ = self.output.send(Output::Stderr(bytes.into())).await;
    }
}
