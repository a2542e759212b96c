//! Taking as much as one can get, up to a number. Having got all of it is the effect.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use crate::report::{Outcome, Refusal, at, check, last};

const MIB: usize = 1 << 20;

/// MiB of one file among several.
const PIECE: usize = 4;

/// Every kind of resource, each with how much of it.
pub fn attempt(verb: &str, words: &[&str]) -> Option<Outcome> {
    let (first, count) = match words {
        [count] => ("", count.parse().ok()?),
        [place, count] => (*place, count.parse().ok()?),
        _ => return None,
    };
    Some(match verb {
        "processes" => processes(count, first),
        "threads" => threads(count),
        "memory" => memory(count),
        "shared-mapping" => shared_mapping(count),
        "memory-file" => memory_file(count),
        "shared-memory" => shared_memory(count),
        "locked-memory" => locked_memory(count),
        "pipes" => pipes(count),
        "socket-buffers" => socket_buffers(count),
        "fill" => fill(first, count),
        "sparse" => sparse(first, count),
        "files" => files(first, count),
        "open-files" => many(count, || Ok(OwnedFd::from(File::open("/dev/null")?))),
        "event-descriptors" => many(count, || {
            // SAFETY: no memory is passed; a new descriptor is owned here.
            match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) } {
                fd if fd < 0 => Err(last()),
                fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            }
        }),
        "terminals" => many(count, || {
            // SAFETY: no memory is passed; a new descriptor is owned here.
            match unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) } {
                fd if fd < 0 => Err(last()),
                fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            }
        }),
        "message-queues" => message_queues(count),
        "priority" => {
            // SAFETY: no memory is passed; 0 is this process.
            let set = unsafe { libc::setpriority(0, 0, -(count as i32)) };
            at("setpriority", check(set.into())).map(|_| "a better priority".to_owned())
        }
        "fill-and-stay" => fill_and_stay(first, count),
        "chatter" => chatter(count),
        _ => return None,
    })
}

fn all(count: usize, what: &str) -> Outcome {
    Ok(format!("{count} {what}"))
}

/// Idle children; `zombie` ones end and are not taken in, `vfork` ones are made by another call.
fn processes(count: usize, kind: &str) -> Outcome {
    let mut children = Vec::new();
    let outcome = loop {
        if children.len() == count {
            break all(count, "processes");
        }
        // SAFETY: this process has one thread; without a stack the child of the raw call goes on on
        // a copy of our memory, and does no more than a system call.
        let pid = unsafe {
            match kind {
                "clone" => libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t,
                _ => libc::fork(),
            }
        };
        match pid {
            -1 => break Err(last()),
            // SAFETY: no preconditions.
            0 if kind == "zombie" => unsafe { libc::_exit(0) },
            0 => loop {
                // SAFETY: no preconditions.
                unsafe { libc::pause() };
            },
            pid => children.push(pid),
        }
    };
    for pid in children {
        // SAFETY: our own children.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
    at("fork", outcome)
}

fn threads(count: usize) -> Outcome {
    for _ in 0..count {
        let made =
            std::thread::Builder::new().stack_size(16 << 10).spawn(|| std::thread::sleep(Duration::from_secs(60)));
        at("start a thread", made)?;
    }
    all(count, "threads")
}

fn memory(mib: usize) -> Outcome {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut piece = Vec::new();
        piece.try_reserve_exact(MIB).map_err(|_| Refusal::Errno(libc::ENOMEM, "allocate".to_owned()))?;
        piece.resize(MIB, 1);
        taken.push(piece);
    }
    std::hint::black_box(&taken);
    all(mib, "MiB of memory")
}

/// Maps memory and touches every page.
fn mapped(mib: usize, fd: i32, flags: i32) -> Outcome {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of that size, written within its bounds.
    unsafe {
        let place = libc::mmap(std::ptr::null_mut(), mib * MIB, protection, flags, fd, 0);
        if place == libc::MAP_FAILED {
            return at("mmap", Err(last()));
        }
        for offset in (0..mib * MIB).step_by(4096) {
            place.cast::<u8>().add(offset).write_volatile(1);
        }
    }
    all(mib, "MiB mapped and touched")
}

fn shared_mapping(mib: usize) -> Outcome {
    mapped(mib, -1, libc::MAP_SHARED | libc::MAP_ANONYMOUS)
}

/// Several files, as one alone may be bounded by another limit.
fn memory_file(mib: usize) -> Outcome {
    let mut kept = Vec::new();
    for _ in 0..mib.div_ceil(PIECE) {
        // SAFETY: a nul-terminated name.
        let fd = unsafe { libc::syscall(libc::SYS_memfd_create, c"cove".as_ptr(), 1) };
        let fd = at("memfd_create", check(fd))? as i32;
        // SAFETY: the descriptor is ours alone.
        let mut file = unsafe { File::from_raw_fd(fd) };
        for _ in 0..PIECE {
            at("write", file.write_all(&vec![1; MIB]))?;
        }
        kept.push(file);
    }
    all(mib, "MiB in memory files")
}

