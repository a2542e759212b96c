//! Processes: other ones, and what this one may become.

use std::fs;
use std::io::{Read, Seek, SeekFrom};

use crate::files::pids;
use crate::report::{Outcome, Refusal, at, check};
use crate::trial::Where;

/// Everything about processes; see the arms.
pub fn attempt(place: &Where, verb: &str, words: &[&str]) -> Option<Outcome> {
    Some(match (verb, words) {
        ("signal", [pid]) => signal(pid, 0),
        ("end", [pid, number]) => end(place, pid, number),
        ("trace", [which]) => each(which, |pid| {
            // SAFETY: no memory is passed.
            let seized = unsafe { libc::syscall(libc::SYS_ptrace, PTRACE_SEIZE, pid, 0, 0) };
            at("ptrace", check(seized)).map(|_| format!("{pid} is traced"))
        }),
        ("end-child", [number]) => end_child(number),
        ("trace-child", []) => trace_child(),
        ("memory-of", [which, how]) => each(which, |pid| memory(pid, how)),
        ("memory-call", [which]) => each(which, call_memory),
        ("see", [which, file]) => each(which, |pid| {
            let text = at("read", fs::read(format!("/proc/{pid}/{file}")))?;
            if text.is_empty() {
                Err(Refusal::Nothing("empty".to_owned()))
            } else {
                Ok(format!("{file} of {pid} was read"))
            }
        }),
        ("find", [file, token]) => find(file, token),
        ("visible", [most]) => visible(most),
        ("open-exe", [which]) => each(which, |pid| {
            let opened = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/exe"));
            at("open", opened).map(|_| format!("the program of {pid} is open"))
        }),
        ("limits-of", [which]) => each(which, |pid| {
            let limit = [64_u64; 2];
            // SAFETY: a valid structure; no old one is asked for.
            let set = unsafe { libc::syscall(libc::SYS_prlimit64, pid, 7, &raw const limit, 0) };
            at("prlimit", check(set)).map(|_| format!("limits of {pid} changed"))
        }),
        ("schedule", [which]) => each(which, |pid| {
            let batch = 3;
            let parameters = [0_i32; 12];
            // SAFETY: a valid structure, larger than needed.
            let set = unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, batch, parameters.as_ptr()) };
            at("sched_setscheduler", check(set)).map(|_| format!("{pid} is scheduled otherwise"))
        }),
        ("real-time", []) => {
            let parameters = [1_i32; 12];
            // SAFETY: a valid structure, larger than needed; 1 is first in, first out.
            let set = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, 1, parameters.as_ptr()) };
            at("sched_setscheduler", check(set)).map(|_| "real-time".to_owned())
        }
        ("raise", [resource, value]) => raise(resource, value),
        ("become", [what]) => become_other(what),
        ("capabilities", []) => capabilities(),
        ("new-privileges", []) => {
            // SAFETY: no memory is passed. 0 may not be set by anybody, so what counts is the question.
            let set = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) };
            if set == 1 { Err(Refusal::Nothing("they are off".to_owned())) } else { Ok("they are on".to_owned()) }
        }
        ("control", [option, two, three]) => control(option, two, three),
        ("variable", [name]) => {
            std::env::var(name).map_err(|_| Refusal::Nothing("not set".to_owned())).map(|_| format!("{name} is set"))
        }
        ("same-namespace", [kind, inode]) => same_namespace(kind, inode),
        ("join", [path, kind]) => join(path, kind),
        ("descriptors", []) => descriptors(),
        ("type", [how, request]) => type_into(how, request),
        ("user-id", []) => {
            let text = ids();
            if text.starts_with("uid 0 ") { Ok(text) } else { Err(Refusal::Nothing(text)) }
        }
        ("host-name", [name]) => host_name(name),
        ("filtered", []) => filtered(),
        _ => return None,
    })
}

fn host_name(name: &str) -> Outcome {
    let own = at("read", fs::read_to_string("/proc/sys/kernel/hostname"))?;
    if own.trim() == name { Ok("the host's name".to_owned()) } else { Err(Refusal::Nothing(own.trim().to_owned())) }
}

fn filtered() -> Outcome {
    let status = at("read", fs::read_to_string("/proc/self/status"))?;
    if status.lines().any(|line| line.replace('\t', " ") == "Seccomp: 2") {
        Err(Refusal::Nothing("a filter is over this process".to_owned()))
    } else {
        Ok("no filter is over this process".to_owned())
    }
}

/// Attaches without stopping.
const PTRACE_SEIZE: libc::c_long = 0x4206;

/// User, group and effective capabilities in words.
pub fn ids() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    // SAFETY: no preconditions.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    format!("uid {uid} gid {gid} capabilities {}", capabilities.trim())
}

/// Tries the processes that a word means; the first effect counts.
fn each(which: &str, try_it: impl Fn(libc::pid_t) -> Outcome) -> Outcome {
    if which == "self" {
        return try_it(std::process::id() as libc::pid_t);
    }
    let mut refusal = Refusal::Nothing("no such process is visible".to_owned());
    for pid in pids(which)? {
        let Ok(pid) = pid.parse() else { continue };
        match try_it(pid) {
            Ok(done) => return Ok(done),
            Err(other) => refusal = other,
        }
    }
    Err(refusal)
}

