//! The system calls that no crate of ours wraps: the mount API by descriptor, `clone3`, pidfds.

#![allow(unsafe_code, reason = "thin wrappers over system calls; each block argues for itself")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// `MOUNT_ATTR_*` of `linux/mount.h`.
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const IDMAP: u64 = 0x0010_0000;
}

/// `RESOLVE_*` of `linux/openat2.h`.
mod resolve {
    pub const NO_MAGICLINKS: u64 = 0x02;
    pub const NO_SYMLINKS: u64 = 0x04;
    pub const IN_ROOT: u64 = 0x10;
}

const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = checked(result)?;
    let raw = RawFd::try_from(raw).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel has just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// A path as the kernel takes it.
pub fn c_path(path: &std::path::Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// The calling process and, in the parent, its new child.
pub enum Fork {
    /// In the new process.
    Child,
    /// In the calling process.
    Parent {
        /// The child's id in our namespace.
        pid: libc::pid_t,
        /// Becomes readable when the child has ended.
        pidfd: OwnedFd,
    },
}

/// Forks with new namespaces. The caller has a single thread, so the child may allocate.
pub fn fork_into(flags: libc::c_int) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (flags | libc::CLONE_PIDFD) as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: no stack is given, so this behaves as fork(2): the child goes on here on a copy of our
    // memory. `args` and `pidfd` live until the call returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match checked(pid)? {
        0 => Ok(Fork::Child),
        // SAFETY: CLONE_PIDFD stored a new descriptor here, owned by nobody else.
        pid => Ok(Fork::Parent { pid: pid as libc::pid_t, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Ends this process at once, without destructors and exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Waits until the process of `pidfd` has ended (it may still be a zombie); false at the deadline.
pub fn wait_ended(pidfd: BorrowedFd<'_>, deadline: Duration) -> io::Result<bool> {
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis().min(60_000) as libc::c_int;
        let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid `pollfd`.
        match unsafe { libc::poll(&raw mut poll, 1, left) } {
            0 if Instant::now() >= end => return Ok(false),
            n if n < 0 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            0 => {}
            _ => return Ok(true),
        }
    }
}

/// Sends a signal to the process of `pidfd`; one that is gone is no error.
pub fn signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a valid descriptor, no siginfo, no flags.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    match checked(sent) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A descriptor of a process by its id, close-on-exec.
pub fn open_process(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes integers; the descriptor returned is fresh.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Takes a connection, close-on-exec.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let none = std::ptr::null_mut();
    // SAFETY: no address is asked for; the descriptor returned is fresh.
    descriptor(unsafe { libc::accept4(listener.as_raw_fd(), none, std::ptr::null_mut(), libc::SOCK_CLOEXEC) }.into())
}

/// Kills a process by id; one that is gone is no error. Needs no descriptor.
pub fn kill(pid: libc::pid_t) {
    if pid > 1 {
        // SAFETY: kill(2) has no memory preconditions.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}

/// Collects our child `pid`, blocking; for children that were killed.
pub fn reap(pid: libc::pid_t) {
    loop {
        // SAFETY: a null status pointer is allowed.
        let got = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        if got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// `struct open_how`.
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `root` without ever leaving it: `..` and absolute links stay inside.
pub fn open_in_root(root: BorrowedFd<'_>, path: &std::path::Path, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let how =
        How { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve: resolve::IN_ROOT | resolve::NO_MAGICLINKS };
    // SAFETY: `path` is nul-terminated, `how` has the size given; both live until the call returns.
    descriptor(unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<How>())
    })
}

/// What stands at an absolute path none of whose parts is a link, as an `O_PATH` descriptor. A path
/// that was resolved before and has a link in it now was changed by somebody.
pub fn open_resolved(path: &std::path::Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let how = How {
        flags: (libc::O_PATH | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: resolve::NO_SYMLINKS | resolve::NO_MAGICLINKS,
    };
    // SAFETY: `path` is nul-terminated, `how` has the size given; both live until the call returns.
    descriptor(unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, size_of::<How>())
    })
}

/// A detached private copy of the mounts at `path`, with everything below when `recursive`.
pub fn clone_tree(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: `path` is nul-terminated and lives until the call returns.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// A detached private copy of what `place` (an `O_PATH` descriptor) stands for, with everything
/// mounted below when `recursive`.
pub fn clone_place(place: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: an empty nul-terminated path with AT_EMPTY_PATH.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Sets attributes of the mount (and of those below it), and takes it out of every peer group when
/// `private`. With [`attr::IDMAP`], `user_namespace` holds the mapping.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    private: bool,
    recursive: bool,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let attributes = Attributes {
        set,
        clear: 0,
        propagation: if private { libc::MS_PRIVATE } else { 0 },
        user_namespace: user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty nul-terminated path; `attributes` has the size given and outlives the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    })
    .map(|_| ())
}

/// Attaches a detached mount on top of what `target` (an `O_PATH` descriptor) stands for.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are empty and nul-terminated; the descriptors are valid.
    checked(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(|_| ())
}

/// A new file system, not yet attached. An option without a value is a flag.
pub fn new_file_system(kind: &CStr, options: &[(&str, Option<&str>)], attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: `kind` is nul-terminated; 1 is FSOPEN_CLOEXEC.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1) })?;
    let text = |s: &str| CString::new(s).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    for (key, value) in options {
        let key = text(key)?;
        let value = value.map(text).transpose()?;
        let (command, pointer) = match &value {
            Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
            None => (FSCONFIG_SET_FLAG, std::ptr::null()),
        };
        // SAFETY: `key` and, where given, `value` are nul-terminated and live until the call returns.
        checked(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), pointer, 0) })?;
    }
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: the command takes neither key nor value.
    checked(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: a valid context; 1 is FSMOUNT_CLOEXEC.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attributes) })
}

