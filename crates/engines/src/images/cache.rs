//! A directory per unpacked root. Building happens beside it under a lock; a rename makes it visible,
//! so a crash leaves at most a part that the next build removes.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cove_core::error::Context as _;
use cove_core::{ErrorKind, Result};
use nix::fcntl::{Flock, FlockArg};

/// Name of the file, beside the root, that holds the image's variables as JSON.
const ENV_FILE: &str = "env.json";

/// The root under `key`, built by `build` when it is not there yet. `build` gets an empty directory
/// and returns the image's variables. One build per key at a time, across processes too.
pub(super) fn entry(
    cache: &Path,
    key: &str,
    build: impl FnOnce(&Path) -> Result<Vec<(String, String)>>,
) -> Result<super::Unpacked> {
    let roots = cache.join("roots");
    make(cache)?;
    make(&roots)?;
    let place = roots.join(key);
    if let Some(found) = read(&place) {
        return Ok(found);
    }
    let _lock = lock(&roots.join(format!("{key}.lock")))?;
    if let Some(found) = read(&place) {
        return Ok(found);
    }
    let part = roots.join(format!("{key}.part"));
    remove(&part)?;
    make(&part)?;
    let root = part.join("root");
    fs::create_dir(&root).context(ErrorKind::Internal, format!("{} cannot be made", root.display()))?;
    let built = build(&root).and_then(|env| {
        let text = serde_json::to_vec(&env).context(ErrorKind::Internal, "Variables cannot be written")?;
        fs::write(part.join(ENV_FILE), text).context(ErrorKind::Internal, "Variables cannot be written")?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).context(ErrorKind::Internal, "Mode cannot be set")
    });
    if let Err(error) = built {
        remove(&part)?;
        return Err(error);
    }
    fs::rename(&part, &place).context(ErrorKind::Internal, format!("{} cannot be put in place", place.display()))?;
    read(&place).ok_or_else(|| cove_core::Error::internal(format!("{} vanished", place.display())))
}

fn read(place: &Path) -> Option<super::Unpacked> {
    let text = fs::read(place.join(ENV_FILE)).ok()?;
    let env = serde_json::from_slice(&text).ok()?;
    Some(super::Unpacked { directory: place.join("root"), env })
}

/// Directories of the cache may be passed through by a sandbox's mapped user, and listed by nobody else.
fn make(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .context(ErrorKind::Internal, format!("{} cannot be made", path.display()))
}

/// A lock that its holder drops.
pub(crate) type Lock = Flock<fs::File>;

/// Waits until nobody else holds `key`.
pub(super) fn exclusive(cache: &Path, key: &str) -> Result<Lock> {
    let locks = cache.join("locks");
    make(cache)?;
    make(&locks)?;
    lock(&locks.join(format!("{key}.lock")))
}

fn lock(path: &Path) -> Result<Flock<fs::File>> {
    let file =
        fs::File::create(path).context(ErrorKind::Internal, format!("The lock {} cannot be made", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, e)| e)
        .context(ErrorKind::Internal, format!("The lock {} cannot be taken", path.display()))
}

/// Removes a tree whose directories may have modes that forbid it.
pub(super) fn remove(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    open_modes(path, 0);
    fs::remove_dir_all(path).context(ErrorKind::Internal, format!("{} cannot be removed", path.display()))
}

fn open_modes(path: &Path, depth: u32) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if !meta.is_dir() || depth > 256 {
        return;
    }
    // Failure shows when removing.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    let children: Vec<PathBuf> =
        fs::read_dir(path).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    for child in children {
        open_modes(&child, depth + 1);
    }
}
