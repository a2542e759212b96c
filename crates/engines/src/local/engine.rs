//! `LocalEngine`.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cove_core::engine::{Engine, Exec, ExecSpec, Swept};
use cove_core::error::{Context, Error, ErrorKind, Result};
use cove_core::sandbox::{SandboxInfo, SandboxState};
use cove_core::{Capabilities, EngineKind, InstanceId, Isolation, Root, SandboxId, SandboxSpec};
use serde_json::Value;
use tokio::sync::Mutex;

use super::kind::Kind;
use super::shelf::{LEAVING, Shelf, await_lock, kill};
use super::{exec, link, start};
use crate::supervisor::HelperProgram;
use crate::supervisor::control::{Reply, Request, Stats};
use crate::supervisor::guest;

/// How long ending a sandbox may take beyond the grace.
const ENDING: Duration = Duration::from_secs(150);

/// An engine whose sandboxes are processes of this machine.
pub struct LocalEngine<K> {
    shelf: Arc<Shelf<K>>,
    helper: HelperProgram,
    /// Held while a sandbox's name and directory are taken.
    naming: Mutex<()>,
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
                let shelf = Arc::new(Shelf { kind, instance, sandboxes, guest });
                Ok(Self { shelf, helper, naming: Mutex::new(()) })
            })
    }

    /// What the supervisor wrote down, at most the last `bound` bytes.
    ///
    /// # Errors
    /// `NotFound` for a sandbox that does not exist.
    pub fn log(&self, id: &SandboxId, bound: usize) -> Result<Vec<u8>> {
        let bytes = fs::read(self.shelf.directory(id).log()).map_err(|_| super::shelf::missing(id))?;
        Ok(bytes[bytes.len().saturating_sub(bound)..].to_vec())
    }

    /// Counts of a running sandbox.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when it does not run.
    pub async fn stats(&self, id: &SandboxId) -> Result<Stats> {
        match link::call(&self.shelf.directory(id).0, &Request::Stats, Duration::from_secs(30)).await? {
            Some(Reply::Stats(stats)) => Ok(stats),
            Some(_) => Err(Error::internal("The supervisor's reply is not understood")),
            None => Err(self.not_running(id).await?),
        }
    }

    async fn not_running(&self, id: &SandboxId) -> Result<Error> {
        self.inspect(id).await?;
        Ok(Error::new(ErrorKind::Conflict, format!("Sandbox {id} does not run"))
            .next("cove sandbox show tells why; cove sandbox create makes another"))
    }

    /// Runs what may wait for disks and processes where waiting is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf<K>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shelf = Arc::clone(&self.shelf);
        tokio::task::spawn_blocking(move || work(&shelf))
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
        self.keep_out(spec)?;
        self.shelf.kind.check(spec)
    }

    /// Nothing that a sandbox sees may hold our sockets: who reaches them as the same user commands the
    /// daemon and every other sandbox, and a read-only mount does not stop that.
    fn keep_out(&self, spec: &SandboxSpec) -> Result<()> {
        if spec.isolation == Isolation::Process {
            return Ok(());
        }
        let sandboxes = self.shelf.sandboxes.as_path();
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let runtime = runtime.and_then(|dir| fs::canonicalize(Path::new(&dir).join("cove")).ok());
        let root = match &spec.root {
            Root::Directory(root) => Some(root),
            _ => None,
        };
        let layers = spec.layers.iter().flat_map(|layer| [&layer.lower, &layer.changes]);
        for source in spec.mounts.iter().map(|mount| &mount.source).chain(layers).chain(root) {
            // What does not exist is refused where it is opened.
            let Ok(real) = fs::canonicalize(source) else { continue };
            if shows_sockets(&real, sandboxes, runtime.as_deref()) {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("{} holds Cove's own sockets, which no sandbox may see", source.display()),
                )
                .next("Show a directory below it, or move Cove's state with COVE_STATE_DIR"));
            }
        }
        Ok(())
    }

    /// Takes the directory and the name; the lock that comes back is the supervisor's to hold.
    async fn claim(&self, id: &SandboxId, spec: &SandboxSpec, options: Value) -> Result<std::os::fd::OwnedFd> {
        let _naming = self.naming.lock().await;
        let (id, spec) = (id.clone(), spec.clone());
        self.blocking(move |shelf| shelf.claim(&id, spec, options)).await
    }
}

/// Whether a real path is at, above or in a directory of sockets: those of supervisors and doors in the
/// state directory, which holds `sandboxes`, and the daemon's there or in `runtime`.
fn shows_sockets(real: &Path, sandboxes: &Path, runtime: Option<&Path>) -> bool {
    let state = sandboxes.parent().unwrap_or(sandboxes);
    let above = [Some(state), runtime].into_iter().flatten().any(|own| own.starts_with(real));
    above || real.starts_with(sandboxes) || real.starts_with(state.join("doors"))
}

#[async_trait]
impl<K: Kind> Engine for LocalEngine<K> {
    fn kind(&self) -> EngineKind {
        self.shelf.kind.kind()
    }

