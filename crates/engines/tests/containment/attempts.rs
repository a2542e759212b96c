//! What a hostile program tries. Runs inside a sandbox and, where that is harmless, outside as the
//! control that shows that the attempt would have worked.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program says what it skips")]
#![allow(unsafe_code, reason = "attempts are system calls")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The argument that makes the test program try something.
pub const ARGUMENT: &str = "__attempt";

/// Tries when the arguments say so, prints `DONE` or the error's name, and ends.
pub fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, name, rest @ ..] = arguments.as_slice() else { return };
    if first != ARGUMENT {
        return;
    }
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match attempt(name, &rest) {
        Ok(()) => println!("DONE"),
        Err(error) => println!("{}", named(&error)),
    }
    let _ = io::stdout().flush();
    std::process::exit(0)
}

fn named(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |number| format!("{:?}", nix::errno::Errno::from_raw(number)))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn call(number: libc::c_long, arguments: [libc::c_long; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the arguments are numbers, null or invalid on purpose; the kernel checks them.
    check(unsafe { libc::syscall(number, a, b, c, d, e) })
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    // SAFETY: no memory is passed; the descriptor goes with the process.
    check(unsafe { libc::socket(family, kind, protocol) }.into())
}

fn open_for_writing(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

/// Forks; the child does nothing until it is killed.
fn idle_child() -> io::Result<libc::pid_t> {
    // SAFETY: this program has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        },
        pid => Ok(pid),
    }
}

fn attempt(name: &str, rest: &[&str]) -> io::Result<()> {
    let first = rest.first().copied().unwrap_or_default();
    match name {
        "list" => fs::read_dir(first).map(drop),
        "read" => fs::read(first).map(drop),
        "write" => open_for_writing(first),
        "make" => File::create_new(first).map(drop),
        "exists" => fs::symlink_metadata(first).map(drop),
        "connect-abstract" => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(first)?;
            UnixStream::connect_addr(&address).map(drop)
        }
        "connect" => {
            let address = first.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
            TcpStream::connect_timeout(&address, Duration::from_secs(20)).map(drop)
        }
        "variable" => std::env::var(first).map(drop).map_err(|_| io::ErrorKind::NotFound.into()),
        "signal" => {
            let pid: libc::pid_t = first.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
            // SAFETY: signal 0 only asks.
            check(unsafe { libc::kill(pid, 0) }.into())
        }
        "follow-link" => {
            let link = Path::new(first).join("link");
            std::os::unix::fs::symlink(rest[1], &link)?;
            OpenOptions::new().write(true).truncate(true).open(&link)?.write_all(b"changed")
        }
        "rewrite-own-program" => open_for_writing("/proc/self/exe"),
        "rewrite-guest" => open_for_writing("/run/cove/guest"),
        "trace-init" => call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as _, 1, 0, 0, 0]),
        "trace-child" => {
            let child = idle_child()?;
            let traced = call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as _, child.into(), 0, 0, 0]);
            // SAFETY: our own child.
            unsafe { libc::kill(child, libc::SIGKILL) };
            traced
        }
        "user-namespace" => call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0]),
        "clone-user-namespace" => match_child(libc::SYS_clone, (libc::CLONE_NEWUSER | libc::SIGCHLD).into()),
        "clone3" => call(libc::SYS_clone3, [0, 0, 0, 0, 0]),
        "mount" => {
            // Outside, the control does it in a mount namespace of its own.
            let _ = call(libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0, 0, 0]);
            let (none, root) = (c"none".as_ptr() as libc::c_long, c"/".as_ptr() as libc::c_long);
            let private = (libc::MS_REC | libc::MS_PRIVATE) as libc::c_long;
            call(libc::SYS_mount, [none, root, 0, private, 0])?;
            let (kind, at) = (c"tmpfs".as_ptr() as libc::c_long, c"/tmp".as_ptr() as libc::c_long);
            call(libc::SYS_mount, [kind, at, kind, 0, 0])
        }
        "device-node" => {
            let path = std::ffi::CString::new(format!("{first}/node")).map_err(|_| io::ErrorKind::InvalidInput)?;
            // SAFETY: a nul-terminated path.
            let made = check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 3)) }.into());
            let _ = fs::remove_file(format!("{first}/node"));
            made
        }
        "set-user-id" => {
            let path = format!("{first}/program");
            File::create(&path)?;
            let done = fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o4755));
            let _ = fs::remove_file(path);
            done
        }
        "socket-raw" => socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        "socket-packet" => socket(libc::AF_PACKET, libc::SOCK_RAW, 0),
        "socket-alg" => socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        "socket-vsock" => socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        "socket-netfilter" => socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        "type-into-terminal" => {
            let character = b'x';
            // SAFETY: the request reads one character.
            check(unsafe { libc::ioctl(0, libc::TIOCSTI, &raw const character) }.into())
        }
        "raise-limit" => {
            let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
            // SAFETY: a valid structure.
            check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }.into())
        }
        "core-limit" => {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: a valid structure both times.
            unsafe {
                check(libc::setrlimit(libc::RLIMIT_CORE, &raw const limit).into())?;
                check(libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit).into())?;
            }
            if limit.rlim_cur == 0 { Ok(()) } else { Err(io::Error::other(format!("{}", limit.rlim_cur))) }
        }
        "limit-init" => call(libc::SYS_prlimit64, [1, libc::RLIMIT_NOFILE as _, 0, 0, 0]),
        "spare-me" => fs::write("/proc/self/oom_score_adj", "-1000"),
        "descriptors" => {
            let open = fs::read_dir("/proc/self/fd")?.count();
            // Standard three and the directory itself.
            if open <= 4 { Ok(()) } else { Err(io::Error::other(format!("{open} descriptors"))) }
        }
        "many-processes" => {
            let most: usize = first.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut children = Vec::new();
            let stopped = loop {
                match idle_child() {
                    Ok(pid) if children.len() < most => children.push(pid),
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            for pid in children {
                // SAFETY: our own children.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            stopped
        }
        "hog-memory" => {
            let mut taken: Vec<Vec<u8>> = Vec::new();
            for _ in 0..first.parse::<usize>().map_err(|_| io::ErrorKind::InvalidInput)? {
                taken.push(vec![1; 1 << 20]);
            }
            std::hint::black_box(&taken);
            Ok(())
        }
        "fill-disk" => {
            for number in 0..rest[1].parse::<usize>().map_err(|_| io::ErrorKind::InvalidInput)? {
                fs::write(format!("{first}/{number}"), vec![1; 1 << 20])?;
            }
            // The watch ends the sandbox; nothing else does.
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        "linger" => {
            for _ in 0..2 {
                // SAFETY: one thread; the parents leave at once.
                if unsafe { libc::fork() } > 0 {
                    return Ok(());
                }
                // SAFETY: no preconditions.
                unsafe { libc::setsid() };
            }
            // SAFETY: closes our own standard descriptors, so that the exec does not wait for us.
            unsafe {
                for fd in 0..3 {
                    libc::close(fd);
                }
            }
            std::thread::sleep(Duration::from_secs(600));
            Ok(())
        }
        other => system_call(other),
    }
}

/// A child made by a raw call is ended at once.
fn match_child(number: libc::c_long, flags: libc::c_long) -> io::Result<()> {
    // SAFETY: no stack is given: the child goes on here on a copy of our memory.
    let pid = unsafe { libc::syscall(number, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: no preconditions.
        unsafe { libc::_exit(0) }
    }
    check(pid)
}

/// Calls that must be refused by number; the arguments are such that nothing happens outside either.
pub const CALLS: &[(&str, libc::c_long)] = &[
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("kcmp", libc::SYS_kcmp),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("quotactl", libc::SYS_quotactl),
    ("kexec_load", libc::SYS_kexec_load),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("setns", libc::SYS_setns),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("umount2", libc::SYS_umount2),
    ("fsopen", libc::SYS_fsopen),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("swapon", libc::SYS_swapon),
    ("acct", libc::SYS_acct),
    ("syslog", libc::SYS_syslog),
    ("fanotify_init", libc::SYS_fanotify_init),
];

fn system_call(name: &str) -> io::Result<()> {
    let number = CALLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    // Minus one is no valid command, flag, descriptor or address of any of them.
    call(number.ok_or(io::ErrorKind::InvalidInput)?, [-1, -1, -1, -1, -1])
}
