//! The guest program that this binary carries.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cove_core::error::{Context, ErrorKind, Result};
use sha2::{Digest, Sha256};

static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cove-guest"));

/// Tells one guest from another.
pub fn digest() -> String {
    hex::encode(Sha256::digest(PROGRAM))[..16].to_owned()
}

/// Puts the guest under `state` unless it is there already, and returns its path. Sandboxes that
/// were made by another version of this program keep theirs.
///
/// # Errors
/// `Internal` when the directory cannot be written.
pub fn install(state: &Path) -> Result<PathBuf> {
    let dir = state.join("guest").join(digest());
    let path = dir.join("cove-guest");
    if fs::read(&path).is_ok_and(|bytes| bytes == PROGRAM) {
        return Ok(path);
    }
    write(&dir, &path).context(ErrorKind::Internal, format!("The guest cannot be written to {}", path.display()))?;
    Ok(path)
}

fn write(dir: &Path, path: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))?;
    // Written aside and renamed: a second daemon may be starting a sandbox from it this moment.
    let mut fresh = tempfile::NamedTempFile::new_in(dir)?;
    fresh.write_all(PROGRAM)?;
    fresh.as_file().set_permissions(Permissions::from_mode(0o755))?;
    fresh.as_file().sync_all()?;
    let kept = fresh.into_temp_path();
    // The file must not be open for writing by the time it is executed.
    fs::rename(&kept, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_once_and_mends_what_was_damaged() {
        let state = tempfile::tempdir().unwrap();
        let path = install(state.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        fs::write(&path, b"damaged").unwrap();
        assert_eq!(install(state.path()).unwrap(), path);
        assert!(fs::read(&path).unwrap() == PROGRAM);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