    fn capabilities(&self) -> &Capabilities {
        self.shelf.kind.capabilities()
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        self.admit(spec)?;
        let options = self.shelf.kind.prepare(id, spec).await?;
        let lock = self.claim(id, spec, options).await?;
        let dir = self.shelf.directory(id);
        match start::start(&self.helper, &dir, lock).await {
            Ok(()) => self.inspect(id).await,
            Err(error) => {
                // A supervisor that answered has left; one that did not is ended here.
                if let (ErrorKind::NotStarted, Some(pid)) = (error.kind(), dir.supervisor()) {
                    kill(pid);
                }
                let id = id.clone();
                match self.blocking(move |shelf| shelf.bury(&id)).await {
                    Ok(()) => Err(error),
                    Err(left) => Err(error.with("left behind", left.chain().join(": "))),
                }
            }
        }
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        match exec::exec(&self.shelf.directory(id).0, spec).await {
            Ok(Some(exec)) => Ok(exec),
            Ok(None) => Err(self.not_running(id).await?),
            // A supervisor that is just leaving still takes connections, but answers none.
            Err(error) if error.kind() == ErrorKind::Interrupted => match self.inspect(id).await?.state {
                SandboxState::Running => Err(error),
                _ => Err(self.not_running(id).await?),
            },
            Err(error) => Err(error),
        }
    }

    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        match self.inspect(id).await {
            Ok(info) if matches!(info.state, SandboxState::Running | SandboxState::Creating) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let dir = self.shelf.directory(id);
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
        self.blocking(move |shelf| {
            await_lock(&shelf.directory(&id), LEAVING)?;
            match shelf.inspect(&id) {
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
        let dir = self.shelf.directory(id);
        let begun = Instant::now();
        // Nobody listens when the supervisor is gone or still building.
        loop {
            match link::call(&dir.0, &Request::Quit, ENDING).await {
                Ok(Some(_)) => break,
                Ok(None) => {}
                Err(_) => {
                    // One that cannot be asked is ended; its sandbox goes with it.
                    dir.supervisor().into_iter().for_each(kill);
                    break;
                }
            }
            let looked = dir.clone();
            let held = self.blocking(move |_| Ok(matches!(looked.lock(), Ok(None)))).await?;
            if !held || begun.elapsed() > LEAVING {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let id = id.clone();
        self.blocking(move |shelf| match shelf.bury(&id) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        })
        .await
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let id = id.clone();
        self.blocking(move |shelf| shelf.inspect(&id)).await
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        self.blocking(|shelf| {
            let mut found = Vec::new();
            for id in shelf.ids()? {
                match shelf.inspect(&id) {
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
        for id in self.blocking(|shelf| shelf.ids()).await? {
            // A directory without its papers is half-made or half-removed: nobody makes one during a sweep.
            let half = async || self.inspect(&id).await.is_err_and(|error| error.kind() == ErrorKind::NotFound);
            if !known.contains(&id) || half().await {
                self.remove(&id).await?;
                swept.push(Swept { kind: "sandbox".to_owned(), name: id.to_string() });
            }
        }
        let more = self.blocking(move |shelf| {
            let mut swept = shelf.sweep_guests();
            for id in shelf.kind.remains().find(&shelf.instance)? {
                if known.contains(&id) && shelf.directory(&id).0.exists() {
                    // Its owner is alive, or its loss is noted and cleared by looking at it.
                    let seen = shelf.inspect(&id);
                    let over = |state| !matches!(state, SandboxState::Creating | SandboxState::Running);
                    // What failed when its engine was away may have been left there.
                    if seen.is_ok_and(|info| over(info.state))
                        && let Ok(Some(_nobodys)) = shelf.directory(&id).lock()
                    {
                        swept.extend(shelf.kind.remains().clear(&shelf.place(&id))?);
                    }
                } else {
                    swept.extend(shelf.kind.remains().clear(&shelf.place(&id))?);
                }
            }
            Ok(swept)
        });
        swept.extend(more.await?);
        swept.extend(self.shelf.kind.tidy().await.unwrap_or_default());
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_with_our_sockets_are_known() {
        let (sandboxes, runtime) = (Path::new("/home/a/.local/state/cove/sandboxes"), Path::new("/run/user/7/cove"));
        for (path, shows) in [
            ("/", true),
            ("/home/a/.local", true),
            ("/home/a/.local/state/cove", true),
            ("/home/a/.local/state/cove/sandboxes/x", true),
            ("/home/a/.local/state/cove/doors", true),
            ("/run/user/7", true),
            ("/run/user/7/cove", true),
            ("/home/a/.local/bin", false),
            ("/home/a/.local/state/cove/runs/x", false),
            ("/home/a/.local/state/covered", false),
            ("/run/user/7/other", false),
        ] {
            assert_eq!(shows_sockets(Path::new(path), sandboxes, Some(runtime)), shows, "{path}");
        }
    }
}