fn signal(pid: &str, number: i32) -> Outcome {
    let pid: libc::pid_t = pid.parse().map_err(|_| Refusal::Absent(format!("{pid} is no process id")))?;
    // SAFETY: no memory is passed; the caller knows that the number is harmless where it must be.
    at("kill", check(unsafe { libc::kill(pid, number) }.into())).map(|_| format!("{pid} can be signalled"))
}

/// Signals process 1, which must live on; never on the host.
fn end(place: &Where, pid: &str, number: &str) -> Outcome {
    if place.outside {
        return Err(Refusal::Absent("not on the host".to_owned()));
    }
    signal(pid, number.parse().map_err(|_| Refusal::Absent("no signal".to_owned()))?)?;
    // Whoever was ended cannot tell; whoever stands still would not reap. Both show in its state.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let stat = at("read", fs::read_to_string("/proc/1/stat"))?;
    let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
    if matches!(state, Some('T' | 'Z' | 'X')) {
        return Ok("process 1 stands still".to_owned());
    }
    Err(Refusal::Nothing("process 1 goes on".to_owned()))
}

fn child() -> Result<libc::pid_t, Refusal> {
    // The language's runtime takes these for itself. Before the fork: a signal that comes before the
    // child could do it would be swallowed by the runtime's handler.
    // SAFETY: the default needs no handler.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    // SAFETY: this process has one thread; the child only waits.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        },
        pid => at("fork", check(pid.into())).map(|_| pid),
    }
}

/// What a signal does to a process that nothing protects.
fn end_child(number: &str) -> Outcome {
    let number = number.parse().map_err(|_| Refusal::Absent("no signal".to_owned()))?;
    // A core dump may be given to a program of the host, which takes its time.
    // SAFETY: an attribute of this process, which its child takes over.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let pid = child()?;
    let mut status = 0;
    // SAFETY: our own child and a valid place.
    unsafe {
        libc::kill(pid, number);
        libc::waitpid(pid, &raw mut status, libc::WUNTRACED);
        libc::kill(pid, libc::SIGKILL);
    }
    Ok(format!("the child changed its state to {status}"))
}

fn trace_child() -> Outcome {
    let pid = child()?;
    // SAFETY: our own child.
    let seized = unsafe {
        let seized = libc::syscall(libc::SYS_ptrace, PTRACE_SEIZE, pid, 0, 0);
        let seized = at("ptrace", check(seized));
        libc::kill(pid, libc::SIGKILL);
        seized
    };
    seized.map(|_| "a child is traced".to_owned())
}

/// Where this process has its stack mapped is a fair guess for another program, too; what counts is
/// whether the file opens.
fn memory(pid: libc::pid_t, how: &str) -> Outcome {
    let mut options = fs::OpenOptions::new();
    options.read(how == "read").write(how == "write");
    let mut file = at("open", options.open(format!("/proc/{pid}/mem")))?;
    if how == "write" {
        return Ok(format!("the memory of {pid} is open for writing"));
    }
    let maps = at("open maps", fs::read_to_string(format!("/proc/{pid}/maps")))?;
    let start = maps.split('-').next().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    at("seek", file.seek(SeekFrom::Start(start)))?;
    at("read", file.read(&mut [0; 8])).map(|_| format!("the memory of {pid} was read"))
}

fn call_memory(pid: libc::pid_t) -> Outcome {
    let mut here = [0_u8; 8];
    let local = libc::iovec { iov_base: here.as_mut_ptr().cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: 0x40_0000 as *mut libc::c_void, iov_len: 8 };
    // SAFETY: one valid local place; the other process's is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    at("process_vm_readv", check(read as libc::c_long)).map(|_| format!("the memory of {pid} was read"))
}

/// Something secret in a file that every visible process has in `/proc`.
fn find(file: &str, token: &str) -> Outcome {
    for pid in pids("all")? {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        if text.windows(token.len()).any(|part| part == token.as_bytes()) {
            return Ok(format!("it is in {file} of {pid}"));
        }
    }
    Err(Refusal::Nothing("in none that is visible".to_owned()))
}

fn visible(most: &str) -> Outcome {
    let most: usize = most.parse().map_err(|_| Refusal::Absent("no number".to_owned()))?;
    match pids("all")?.len() {
        count if count > most => Ok(format!("{count} processes are visible")),
        count => Err(Refusal::Nothing(format!("{count} processes are visible"))),
    }
}

fn raise(resource: &str, value: &str) -> Outcome {
    let number = match resource {
        "cpu" => 0,
        "fsize" => 1,
        "nproc" => 6,
        "nofile" => 7,
        "memlock" => 8,
        "msgqueue" => 12,
        "nice" => 13,
        "rtprio" => 14,
        _ => return Err(Refusal::Absent(format!("no limit {resource}"))),
    };
    let value: u64 = value.parse().map_err(|_| Refusal::Absent("no number".to_owned()))?;
    let limit = [value; 2];
    // SAFETY: a valid structure.
    let set = unsafe { libc::syscall(libc::SYS_prlimit64, 0, number, &raw const limit, 0) };
    at("prlimit", check(set)).map(|_| format!("{resource} is {value}"))
}

