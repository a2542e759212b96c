//! `LocalEngine`.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cove_core::engine::{Engine, Exec, ExecSpec, Swept};
use cove_core::error::{Context, Error, ErrorKind, Result};
use cove_core::sandbox::{SandboxInfo, SandboxState};
use cove_core::{Capabilities, EngineKind, InstanceId, SandboxId, SandboxSpec};
use serde_json::Value;
use tokio::sync::Mutex;

use super::kind::Kind;
use super::removal::remove_tree;
use super::{exec, link, start};
use crate::supervisor::HelperProgram;
use crate::supervisor::control::Request;
use crate::supervisor::guest;
use crate::supervisor::launch::Place;
use crate::supervisor::plan::{Directory, Plan};

/// How long ending a sandbox may take beyond the grace.
const ENDING: Duration = Duration::from_secs(150);

/// How long a supervisor that has ended its sandbox may take to leave, and one that was killed to
/// be gone.
const LEAVING: Duration = Duration::from_secs(30);

/// Why a sandbox failed whose supervisor is no more.
const LOST: &str = "Its supervisor is gone";

/// An engine whose sandboxes are processes of this machine.
pub struct LocalEngine<K> {
    shared: Arc<Shared<K>>,
    helper: HelperProgram,
    /// Held while a sandbox's name and directory are taken.
    naming: Mutex<()>,
}

struct Shared<K> {
    kind: K,
    instance: InstanceId,
    sandboxes: PathBuf,
    guest: PathBuf,
}

impl<K: Kind> LocalEngine<K> {
    /// An engine that keeps its sandboxes under `state`, which belongs to `instance` alone.
    ///
    /// # Errors
    /// `Internal` when `state` cannot be written.
    pub fn new(kind: K, state: &Path, instance: InstanceId, helper: HelperProgram) -> Result<Self> {
        let sandboxes = state.join("sandboxes");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&sandboxes);
        made.and_then(|()| fs::canonicalize(&sandboxes))
            .context(ErrorKind::Internal, format!("{} cannot be made", sandboxes.display()))
            .and_then(|sandboxes| {
                let guest = guest::install(sandboxes.parent().unwrap_or(state))?;
                let shared = Arc::new(Shared { kind, instance, sandboxes, guest });
                Ok(Self { shared, helper, naming: Mutex::new(()) })
            })
    }

    /// What the supervisor wrote down, at most the last `bound` bytes.
    ///
    /// # Errors
    /// `NotFound` for a sandbox that does not exist.
    pub fn log(&self, id: &SandboxId, bound: usize) -> Result<Vec<u8>> {
        let bytes = fs::read(self.shared.directory(id).log()).map_err(|_| missing(id))?;
        Ok(bytes[bytes.len().saturating_sub(bound)..].to_vec())
    }

    /// Runs what may wait for disks and processes where waiting is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared<K>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || work(&shared))
            .await
            .context(ErrorKind::Internal, "A task of the engine was cut off")?
    }

    fn admit(&self, spec: &SandboxSpec) -> Result<()> {
        spec.validate()?;
        let lacking = self.capabilities().lacking(spec);
        if !lacking.is_empty() {
            let named: Vec<String> = lacking.iter().map(|(control, why)| format!("{control} ({why})")).collect();
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("The engine {} cannot give {}", self.kind(), named.join(", ")),
            ));
        }
        self.shared.kind.check(spec)
    }

    /// Takes the directory and the name; the lock that comes back is the supervisor's to hold.
    async fn claim(&self, id: &SandboxId, spec: &SandboxSpec, options: Value) -> Result<std::os::fd::OwnedFd> {
        let _naming = self.naming.lock().await;
        let (id, spec) = (id.clone(), spec.clone());
        self.blocking(move |shared| shared.claim(&id, spec, options)).await
    }
}

fn missing(id: &SandboxId) -> Error {
    Error::not_found(format!("There is no sandbox {id}"))
}

impl<K: Kind> Shared<K> {
    fn directory(&self, id: &SandboxId) -> Directory {
        Directory(self.sandboxes.join(id.as_str()))
    }

