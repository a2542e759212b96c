//! A look at a database file before SQLite touches it: opening one changes it, and what belongs to
//! somebody else stays as it is. Offsets: <https://sqlite.org/fileformat2.html#the_database_header>.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use cove_core::{Error, ErrorKind, Result};

use super::schema::{APPLICATION, MIGRATIONS, log_of};

const LENGTH: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const SCHEMA_COOKIE: usize = 40;
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;

/// It belongs to another program.
pub(super) fn foreign(name: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("The database {name} belongs to another program"))
        .next("Choose another data directory")
}

/// A newer Cove wrote it.
pub(super) fn newer(name: &str, version: i64) -> Error {
    Error::new(ErrorKind::Unsupported, format!("The database {name} was written by a newer Cove"))
        .with("version", version)
        .with("known", MIGRATIONS.len())
        .next("Install the newer Cove again, or choose another data directory")
}

fn damaged(name: &str, how: &str) -> Error {
    Error::internal(format!("The database {name} is damaged: {how}"))
        .next("Restore it from a backup, or move the file away to start with empty records")
}

/// Refuses what is certainly not to be opened. What cannot be read is left to the opening.
///
/// # Errors
/// `Internal` for noise and for a file cut to nothing, `Conflict` for another program's database,
/// `Unsupported` for one of a newer version.
pub(super) fn look(path: &Path) -> Result<()> {
    let name = path.display().to_string();
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let mut header = Vec::new();
    if (&mut file).take(LENGTH as u64).read_to_end(&mut header).is_err() {
        return Ok(());
    }
    let logged = std::fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0);
    if header.is_empty() {
        // SQLite would take it for a new one and throw the log away.
        return if logged { Err(damaged(&name, "it is empty, and its log is not")) } else { Ok(()) };
    }
    if header.len() < LENGTH || !header.starts_with(MAGIC) {
        return Err(damaged(&name, "it is no SQLite database"));
    }
    let number =
        |at: usize| i64::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    let (application, version) = (number(APPLICATION_ID), number(USER_VERSION));
    if application == APPLICATION {
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        return if version > known { Err(newer(&name, version)) } else { Ok(()) };
    }
    // A fresh one of ours may have its mark in the log only.
    if application != 0 || (!logged && (version != 0 || number(SCHEMA_COOKIE) != 0)) {
        return Err(foreign(&name));
    }
    Ok(())
}
