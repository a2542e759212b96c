//! Keeping the write-ahead log short, and stopping when the disk fails.
//!
//! SQLite's own checkpoints say nothing when they fail; these do.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cove_core::Result;
use rusqlite::Connection;

use super::failure::{is_unkept, stopped, unkept};

/// Length of the write-ahead log from which on it is brought into the database.
const LONG: u64 = 4 << 20;

/// Watches over one database's disk.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// The write-ahead log; none in memory.
    log: Option<PathBuf>,
    stopped: AtomicBool,
}

impl Keeping {
    /// For the database at `path`.
    pub(super) fn of(path: &Path) -> Self {
        Self { log: Some(super::schema::log_of(path)), stopped: AtomicBool::new(false) }
    }

    /// Does a writing job, unless the disk failed before; notes when it does now.
    pub(super) fn watch<T>(&self, db: &mut Connection, job: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        if self.stopped.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        let done = job(db);
        match &done {
            Err(error) if unkept(error) => self.stop(&error.chain().join(": ")),
            Err(_) => {}
            Ok(_) => self.shorten(db),
        }
        done
    }

    fn shorten(&self, db: &Connection) {
        let long = |log: &PathBuf| std::fs::metadata(log).is_ok_and(|found| found.len() >= LONG);
        if !self.log.as_ref().is_some_and(long) {
            return;
        }
        // What is committed is in the log already, whatever becomes of this.
        match db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Ok(()) => {}
            Err(error) if is_unkept(&error) => self.stop(&error.to_string()),
            Err(error) => tracing::warn!(%error, "the database's log grows: it could not be brought in"),
        }
    }

    fn stop(&self, why: &str) {
        tracing::error!(error = why, "the disk failed to keep what was written; nothing more is written");
        self.stopped.store(true, Ordering::SeqCst);
    }
}
