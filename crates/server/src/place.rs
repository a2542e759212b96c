//! Directories and the socket that belong to one user.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};
use tokio::net::UnixListener;

/// `sockaddr_un.sun_path` without its final nul, unix(7).
const LONGEST: usize = 107;

/// This process's effective user id.
pub(crate) fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Makes a directory for this user alone, or checks that an existing one is theirs and that nobody
/// else may write into it.
pub(crate) fn private_directory(dir: &Path) -> Result<()> {
    let place = dir.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .context(ErrorKind::Internal, format!("The directory {place} cannot be made"))?;
    let found = fs::metadata(dir).context(ErrorKind::Internal, format!("The directory {place} cannot be read"))?;
    if found.uid() != user() {
        return Err(Error::new(ErrorKind::Denied, format!("The directory {place} belongs to another user"))
            .with("uid", found.uid())
            .next("Choose another directory"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(Error::new(ErrorKind::Denied, format!("Others may write into the directory {place}"))
            .next(format!("chmod 700 {place}")));
    }
    Ok(())
}

/// Refuses a database that was cut to nothing: the identity beside it, which is made after it, says
/// that there were records. One that is absent was moved away on purpose.
pub(crate) fn not_cut(database: &Path, identity: &Path) -> Result<()> {
    let length = fs::metadata(database).ok().map(|found| found.len());
    if length == Some(0) && identity.exists() {
        return Err(Error::internal(format!("The database {} is empty, and it was not", database.display()))
            .next("Restore it from a backup, or move the file away to start with empty records"));
    }
    Ok(())
}

/// Listens at `path`. A socket that nobody serves any more is replaced.
///
/// # Errors
/// `Conflict` when somebody serves it, or something else lies there; `Invalid` for a path too long.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    let place = path.display();
    if path.as_os_str().len() > LONGEST {
        return Err(Error::invalid(format!("The socket's path {place} is longer than {LONGEST} bytes"))
            .next("Set COVE_STATE_DIR to a shorter path"));
    }
    private_directory(path.parent().unwrap_or(Path::new(".")))?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::new(ErrorKind::Conflict, format!("{place} exists and is no socket"))
                .next("Move it away, or choose another place for the socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            return Err(Error::new(ErrorKind::Conflict, format!("Another daemon serves {place}"))
                .next("Use that one, or end it: `cove daemon stop`"));
        }
        Ok(_) => {
            fs::remove_file(path).context(ErrorKind::Internal, format!("The stale socket {place} cannot be removed"))?
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).context(ErrorKind::Internal, format!("Nothing can listen at {place}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .context(ErrorKind::Internal, format!("The socket {place} cannot be made private"))?;
    Ok(listener)
}
