//! One daemon per directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};

/// Held for as long as it lives; the kernel frees it when the process ends, however it does.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes `<dir>/daemon.lock` and writes this process's id into it.
    ///
    /// # Errors
    /// `Conflict` naming the process that has it.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("daemon.lock");
        let failed = || format!("The lock {} cannot be taken", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .context(ErrorKind::Internal, failed())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut file).take(32).read_to_string(&mut pid);
                let who = if pid.trim().is_empty() {
                    "another process".to_owned()
                } else {
                    format!("process {}", pid.trim())
                };
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("A daemon runs already: {who} has {}", dir.display()),
                )
                .next("Use that one, or end it: `cove daemon stop`"));
            }
            Err(TryLockError::Error(e)) => return Err(Error::internal(failed()).because(e)),
        }
        let mut write = || -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write().context(ErrorKind::Internal, failed())?;
        Ok(Self { _file: file })
    }
}
