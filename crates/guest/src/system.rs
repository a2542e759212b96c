//! The system calls that the standard library does not offer, each with one use.

#![allow(unsafe_code, reason = "the one place of the guest that calls libc")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::c_int;

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Whether `fd` is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointer.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Takes over a descriptor that this process was started with, close-on-exec from now on.
pub fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes no pointer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open (the call above succeeded) and nothing else in this process
    // knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether other processes of the same user may look into this one.
pub fn set_dumpable(dumpable: bool) {
    // SAFETY: PR_SET_DUMPABLE takes an integer.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(dumpable), 0, 0, 0) };
}

/// Makes orphans among the descendants children of this process.
pub fn become_subreaper() {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes an integer.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong, 0, 0, 0) };
}

/// Ignores every signal that can be ignored, except SIGCHLD.
pub fn ignore_signals() {
    set_signals(libc::SIG_IGN);
}

/// Every signal as a fresh program expects it, none blocked.
pub fn default_signals() {
    set_signals(libc::SIG_DFL);
    // A C library keeps some real-time signals to itself; whoever started us may ignore them.
    let default = [0_u64; 8];
    for signal in 32..=64 {
        // SAFETY: all zeros is the kernel's structure for SIG_DFL, no flags and an empty mask, and
        // `default` is larger than that structure on every architecture.
        unsafe {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8);
        }
    }
    // SAFETY: `none` is initialised by sigemptyset before it is read.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

fn set_signals(disposition: libc::sighandler_t) {
    for signal in 1..=31 {
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGCHLD) {
            // SAFETY: SIG_IGN and SIG_DFL install no handler of ours.
            unsafe { libc::signal(signal, disposition) };
        }
    }
}

/// Blocks SIGCHLD and makes it readable.
pub fn child_signals() -> io::Result<File> {
    // SAFETY: `set` is initialised by sigemptyset; signalfd returns a fresh descriptor.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(File::from_raw_fd(fd))
    }
}

/// Which side of a fork this is.
pub enum Fork {
    /// The parent, with the child's id.
    Parent(libc::pid_t),
    /// The child.
    Child,
}

/// Forks. The guest has a single thread, so the child may do anything.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: there is no second thread whose locks the child could inherit.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Ends this process without running anything further.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// How a child ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
}

/// What there is to wait for.
pub enum Waited {
    /// A child ended.
    Child(libc::pid_t, Ended),
    /// Children live, none has ended.
    Living,
    /// There are no children.
    Childless,
}

/// Takes one ended child, if any.
pub fn wait_any() -> Waited {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    match pid {
        0 => Waited::Living,
        pid if pid > 0 => {
            let ended = if libc::WIFSIGNALED(status) {
                let signal = libc::WTERMSIG(status);
                Ended { code: 128 + signal, signal: Some(signal) }
            } else {
                Ended { code: libc::WEXITSTATUS(status), signal: None }
            };
            Waited::Child(pid, ended)
        }
        _ => Waited::Childless,
    }
}

/// Sends a signal to a process group.
pub fn signal_group(group: libc::pid_t, signal: i32) {
    if group > 1 && (1..=64).contains(&signal) {
        // SAFETY: kill takes two integers; the group is a child's own.
        unsafe { libc::kill(-group, signal) };
    }
}

/// Waits until one of `fds` is ready, at most `timeout_ms` (-1: without end).
pub fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) {
    // SAFETY: pointer and length describe the slice. An interrupted call leaves `revents` unusable,
    // so they are cleared first.
    unsafe {
        for fd in fds.iter_mut() {
            fd.revents = 0;
        }
        libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms);
    }
}

/// Connects to a Unix socket without waiting, not even for a full backlog.
pub fn connect_unix(path: &str) -> io::Result<OwnedFd> {
    // SAFETY: a zeroed sockaddr_un is valid; the path is checked to fit with its final zero, and the
    // length given covers the whole structure.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        if path.len() >= address.sun_path.len() || path.as_bytes().contains(&0) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (slot, byte) in address.sun_path.iter_mut().zip(path.bytes()) {
            *slot = byte as libc::c_char;
        }
        let fd = check(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(fd);
        check(libc::connect(
            fd,
            (&raw const address).cast(),
            std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t,
        ))?;
        Ok(socket)
    }
}

/// Connects a message socket, waiting for its listener.
pub fn connect_messages(path: &str) -> io::Result<OwnedFd> {
    // SAFETY: as in `connect_unix`.
    unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        if path.len() >= address.sun_path.len() || path.as_bytes().contains(&0) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        for (slot, byte) in address.sun_path.iter_mut().zip(path.bytes()) {
            *slot = byte as libc::c_char;
        }
        let fd = check(libc::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(fd);
        check(libc::connect(
            fd,
            (&raw const address).cast(),
            std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t,
        ))?;
        Ok(socket)
    }
}

/// Lowers a resource limit, soft and hard; never raises one.
pub fn lower_limit(resource: u32, value: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live local.
    unsafe {
        check(libc::getrlimit(resource as _, &raw mut limit))?;
        let value = value.min(limit.rlim_max);
        limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        check(libc::setrlimit(resource as _, &raw const limit))?;
    }
    Ok(())
}

/// From now on no program that is started has more rights than this one.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0) })?;
    Ok(())
}

