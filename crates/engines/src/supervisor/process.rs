//! The supervisor process from its start to its end, and the owner of the sandbox's state.
//!
//! ```text
//! building ──► running ──(stop, limit, guest gone)──► ending ──(all dead)──► ended ──► (leaves)
//!     └──► failed
//! ```

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use cove_core::error::{Error, ErrorKind};
use cove_core::sandbox::{ExitReason, ExitStatus, SandboxInfo, SandboxState};
use cove_guest::wire::{Notice, Order};

use super::build::{self, Built};
use super::control::{Fault, Frame, Reply, write_document};
use super::log;
use super::plan::Directory;
use super::serve;
use super::system;
use super::table::{EVENTS, Event, Sandbox, lock};

/// Most connections at a time.
const CONNECTIONS: usize = 256;

/// Stack of a connection's thread.
const STACK: usize = 256 << 10;

/// How long an ended sandbox's output waits for its clients.
const LINGER: Duration = Duration::from_secs(60);

/// How often the supervisor looks whether its directory is still there: without it nobody can reach
/// the sandbox any more, nor ever end it.
const LOOK: Duration = Duration::from_secs(10);

/// How often ending a sandbox is tried.
const TRIES: u32 = 5;

/// Never returns.
pub fn main(dir: PathBuf) -> ! {
    let code = match prepare() {
        Ok((lock, ready)) => supervise(Directory(dir), lock, ready),
        Err(error) => {
            log::line(&format!("The supervisor cannot start: {error}"));
            1
        }
    };
    std::process::exit(code)
}

/// stdin is the sandbox's lock, stdout tells the engine whether the sandbox is ready, stderr is the
/// log.
fn prepare() -> std::io::Result<(OwnedFd, File)> {
    system::detach()?;
    system::close_others(&[]);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let lock = system::take_standard(0, &null)?;
    let ready = system::take_standard(1, &null)?;
    system::settle();
    std::env::set_current_dir("/")?;
    Ok((lock, ready.into()))
}

fn supervise(dir: Directory, lock: OwnedFd, mut ready: File) -> i32 {
    let mut tell = |reply: &Reply| {
        let _ = serde_json::to_string(reply).map(|line| ready.write_all(format!("{line}\n").as_bytes()));
    };
    let (events, inbox) = sync_channel(EVENTS);
    match build::build(&dir, events) {
        Ok((built, info)) => {
            tell(&Reply::Done);
            drop(ready);
            Owner::new(dir, built, info, inbox).run();
            drop(lock);
            0
        }
        Err(error) => {
            log::error(&error);
            tell(&Reply::Fault(Fault::from(&error)));
            1
        }
    }
}

struct Owner {
    dir: Directory,
    sandbox: Arc<Sandbox>,
    listener: UnixListener,
    info: SandboxInfo,
    inbox: Receiver<Event>,
    /// Forced end by the wall-clock limit.
    limit: Option<Instant>,
    /// While ending: when to kill.
    kill_at: Option<Instant>,
    quiet: bool,
    look_at: Instant,
    ended: Option<Instant>,
    leaving: bool,
    waiting: Vec<SyncSender<()>>,
}

impl Owner {
    fn new(dir: Directory, built: Built, info: SandboxInfo, inbox: Receiver<Event>) -> Self {
        let limit = info.spec.limits.wall().and_then(|wall| built.sandbox.began.checked_add(wall));
        Self {
            dir,
            sandbox: built.sandbox,
            listener: built.listener,
            info,
            inbox,
            limit,
            kill_at: None,
            quiet: false,
            look_at: Instant::now() + LOOK,
            ended: None,
            leaving: false,
            waiting: Vec::new(),
        }
    }

