//! What is on disk of an engine's sandboxes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cove_core::engine::Swept;
use cove_core::error::{Context, Error, ErrorKind, Result};
use cove_core::sandbox::{SandboxInfo, SandboxState};
use cove_core::{InstanceId, SandboxId, SandboxSpec};
use serde_json::Value;

use super::kind::Kind;
use super::removal::remove_tree;
use crate::supervisor::launch::Place;
use crate::supervisor::plan::{Directory, Plan};

/// How long a supervisor that has ended its sandbox may take to leave, and one that was killed to
/// be gone.
pub const LEAVING: Duration = Duration::from_secs(30);

/// Why a sandbox failed whose supervisor is no more.
const LOST: &str = "Its supervisor is gone";

/// The sandboxes of one instance.
pub struct Shelf<K> {
    /// What tells the engine from others.
    pub kind: K,
    /// Whose sandboxes these are.
    pub instance: InstanceId,
    /// Their directories are in here.
    pub sandboxes: PathBuf,
    /// The guest that new ones get.
    pub guest: PathBuf,
}

/// There is no such sandbox.
pub fn missing(id: &SandboxId) -> Error {
    Error::not_found(format!("There is no sandbox {id}"))
}

impl<K: Kind> Shelf<K> {
    /// Where a sandbox is.
    pub fn directory(&self, id: &SandboxId) -> Directory {
        Directory(self.sandboxes.join(id.as_str()))
    }

    /// The same, for those who clear up.
    pub fn place(&self, id: &SandboxId) -> Place {
        let dir = self.directory(id);
        let plan = dir.read_plan().ok();
        Place {
            id: id.clone(),
            dir: dir.0,
            instance: self.instance.clone(),
            guest: plan.as_ref().map_or_else(|| self.guest.clone(), |plan| plan.guest.clone()),
            options: plan.map_or(Value::Null, |plan| plan.options),
        }
    }

