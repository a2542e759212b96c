//! The attack program, as bytes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cove_core::{Error, ErrorKind, Result};

/// Static, for this architecture; empty where it cannot be built.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cove-attack"));

/// Writes it, executable by everyone.
///
/// # Errors
/// `Unsupported` on another system than Linux, `Internal` when it cannot be written.
pub fn write(path: &Path) -> Result<()> {
    if PROGRAM.is_empty() {
        return Err(Error::new(ErrorKind::Unsupported, "Sandboxes are attacked on Linux only"));
    }
    let written = || -> io::Result<()> {
        fs::write(path, PROGRAM)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    written().map_err(|error| Error::internal(format!("{} cannot be written", path.display())).because(error))
}
