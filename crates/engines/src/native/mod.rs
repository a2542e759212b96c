//! The native engine: sandboxes from namespaces, control groups, an own root, seccomp, Landlock and
//! the loss of every capability, built by Cove itself without a daemon; as root and as a user.
//!
//! One sandbox, from the outside in:
//!
//! ```text
//! supervisor (host) ── clone3 ──► first process: user, mount, pid, net, ipc, uts namespaces
//!   makes the groups                waits
//!   maps the user, enters it ────►  cgroup namespace, own mounts
//!                                   root from the plan, pivot, /proc masked
//!                                   limits, capabilities, no_new_privs, Landlock, seccomp
//!   pipe closes ◄──────────────── exec /run/cove/guest (PID 1)
//! ```
//!
//! As root, the user inside is an id of the host that nobody has, other for each sandbox; files are
//! given to it, or shown as its own by shifting ids at the mount. Else it is the caller.

pub(crate) mod cgroup;
mod diagnosis;
pub(crate) mod give;
pub(crate) mod host_root;
mod identity;
mod launch;
pub(crate) mod lockdown;
pub(crate) mod plan;
pub(crate) mod probe;
mod remains;
pub(crate) mod root;
pub(crate) mod sys;

use std::path::Path;

use async_trait::async_trait;
use cove_core::{Capabilities, EngineKind, InstanceId, Result, SandboxId, SandboxSpec};
use serde_json::{Value, json};

use crate::images::Images;
use crate::local::{Kind, LocalEngine};
use crate::supervisor::HelperProgram;
use crate::supervisor::launch::{Launcher, Remains};

/// The daemon's side.
pub struct Native {
    capabilities: Capabilities,
    images: Images,
    without_groups: bool,
}

impl Native {
    /// Probes this host with `helper` (once a process) and keeps unpacked roots below `images`.
    ///
    /// # Errors
    /// `Unavailable` when the helper cannot be run.
    pub fn new(images: impl AsRef<Path>, helper: &HelperProgram) -> Result<Self> {
        let capabilities = probe::probe(helper, false)?;
        Ok(Self { capabilities, images: Images::new(images.as_ref()), without_groups: false })
    }

    /// As on a host where no control group may be used; limits of CPU, memory and processes are
    /// missing then.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn without_groups(images: impl AsRef<Path>, helper: &HelperProgram) -> Result<Self> {
        let capabilities = probe::probe(helper, true)?;
        Ok(Self { capabilities, images: Images::new(images.as_ref()), without_groups: true })
    }
}

/// The native engine with its sandboxes under `state` and unpacked roots in `state/images`.
///
/// # Errors
/// Those of [`Native::new`] and [`LocalEngine::new`].
pub fn engine(state: &Path, instance: InstanceId, helper: HelperProgram) -> Result<LocalEngine<Native>> {
    let native = Native::new(state.join("images"), &helper)?;
    LocalEngine::new(native, state, instance, helper)
}

#[async_trait]
impl Kind for Native {
    fn kind(&self) -> EngineKind {
        EngineKind::Native
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn check(&self, spec: &SandboxSpec) -> Result<()> {
        lockdown::check(&spec.hardening)
    }

    async fn prepare(&self, _id: &SandboxId, spec: &SandboxSpec) -> Result<Value> {
        let unpacked = self.images.resolve(&spec.root).await?.unwrap_or_default();
        let root = (!unpacked.directory.as_os_str().is_empty()).then_some(unpacked.directory);
        Ok(json!({ "root": root, "env": unpacked.env, "withoutGroups": self.without_groups }))
    }

    fn remains(&self) -> &dyn Remains {
        &remains::Groups
    }
}

/// The supervisor's side.
pub fn launcher() -> Box<dyn Launcher> {
    Box::new(launch::NativeLauncher)
}