    /// Every sandbox, in whatever state.
    pub fn ids(&self) -> Result<Vec<SandboxId>> {
        let entries = fs::read_dir(&self.sandboxes)
            .context(ErrorKind::Internal, format!("{} cannot be read", self.sandboxes.display()))?;
        let mut ids: Vec<SandboxId> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// Takes the directory and the name; the lock that comes back is the supervisor's to hold.
    pub fn claim(&self, id: &SandboxId, spec: SandboxSpec, options: Value) -> Result<OwnedFd> {
        let dir = self.directory(id);
        let name = if spec.name.is_empty() { format!("cove-{}", id.short()) } else { spec.name.clone() };
        if dir.0.exists() {
            return Err(Error::new(ErrorKind::Conflict, format!("The sandbox {id} exists already"))
                .next(format!("Remove it first: cove sandbox rm {id}")));
        }
        for other in self.ids()? {
            let Ok(info) = self.inspect(&other) else { continue };
            if info.name == name && matches!(info.state, SandboxState::Creating | SandboxState::Running) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("The sandbox {other} has the name {name:?} already"),
                ));
            }
        }
        let plan = Plan {
            id: id.clone(),
            name: name.clone(),
            instance: self.instance.clone(),
            engine: self.kind.kind(),
            spec: spec.clone(),
            created_at: jiff::Timestamp::now(),
            guest: self.guest.clone(),
            options,
        };
        let info = SandboxInfo {
            id: id.clone(),
            name,
            engine: plan.engine,
            state: SandboxState::Creating,
            spec,
            attestation: None,
            created_at: plan.created_at,
        };
        let made = fs::DirBuilder::new().mode(0o700).create(&dir.0);
        made.context(ErrorKind::Internal, format!("{} cannot be made", dir.0.display()))?;
        let claimed = || -> Result<OwnedFd> {
            fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o700))
                .context(ErrorKind::Internal, format!("{} cannot be closed to others", dir.0.display()))?;
            let lock = dir.make_lock()?;
            dir.write_plan(&plan)?;
            dir.write_info(&info)?;
            Ok(lock)
        };
        claimed().inspect_err(|_| {
            let _ = remove_tree(&dir.0);
        })
    }

    /// What is known; notes the loss of a supervisor and clears what it left behind.
    pub fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let dir = self.directory(id);
        let lives = |info: &SandboxInfo| matches!(info.state, SandboxState::Creating | SandboxState::Running);
        let info =
            dir.read_info().or_else(|error| self.without_info(&dir, error)).map_err(|error| absent(error, id))?;
        if !lives(&info) {
            return Ok(info);
        }
        let Some(_lock) = dir.lock().map_err(|error| absent(error, id))? else { return Ok(info) };
        // It may have ended, and said so, between the two looks.
        let mut info = dir.read_info().map_err(|error| absent(error, id))?;
        if lives(&info) {
            self.kind.remains().clear(&self.place(id))?;
            let _ = fs::remove_file(dir.0.join(Directory::SOCKET));
            info.state = SandboxState::Failed { reason: LOST.to_owned() };
            dir.write_info(&info)?;
        }
        Ok(info)
    }

    /// What can be said of a sandbox whose `info.json` is damaged: it is to be removed. One that cannot
    /// be read now, for want of descriptors, says nothing: neither that it is there nor that it is not.
    fn without_info(&self, dir: &Directory, error: Error) -> Result<SandboxInfo> {
        if error.kind() == ErrorKind::NotFound || !is_damage(&error) {
            return Err(error);
        }
        let plan = dir.read_plan().map_err(|e| if is_damage(&e) { Error::not_found("Nothing is known") } else { e })?;
        Ok(SandboxInfo {
            id: plan.id,
            name: plan.name,
            engine: plan.engine,
            state: SandboxState::Failed { reason: error.message().to_owned() },
            spec: plan.spec,
            attestation: None,
            created_at: plan.created_at,
        })
    }

    /// Guests of other versions of this program that no sandbox was made with.
    pub fn sweep_guests(&self) -> Vec<Swept> {
        let Some(root) = self.guest.parent().and_then(Path::parent) else { return Vec::new() };
        let mut used: Vec<PathBuf> = vec![self.guest.clone()];
        for id in self.ids().unwrap_or_default() {
            match self.directory(&id).read_plan() {
                Ok(plan) => used.push(plan.guest),
                // Whatever it was made with, it may still need.
                Err(_) => return Vec::new(),
            }
        }
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| !used.iter().any(|guest| guest.starts_with(path)))
            .filter(|path| remove_tree(path).is_ok())
            .map(|path| Swept { kind: "directory".to_owned(), name: path.display().to_string() })
            .collect()
    }

    /// Removes everything of a sandbox whose supervisor has been asked to leave.
    pub fn bury(&self, id: &SandboxId) -> Result<()> {
        let dir = self.directory(id);
        if !dir.0.exists() {
            return Ok(());
        }
        let lock =
            match await_lock(&dir, LEAVING) {
                Ok(Some(lock)) => Some(lock),
                Ok(None) => {
                    if let Some(pid) = dir.supervisor() {
                        kill(pid);
                    }
                    let freed = await_lock(&dir, LEAVING)?;
                    Some(freed.ok_or_else(|| {
                        Error::new(ErrorKind::Timeout, format!("The supervisor of {id} cannot be ended"))
                    })?)
                }
                // Half-made or half-removed: nobody can be there.
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        self.kind.remains().clear(&self.place(id))?;
        remove_tree(&dir.0)?;
        drop(lock);
        Ok(())
    }
}

/// Whether a document was read and is none.
fn is_damage(error: &Error) -> bool {
    use std::error::Error as _;
    error.source().is_some_and(|source| source.downcast_ref::<serde_json::Error>().is_some())
}

fn absent(error: Error, id: &SandboxId) -> Error {
    if error.kind() == ErrorKind::NotFound { missing(id) } else { error }
}

/// Takes the lock as soon as nobody holds it.
pub fn await_lock(dir: &Directory, limit: Duration) -> Result<Option<OwnedFd>> {
    let begun = Instant::now();
    loop {
        if let Some(lock) = dir.lock()? {
            return Ok(Some(lock));
        }
        if begun.elapsed() >= limit {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a process.
pub fn kill(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}
