//! The identity of this control plane.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cove_core::error::Context;
use cove_core::{Error, ErrorKind, InstanceId, Result};

/// The identity kept in `<data_dir>/instance`, made on first use. Everything an engine makes carries
/// it, so it lives as long as the records do.
///
/// # Errors
/// `Internal` when the file cannot be read or written, or holds something else.
pub fn instance(data_dir: &Path) -> Result<InstanceId> {
    let path = data_dir.join("instance");
    let place = path.display();
    match fs::read_to_string(&path) {
        Ok(text) => {
            return text.trim().parse().map_err(|e| {
                Error::internal(format!("{place} does not hold the identity of this Cove"))
                    .because(Box::<dyn std::error::Error + Send + Sync>::from(e))
                    .next("Restore the file; without it, sandboxes made before are not recognised")
            });
        }
        Err(e) if e.kind() == IoKind::NotFound => {}
        Err(e) => return Err(Error::internal(format!("{place} cannot be read")).because(e)),
    }
    let id = InstanceId::new();
    // Written aside and linked, so that a half-written file is never seen and the first writer wins.
    let aside = data_dir.join(format!(".instance-{}", id.short()));
    let write = || -> std::io::Result<bool> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(id.as_str().as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&aside, &path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == IoKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    };
    let written = write();
    let _ = fs::remove_file(&aside);
    if written.context(ErrorKind::Internal, format!("{place} cannot be written"))? {
        Ok(id)
    } else {
        instance(data_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_the_same_and_noise_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = instance(dir.path()).unwrap();
        assert_eq!(instance(dir.path()).unwrap(), first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(dir.path().join("instance"), "other").unwrap();
        assert!(instance(dir.path()).unwrap_err().next_step().is_some());
    }
}
