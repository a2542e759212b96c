//! How a daemon shall be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cove_api::NewSandbox;
use cove_core::{Result, RunSpec};

/// Tightens a run by the managed policy, or refuses it. Returns what it changed, as warnings.
pub type Clamp = Arc<dyn Fn(&mut RunSpec) -> Result<Vec<String>> + Send + Sync>;

/// Tightens a sandbox by the managed policy, or refuses it.
pub type ClampSandbox = Arc<dyn Fn(&mut NewSandbox) -> Result<()> + Send + Sync>;

/// How a daemon shall be.
#[derive(Clone)]
pub struct Options {
    /// Database, clones, logs. Made when absent; must belong to this user.
    pub data_dir: PathBuf,
    /// Locks, sandboxes, doors. Made when absent; must belong to this user.
    pub state_dir: PathBuf,
    /// Images and downloads.
    pub cache_dir: PathBuf,
    /// The socket. Its directory is made when absent and must belong to this user.
    pub socket: PathBuf,
    /// TCP as well; never without a token.
    pub tcp: Option<Tcp>,
    /// Names that sandboxes may reach by way of a door and that lead to these addresses, also private
    /// ones: model servers of this host. A run's rules must allow them all the same.
    pub resolve_overrides: BTreeMap<String, SocketAddr>,
    /// Runs worked on at once, 1 and up; further ones wait.
    pub max_concurrent_runs: usize,
    /// The managed policy over runs.
    pub clamp: Option<Clamp>,
    /// The managed policy over sandboxes that are asked for by themselves.
    pub clamp_sandbox: Option<ClampSandbox>,
    /// Between two times that records and engines are brought together.
    pub reconcile_every: Duration,
}

impl Options {
    /// A daemon with these directories, its socket in the state directory, and defaults otherwise.
    pub fn new(data_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        Self {
            data_dir: data_dir.into(),
            socket: state_dir.join("cove.sock"),
            state_dir,
            cache_dir: cache_dir.into(),
            tcp: None,
            resolve_overrides: BTreeMap::new(),
            max_concurrent_runs: 4,
            clamp: None,
            clamp_sandbox: None,
            reconcile_every: Duration::from_secs(180),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("data_dir", &self.data_dir)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// How TCP is served.
#[derive(Clone)]
pub struct Tcp {
    /// Address to listen at; port 0 takes a free one.
    pub address: SocketAddr,
    /// What a client has to show, 16 characters and up.
    pub token: String,
    /// Names by which clients may address the server, beside `localhost` and IP addresses.
    pub hosts: Vec<String>,
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp").field("address", &self.address).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}