    fn place(&self, id: &SandboxId) -> Place {
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

    fn ids(&self) -> Result<Vec<SandboxId>> {
        let entries = fs::read_dir(&self.sandboxes)
            .context(ErrorKind::Internal, format!("{} cannot be read", self.sandboxes.display()))?;
        let mut ids: Vec<SandboxId> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }

    fn claim(&self, id: &SandboxId, spec: SandboxSpec, options: Value) -> Result<std::os::fd::OwnedFd> {
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
        let claimed = || -> Result<std::os::fd::OwnedFd> {
            fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o700))
                .context(ErrorKind::Internal, format!("{} cannot be closed to others", dir.0.display()))?;
            let lock = dir.lock()?.ok_or_else(|| Error::internal("A fresh lock is held by somebody"))?;
            dir.write_plan(&plan)?;
            dir.write_info(&info)?;
            Ok(lock)
        };
        claimed().inspect_err(|_| {
            let _ = remove_tree(&dir.0);
        })
    }

    /// What is known; notes the loss of a supervisor and clears what it left behind.
    fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let dir = self.directory(id);
        let lives = |info: &SandboxInfo| matches!(info.state, SandboxState::Creating | SandboxState::Running);
        let info = dir.read_info().map_err(|error| absent(error, id))?;
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

    /// Removes everything of a sandbox whose supervisor has been asked to leave.
    fn bury(&self, id: &SandboxId) -> Result<()> {
        let dir = self.directory(id);
        if !dir.0.exists() {
            return Ok(());
        }
        let lock = match await_lock(&dir, LEAVING)? {
            Some(lock) => lock,
            None => {
                if let Some(pid) = dir.supervisor() {
                    kill(pid);
                }
                await_lock(&dir, LEAVING)?
                    .ok_or_else(|| Error::new(ErrorKind::Timeout, format!("The supervisor of {id} cannot be ended")))?
            }
        };
        self.kind.remains().clear(&self.place(id))?;
        remove_tree(&dir.0)?;
        drop(lock);
        Ok(())
    }
}

fn absent(error: Error, id: &SandboxId) -> Error {
    if error.kind() == ErrorKind::NotFound { missing(id) } else { error }
}

fn await_lock(dir: &Directory, limit: Duration) -> Result<Option<std::os::fd::OwnedFd>> {
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

fn kill(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[async_trait]
impl<K: Kind> Engine for LocalEngine<K> {
    fn kind(&self) -> EngineKind {
        self.shared.kind.kind()
    }

    fn capabilities(&self) -> &Capabilities {
        self.shared.kind.capabilities()
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        self.admit(spec)?;
        let options = self.shared.kind.prepare(id, spec).await?;
        let lock = self.claim(id, spec, options).await?;
        let dir = self.shared.directory(id);
        match start::start(&self.helper, &dir, lock).await {
            Ok(()) => self.inspect(id).await,
            Err(error) => {
                // A supervisor that answered has left; one that did not is ended here.
                if let (ErrorKind::NotStarted, Some(pid)) = (error.kind(), dir.supervisor()) {
                    kill(pid);
                }
                let id = id.clone();
                match self.blocking(move |shared| shared.bury(&id)).await {
                    Ok(()) => Err(error),
                    Err(left) => Err(error.with("left behind", left.chain().join(": "))),
                }
            }
        }
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        if let Some(exec) = exec::exec(&self.shared.directory(id).0, spec).await? {
            return Ok(exec);
        }
        let info = self.inspect(id).await?;
        Err(Error::new(ErrorKind::Conflict, format!("Sandbox {id} does not run"))
            .with("state", serde_json::to_value(&info.state).unwrap_or_default()))
    }

    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        match self.inspect(id).await {
            Ok(info) if matches!(info.state, SandboxState::Running | SandboxState::Creating) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let dir = self.shared.directory(id);
        let answer = link::call(&dir.0, &Request::Stop { grace_ms }, grace.saturating_add(ENDING)).await;
        match answer {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Timeout => {
                // A supervisor that does not do its work is ended; its sandbox goes with it.
                if let Some(pid) = dir.supervisor() {
                    kill(pid);
                }
            }
            Err(error) => return Err(error),
        }
        let id = id.clone();
        self.blocking(move |shared| {
            await_lock(&shared.directory(&id), LEAVING)?;
            match shared.inspect(&id) {
                Ok(info) if matches!(info.state, SandboxState::Running | SandboxState::Creating) => {
                    Err(Error::new(ErrorKind::Timeout, format!("Sandbox {id} cannot be stopped")))
                }
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        // A supervisor that does not answer is ended in `bury`.
        let _ = link::call(&self.shared.directory(id).0, &Request::Quit, ENDING).await;
        let id = id.clone();
        self.blocking(move |shared| match shared.bury(&id) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        })
        .await
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let id = id.clone();
        self.blocking(move |shared| shared.inspect(&id)).await
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        self.blocking(|shared| {
            let mut found = Vec::new();
            for id in shared.ids()? {
                match shared.inspect(&id) {
                    Ok(info) => found.push(info),
                    // Removed meanwhile, or half-made: the sweep's to deal with.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        })
        .await
    }

    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        let known: HashSet<SandboxId> = known.iter().cloned().collect();
        let mut swept = Vec::new();
        for id in self.blocking(|shared| shared.ids()).await? {
            if !known.contains(&id) {
                self.remove(&id).await?;
                swept.push(Swept { kind: "sandbox".to_owned(), name: id.to_string() });
            }
        }
        let more = self.blocking(move |shared| {
            let mut swept = Vec::new();
            for id in shared.kind.remains().find(&shared.instance)? {
                if known.contains(&id) && shared.directory(&id).0.exists() {
                    // Its owner is alive, or its loss is noted and cleared by looking at it.
                    let _ = shared.inspect(&id);
                } else {
                    swept.extend(shared.kind.remains().clear(&shared.place(&id))?);
                }
            }
            Ok(swept)
        });
        swept.extend(more.await?);
        Ok(swept)
    }
}
