//! System calls by name, with arguments as words.

use std::ffi::CString;

use crate::report::{Outcome, Refusal, at, check, last};

/// `call`, `clone`, `clone3`, `call32`, `callx32`.
pub fn attempt(verb: &str, words: &[&str]) -> Option<Outcome> {
    match (verb, words) {
        ("call", [name, words @ ..]) => Some(call(name, words)),
        ("clone", [flags]) => Some(clone(flags)),
        ("clone3", [flags, size]) => Some(clone3(flags, size)),
        ("call32", [number]) => Some(compatible(number)),
        ("callx32", [name]) => Some(x32(name)),
        _ => None,
    }
}

fn call(name: &str, words: &[&str]) -> Outcome {
    let number = number(name).ok_or_else(|| Refusal::Absent(format!("no call {name} on this architecture")))?;
    let mut arguments = [0; 6];
    for (place, word) in arguments.iter_mut().zip(words) {
        *place = argument(word)?;
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: pointers among the arguments are those that `argument` made, leaked and large enough
    // for what these calls write, null, or invalid on purpose; the kernel checks them.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    at(name, check(result)).map(|value| format!("{name} answered {value}"))
}

/// A number, or what stands for one.
fn argument(word: &str) -> Result<libc::c_long, Refusal> {
    let text = |text: &str| {
        let text = CString::new(text).map_err(|_| Refusal::Absent("a nul in a text".to_owned()))?;
        Ok(text.into_raw() as libc::c_long)
    };
    match word {
        "null" => Ok(0),
        "bad" => Ok(-1),
        // Leaked: the process ends soon. Aligned for any structure.
        "buf" => Ok(Box::into_raw(Box::new([0_u64; 512])) as libc::c_long),
        "self" => Ok(libc::c_long::from(std::process::id())),
        // SAFETY: no preconditions.
        "parent" => Ok(libc::c_long::from(unsafe { libc::getppid() })),
        _ => {
            if let Some(rest) = word.strip_prefix("str:") {
                return text(rest);
            }
            if let Some(path) = word.strip_prefix("fd:") {
                let path = CString::new(path).map_err(|_| Refusal::Absent("a nul in a path".to_owned()))?;
                // SAFETY: a nul-terminated path.
                let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
                return at("open", check(fd.into()));
            }
            let number = match word.strip_prefix("0x") {
                Some(hex) => i64::from_str_radix(hex, 16).ok(),
                None => word.parse().ok(),
            };
            number.ok_or_else(|| Refusal::Absent(format!("{word} is no argument")))
        }
    }
}

fn flags(text: &str) -> libc::c_long {
    argument(text).unwrap_or(0)
}

fn clone(text: &str) -> Outcome {
    let flags = flags(text) | libc::c_long::from(libc::SIGCHLD);
    // SAFETY: no stack is given, so the child goes on here on a copy of our memory.
    ended(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

fn clone3(text: &str, size: &str) -> Outcome {
    let mut arguments = [0_u64; 11];
    arguments[0] = flags(text) as u64;
    arguments[4] = libc::SIGCHLD as u64;
    // SAFETY: a structure of at least that size, without a stack: the child goes on here.
    ended(unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), flags(size), 0, 0, 0) })
}

/// A child made by a raw call is ended at once.
fn ended(pid: libc::c_long) -> Outcome {
    match pid {
        // SAFETY: no preconditions.
        0 => unsafe { libc::_exit(0) },
        pid if pid < 0 => Err(last()),
        pid => {
            // SAFETY: our own child.
            unsafe { libc::waitpid(pid as libc::pid_t, std::ptr::null_mut(), 0) };
            Ok(format!("a process {pid}"))
        }
    }
}