/// Gives up root for good, for a control that shows how it would be got back.
pub fn become_nobody() -> Result<(), Refusal> {
    // SAFETY: no memory is passed but an empty list.
    unsafe {
        at("setgroups", check(libc::setgroups(0, std::ptr::null()).into()))?;
        at("setgid", check(libc::setresgid(65_534, 65_534, 65_534).into()))?;
        at("setuid", check(libc::setresuid(65_534, 65_534, 65_534).into()))?;
    }
    Ok(())
}

fn become_other(what: &str) -> Outcome {
    // SAFETY: no memory is passed but one valid list.
    let result = unsafe {
        match what {
            "root" => libc::syscall(libc::SYS_setresuid, 0, 0, 0),
            "root-group" => libc::syscall(libc::SYS_setresgid, 0, 0, 0),
            "somebody" => libc::syscall(libc::SYS_setresuid, 12_345, 12_345, 12_345),
            "more-groups" => libc::syscall(libc::SYS_setgroups, 1, [0_u32].as_ptr()),
            _ => return Err(Refusal::Absent(format!("nobody is {what}"))),
        }
    };
    at("change ids", check(result)).map(|_| ids())
}

/// Asks for every capability, effective and permitted.
fn capabilities() -> Outcome {
    let header = [0x2008_0522_u32, 0];
    let data = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];
    // SAFETY: valid structures of version 3.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    at("capset", check(set)).map(|_| "every capability".to_owned())
}

fn control(option: &str, two: &str, three: &str) -> Outcome {
    let number = |text: &str| text.parse::<libc::c_ulong>().map_err(|_| Refusal::Absent("no number".to_owned()));
    let (option, two, three) = (number(option)?, number(two)?, number(three)?);
    // SAFETY: the options used here take numbers.
    let done = unsafe { libc::prctl(option as libc::c_int, two, three, 0, 0) };
    at("prctl", check(done.into())).map(|value| format!("prctl answered {value}"))
}

fn same_namespace(kind: &str, inode: &str) -> Outcome {
    let own = at("read link", fs::read_link(format!("/proc/self/ns/{kind}")))?;
    if own.to_string_lossy() == inode {
        return Ok(format!("{kind} is the host's"));
    }
    Err(Refusal::Nothing(format!("{kind} is another")))
}

fn join(path: &str, kind: &str) -> Outcome {
    let kind: i32 = kind.parse().map_err(|_| Refusal::Absent("no number".to_owned()))?;
    let file = at("open", fs::File::open(path))?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: an open descriptor.
    at("setns", check(unsafe { libc::setns(fd, kind) }.into())).map(|_| format!("{path} was joined"))
}

/// Descriptors beyond the standard three that this program did not open: its list's, its pipe's and
/// the listing's are known.
fn descriptors() -> Outcome {
    let mut strange = Vec::new();
    for entry in at("list", fs::read_dir("/proc/self/fd"))?.flatten() {
        let Ok(to) = fs::read_link(entry.path()) else { continue };
        let (number, to) = (entry.file_name().to_string_lossy().into_owned(), to.to_string_lossy().into_owned());
        let standard = number.parse::<u32>().is_ok_and(|number| number < 3);
        let own = to.starts_with("pipe:") || to.contains("/proc/");
        if !standard && !own {
            strange.push(format!("{number} {to}"));
        }
    }
    if strange.is_empty() { Err(Refusal::Nothing("none".to_owned())) } else { Ok(strange.join(", ")) }
}

/// Puts a character into a terminal's input: into the one that stdin is, or a new one of our own.
fn type_into(how: &str, request: &str) -> Outcome {
    let request: libc::c_ulong = request.parse().map_err(|_| Refusal::Absent("no number".to_owned()))?;
    let character = b'x';
    // SAFETY: calls on descriptors of our own; the request reads one byte of a valid place.
    unsafe {
        let fd = match how {
            "stdin" => 0,
            _ => {
                let master = at("open a terminal", check(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY).into()))?;
                libc::setsid();
                libc::unlockpt(master as i32);
                let mut number = 0_u32;
                at(
                    "find the terminal",
                    check(libc::ioctl(master as i32, libc::TIOCGPTN as _, &raw mut number).into()),
                )?;
                let path = std::ffi::CString::new(format!("/dev/pts/{number}")).unwrap_or_default();
                // The first terminal that a session's leader opens becomes its own.
                at("open the terminal", check(libc::open(path.as_ptr(), libc::O_RDWR).into()))? as i32
            }
        };
        at("ioctl", check(libc::ioctl(fd, request as _, &raw const character).into()))
            .map(|_| "a character was put into the terminal's input".to_owned())
    }
}
