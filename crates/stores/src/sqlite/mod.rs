//! [`Records`] in one SQLite file.
//!
//! Writing goes through one thread and one connection, so that transactions never wait for each
//! other inside a process; reading has a thread of its own and sees every acknowledged commit.
//! Journal mode is WAL and `synchronous` is `FULL`: what was acknowledged survives a power loss. After
//! an fsync that failed, nothing more is written until the store is opened again.

mod checkpoint;
mod failure;
mod glance;
mod header;
mod requests;
mod rows;
mod schema;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use cove_core::{Entry, NewEntry, Records, Result, RunId, RunRecord, SandboxId, SandboxInfo};
use rusqlite::Connection;

use checkpoint::Keeping;
pub use glance::RunGlance;
pub use requests::Claim;
use worker::Worker;

/// Records in an SQLite file. Cheap to share behind an `Arc`; dropping it waits for accepted writes.
#[derive(Debug)]
pub struct Store {
    writer: Worker,
    /// Absent in memory, where a second connection would see another database.
    reader: Option<Worker>,
    path: Option<PathBuf>,
    keeping: Arc<Keeping>,
}

impl Store {
    /// Opens the database, makes it when absent (readable by its owner only) and brings its schema
    /// up to date. Blocks for as long as another process holds it, at most 10 seconds.
    ///
    /// # Errors
    /// `Unavailable` when another process holds it, `Unsupported` when a newer Cove wrote it,
    /// `Internal` when it is damaged or cannot be opened; each with the next step.
    pub fn open(path: &Path) -> Result<Self> {
        let writer = schema::open(path)?;
        let reader = schema::connect(path)?;
        Ok(Self {
            writer: Worker::start("records-writer", writer, Some(path))?,
            reader: Some(Worker::start("records-reader", reader, Some(path))?),
            path: Some(path.to_owned()),
            keeping: Arc::new(Keeping::of(path)),
        })
    }

    /// A database of its own that ends with the handle; for tests.
    ///
    /// # Errors
    /// `Internal` when SQLite cannot make one.
    pub fn memory() -> Result<Self> {
        let writer = schema::memory()?;
        Ok(Self {
            writer: Worker::start("records-memory", writer, None)?,
            reader: None,
            path: None,
            keeping: Arc::default(),
        })
    }

    /// The file, or `None` in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let keeping = Arc::clone(&self.keeping);
        self.writer.run(move |db| keeping.watch(db, job)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.reader.as_ref().unwrap_or(&self.writer).run(job).await
    }
}

#[async_trait]
impl Records for Store {
    async fn commit(&self, record: &mut RunRecord, facts: Vec<NewEntry>) -> Result<Vec<Entry>> {
        let mut next = record.clone();
        next.version += 1;
        let version = next.version;
        let entries = self.write(move |db| rows::commit(db, &next, facts)).await?;
        record.version = version;
        Ok(entries)
    }

    async fn run(&self, id: &RunId) -> Result<RunRecord> {
        let id = id.clone();
        self.read(move |db| rows::run(db, &id)).await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.read(move |db| rows::runs(db, limit)).await
    }

    async fn forget_run(&self, id: &RunId) -> Result<()> {
        let id = id.clone();
        self.write(move |db| rows::forget(db, "DELETE FROM runs WHERE id = ?1", id.as_str())).await
    }

    async fn entries(&self, id: &RunId, after: u64, limit: usize) -> Result<Vec<Entry>> {
        let id = id.clone();
        self.read(move |db| rows::entries(db, &id, after, limit)).await
    }

    async fn put_sandbox(&self, info: &SandboxInfo) -> Result<()> {
        let info = info.clone();
        self.write(move |db| rows::put_sandbox(db, &info)).await
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxInfo>> {
        self.read(rows::sandboxes).await
    }

    async fn forget_sandbox(&self, id: &SandboxId) -> Result<()> {
        let id = id.clone();
        self.write(move |db| rows::forget(db, "DELETE FROM sandboxes WHERE id = ?1", id.as_str())).await
    }
}
