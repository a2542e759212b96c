//! The system calls of a supervisor.

#![allow(unsafe_code, reason = "flock on a plain file, fork, ioctl and memfd have no safe form that fits")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use cove_core::engine::PtySize;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Locks an open file for as long as any copy of its descriptor is open; false when somebody else
/// holds the lock.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: flock takes integers.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Goes on as a child that is nobody's, in a session of its own; the process that called ends.
pub fn detach() -> io::Result<()> {
    // SAFETY: called before any thread was started; the parent ends without running anything.
    unsafe {
        if check(libc::fork())? > 0 {
            libc::_exit(0);
        }
        libc::setsid();
    }
    Ok(())
}

/// Closes every descriptor above 2 except `kept` ones, which become close-on-exec.
pub fn close_others(kept: &[RawFd]) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for fd in open {
        if fd > 2 && !kept.contains(&fd) {
            // SAFETY: nothing in this fresh process owns a descriptor above 2 that is not in `kept`;
            // the one of the listing is closed already and yields EBADF.
            unsafe { libc::close(fd) };
        }
    }
}

/// Moves a standard stream away: a copy above 2, close-on-exec, and `instead` in its place.
pub fn take_standard(fd: RawFd, instead: &File) -> io::Result<OwnedFd> {
    // SAFETY: the calls take integers; the copy is fresh and owned by nobody else.
    unsafe {
        let copy = check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3))?;
        let copy = OwnedFd::from_raw_fd(copy);
        check(libc::dup2(instead.as_raw_fd(), fd))?;
        Ok(copy)
    }
}

/// Settings of the whole process: orphans among descendants come here, files are owner-only, and
/// as many may be open as allowed.
pub fn settle() {
    // SAFETY: integers, and pointers to a live local.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong, 0, 0, 0);
        libc::umask(0o077);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max.min(65_536).max(limit.rlim_cur);
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// A file in memory that holds `bytes`, at its beginning.
pub fn memory_file(bytes: &[u8]) -> io::Result<File> {
    use std::io::{Seek, Write};
    // SAFETY: the name is a C string; the descriptor returned is fresh.
    let mut file = unsafe {
        let fd = check(libc::memfd_create(c"cove-command".as_ptr(), libc::MFD_CLOEXEC))?;
        File::from_raw_fd(fd)
    };
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Waits until one of `fds` is ready or `deadline` has passed.
pub fn poll(fds: &mut [libc::pollfd], deadline: Option<Instant>) {
    let timeout = deadline.map_or(-1, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the loop does not spin through the last millisecond.
        i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    // SAFETY: pointer and length describe the slice. An interrupted call leaves `revents` unusable,
    // so they are cleared first.
    unsafe {
        for fd in fds.iter_mut() {
            fd.revents = 0;
        }
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout);
    }
}

/// An entry for [`poll`]; none of the conditions asked for makes it an entry for errors only.
pub fn watched(fd: &impl AsRawFd, read: bool, write: bool) -> libc::pollfd {
    let events = if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
    libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
}

/// An entry for [`poll`] that stands for nothing.
pub fn unwatched() -> libc::pollfd {
    libc::pollfd { fd: -1, events: 0, revents: 0 }
}

/// Switches a descriptor to calls that do not wait.
pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: F_GETFL and F_SETFL take no pointer.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok(())
}

/// Makes a pipe hold more, where the system's bounds allow it.
pub fn widen(pipe: &impl AsRawFd, bytes: i32) {
    // SAFETY: F_SETPIPE_SZ takes an integer.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
}

/// Bytes that can be read at once.
pub fn readable_bytes(fd: &impl AsRawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD as _, &raw mut count) };
    if done == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: &impl AsRawFd) -> bool {
    // SAFETY: isatty takes an integer.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

/// Changes a terminal's size.
pub fn resize(master: &impl AsRawFd, size: PtySize) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) })?;
    Ok(())
}

/// Whether the process at the other end has this process's user, or is root.
pub fn same_user(stream: &UnixStream) -> bool {
    let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials);
    peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

/// Takes every child that has ended; whether `init` was among them or is no child any more.
pub fn reap(init: libc::pid_t) -> bool {
    let mut gone = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` is a live local.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return gone || pid < 0;
        }
        gone |= pid == init;
    }
}
