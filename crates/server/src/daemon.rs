//! A daemon from start to end.
//!
//! ```text
//! start: directories ─ locks ─ records ─ engines ─ recover runs ─ reconcile ─ listen
//! stop:  listeners ─ connections ─ requests under way ─ runs ─ creations ─ socket ─ locks
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_control::{Sandboxes, instance};
use cove_core::error::Context;
use cove_core::{ErrorKind, Records, Result};
use cove_stores::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::app::{App, Shared};
use crate::listen::{self, CONNECTIONS};
use crate::lock::Lock;
use crate::options::Options;
use crate::port::{Foundation, Wiring};
use crate::{place, routes};

/// How long the parts may take to end.
const REQUESTS_END: Duration = Duration::from_secs(15);
const RUNS_END: Duration = Duration::from_secs(90);
const CREATIONS_END: Duration = Duration::from_secs(30);

/// Why a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// SIGTERM or SIGINT.
    Signal,
    /// Nothing to do for as long as was asked.
    Idle,
}

/// A daemon that runs. Dropping it without [`stop`](Self::stop) ends it like a crash: what it was
/// doing is recovered by the next.
pub struct Daemon {
    app: Shared,
    socket: PathBuf,
    address: Option<SocketAddr>,
    /// Listeners and timers.
    own: TaskTracker,
    _stop_on_drop: DropGuard,
    _locks: Vec<Lock>,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("socket", &self.socket).field("address", &self.address).finish_non_exhaustive()
    }
}

impl Daemon {
    /// Starts a daemon over the adapters that `wiring` makes.
    ///
    /// # Errors
    /// `Conflict` naming the process when one runs already, `Denied` for directories of others, and
    /// those of the parts.
    pub async fn start_with(options: Options, wiring: &dyn Wiring) -> Result<Self> {
        for dir in [&options.data_dir, &options.state_dir] {
            place::private_directory(dir)?;
        }
        // Both, since neither directory can serve two daemons.
        let mut locks = vec![Lock::take(&options.state_dir)?];
        if options.data_dir != options.state_dir {
            locks.push(Lock::take(&options.data_dir)?);
        }
        let database = options.data_dir.join("cove.db");
        place::not_cut(&database, &options.data_dir.join("instance"))?;
        let records = Arc::new(Store::open(&database)?);
        let foundation =
            Foundation { instance: instance(&options.data_dir)?, records: records.clone(), options: options.clone() };
        let engines = wiring.engines(&foundation).await?;
        let sandboxes = Sandboxes::new(records.clone(), engines, foundation.instance.clone());
        let runs = wiring.runs(&foundation, &sandboxes).await?;
        let stop = CancellationToken::new();
        let app = App::new(options, records, sandboxes, runs, stop.clone())?;

        let unix = place::listen(&app.options.socket)?;
        let tcp = match &app.options.tcp {
            Some(tcp) => Some(
                TcpListener::bind(tcp.address)
                    .await
                    .context(ErrorKind::Unavailable, format!("Nothing can listen at {}", tcp.address))
                    .map_err(|e| e.next("Choose another address"))?,
            ),
            None => None,
        };
        app.runs.recover().await?;
        see_all(&app).await?;

        let own = TaskTracker::new();
        own.spawn(reconcile(app.clone()));
        own.spawn(observe(app.clone()));
        let (router, room) = (routes::router(&app), Arc::new(Semaphore::new(CONNECTIONS)));
        let address = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        if let Some(listener) = tcp {
            own.spawn(listen::tcp(app.clone(), router.clone(), listener, room.clone()));
        }
        own.spawn(listen::unix(app.clone(), router, unix, room));
        let socket = app.options.socket.clone();
        tracing::info!(socket = %socket.display(), ?address, instance = %foundation.instance, "the daemon serves");
        Ok(Self { app, socket, address, own, _stop_on_drop: stop.drop_guard(), _locks: locks })
    }

