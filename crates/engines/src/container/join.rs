//! The supervisor's side of a guest that fetches its channel.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::native::sys;
use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};
use cove_guest::channel::Channel;
use cove_guest::wire::{Join, Joined};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket, sockopt,
};

/// How long a guest that has come may take for its answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A socket that one guest may connect to, once.
#[derive(Debug)]
pub struct Door {
    socket: OwnedFd,
    path: PathBuf,
}

/// A guest that has connected.
#[derive(Debug)]
pub struct Guest {
    channel: Channel,
    /// Its process id as this process sees it.
    pub pid: libc::pid_t,
    /// Its process.
    pub pidfd: OwnedFd,
}

fn failed(step: &str) -> String {
    format!("The sandbox could not be built: {step} failed")
}

impl Door {
    /// Listens in `dir`.
    ///
    /// # Errors
    /// `NotStarted` when that is not possible.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("join.sock");
        let opened = || -> std::io::Result<OwnedFd> {
            let _ = std::fs::remove_file(&path);
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
            // By descriptor: a socket's path may have 107 bytes at most, a state directory more.
            let handle = File::open(dir)?;
            let address = UnixAddr::new(format!("/proc/self/fd/{}/join.sock", handle.as_raw_fd()).as_str())?;
            bind(socket.as_raw_fd(), &address)?;
            // The sandbox's user is another; the directory is shown to that sandbox alone.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
            listen(&socket, Backlog::new(1)?)?;
            Ok(socket)
        };
        let socket = opened().context(ErrorKind::NotStarted, failed("listening for the guest"))?;
        Ok(Self { socket, path })
    }

    /// Waits for the guest; `None` when it has not come within `limit`.
    ///
    /// # Errors
    /// `NotStarted` when who has come cannot be told.
    pub fn wait(&self, limit: Duration) -> Result<Option<Guest>> {
        if !readable(self.socket.as_fd(), limit) {
            return Ok(None);
        }
        let accept = || -> std::io::Result<Guest> {
            let stream = sys::accept(self.socket.as_fd())?;
            let pid = getsockopt(&stream, sockopt::PeerCredentials)?.pid();
            if pid <= 0 {
                return Err(std::io::Error::other("it is in a process namespace that is not seen from here"));
            }
            let pidfd = sys::open_process(pid)?;
            Ok(Guest { channel: Channel::new(stream), pid, pidfd })
        };
        accept().map(Some).context(ErrorKind::NotStarted, failed("taking the guest's connection"))
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Guest {
    /// Gives it its channel and what to put into force; what it found.
    ///
    /// # Errors
    /// `NotStarted` with the step that failed inside.
    pub fn join(self, what: &Join, channel: OwnedFd, programs: &[u8]) -> Result<(Joined, libc::pid_t, OwnedFd)> {
        let step = failed("the guest's start");
        let file = crate::supervisor::memory_file(programs).context(ErrorKind::NotStarted, step.clone())?;
        self.channel.set_send_timeout(ANSWER).context(ErrorKind::NotStarted, step.clone())?;
        let fds: &[BorrowedFd<'_>] = &[channel.as_fd(), file.as_fd()];
        self.channel.send(what, fds).context(ErrorKind::NotStarted, step.clone())?;
        drop(channel);
        if !readable(self.channel.as_fd(), ANSWER) {
            return Err(Error::new(ErrorKind::NotStarted, "The guest does not answer"));
        }
        let message = self.channel.receive().context(ErrorKind::NotStarted, step.clone())?;
        let message = message.ok_or_else(|| Error::new(ErrorKind::NotStarted, "The guest ended while it started"))?;
        let joined: Joined = serde_json::from_slice(&message.bytes).context(ErrorKind::NotStarted, step.clone())?;
        if !joined.trouble.is_empty() {
            let told = super::client::line(&joined.trouble);
            return Err(Error::new(ErrorKind::NotStarted, step).with("step", told));
        }
        Ok((joined, self.pid, self.pidfd))
    }
}

fn readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = u16::try_from(end.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(left)) {
            Ok(ready) if ready > 0 => return true,
            _ if Instant::now() >= end => return false,
            _ => {}
        }
    }
}