/// A call through the 32-bit gate, whose numbers mean other calls.
#[cfg(target_arch = "x86_64")]
fn compatible(number: &str) -> Outcome {
    let number: i64 = number.parse().map_err(|_| Refusal::Absent("no number".to_owned()))?;
    let mut result = number;
    // SAFETY: the gate takes its arguments from registers, all zero here, and changes the first one
    // and those named as overwritten; `rbx` is saved because the compiler reserves it.
    unsafe {
        std::arch::asm!(
            "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
            inout("rax") result, in("rcx") 0_i64, in("rdx") 0_i64, in("rsi") 0_i64, in("rdi") 0_i64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let answer = result as i32;
    if (-4095..0).contains(&answer) {
        return Err(Refusal::Errno(-answer, "the 32-bit gate".to_owned()));
    }
    Ok(format!("the 32-bit gate answered {answer}"))
}

#[cfg(not(target_arch = "x86_64"))]
fn compatible(_: &str) -> Outcome {
    Err(Refusal::Absent("this architecture has no 32-bit gate".to_owned()))
}

fn x32(name: &str) -> Outcome {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(Refusal::Absent("this architecture has no x32 calls".to_owned()));
    }
    let number = number(name).ok_or_else(|| Refusal::Absent(format!("no call {name}")))?;
    // SAFETY: null arguments only.
    check(unsafe { libc::syscall(number | 0x4000_0000, 0, 0, 0, 0, 0) }).map(|value| format!("x32 answered {value}"))
}

macro_rules! numbers {
    ($($name:ident $call:ident)*) => { &[$((stringify!($name), libc::$call)),*] };
}

/// Calls that both architectures have.
const COMMON: &[(&str, libc::c_long)] = numbers! {
    unshare SYS_unshare setns SYS_setns clone SYS_clone clone3 SYS_clone3 io_uring_setup SYS_io_uring_setup
    io_uring_enter SYS_io_uring_enter io_uring_register SYS_io_uring_register keyctl SYS_keyctl add_key SYS_add_key
    request_key SYS_request_key bpf SYS_bpf perf_event_open SYS_perf_event_open userfaultfd SYS_userfaultfd
    process_vm_readv SYS_process_vm_readv process_vm_writev SYS_process_vm_writev ptrace SYS_ptrace kcmp SYS_kcmp
    pidfd_getfd SYS_pidfd_getfd open_by_handle_at SYS_open_by_handle_at name_to_handle_at SYS_name_to_handle_at
    mount SYS_mount fsopen SYS_fsopen fsconfig SYS_fsconfig fsmount SYS_fsmount fspick SYS_fspick
    open_tree SYS_open_tree move_mount SYS_move_mount mount_setattr SYS_mount_setattr pivot_root SYS_pivot_root
    umount2 SYS_umount2 chroot SYS_chroot quotactl SYS_quotactl personality SYS_personality
    kexec_load SYS_kexec_load init_module SYS_init_module finit_module SYS_finit_module
    delete_module SYS_delete_module swapon SYS_swapon swapoff SYS_swapoff reboot SYS_reboot acct SYS_acct
    syslog SYS_syslog fanotify_init SYS_fanotify_init fanotify_mark SYS_fanotify_mark lookup_dcookie SYS_lookup_dcookie
    nfsservctl SYS_nfsservctl vhangup SYS_vhangup settimeofday SYS_settimeofday clock_settime SYS_clock_settime
    adjtimex SYS_adjtimex clock_adjtime SYS_clock_adjtime sethostname SYS_sethostname
    setdomainname SYS_setdomainname mbind SYS_mbind set_mempolicy SYS_set_mempolicy
    migrate_pages SYS_migrate_pages move_pages SYS_move_pages openat2 SYS_openat2 openat SYS_openat
    memfd_secret SYS_memfd_secret process_madvise SYS_process_madvise process_mrelease SYS_process_mrelease
    socket SYS_socket prctl SYS_prctl ioctl SYS_ioctl setuid SYS_setuid setgid SYS_setgid
    setgroups SYS_setgroups capset SYS_capset kill SYS_kill prlimit64 SYS_prlimit64
    sched_setscheduler SYS_sched_setscheduler setpriority SYS_setpriority ioprio_set SYS_ioprio_set
    fchmodat SYS_fchmodat fchmod SYS_fchmod mknodat SYS_mknodat fsetxattr SYS_fsetxattr setxattr SYS_setxattr
    getpid SYS_getpid tgkill SYS_tgkill pidfd_open SYS_pidfd_open
    pidfd_send_signal SYS_pidfd_send_signal setrlimit SYS_setrlimit linkat SYS_linkat
    sched_setaffinity SYS_sched_setaffinity execve SYS_execve setresuid SYS_setresuid setresgid SYS_setresgid
};

/// Calls of one architecture, or newer than some versions of the constants.
const OTHERS: &[(&str, libc::c_long)] = &[
    ("quotactl_fd", 443),
    ("kexec_file_load", if cfg!(target_arch = "x86_64") { 320 } else { 294 }),
    ("fchmodat2", 452),
    ("set_mempolicy_home_node", 450),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_set_self_attr", 460),
    ("open_tree_attr", 467),
    #[cfg(target_arch = "x86_64")]
    ("modify_ldt", libc::SYS_modify_ldt),
    #[cfg(target_arch = "x86_64")]
    ("iopl", libc::SYS_iopl),
    #[cfg(target_arch = "x86_64")]
    ("ioperm", libc::SYS_ioperm),
    #[cfg(target_arch = "x86_64")]
    ("sysfs", libc::SYS_sysfs),
    #[cfg(target_arch = "x86_64")]
    ("ustat", libc::SYS_ustat),
    #[cfg(target_arch = "x86_64")]
    ("uselib", libc::SYS_uselib),
    #[cfg(target_arch = "x86_64")]
    ("_sysctl", libc::SYS__sysctl),
    #[cfg(target_arch = "x86_64")]
    ("create_module", 174),
    #[cfg(target_arch = "x86_64")]
    ("open", libc::SYS_open),
    #[cfg(target_arch = "x86_64")]
    ("chmod", libc::SYS_chmod),
    #[cfg(target_arch = "x86_64")]
    ("creat", libc::SYS_creat),
    #[cfg(target_arch = "x86_64")]
    ("mknod", libc::SYS_mknod),
];

/// The number of a call by its name.
pub fn number(name: &str) -> Option<libc::c_long> {
    COMMON.iter().chain(OTHERS).find(|(known, _)| *known == name).map(|(_, number)| *number)
}
