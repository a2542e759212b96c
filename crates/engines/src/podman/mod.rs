//! The Podman engine: sandboxes as containers of Podman on this machine, rootful or rootless.

pub(crate) mod dialect;
pub mod service;

use std::path::{Path, PathBuf};

use cove_core::{InstanceId, Result};

use crate::container::launch::ContainerLauncher;
use crate::container::whereabouts::environment;
use crate::container::{Containers, dialect::Dialect};
use crate::local::LocalEngine;
use crate::supervisor::HelperProgram;
use crate::supervisor::launch::Launcher;

/// The socket to speak to; a service of our own below `state` is started where none stands. May wait for it.
///
/// # Errors
/// Those of [`service::socket`].
pub fn socket(state: &Path) -> Result<PathBuf> {
    service::socket(&environment, state)
}

/// The daemon's side, for the Podman at `socket`; see [`Containers::new`].
///
/// # Errors
/// Those of [`Containers::new`].
pub fn kind(socket: &Path, state: &Path, helper: &HelperProgram) -> Result<Containers> {
    Containers::new(dialect::Podman.engine(), socket, state, helper)
}

/// The engine with its sandboxes under `state`.
///
/// # Errors
/// Those of [`kind`] and [`LocalEngine::new`].
pub fn engine(
    socket: &Path,
    state: &Path,
    instance: InstanceId,
    helper: HelperProgram,
) -> Result<LocalEngine<Containers>> {
    LocalEngine::new(kind(socket, state, &helper)?, state, instance, helper)
}

/// The supervisor's side.
pub fn launcher() -> Box<dyn Launcher> {
    Box::new(ContainerLauncher(&dialect::Podman))
}