/// Makes the directory behind `root` the root directory and lets go of the old one.
pub fn enter_root(root: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: valid descriptor, nul-terminated literals. pivot_root(".", ".") stacks the old root on
    // the new one, and the detach removes it (see pivot_root(2)).
    unsafe {
        checked(libc::fchdir(root.as_raw_fd()).into())?;
        checked(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        checked(libc::umount2(c".".as_ptr(), libc::MNT_DETACH).into())?;
        checked(libc::chdir(c"/".as_ptr()).into())?;
    }
    Ok(())
}

/// Ends sharing of mount events with the namespace we came from.
pub fn make_mounts_private() -> io::Result<()> {
    // SAFETY: nul-terminated literals; the ignored arguments are null.
    checked(
        unsafe {
            libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            )
        }
        .into(),
    )
    .map(|_| ())
}

/// Brings the loopback interface of this network namespace up.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: a plain socket call; the descriptor is ours.
    let socket = descriptor(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is an initialised `ifreq` with the flags set, as SIOCSIFFLAGS expects.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into()).map(|_| ())
}

/// Marks every descriptor from `first` on to be closed by the next exec.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    let (first, last) = (first as libc::c_uint, libc::c_uint::MAX);
    // SAFETY: changes flags only.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) }).map(|_| ())
}

/// `dup2` onto a fixed number, without close-on-exec.
pub fn put_at(from: RawFd, number: RawFd) -> io::Result<()> {
    if from == number {
        // SAFETY: clears FD_CLOEXEC on a descriptor of ours.
        return checked(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into()).map(|_| ());
    }
    // SAFETY: whatever `number` was is replaced on purpose.
    checked(unsafe { libc::dup2(from, number) }.into()).map(|_| ())
}

/// A new session keyring, so that nothing of the caller's is reachable. A kernel without keyrings
/// has nothing to part from.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match checked(joined) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// A `prctl` without pointer arguments.
pub fn prctl(option: libc::c_int, two: u64, three: u64) -> io::Result<i32> {
    // SAFETY: callers pass options whose arguments are plain numbers.
    checked(unsafe { libc::prctl(option, two, three, 0_u64, 0_u64) }.into()).map(|n| n as i32)
}

/// The process's capability sets: effective, permitted, inheritable.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let half = |set: u64, upper: bool| if upper { (set >> 32) as u32 } else { set as u32 };
    let mut data = [0_u32; 6];
    for (index, upper) in [(0, false), (3, true)] {
        data[index] = half(effective, upper);
        data[index + 1] = half(permitted, upper);
        data[index + 2] = half(inheritable, upper);
    }
    // SAFETY: header and data have the layout of version 3: two words and twice three words.
    checked(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(|_| ())
}

/// What this process may put into force.
pub fn permitted_capabilities() -> io::Result<u64> {
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [0_u32; 6];
    // SAFETY: header and data have the layout of version 3.
    checked(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
}

/// Group ids first, then user ids: real, effective and saved.
pub fn become_user(uid: libc::uid_t, gid: libc::gid_t, clear_groups: bool) -> io::Result<()> {
    // SAFETY: plain numbers; an empty list needs no pointer. The raw calls change this thread only,
    // and there is no other.
    unsafe {
        if clear_groups {
            checked(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        }
        checked(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        checked(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Moves this process into new namespaces.
pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory preconditions.
    checked(unsafe { libc::unshare(flags) }.into()).map(|_| ())
}

/// Replaces this process; only returns on failure.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays are null-terminated lists of nul-terminated strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Effective ids of this process.
pub fn own_ids() -> (libc::uid_t, libc::gid_t) {
    // SAFETY: both calls cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Landlock's interface version in this kernel; 0 without Landlock.
pub fn landlock_abi() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: the documented question for the version: no attributes of size zero.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Whether the limit on a user's processes counts each user namespace for itself (Linux 5.14).
pub fn counts_processes_by_namespace() -> bool {
    let Ok(name) = nix::sys::utsname::uname() else { return false };
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(14))
}
