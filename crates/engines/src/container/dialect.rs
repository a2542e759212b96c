//! Where two engines that speak the same interface differ.

use std::fmt::Debug;
use std::path::Path;

use bollard::models::HostConfig;
use cove_core::{EngineKind, Error, Result, User};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::native::plan::Memory;

/// What an engine's `/info` says that matters for building.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Whether the engine runs as a user other than root.
    pub rootless: bool,
    /// Whether containers have users of their own.
    pub own_users: bool,
    /// Whether the host's control groups are of version 1.
    pub groups_v1: bool,
}

/// One engine's way of saying things.
pub trait Dialect: Send + Sync + Debug {
    /// Which engine.
    fn engine(&self) -> EngineKind;

    /// The security option that brings a seccomp profile. `dir` is the sandbox's own, for a file.
    ///
    /// # Errors
    /// `Internal` when the file cannot be written.
    fn filter(&self, profile: &Value, dir: &Path) -> Result<String>;

    /// Hides and protects paths of `/proc` and `/sys`.
    fn cover(&self, host: &mut HostConfig, masked: Vec<String>, read_only: Vec<String>);

    /// The options of a memory-backed directory that belongs to `user`.
    fn memory(&self, memory: &Memory, user: User) -> String;

    /// The mode of the user namespace that makes the sandbox's user the one who runs Cove, where the
    /// engine runs as that one too.
    fn users(&self, facts: Facts, user: User) -> Option<String>;

    /// Whether a path can be said to the engine at all.
    ///
    /// # Errors
    /// `Unsupported` with the path.
    fn sayable(&self, path: &Path) -> Result<()>;

    /// Directories that the engine itself makes memory-backed below a read-only root, and that are
    /// bounded by being asked for.
    fn own_memory(&self) -> &'static [&'static str];

    /// The kinds of namespaces that every sandbox has for itself.
    fn namespaces(&self, facts: Facts) -> Vec<&'static str>;

    /// Whether resource limits are asked for; else the guest alone lowers them.
    fn takes_ulimits(&self) -> bool;

    /// Whether kept capabilities reach a user other than root.
    fn keeps_capabilities(&self) -> bool;
}

/// The dialect of an engine.
///
/// # Errors
/// `Internal` for one that is no container engine.
pub fn of(engine: EngineKind) -> Result<&'static dyn Dialect> {
    match engine {
        EngineKind::Docker => Ok(&crate::docker::dialect::Docker),
        EngineKind::Podman => Ok(&crate::podman::dialect::Podman),
        other => Err(Error::internal(format!("{other} is no container engine"))),
    }
}
