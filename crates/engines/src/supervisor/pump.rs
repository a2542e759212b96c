//! Carries one exec's streams between its client and its pipes.
//!
//! Everything is bounded by one buffer a direction: while the client does not take what is held, no
//! pipe is read, so the process waits. A client that is gone ends its process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use cove_core::sandbox::{ExitReason, ExitStatus};
use cove_guest::wire::Order;
use serde::Serialize;

use super::control::{Frame, HEADER};
use super::feed::{Fed, Feed};
use super::system;
use super::table::{Event, Job, News, Sandbox, lock};

/// Bytes read from a pipe at once.
const PIECE: usize = 128 << 10;

/// How long output that others left behind may still come after the process has ended. What the
/// process itself wrote is delivered whatever time that takes.
const AFTERGLOW: Duration = Duration::from_millis(250);

/// How long the guest may take to confirm a kill before the whole sandbox is given up.
const CONFIRMATION: Duration = Duration::from_secs(60);

/// Our ends of a process's streams.
pub struct Sent {
    /// stdin.
    pub stdin: Option<File>,
    /// stdout and stderr, or a terminal alone.
    pub sources: [Option<Source>; 2],
    /// Whether they are a terminal.
    pub terminal: bool,
}

/// A pipe or terminal that is read.
pub struct Source {
    file: File,
    kind: Frame,
    /// Bytes that were in it when the process ended.
    owed: usize,
}

impl Source {
    /// Reads `fd` as `kind`, without waiting.
    pub fn new(fd: OwnedFd, kind: Frame) -> io::Result<Self> {
        system::set_nonblocking(&fd)?;
        Ok(Self { file: fd.into(), kind, owed: 0 })
    }
}

/// How the conversation ended.
pub enum End {
    /// The process ended and the client knows.
    Delivered(ExitStatus),
    /// The client left first.
    Left,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delivered(status) => write!(f, "ended with {} ({:?})", status.code, status.reason),
            Self::Left => f.write_str("left by its client"),
        }
    }
}

/// One exec's streams.
pub struct Pump<'a> {
    client: &'a mut UnixStream,
    sandbox: &'a Sandbox,
    job: &'a Job,
    feed: Feed,
    sources: [Option<Source>; 2],
    /// One frame of output, and the part of it that the client has yet to take.
    piece: Vec<u8>,
    piece_left: std::ops::Range<usize>,
    /// Other frames; they go after the piece.
    outbox: Vec<u8>,
    turn: usize,
    deadline: Option<Instant>,
    /// We ended it: why, and until when the guest has to confirm.
    cut: Option<(ExitReason, Instant)>,
    exit: Option<(ExitStatus, Instant)>,
    oom_kills: u64,
}

impl<'a> Pump<'a> {
    /// A pump for a process that was just started. `deadline` ends it; `oom_kills` is the count
    /// from before the start.
    pub fn new(
        client: &'a mut UnixStream,
        sandbox: &'a Sandbox,
        job: &'a Job,
        sent: Sent,
        deadline: Option<Instant>,
        oom_kills: u64,
    ) -> Self {
        Self {
            client,
            sandbox,
            job,
            feed: Feed::new(sent.stdin, sent.terminal),
            sources: sent.sources,
            piece: vec![0; HEADER + PIECE],
            piece_left: 0..0,
            outbox: Vec::new(),
            turn: 0,
            deadline,
            cut: None,
            exit: None,
            oom_kills,
        }
    }

    /// The process could not be started; nothing holds its pipes.
    pub fn failed(&mut self, code: i32, message: &str) {
        self.outbox.extend_from_slice(&Frame::Stderr.header(message.len()));
        self.outbox.extend_from_slice(message.as_bytes());
        self.exit = Some((ExitStatus::exited(code), Instant::now()));
    }

    /// Queues a document for the client.
    pub fn document(&mut self, kind: Frame, document: &impl Serialize) {
        let bytes = serde_json::to_vec(document).unwrap_or_default();
        self.outbox.extend_from_slice(&kind.header(bytes.len()));
        self.outbox.extend_from_slice(&bytes);
    }

    /// Carries until the process's end is delivered or the client is gone.
    pub fn run(mut self) -> End {
        let mut saying_goodbye = false;
        loop {
            while let Some(news) = self.job.take() {
                self.hear(news);
            }
            self.keep_time();
            self.fill();
            if !saying_goodbye && self.is_finished() {
                saying_goodbye = true;
                if let Some((status, _)) = self.exit.clone() {
                    self.document(Frame::Exit, &status);
                }
            }
            let here = self.flush() && self.take_stdin();
            if saying_goodbye
                && self.nothing_to_say()
                && let Some((status, _)) = self.exit
            {
                return End::Delivered(status);
            }
            if !here || self.wait() {
                let _ = self.sandbox.order(&Order::Kill { id: self.job.id }, &[]);
                return End::Left;
            }
        }
    }

