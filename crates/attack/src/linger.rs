//! Processes that want to outlive their sandbox.

use std::time::Duration;

/// How long one stays if nobody ends it.
const STAY: Duration = Duration::from_secs(300);

/// Leaves a process behind and returns; the way it hides is `kind`. Its command line is this
/// program's, mark included.
pub fn linger(kind: &str) {
    let parts = match kind {
        "forked-twice" => 2,
        "deep" => 12,
        _ => 1,
    };
    for _ in 0..parts {
        // SAFETY: one thread; the parents leave at once.
        if unsafe { libc::fork() } > 0 {
            return;
        }
        if kind != "same-session" {
            // SAFETY: no preconditions.
            unsafe { libc::setsid() };
        }
    }
    // SAFETY: closes our own standard descriptors, so that the exec does not wait for us.
    unsafe {
        for fd in 0..3 {
            libc::close(fd);
        }
    }
    match kind {
        "deaf" => {
            for signal in 1..32 {
                // SAFETY: to ignore a signal needs no handler; those that cannot be ignored stay.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
        }
        // SAFETY: no preconditions; it stays stopped until it is killed.
        "stopped" => unsafe {
            libc::raise(libc::SIGSTOP);
        },
        "storm" => storm(),
        "threads" => {
            for _ in 0..8 {
                let _ = std::thread::Builder::new().stack_size(64 << 10).spawn(|| std::thread::sleep(STAY));
            }
        }
        "vfork-like" => {
            // SAFETY: the child shares nothing that the parent changes; both only sleep.
            unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FS | libc::SIGCHLD, 0, 0, 0, 0) };
        }
        _ => {}
    }
    std::thread::sleep(STAY);
}

/// Is never the same process for long: each makes the next one and ends.
fn storm() {
    let end = std::time::Instant::now() + STAY;
    while std::time::Instant::now() < end {
        // SAFETY: one thread.
        if unsafe { libc::fork() } > 0 {
            // SAFETY: no preconditions.
            unsafe { libc::_exit(0) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
