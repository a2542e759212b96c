//! The ledger as it is on disk, read beside the daemon.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// Looks at a database without ever writing to it.
pub struct Ledger {
    path: PathBuf,
    db: Option<Connection>,
}

/// The one run there is, as it stood at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub run: String,
    /// Commits so far; every one is a boundary.
    pub version: u64,
    /// Entries so far.
    pub entries: u64,
    /// Its phase's name.
    pub phase: String,
}

impl Seen {
    /// Whether the run is over.
    pub fn over(&self) -> bool {
        ["succeeded", "incomplete", "limit_reached", "limitReached", "failed", "stopped"].contains(&self.phase.as_str())
    }
}

impl Ledger {
    /// Of a data directory, which need not exist yet.
    pub fn new(data: &Path) -> Self {
        Self { path: data.join("cove.db"), db: None }
    }

    /// The run, if there is one on disk and it can be read now.
    pub fn look(&mut self) -> Option<Seen> {
        if self.db.is_none() {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            // Before its first content there is nothing to look at, and nothing to be in the way of.
            std::fs::metadata(&self.path).ok().filter(|found| found.len() > 0)?;
            self.db = Connection::open_with_flags(&self.path, flags).ok();
        }
        let seen = self.db.as_ref()?.query_row(
            "SELECT id, version, last_seq, phase FROM runs ORDER BY id LIMIT 1",
            [],
            |row| {
                let (version, entries): (i64, i64) = (row.get(1)?, row.get(2)?);
                let (version, entries) = (version.unsigned_abs(), entries.unsigned_abs());
                Ok(Seen { run: row.get(0)?, version, entries, phase: row.get(3)? })
            },
        );
        match seen {
            Ok(seen) => Some(seen),
            Err(rusqlite::Error::QueryReturnedNoRows) => None,
            Err(_) => {
                self.db = None;
                None
            }
        }
    }

    /// Waits until the run satisfies `wanted`.
    ///
    /// # Panics
    /// When it does not within `deadline`; names `what`.
    #[track_caller]
    pub fn wait(&mut self, what: &str, deadline: Duration, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let begun = Instant::now();
        let mut last = None;
        loop {
            if let Some(seen) = self.look() {
                if wanted(&seen) {
                    return seen;
                }
                last = Some(seen);
            }
            assert!(begun.elapsed() < deadline, "{what} did not happen within {deadline:?}; last seen {last:?}");
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    /// All entries, in order, as they were written.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn entries(&mut self, run: &str) -> Vec<Value> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = Connection::open_with_flags(&self.path, flags).unwrap();
        let mut statement = db.prepare("SELECT seq, entry FROM entries WHERE run = ?1 ORDER BY seq").unwrap();
        let rows = statement.query_map([run], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).unwrap();
        rows.map(|row| {
            let (seq, text) = row.unwrap();
            let entry: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(entry["seq"], seq);
            entry
        })
        .collect()
    }

    /// The run's record.
    ///
    /// # Panics
    /// When there is none.
    pub fn record(&mut self, run: &str) -> Value {
        let db = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let text: String = db.query_row("SELECT record FROM runs WHERE id = ?1", [run], |row| row.get(0)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Names of all runs.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn runs(&mut self) -> Vec<String> {
        let db = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut statement = db.prepare("SELECT id FROM runs").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(|row| row.unwrap()).collect()
    }
}