    fn hear(&mut self, news: News) {
        let (code, signal) = match news {
            News::Exited { code, signal } => (code, signal),
            News::Gone => (128 + libc::SIGKILL, Some(libc::SIGKILL)),
            News::Started(_) | News::Failed { .. } | News::Refused(_) => return,
        };
        let gone = matches!(news, News::Gone);
        let out_of_memory = code != 0 && lock(&self.sandbox.launched).oom_kills() > self.oom_kills;
        let reason = match (&self.cut, self.sandbox.ending(), signal) {
            (Some((reason, _)), _, Some(_)) => reason.clone(),
            _ if out_of_memory => ExitReason::OutOfMemory,
            (_, Some(reason), _) => reason,
            _ if gone => ExitReason::Lost,
            (_, None, Some(signal)) => ExitReason::Signaled { signal },
            (_, None, None) => ExitReason::Exited,
        };
        self.ended(ExitStatus { code, reason });
    }

    fn ended(&mut self, status: ExitStatus) {
        for source in self.sources.iter_mut().flatten() {
            source.owed = system::readable_bytes(&source.file);
        }
        self.exit.get_or_insert((status, Instant::now()));
        self.feed.close();
    }

    fn keep_time(&mut self) {
        if self.exit.is_some() {
            return;
        }
        let now = Instant::now();
        match &self.cut {
            None if self.deadline.is_some_and(|deadline| now >= deadline) => {
                self.cut = Some((ExitReason::Timeout, now + CONFIRMATION));
                let _ = self.sandbox.order(&Order::Kill { id: self.job.id }, &[]);
            }
            Some((reason, limit)) if now >= *limit => {
                let (done, _) = std::sync::mpsc::sync_channel(1);
                self.sandbox.tell(Event::Stop { grace: Duration::ZERO, done });
                let reason = reason.clone();
                self.ended(ExitStatus { code: 128 + libc::SIGKILL, reason });
            }
            _ => {}
        }
    }

    fn nothing_to_say(&self) -> bool {
        self.piece_left.is_empty() && self.outbox.is_empty()
    }

    /// Reads the next piece when the last was taken.
    fn fill(&mut self) {
        let over = self.exit.as_ref().is_some_and(|(_, at)| at.elapsed() >= AFTERGLOW);
        for _ in 0..self.sources.len() {
            if !self.nothing_to_say() {
                return;
            }
            self.turn = (self.turn + 1) % self.sources.len();
            let slot = &mut self.sources[self.turn];
            let Some(source) = slot else { continue };
            if over && source.owed == 0 {
                continue;
            }
            match source.file.read(&mut self.piece[HEADER..]) {
                Ok(count) if count > 0 => {
                    source.owed = source.owed.saturating_sub(count);
                    self.piece[..HEADER].copy_from_slice(&source.kind.header(count));
                    self.piece_left = 0..HEADER + count;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    // What is not there cannot be owed.
                    source.owed = 0;
                }
                // The end; on a terminal EIO.
                Ok(_) | Err(_) => *slot = None,
            }
        }
    }

    fn is_finished(&self) -> bool {
        let Some((_, at)) = &self.exit else { return false };
        let over = at.elapsed() >= AFTERGLOW;
        self.nothing_to_say() && self.sources.iter().flatten().all(|source| over && source.owed == 0)
    }

    /// Gives the client what it takes; false when it is gone.
    fn flush(&mut self) -> bool {
        while !self.nothing_to_say() {
            let from_piece = !self.piece_left.is_empty();
            let bytes = if from_piece { &self.piece[self.piece_left.clone()] } else { &self.outbox[..] };
            match self.client.write(bytes) {
                Ok(0) => return false,
                Ok(count) if from_piece => self.piece_left.start += count,
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Moves stdin along; false when the client speaks nonsense.
    fn take_stdin(&mut self) -> bool {
        match self.feed.advance(self.client) {
            Fed::On => true,
            Fed::Closed => {
                self.refuse_stdin();
                true
            }
            Fed::Nonsense => false,
        }
    }

    fn refuse_stdin(&mut self) {
        self.feed.close();
        self.outbox.extend_from_slice(&Frame::StdinClosed.header(0));
    }

    /// Waits for something to do; true when the client is gone.
    fn wait(&mut self) -> bool {
        let silent = self.nothing_to_say();
        let source = |source: &Option<Source>| match source {
            Some(source) if silent => system::watched(&source.file, true, false),
            _ => system::unwatched(),
        };
        let mut fds = [
            system::watched(self.client, self.feed.listens(), !silent),
            libc::pollfd { fd: self.job.wake_fd(), events: libc::POLLIN, revents: 0 },
            self.feed.watched(),
            source(&self.sources[0]),
            source(&self.sources[1]),
        ];
        let afterglow = self.exit.as_ref().map(|(_, at)| *at + AFTERGLOW).filter(|at| *at > Instant::now());
        let waiting =
            if self.exit.is_some() { afterglow } else { self.cut.as_ref().map(|(_, at)| *at).or(self.deadline) };
        system::poll(&mut fds, if self.feed.has_more() { Some(Instant::now()) } else { waiting });
        if fds[2].revents & libc::POLLERR != 0 {
            self.refuse_stdin();
        }
        fds[0].revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
    }
}
