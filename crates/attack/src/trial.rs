//! Makes the attempts of a list, each in a process of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::report::{self, Outcome, Refusal};
use crate::{calls, exhaust, files, filter, processes, sockets};

/// Longest one attempt may take before it is ended.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long a lack of processes is waited out: what an earlier attempt left is being reaped.
const ROOM: Duration = Duration::from_secs(20);

/// Whether attempts run on the host, as controls.
pub struct Where {
    /// On the host.
    pub outside: bool,
}

/// Runs the list at a path; 2 when it cannot be read.
pub fn run(list: &str, outside: bool) -> ExitCode {
    let Ok(text) = std::fs::read_to_string(list) else {
        eprintln!("cove-attack: the list {list} cannot be read");
        return ExitCode::from(2);
    };
    // Attempts leave processes behind whose parents are gone.
    // SAFETY: sets attributes of this process. A file that grows too large is to be an error.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let place = Where { outside };
    if !outside {
        exhaust::clear();
    }
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [mode, id, attempt @ ..] = words.as_slice() else { continue };
        let fields = in_child(&place, mode, attempt);
        if !outside && fields[1] == "SIGKILL" {
            exhaust::clear();
        }
        println!("{}", report::line(id, &fields));
        let _ = std::io::stdout().flush();
        reap();
    }
    ExitCode::SUCCESS
}

/// A child that makes the attempt and tells its outcome through a pipe.
fn in_child(place: &Where, mode: &str, attempt: &[&str]) -> [String; 3] {
    let Ok((reader, writer)) = std::io::pipe() else {
        return report::fields(Err(report::last()));
    };
    let begun = Instant::now();
    let pid = loop {
        // SAFETY: this program has one thread, so the child may do anything.
        match unsafe { libc::fork() } {
            -1 if begun.elapsed() < ROOM => {
                reap();
                std::thread::sleep(Duration::from_millis(20));
            }
            -1 => return report::fields(Err(Refusal::Absent("no process could be started".to_owned()))),
            pid => break pid,
        }
    };
    if pid == 0 {
        drop(reader);
        // SAFETY: no preconditions; a group of its own can be ended as a whole.
        unsafe { libc::setpgid(0, 0) };
        let outcome = filter::witness(mode).and_then(|()| attempted(place, attempt));
        let text = report::fields(outcome).join("\t");
        let _ = File::from(OwnedFd::from(writer)).write_all(text.as_bytes());
        // SAFETY: ends this process without running what the parent registered.
        unsafe { libc::_exit(0) }
    }
    drop(writer);
    let told = read(OwnedFd::from(reader), begun);
    let mut status = 0;
    // SAFETY: our own child and a valid place; the kill reaches the child's group and the child
    // alike when it is still there, and nobody else, as it has not been reaped.
    unsafe {
        libc::kill(-pid, libc::SIGKILL);
        if told.is_none() {
            libc::kill(pid, libc::SIGKILL);
        }
        libc::waitpid(pid, &raw mut status, 0);
    }
    let mut fields = told.iter().flat_map(|text| text.splitn(3, '\t').map(str::to_owned));
    match (fields.next(), fields.next(), fields.next()) {
        (Some(outcome), Some(errno), Some(detail)) => [outcome, errno, detail],
        _ if told.is_none() => ["timeout".to_owned(), String::new(), "it did not end".to_owned()],
        _ => ["refused".to_owned(), ended(status), "the process that tried it was ended".to_owned()],
    }
}

/// What the child says; `None` when it says nothing in time.
fn read(reader: OwnedFd, begun: Instant) -> Option<String> {
    let fd = reader.into_raw_fd();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let left = PATIENCE.saturating_sub(begun.elapsed()).as_millis();
    // SAFETY: one valid structure.
    let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left).unwrap_or(i32::MAX)) };
    // SAFETY: the descriptor was given up above and is owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    if ready <= 0 {
        return None;
    }
    let mut bytes = [0; 2048];
    let count = file.read(&mut bytes).unwrap_or(0);
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn ended(status: i32) -> String {
    if !libc::WIFSIGNALED(status) {
        return "EXIT".to_owned();
    }
    match libc::WTERMSIG(status) {
        libc::SIGSYS => "SIGSYS".to_owned(),
        libc::SIGSEGV => "SIGSEGV".to_owned(),
        libc::SIGKILL => "SIGKILL".to_owned(),
        libc::SIGBUS => "SIGBUS".to_owned(),
        libc::SIGXFSZ => "SIGXFSZ".to_owned(),
        other => format!("SIG{other}"),
    }
}

/// Takes in what ended, without waiting.
fn reap() {
    // SAFETY: any child; no place for a status is needed.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Makes one attempt. Words in front of the verb change how it is made.
fn attempted(place: &Where, words: &[&str]) -> Outcome {
    match words {
        ["private", rest @ ..] => {
            if place.outside {
                files::private_mounts()?;
            }
            attempted(place, rest)
        }
        ["as-nobody", rest @ ..] => {
            if place.outside {
                processes::become_nobody()?;
            }
            attempted(place, rest)
        }
        ["relaxed", rest @ ..] => {
            filter::allow_all()?;
            attempted(place, rest)
        }
        ["thread", rest @ ..] => std::thread::scope(|scope| {
            let handle = scope.spawn(|| attempted(place, rest));
            handle.join().unwrap_or_else(|_| Err(Refusal::Nothing("the thread ended".to_owned())))
        }),
        [verb, rest @ ..] => verb_of(place, verb, rest),
        [] => Err(Refusal::Absent("no verb".to_owned())),
    }
}

fn verb_of(place: &Where, verb: &str, words: &[&str]) -> Outcome {
    calls::attempt(verb, words)
        .or_else(|| sockets::attempt(verb, words))
        .or_else(|| files::attempt(verb, words))
        .or_else(|| processes::attempt(place, verb, words))
        .or_else(|| exhaust::attempt(verb, words))
        .unwrap_or_else(|| Err(Refusal::Absent(format!("no verb {verb} with {} words", words.len()))))
}