/// Installs a seccomp program over this process and all its descendants: instructions of eight bytes.
pub fn filter(program: &[u8]) -> io::Result<()> {
    let instruction = |bytes: &[u8]| libc::sock_filter {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    let mut instructions: Vec<libc::sock_filter> = program.chunks_exact(8).map(instruction).collect();
    let length = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: instructions.as_mut_ptr() };
    // SAFETY: `program` describes `instructions`, which outlives the call; the kernel checks them.
    let done = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as libc::c_ulong, &raw const program, 0, 0)
    };
    check(done).map(|_| ())
}

/// A place for Landlock rules.
pub fn open_path(path: &std::ffi::CStr) -> io::Result<OwnedFd> {
    // SAFETY: the path is a C string; the descriptor returned is fresh.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC))?)) }
}

/// A new Landlock rule set.
pub fn landlock_ruleset(handled: u64, scoped: u64) -> io::Result<OwnedFd> {
    // The kernel's `landlock_ruleset_attr`; older ones know a shorter structure and take this one
    // when what they do not know is zero.
    let attributes = [handled, 0, scoped];
    // SAFETY: pointer and size describe `attributes`; the descriptor returned is fresh.
    unsafe {
        let size = std::mem::size_of_val(&attributes);
        let fd = libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size, 0);
        Ok(OwnedFd::from_raw_fd(check(c_int::try_from(fd).unwrap_or(-1))?))
    }
}

/// Allows accesses at and below a place.
pub fn landlock_allow(ruleset: &OwnedFd, place: &OwnedFd, access: u64) -> io::Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        parent: i32,
    }
    const PATH_BENEATH: c_int = 1;
    let rule = PathBeneath { allowed: access, parent: place.as_raw_fd() };
    // SAFETY: `rule` has the kernel's layout and outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0) };
    check(c_int::try_from(done).unwrap_or(-1)).map(|_| ())
}

/// Puts a rule set into force.
pub fn landlock_restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes integers.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    check(c_int::try_from(done).unwrap_or(-1)).map(|_| ())
}

/// Begins a session of its own; afterwards process group and session are this process.
pub fn new_session() {
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
}

/// Makes `from` the descriptor `to`, which stays open across exec.
pub fn install(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: the calls take integers only.
    unsafe {
        if from == to {
            check(libc::fcntl(to, libc::F_SETFD, 0))?;
        } else {
            check(libc::dup2(from, to))?;
        }
    }
    Ok(())
}

/// Makes the terminal at `fd` the controlling one of this session.
pub fn control_terminal(fd: RawFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(unsafe { libc::ioctl(fd, libc::TIOCSCTTY as _, 0) })?;
    Ok(())
}

/// Opens a terminal of the given size: master and slave.
pub fn open_terminal(cols: u16, rows: u16) -> io::Result<(OwnedFd, OwnedFd)> {
    let open = |path| File::options().read(true).write(true).open(path);
    let master: OwnedFd = open("/dev/ptmx").or_else(|_| open("/dev/pts/ptmx"))?.into();
    let unlock: c_int = 0;
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSPTLCK reads an int and TIOCSWINSZ a winsize, both live; TIOCGPTPEER takes flags
    // and returns a fresh descriptor.
    unsafe {
        check(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock))?;
        check(libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size))?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let slave = check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags))?;
        Ok((master, OwnedFd::from_raw_fd(slave)))
    }
}

/// Replaces this program; returns only with the error.
pub fn execute(path: &std::ffi::CStr, argv: &[*const libc::c_char], env: &[*const libc::c_char]) -> io::Error {
    debug_assert!(argv.last().is_some_and(|p| p.is_null()) && env.last().is_some_and(|p| p.is_null()));
    // SAFETY: both arrays end with a null pointer and point to strings that the caller keeps alive.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Files that this process makes are writable by their owner alone.
pub fn set_umask() {
    // SAFETY: umask takes an integer.
    unsafe { libc::umask(0o022) };
}

/// Ends this process by SIGALRM after `seconds`.
pub fn alarm(seconds: u32) {
    // SAFETY: alarm takes an integer.
    unsafe { libc::alarm(seconds) };
}

/// Whether two calls that no filter of ours allows, made so that they cannot have an effect, are
/// answered by the filter: `kexec_load` with impossible flags and `ptrace` on a process id that
/// cannot exist (without a filter: ESRCH).
pub fn seccomp_refuses() -> bool {
    let by_filter = |error: io::Error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS));
    // SAFETY: the flags are invalid and the segment list is empty, so the kernel changes nothing.
    let kexec = unsafe { libc::syscall(libc::SYS_kexec_load, 0, u32::MAX, 0, u64::MAX) };
    let kexec = kexec < 0 && by_filter(io::Error::last_os_error());
    // SAFETY: there is no process with the greatest pid; nothing is attached to.
    let ptrace = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, i32::MAX, 0, 0) };
    kexec && ptrace < 0 && by_filter(io::Error::last_os_error())
}

/// The soft value of a resource limit; unlimited is the greatest number.
pub fn soft_limit(resource: i64) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live local.
    let done = unsafe { libc::getrlimit(resource as _, &raw mut limit) };
    (done == 0).then_some(limit.rlim_cur)
}

/// Puts a copy of `file` in the place of `fd`, close-on-exec, which closes what was there.
pub fn install_over(file: &File, fd: RawFd) -> io::Result<()> {
    // SAFETY: dup3 takes integers; `fd` stays an open descriptor owned by whoever owned it.
    check(unsafe { libc::dup3(file.as_raw_fd(), fd, libc::O_CLOEXEC) })?;
    Ok(())
}
