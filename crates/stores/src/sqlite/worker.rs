//! A thread that owns a connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait.
const QUEUE: usize = 256;

/// How long a caller waits for a place in the queue, and then for its job.
const PATIENCE: Duration = Duration::from_secs(60);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Runs jobs one after another. Dropping it ends the thread after the jobs that were accepted.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(name: &str, mut db: Connection, path: Option<&Path>) -> Result<Self> {
        let (jobs, mut inbox) = mpsc::channel::<Job>(QUEUE);
        let place = path.map(|p| p.display().to_string()).unwrap_or_default();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(job) = inbox.blocking_recv() {
                    job(&mut db);
                }
                if let Err((_, error)) = db.close() {
                    tracing::warn!(%place, %error, "the database could not be closed");
                }
            })
            .context(ErrorKind::Internal, "The database's thread cannot be started")?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs a job. A caller that stops waiting does not undo it.
    ///
    /// # Errors
    /// The job's; `Exhausted` when the queue stays full; `Timeout` when it does not end in time, and
    /// then it may still take effect (versions keep a repetition from doing it twice).
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = || Error::internal("The database's thread has ended");
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        let place = tokio::time::timeout(PATIENCE, jobs.reserve())
            .await
            .map_err(|_| Error::new(ErrorKind::Exhausted, "Too much waits for the database"))?
            .map_err(|_| gone())?;
        place.send(Box::new(move |db| {
            // A transaction of a job that panicked is rolled back as it unwinds.
            let result = catch_unwind(AssertUnwindSafe(|| job(db)))
                .unwrap_or_else(|_| Err(Error::internal("A database job failed unexpectedly")));
            let _ = reply.send(result);
        }));
        tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "The database did not answer in time"))?
            .map_err(|_| gone())?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