    /// Where it is served.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The TCP address it is served at, with the port that was taken.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Waits until nobody was connected and no run had anything to do for `quiet` without a break. A
    /// run that waits for a person does not count.
    pub async fn wait_idle(&self, quiet: Duration) {
        let look = (quiet / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            tokio::time::sleep(look).await;
            if self.app.activity.idle().is_none_or(|idle| idle < quiet) {
                continue;
            }
            match self.app.busy().await {
                Ok(false) if self.app.activity.idle().is_some_and(|idle| idle >= quiet) => return,
                Ok(false) => {}
                Ok(true) => self.app.activity.touch(),
                Err(error) => tracing::warn!(%error, "it is not known whether a run works"),
            }
        }
    }

    /// Serves until a signal, or until idle for `idle` where given; then stops.
    ///
    /// # Errors
    /// `Internal` when signals cannot be waited for.
    pub async fn run(self, idle: Option<Duration>) -> Result<Ended> {
        let failed = "Signals cannot be waited for";
        let mut term = signal(SignalKind::terminate()).context(ErrorKind::Internal, failed)?;
        let mut int = signal(SignalKind::interrupt()).context(ErrorKind::Internal, failed)?;
        let idle = async {
            match idle {
                Some(quiet) => self.wait_idle(quiet).await,
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            _ = term.recv() => Ended::Signal,
            _ = int.recv() => Ended::Signal,
            () = idle => Ended::Idle,
        };
        tracing::info!(?why, "the daemon ends");
        self.stop().await;
        Ok(why)
    }

    /// Ends in order. Work under way is recorded as interrupted; the next daemon continues it.
    pub async fn stop(self) {
        self.app.stop.cancel();
        self.own.close();
        self.own.wait().await;
        self.app.tasks.close();
        if tokio::time::timeout(REQUESTS_END, self.app.tasks.wait()).await.is_err() {
            tracing::warn!("requests under way were left behind");
        }
        if tokio::time::timeout(RUNS_END, self.app.runs.shutdown()).await.is_err() {
            tracing::warn!("runs did not end in time; they are recovered at the next start");
        }
        if tokio::time::timeout(CREATIONS_END, self.app.sandboxes.settle()).await.is_err() {
            tracing::warn!("sandboxes were still being made; they are adopted or removed at the next start");
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            tracing::debug!(%error, "the socket was gone already");
        }
    }
}

/// How long after an engine's trouble records and engines are brought together; twice as long each time that it
/// does not help.
const SOON: Duration = Duration::from_secs(5);

/// Brings records and engines together, now, on a timer, and soon after an engine failed to.
async fn reconcile(app: Shared) {
    let every = app.options.reconcile_every;
    let mut soon = SOON;
    let work = async {
        loop {
            match app.in_use().await {
                Ok(keep) => {
                    if let Err(error) = app.sandboxes.reconcile(&keep).await {
                        tracing::warn!(error = %error.chain().join(": "), "not reconciled");
                    }
                }
                Err(error) => tracing::warn!(%error, "not reconciled: the runs are not known"),
            }
            if let Err(error) = app.reap().await {
                tracing::warn!(%error, "sandboxes of ended runs were not looked for");
            }
            let troubled = async {
                app.sandboxes.troubled().await;
                tokio::time::sleep(soon).await;
            };
            soon = match tokio::time::timeout(every, troubled).await {
                Ok(()) => (soon * 2).min(every),
                Err(_) => SOON,
            };
        }
    };
    tokio::select! {
        () = work => {}
        () = app.stop.cancelled() => {}
    }
}

/// Counts the runs there are.
async fn see_all(app: &App) -> Result<()> {
    for run in app.records.runs(usize::MAX).await? {
        app.metrics.saw(&run);
    }
    Ok(())
}

/// Counts runs as they end.
async fn observe(app: Shared) {
    let mut changes = app.runs.changes();
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            () = app.stop.cancelled() => return,
        };
        match change {
            Ok((id, _)) => match app.records.run(&id).await {
                Ok(run) => app.metrics.saw(&run),
                Err(_) => app.metrics.forgot(&id),
            },
            Err(RecvError::Lagged(_)) => {
                if let Err(error) = see_all(&app).await {
                    tracing::warn!(%error, "runs that ended may not be counted");
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}
