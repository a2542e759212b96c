//! The Docker engine: sandboxes as containers of a `dockerd` on this machine.

pub(crate) mod dialect;

use std::path::{Path, PathBuf};

use cove_core::{InstanceId, Result};

use crate::container::launch::ContainerLauncher;
use crate::container::whereabouts;
use crate::container::{Containers, dialect::Dialect};
use crate::local::LocalEngine;
use crate::supervisor::HelperProgram;
use crate::supervisor::launch::Launcher;

/// The socket that `docker` would speak to.
///
/// # Errors
/// Those of [`whereabouts::docker`].
pub fn socket() -> Result<PathBuf> {
    whereabouts::docker(&whereabouts::environment)
}

/// The daemon's side, for the `dockerd` at `socket`; see [`Containers::new`].
///
/// # Errors
/// Those of [`Containers::new`].
pub fn kind(socket: &Path, state: &Path, helper: &HelperProgram) -> Result<Containers> {
    Containers::new(dialect::Docker.engine(), socket, state, helper)
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
    Box::new(ContainerLauncher(&dialect::Docker))
}
