//! What the supervisor's threads share: the sandbox and the execs in it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cove_core::error::{Error, ErrorKind, Result};
use cove_core::sandbox::ExitReason;
use cove_guest::channel::Channel;
use cove_guest::wire::{Notice, Order};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::launch::Launched;
use super::log;
use super::plan::Plan;

/// Most execs at a time.
pub const JOBS: usize = 200;

/// Most events that wait for the owner.
pub const EVENTS: usize = 512;

/// Locks, whatever happened to the thread that held it before: the data are small and always whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a thread asks of the owner of the sandbox's state.
pub enum Event {
    /// End it; answered when it has ended.
    Stop {
        /// Between TERM and KILL.
        grace: Duration,
        /// Where to answer.
        done: SyncSender<()>,
    },
    /// The disk limit is exceeded.
    DiskFull,
    /// End it and leave.
    Quit {
        /// Where to answer.
        done: SyncSender<()>,
    },
}

/// The running sandbox.
pub struct Sandbox {
    /// What it was started with.
    pub plan: Plan,
    /// What the launcher made.
    pub launched: Mutex<Box<dyn Launched>>,
    /// Variables of every process.
    pub environment: BTreeMap<String, String>,
    /// When it was ready.
    pub began: Instant,
    /// Connections that are being served.
    pub connections: AtomicUsize,
    channel: Channel,
    jobs: Mutex<Jobs>,
    events: SyncSender<Event>,
    wake: EventFd,
}

#[derive(Default)]
struct Jobs {
    last: u64,
    open: HashMap<u64, Arc<Job>>,
    ending: Option<ExitReason>,
}

impl Sandbox {
    /// Puts it together; `wake`, from [`event`], becomes readable with each event.
    pub fn new(
        plan: Plan,
        launched: Box<dyn Launched>,
        environment: BTreeMap<String, String>,
        channel: Channel,
        events: SyncSender<Event>,
        wake: EventFd,
    ) -> Self {
        Self {
            plan,
            launched: Mutex::new(launched),
            environment,
            began: Instant::now(),
            connections: AtomicUsize::new(0),
            channel,
            jobs: Mutex::default(),
            events,
            wake,
        }
    }

    /// The guest's channel, for the owner to read.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Becomes readable when an event waits or a connection has been served.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_fd().as_raw_fd()
    }

    /// Forgets the wake-ups so far.
    pub fn clear_wake(&self) {
        let _ = self.wake.read();
    }

    /// Tells the owner. An event that finds the queue full is dropped: the same has been asked
    /// hundreds of times.
    pub fn tell(&self, event: Event) {
        if let Err(TrySendError::Full(_)) = self.events.try_send(event) {
            log::line("An event was dropped: the queue is full");
        }
        let _ = self.wake.write(1);
    }

    /// One connection fewer.
    pub fn connection_served(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
        let _ = self.wake.write(1);
    }

    /// Sends an order.
    ///
    /// # Errors
    /// `Interrupted` when the guest is gone or takes no orders.
    pub fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.channel
            .send(order, fds)
            .map_err(|error| Error::new(ErrorKind::Interrupted, "The guest takes no orders").because(error))
    }

    /// Takes up a new exec.
    ///
    /// # Errors
    /// `Conflict` when the sandbox is ending, `Exhausted` when there are too many.
    pub fn admit(&self) -> Result<Arc<Job>> {
        let mut jobs = lock(&self.jobs);
        if jobs.ending.is_some() {
            return Err(Error::new(ErrorKind::Conflict, format!("Sandbox {} does not run any more", self.plan.id)));
        }
        if jobs.open.len() >= JOBS {
            return Err(Error::new(ErrorKind::Exhausted, format!("{JOBS} processes are running already"))
                .with("sandbox", &self.plan.id));
        }
        jobs.last += 1;
        let wake = event().map_err(|error| Error::new(ErrorKind::Exhausted, "No event can be made").because(error))?;
        let job = Arc::new(Job { id: jobs.last, wake, notices: Mutex::default(), terminal: Mutex::default() });
        jobs.open.insert(job.id, Arc::clone(&job));
        Ok(job)
    }

    /// The exec with this id.
    pub fn job(&self, id: u64) -> Result<Arc<Job>> {
        lock(&self.jobs).open.get(&id).cloned().ok_or_else(|| Error::not_found(format!("There is no exec {id}")))
    }

    /// Forgets an exec that was never ordered.
    pub fn dismiss(&self, id: u64) {
        lock(&self.jobs).open.remove(&id);
    }

    /// How many execs there are.
    pub fn job_count(&self) -> usize {
        lock(&self.jobs).open.len()
    }

    /// Why the sandbox is ending, if it is.
    pub fn ending(&self) -> Option<ExitReason> {
        lock(&self.jobs).ending.clone()
    }

    /// From now on no exec is taken up. The first reason counts.
    pub fn begin_ending(&self, reason: ExitReason) {
        lock(&self.jobs).ending.get_or_insert(reason);
    }

    /// Gives a notice to its exec; one that nobody waits for is dropped with its descriptors.
    pub fn deliver(&self, notice: Notice, mut fds: Vec<OwnedFd>) {
        let (id, news, last) = match notice {
            Notice::Started { id, .. } => (id, News::Started(fds.pop()), false),
            Notice::Failed { id, code, message } => {
                let code = if code == 127 { 127 } else { 126 };
                (id, News::Failed { code, message }, true)
            }
            Notice::Refused { id, message } => (id, News::Refused(message), true),
            Notice::Exited { id, code, signal } => (id, News::Exited { code: code & 0xff, signal }, true),
            _ => return,
        };
        let mut jobs = lock(&self.jobs);
        let job = if last { jobs.open.remove(&id) } else { jobs.open.get(&id).cloned() };
        drop(jobs);
        if let Some(job) = job {
            job.push(news);
        }
    }

    /// Tells every exec that the guest is gone.
    pub fn abandon_jobs(&self) {
        let jobs: Vec<_> = lock(&self.jobs).open.drain().collect();
        jobs.into_iter().for_each(|(_, job)| job.push(News::Gone));
    }
}

/// A descriptor that wakes whoever polls it.
pub fn event() -> std::io::Result<EventFd> {
    Ok(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?)
}

/// What happened to an exec.
pub enum News {
    /// It runs; with a terminal, its master side.
    Started(Option<OwnedFd>),
    /// It could not be started.
    Failed {
        /// 126 or 127.
        code: i32,
        /// A line for stderr.
        message: String,
    },
    /// The guest could not do what it takes.
    Refused(String),
    /// It ended.
    Exited {
        /// Exit code.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// The guest is gone.
    Gone,
}

/// One exec.
pub struct Job {
    /// Its number.
    pub id: u64,
    /// Its terminal, for changes of size.
    pub terminal: Mutex<Option<OwnedFd>>,
    wake: EventFd,
    notices: Mutex<VecDeque<News>>,
}

impl Job {
    /// Readable when there are news.
    pub fn wake_fd(&self) -> RawFd {
        self.wake.as_fd().as_raw_fd()
    }

    /// The next news.
    pub fn take(&self) -> Option<News> {
        let _ = self.wake.read();
        lock(&self.notices).pop_front()
    }

    /// Adds news of it.
    pub fn push(&self, news: News) {
        let mut notices = lock(&self.notices);
        // An exec has at most a start and an end; a guest that says more is not listened to.
        if notices.len() < 4 {
            notices.push_back(news);
        }
        drop(notices);
        let _ = self.wake.write(1);
    }
}
