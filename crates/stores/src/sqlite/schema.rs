//! Connections and the schema with its migrations.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::failure::failed;
use super::header;

/// How long a lock of another process is waited for.
const BUSY: Duration = Duration::from_secs(10);

/// Marks the file as ours (`COVE`), <https://sqlite.org/pragma.html#pragma_application_id>.
pub(super) const APPLICATION: i64 = 0x434f_5645;

/// Files up to this size are checked whole when opened.
const CHECKED_WHOLE: u64 = 64 << 20;

/// Step N brings schema version N to N + 1. Never edited once released; new steps go to the end.
pub(super) const MIGRATIONS: &[&str] = &["
CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    phase      TEXT NOT NULL,
    living     INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    record     TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX runs_living_name ON runs (name) WHERE living = 1;

CREATE TABLE entries (
    run        TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq        INTEGER NOT NULL,
    entry      TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE sandboxes (
    id         TEXT PRIMARY KEY,
    info       TEXT NOT NULL
) STRICT;

CREATE TABLE requests (
    key        TEXT PRIMARY KEY,
    digest     TEXT NOT NULL,
    run        TEXT,
    at_seconds INTEGER NOT NULL
) STRICT;
"];

/// The write-ahead log of a database.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Opens or makes the file and migrates it. One that is not ours, or of a newer version, stays as it is.
pub(super) fn open(path: &Path) -> Result<Connection> {
    header::look(path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .context(ErrorKind::Internal, format!("The database {} cannot be opened", path.display()))
        .map_err(|e| e.next("Check owner and permissions of the data directory"))?;
    let mut db = connect(path)?;
    check(&db, path)?;
    migrate(&mut db, &path.display().to_string())?;
    Ok(db)
}

/// A further connection to a file that [`open`] prepared.
pub(super) fn connect(path: &Path) -> Result<Connection> {
    let opening = || format!("Opening {}", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|e| failed(opening(), e))?;
    settings(&db).map_err(|e| failed(opening(), e))?;
    Ok(db)
}

/// A database in memory.
pub(super) fn memory() -> Result<Connection> {
    let mut db = Connection::open_in_memory().map_err(|e| failed("Opening a database in memory", e))?;
    settings(&db).map_err(|e| failed("Opening a database in memory", e))?;
    migrate(&mut db, "in memory")?;
    Ok(db)
}

fn settings(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // See `checkpoint`.
    db.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn check(db: &Connection, path: &Path) -> Result<()> {
    if std::fs::metadata(path).map_or(0, |m| m.len()) > CHECKED_WHOLE {
        return Ok(());
    }
    let checking = || format!("Checking {}", path.display());
    let verdict: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| failed(checking(), e))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(Error::internal(format!("The database {} is damaged", path.display()))
        .with("check", verdict)
        .next("Restore it from a backup, or move the file away to start with empty records"))
}

fn migrate(db: &mut Connection, name: &str) -> Result<()> {
    let migrating = || format!("Bringing the database {name} up to date");
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|e| failed(migrating(), e))?;
    let number = |pragma: &str| {
        change.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(|e| failed(migrating(), e))
    };
    let (version, application) = (number("user_version")?, number("application_id")?);
    if application != APPLICATION && (application != 0 || version != 0 || number("schema_version")? != 0) {
        return Err(header::foreign(name));
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(header::newer(name, version));
    }
    for step in &MIGRATIONS[done..] {
        change.execute_batch(step).map_err(|e| failed(migrating(), e))?;
    }
    change.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(|e| failed(migrating(), e))?;
    change.pragma_update(None, "application_id", APPLICATION).map_err(|e| failed(migrating(), e))?;
    change.commit().map_err(|e| failed(migrating(), e))
}