fn shared_memory(mib: usize) -> Outcome {
    // SAFETY: a segment of our own, written within its bounds and marked for removal at once.
    unsafe {
        let id =
            at("shmget", check(libc::shmget(libc::IPC_PRIVATE, mib * MIB, 0o600 | libc::IPC_CREAT).into()))? as i32;
        let place = libc::shmat(id, std::ptr::null(), 0);
        libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
        if place as isize == -1 {
            return at("shmat", Err(last()));
        }
        for offset in (0..mib * MIB).step_by(4096) {
            place.cast::<u8>().add(offset).write_volatile(1);
        }
    }
    all(mib, "MiB of shared memory")
}

fn locked_memory(mib: usize) -> Outcome {
    let memory = vec![1_u8; mib * MIB];
    // SAFETY: memory of our own.
    at("mlock", check(unsafe { libc::mlock(memory.as_ptr().cast(), memory.len()) }.into()))
        .and_then(|_| all(mib, "MiB of memory locked"))
}

fn many(count: usize, make: impl Fn() -> Result<OwnedFd, Refusal>) -> Outcome {
    let mut kept = Vec::new();
    for _ in 0..count {
        kept.push(at("open", make())?);
    }
    all(count, "descriptors")
}

fn pipes(count: usize) -> Outcome {
    let mut kept = Vec::new();
    for _ in 0..count {
        let (reader, mut writer) = at("pipe", std::io::pipe())?;
        at("write", writer.write_all(&[1; 4096]))?;
        kept.push((reader, writer));
    }
    all(count, "pipes with something in them")
}

/// Fills the buffers of local sockets that nobody reads.
fn socket_buffers(count: usize) -> Outcome {
    let mut kept = Vec::new();
    for _ in 0..count {
        let (one, other) = at("socketpair", std::os::unix::net::UnixStream::pair())?;
        at("make non-blocking", one.set_nonblocking(true))?;
        while (&one).write(&[1; 4096]).is_ok() {}
        kept.push((one, other));
    }
    all(count, "full sockets")
}

fn scratch(dir: &str, name: &str) -> String {
    format!("{dir}/{name}-{}", std::process::id())
}

/// Files without a name, so that nothing is left however this process ends.
fn fill(dir: &str, mib: usize) -> Outcome {
    let mut kept = Vec::new();
    for number in 0..mib.div_ceil(PIECE) {
        let path = scratch(dir, &format!("fill-{number}"));
        let mut file = at("create", File::create(&path))?;
        let _ = fs::remove_file(path);
        for _ in 0..PIECE {
            at("write", file.write_all(&vec![1; MIB]))?;
        }
        kept.push(file);
    }
    all(mib, "MiB written")
}

/// Leaves what it wrote and waits, so that whoever measures has time to.
fn fill_and_stay(dir: &str, mib: usize) -> Outcome {
    for number in 0..mib {
        at("write", fs::write(scratch(dir, &format!("piece-{number}")), vec![1; MIB]))?;
    }
    std::thread::sleep(Duration::from_secs(35));
    all(mib, "MiB written and still there")
}

/// One byte far behind the end.
fn sparse(dir: &str, mib: usize) -> Outcome {
    let path = scratch(dir, "sparse");
    let outcome = (|| {
        // SAFETY: to ignore a signal needs no handler; the write then fails instead.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let mut file = at("create", File::create(&path))?;
        at("seek", file.seek(SeekFrom::Start((mib * MIB) as u64)))?;
        at("write", file.write_all(&[1]))?;
        all(mib, "MiB of size")
    })();
    let _ = fs::remove_file(path);
    outcome
}

fn files(dir: &str, count: usize) -> Outcome {
    let top = scratch(dir, "files");
    let outcome = (|| {
        at("mkdir", fs::create_dir(&top))?;
        for number in 0..count {
            at("create", File::create(format!("{top}/{number}")))?;
        }
        all(count, "files")
    })();
    let _ = fs::remove_dir_all(top);
    outcome
}

/// Takes away what an attempt left that was ended while it made files: they hold memory.
pub fn clear() {
    for directory in ["/tmp", "/dev/shm"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("files-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn message_queues(count: usize) -> Outcome {
    for number in 0..count {
        let name = CString::new(format!("/cove-{}-{number}", std::process::id())).unwrap_or_default();
        // SAFETY: nul-terminated name, no attributes.
        let queue = unsafe { libc::mq_open(name.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600, 0) };
        at("mq_open", check(queue.into()))?;
        // SAFETY: as above; the queue lives on until it is closed.
        unsafe { libc::mq_unlink(name.as_ptr()) };
    }
    all(count, "message queues")
}

/// Says a lot on stderr, which somebody on the host has to take.
fn chatter(mib: usize) -> Outcome {
    let line = vec![b'x'; 64 << 10];
    for _ in 0..mib * 16 {
        at("write", std::io::stderr().write_all(&line))?;
    }
    all(mib, "MiB said")
}
