//! The engine without isolation: plain processes of this machine, for those who insist.
//!
//! What it does give is everything about lifetimes: nothing outlives its sandbox. What it is asked
//! for and cannot give it refuses like any engine.

mod capability;
mod launcher;
mod remains;

use async_trait::async_trait;
use cove_core::error::{Error, ErrorKind, Result};
use cove_core::{Capabilities, Control, EngineKind, SandboxSpec};

use crate::local::Kind;
use crate::supervisor::launch::{Launcher, Remains};

/// The daemon's side.
pub struct Direct {
    capabilities: Capabilities,
}

impl Direct {
    /// Needs nothing of the host, so there is nothing to probe.
    #[allow(clippy::new_without_default, reason = "a default engine without isolation should be no one's choice")]
    pub fn new() -> Self {
        Self { capabilities: capability::table() }
    }
}

#[async_trait]
impl Kind for Direct {
    fn kind(&self) -> EngineKind {
        EngineKind::Direct
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn check(&self, spec: &SandboxSpec) -> Result<()> {
        let refuse = |control: Control, why: &str| {
            Err(Error::new(ErrorKind::Unsupported, format!("The engine direct cannot give {control}: {why}")))
        };
        if let Some(mount) = spec.mounts.iter().find(|mount| mount.read_only) {
            let target = mount.target.display();
            return refuse(Control::Mounts, &format!("without isolation {target} cannot be read-only"));
        }
        if let Some(tmpfs) = spec.tmpfs.first() {
            let target = tmpfs.target.display();
            return refuse(Control::Mounts, &format!("without isolation {target} cannot be memory-backed"));
        }
        Ok(())
    }

    fn remains(&self) -> &dyn Remains {
        &remains::Processes
    }
}

/// The supervisor's side.
pub fn launcher() -> Box<dyn Launcher> {
    Box::new(launcher::Direct)
}
