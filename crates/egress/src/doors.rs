//! Doors and their handles.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cove_core::error::Context as _;
use cove_core::{Door, DoorEvent, DoorHandle, EgressPolicy, Error, ErrorKind, Result};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::events::Events;
use crate::reach::{Resolver, SystemResolver};
use crate::session;
use crate::verdict::{Host, Policy};

/// How doors work; the same for every door of one [`Doors`].
#[derive(Clone)]
pub struct Options {
    /// Names that the operator of this host leads somewhere, for example to a model server on the
    /// host's loopback. A rule must allow the name and port all the same; the address may then be private.
    pub resolve_overrides: BTreeMap<String, SocketAddr>,
    /// What resolves every other name.
    pub resolver: Arc<dyn Resolver>,
    /// Connections through one door at a time; further ones wait.
    pub max_connections: usize,
    /// From the beginning of a request to the end of its head, and between requests.
    pub head_timeout: Duration,
    /// For one resolution.
    pub resolve_timeout: Duration,
    /// For a connection to one address.
    pub connect_timeout: Duration,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
    /// For one connection as a whole.
    pub total_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resolve_overrides: BTreeMap::new(),
            resolver: Arc::new(SystemResolver),
            max_connections: 256,
            head_timeout: Duration::from_secs(60),
            resolve_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(15 * 60),
            total_timeout: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("resolve_overrides", &self.resolve_overrides).finish_non_exhaustive()
    }
}

/// Opens doors: sockets in one directory, served by tasks of the current runtime.
#[derive(Debug)]
pub struct Doors {
    directory: PathBuf,
    options: Options,
    overrides: BTreeMap<String, SocketAddr>,
}

/// What the connections of one door share.
pub(crate) struct Shared {
    pub label: String,
    pub policy: Policy,
    pub options: Options,
    pub overrides: BTreeMap<String, SocketAddr>,
    pub events: Events,
}

impl Shared {
    pub(crate) fn record(&self, host: &Host, port: u16, allowed: bool, reason: &str) {
        let host = match host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        if allowed {
            tracing::debug!(door = %self.label, host, port, reason, "egress allowed");
        } else {
            tracing::info!(door = %self.label, host, port, reason, "egress refused");
        }
        self.events.record(&host, port, allowed, reason);
    }
}

impl Doors {
    /// Doors whose sockets lie in `directory`, which is made (owner-only) when absent; sockets there that
    /// nobody serves any more are removed. It must be short: a socket's path has at most 107 bytes, of which a name takes 22.
    ///
    /// # Errors
    /// `Invalid` for a name among the overrides that is none, or a directory path that is too long.
    pub fn new(directory: impl Into<PathBuf>, options: Options) -> Result<Self> {
        let directory = directory.into();
        if directory.as_os_str().len() + 22 > 107 {
            return Err(Error::invalid(format!("The path {} is too long for sockets", directory.display()))
                .next("Choose a shorter state directory"));
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .context(ErrorKind::Internal, format!("Could not make {}", directory.display()))?;
        clear(&directory);
        let mut overrides = BTreeMap::new();
        for (name, target) in &options.resolve_overrides {
            match Host::parse(name) {
                Ok(Host::Name(name)) => overrides.insert(name, *target),
                _ => {
                    return Err(Error::invalid(format!("The name {name:?} to resolve to {target} is not a host name")));
                }
            };
        }
        Ok(Self { directory, options, overrides })
    }
}

#[async_trait]
impl Door for Doors {
    async fn open(&self, label: &str, policy: &EgressPolicy) -> Result<Box<dyn DoorHandle>> {
        let shared = Arc::new(Shared {
            label: label.to_owned(),
            policy: Policy::compile(policy)?,
            options: self.options.clone(),
            overrides: self.overrides.clone(),
            events: Events::default(),
        });
        let (listener, path) = bind(&self.directory)?;
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Box::new(OpenDoor { path, shared, task: Mutex::new(Some(task)) }))
    }
}

/// Removes what a daemon that was killed left.
fn clear(directory: &Path) {
    for path in std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let door = name.starts_with("door-") && name.ends_with(".sock");
        let refused = || {
            std::os::unix::net::UnixStream::connect(&path)
                .is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
        };
        if door
            && refused()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(socket = %path.display(), %error, "a door of before is left");
        }
    }
}

/// A socket under a name that nobody has.
fn bind(directory: &Path) -> Result<(UnixListener, PathBuf)> {
    let failed = || format!("Could not open a socket in {}", directory.display());
    let made = tempfile::Builder::new()
        .prefix("door-")
        .rand_bytes(10)
        .suffix(".sock")
        .make_in(directory, |path| UnixListener::bind(path))
        .context(ErrorKind::Internal, failed())?;
    let (listener, path) = made.into_parts();
    let path = path.keep().context(ErrorKind::Internal, failed())?;
    // Users of sandboxes are others than ours; the directory around it keeps the host's users out.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).context(ErrorKind::Internal, failed())?;
    Ok((listener, path))
}

/// Accepts and owns every connection: aborting this task ends them all.
async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(shared.options.max_connections.max(1)));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    session::serve(stream, shared).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: connections that end give some back.
                tracing::warn!(door = %shared.label, %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct OpenDoor {
    path: PathBuf,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl OpenDoor {
    fn end(&self) -> Option<JoinHandle<()>> {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = &task {
            task.abort();
            let _ = std::fs::remove_file(&self.path);
        }
        task
    }
}

#[async_trait]
impl DoorHandle for OpenDoor {
    fn socket(&self) -> PathBuf {
        self.path.clone()
    }

    fn take_events(&self) -> Vec<DoorEvent> {
        self.shared.events.take()
    }

    async fn close(&self) {
        let task = self.end();
        if let Some(task) = task {
            // Cancelled is what it is.
            let _ = task.await;
        }
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_of_a_killed_daemon_are_cleared_and_living_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let dead = std::os::unix::net::UnixListener::bind(dir.path().join("door-dead.sock")).unwrap();
        drop(dead);
        let _living = std::os::unix::net::UnixListener::bind(dir.path().join("door-living.sock")).unwrap();
        std::fs::write(dir.path().join("other"), "").unwrap();
        Doors::new(dir.path(), Options::default()).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["door-living.sock", "other"]);
    }
}