    fn run(mut self) {
        loop {
            if self.ended.is_none() && self.limit.is_some_and(|limit| Instant::now() >= limit) {
                self.begin_ending(ExitReason::Timeout, Duration::ZERO);
            }
            if self.ended.is_none() && Instant::now() >= self.look_at {
                self.look_at = Instant::now() + LOOK;
                self.look();
            }
            if self.ended.is_none() && self.kill_at.is_some_and(|at| self.quiet || Instant::now() >= at) {
                self.end();
            }
            if self.may_leave() {
                let _ = std::fs::remove_file(self.dir.0.join(Directory::SOCKET));
                return;
            }
            let channel = match self.ended {
                None => system::watched(self.sandbox.channel(), true, false),
                Some(_) => system::unwatched(),
            };
            let mut fds = [
                channel,
                system::watched(&self.listener, true, false),
                libc::pollfd { fd: self.sandbox.wake_fd(), events: libc::POLLIN, revents: 0 },
            ];
            system::poll(&mut fds, self.next_deadline());
            if fds[0].revents != 0 {
                self.hear_guest();
            }
            if fds[1].revents != 0 {
                self.accept();
            }
            self.sandbox.clear_wake();
            while let Ok(event) = self.inbox.try_recv() {
                self.handle(event);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self.ended {
            Some(at) => Some(at + LINGER),
            None => [self.limit, self.kill_at, Some(self.look_at)].into_iter().flatten().min(),
        }
    }

    fn may_leave(&self) -> bool {
        self.ended.is_some_and(|at| {
            self.leaving || self.sandbox.connections.load(Ordering::Acquire) == 0 || at.elapsed() >= LINGER
        })
    }

    fn look(&mut self) {
        if matches!(self.dir.0.try_exists(), Ok(false)) {
            log::line("The sandbox's directory is gone");
            self.leaving = true;
            self.begin_ending(ExitReason::Lost, Duration::ZERO);
        }
    }

    fn hear_guest(&mut self) {
        match self.sandbox.channel().receive() {
            Ok(Some(message)) => match serde_json::from_slice::<Notice>(&message.bytes) {
                Ok(Notice::Quiet) => self.quiet = true,
                Ok(notice) => self.sandbox.deliver(notice, message.fds),
                Err(_) => self.lose("The guest speaks nonsense"),
            },
            Ok(None) => self.lose("The guest is gone"),
            Err(error) => self.lose(&format!("The guest cannot be heard: {error}")),
        }
    }

    fn lose(&mut self, why: &str) {
        log::line(why);
        let killed = lock(&self.sandbox.launched).oom_kills() > 0;
        self.begin_ending(if killed { ExitReason::OutOfMemory } else { ExitReason::Lost }, Duration::ZERO);
        self.kill_at = Some(Instant::now());
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Stop { grace, done } => self.ask(done, ExitReason::Killed, grace),
            Event::Quit { done } => {
                self.leaving = true;
                self.ask(done, ExitReason::Killed, Duration::ZERO);
            }
            Event::DiskFull => self.begin_ending(ExitReason::DiskFull, Duration::ZERO),
        }
    }

    fn ask(&mut self, done: SyncSender<()>, reason: ExitReason, grace: Duration) {
        if self.ended.is_some() {
            let _ = done.try_send(());
            return;
        }
        self.waiting.push(done);
        self.begin_ending(reason, grace);
    }

    /// The first reason counts, and the earliest kill.
    fn begin_ending(&mut self, reason: ExitReason, grace: Duration) {
        self.sandbox.begin_ending(reason);
        let at = Instant::now().checked_add(grace);
        if self.kill_at.is_none() && !grace.is_zero() && self.sandbox.order(&Order::Terminate, &[]).is_err() {
            self.kill_at = Some(Instant::now());
        }
        self.kill_at = [self.kill_at, at].into_iter().flatten().min();
    }

    fn end(&mut self) {
        let init;
        let mut trouble = None;
        {
            let mut launched = lock(&self.sandbox.launched);
            init = launched.init();
            for _ in 0..TRIES {
                trouble = launched.kill_all().err();
                system::reap(init);
                if trouble.is_none() {
                    trouble = launched.release().err();
                }
                if trouble.is_none() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        system::reap(init);
        self.sandbox.abandon_jobs();
        let reason = self.sandbox.ending().unwrap_or(ExitReason::Lost);
        let code = 128 + if self.quiet { libc::SIGTERM } else { libc::SIGKILL };
        self.info.state = match &trouble {
            None => SandboxState::Stopped { exit: ExitStatus { code, reason } },
            Some(error) => SandboxState::Failed { reason: failure("It could not be ended", error) },
        };
        log::line(&format!("The sandbox ended: {:?}", self.info.state));
        if let Err(error) = self.dir.write_info(&self.info) {
            log::error(&error);
        }
        self.ended = Some(Instant::now());
        for done in self.waiting.drain(..) {
            let _ = done.try_send(());
        }
    }

    fn accept(&self) {
        let mut stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(error) => {
                log::line(&format!("A connection cannot be taken: {error}"));
                // Mostly for want of descriptors; without the pause this would go round and round.
                std::thread::sleep(Duration::from_millis(50));
                return;
            }
        };
        if !system::same_user(&stream) {
            return;
        }
        if self.sandbox.connections.load(Ordering::Acquire) >= CONNECTIONS {
            let full = Error::new(ErrorKind::Exhausted, format!("{CONNECTIONS} connections are open already"));
            let _ = stream.set_nonblocking(true);
            let _ = write_document(&mut stream, Frame::Reply, &Reply::Fault(Fault::from(&full)));
            return;
        }
        self.sandbox.connections.fetch_add(1, Ordering::AcqRel);
        let sandbox = Arc::clone(&self.sandbox);
        let name = format!("connection-{}", stream.as_raw_fd());
        let served = std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            serve::connection(stream, &sandbox);
            sandbox.connection_served();
        });
        if served.is_err() {
            self.sandbox.connection_served();
        }
    }
}

fn failure(what: &str, error: &Error) -> String {
    format!("{what}: {}", error.chain().join(": "))
}
