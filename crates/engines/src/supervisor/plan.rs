//! The files of a sandbox's directory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cove_core::error::{Context, Error, ErrorKind, Result};
use cove_core::{EngineKind, InstanceId, SandboxId, SandboxInfo, SandboxSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::system;

/// What a supervisor is started with; `spec.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The sandbox.
    pub id: SandboxId,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub instance: InstanceId,
    /// Chooses the launcher.
    pub engine: EngineKind,
    /// What it shall be.
    pub spec: SandboxSpec,
    /// When it was asked for.
    pub created_at: jiff::Timestamp,
    /// The guest program.
    pub guest: PathBuf,
    /// See [`Place::options`](super::launch::Place::options).
    pub options: Value,
}

/// Largest document read back.
const DOCUMENT_BYTES: u64 = 16 << 20;

/// A sandbox's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// `spec.json`, a [`Plan`].
    pub fn plan(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// `info.json`, a [`SandboxInfo`], always whole.
    pub fn info(&self) -> PathBuf {
        self.0.join("info.json")
    }

    /// What the supervisor had to say.
    pub fn log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    /// Where the supervisor listens.
    pub const SOCKET: &'static str = "control.sock";

    fn lock_path(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Makes the lock file and takes the lock; the directory must be fresh.
    pub fn make_lock(&self) -> Result<OwnedFd> {
        let made = File::options().read(true).write(true).create_new(true).mode(0o600).open(self.lock_path());
        made.map_err(|error| unreadable(&self.lock_path(), error))?;
        self.lock()?.ok_or_else(|| Error::internal("A fresh lock is held by somebody"))
    }

    /// Takes the lock that tells a living supervisor from a dead one; `None` when it is held. The
    /// lock belongs to the open file: it passes to a child with the descriptor.
    ///
    /// # Errors
    /// `NotFound` where there is no lock: the directory is not there, half-made or half-removed.
    pub fn lock(&self) -> Result<Option<OwnedFd>> {
        // Never created here: that would bring back a part of what is just being removed.
        let file = match File::options().read(true).write(true).open(self.lock_path()) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::not_found(format!("{} does not exist", self.lock_path().display())));
            }
            Err(error) => return Err(unreadable(&self.lock_path(), error)),
        };
        match system::try_lock(&file) {
            Ok(true) => Ok(Some(file.into())),
            Ok(false) => Ok(None),
            Err(error) => Err(unreadable(&self.lock_path(), error)),
        }
    }

    /// Notes which process supervises: its id and its start time, so that the id alone can never
    /// name a stranger.
    pub fn note_supervisor(&self, pid: u32) -> Result<()> {
        let text = format!("{pid} {}\n", start_time(pid).unwrap_or(0));
        fs::write(self.lock_path(), text).map_err(|error| unreadable(&self.lock_path(), error))
    }

    /// The noted supervisor's id if that very process still lives.
    pub fn supervisor(&self) -> Option<u32> {
        let text = fs::read_to_string(self.lock_path()).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (start_time(pid)? == started.parse::<u64>().ok()?).then_some(pid)
    }

    /// Reads `spec.json`.
    pub fn read_plan(&self) -> Result<Plan> {
        read_document(&self.plan())
    }

    /// Reads `info.json`.
    pub fn read_info(&self) -> Result<SandboxInfo> {
        read_document(&self.info())
    }

    /// Writes `spec.json`.
    pub fn write_plan(&self, plan: &Plan) -> Result<()> {
        write_document(&self.plan(), plan)
    }

    /// Replaces `info.json`.
    pub fn write_info(&self, info: &SandboxInfo) -> Result<()> {
        write_document(&self.info(), info)
    }
}

/// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn unreadable(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::internal(format!("{} cannot be used", path.display())).because(error)
}

fn read_document<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::not_found(format!("{} does not exist", path.display())));
        }
        Err(error) => return Err(unreadable(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    serde_json::from_slice(&bytes).context(ErrorKind::Internal, format!("{} is damaged", path.display()))
}

fn write_document<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut fresh = tempfile::NamedTempFile::new_in(dir)?;
        fresh.write_all(&serde_json::to_vec_pretty(value)?)?;
        fresh.as_file().sync_data()?;
        fresh.persist(path)?;
        Ok(())
    };
    write().map_err(|error| unreadable(path, error))
}
