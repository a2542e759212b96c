//! One process between the guest and each program it starts.
//!
//! It is the subreaper of everything the program starts, so that all of it can be found and killed
//! when the program's time is over, whatever sessions and daemons it made. When the program ends by
//! itself the keeper leaves too, and what the program left running becomes the guest's.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use cove_guest::channel::Channel;
use cove_guest::processes;
use cove_guest::wire::{COMMAND_BYTES, Command, Notice};

use crate::payload::{Prepared, Refusal, Streams};
use crate::system::{self, Ended, Fork, Waited};

/// Longest time spent on killing descendants that multiply faster than they die.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// What the guest says to a keeper: kill everything.
pub const KILL: u8 = 0;

/// What is to be started.
pub struct Task {
    /// The exec.
    pub id: u64,
    /// Size of a terminal.
    pub pty: Option<(u16, u16)>,
    /// The command document, then stdin, stdout, stderr unless there is a terminal.
    pub fds: Vec<OwnedFd>,
}

/// Starts the task and stays with it; the body of the forked process.
pub fn run(task: Task, guest: &Channel) -> ! {
    system::become_subreaper();
    let id = task.id;
    let outcome = start(task, guest);
    match outcome {
        Ok(pid) => watch(id, pid, guest),
        Err(notice) => {
            let _ = guest.send(&notice, &[]);
        }
    }
    system::exit(0)
}

fn start(task: Task, guest: &Channel) -> Result<libc::pid_t, Notice> {
    let Task { id, pty, fds } = task;
    let refused = |what: &str, error: io::Error| Notice::Refused { id, message: format!("{what}: {error}") };
    let mut fds = fds.into_iter();
    let document = fds.next().ok_or_else(|| refused("the command is missing", io::ErrorKind::NotFound.into()))?;
    let command = read_command(document).map_err(|error| refused("the command cannot be read", error))?;
    let failed = |refusal: Refusal| Notice::Failed { id, code: refusal.code, message: refusal.message };
    let prepared = Prepared::new(&command).map_err(failed)?;
    let (master, streams) = match pty {
        Some((cols, rows)) => {
            let (master, slave) =
                system::open_terminal(cols, rows).map_err(|error| refused("no terminal can be opened", error))?;
            (Some(master), Streams::Terminal(slave))
        }
        None => {
            let pipes: Vec<OwnedFd> = fds.collect();
            let pipes = pipes.try_into().map_err(|_| refused("streams are missing", io::ErrorKind::NotFound.into()))?;
            (None, Streams::Pipes(pipes))
        }
    };
    let (mut failure, report) = io::pipe().map_err(|error| refused("no pipe can be opened", error))?;
    let pid = match system::fork().map_err(|error| refused("no process can be started", error))? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            let refusal = prepared.run(&streams);
            let text = format!("{} {}", refusal.code, refusal.message);
            let _ = io::Write::write_all(&mut &report, text.as_bytes());
            system::exit(127)
        }
    };
    drop((report, streams));
    // Descriptor 0 to 2 of the keeper are /dev/null or the launcher's; nothing holds the pipes open.
    let mut text = String::new();
    let _ = (&mut failure).take(8 << 10).read_to_string(&mut text);
    if let Some((code, message)) = text.split_once(' ') {
        return Err(Notice::Failed { id, code: code.parse().unwrap_or(126), message: message.to_owned() });
    }
    let passed: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    let _ = guest.send(&Notice::Started { id, pid }, &passed);
    Ok(pid)
}

fn read_command(document: OwnedFd) -> io::Result<Command> {
    let mut bytes = Vec::new();
    std::fs::File::from(document).take(COMMAND_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > COMMAND_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(serde_json::from_slice(&bytes)?)
}

fn watch(id: u64, pid: libc::pid_t, guest: &Channel) {
    let Ok(mut children) = system::child_signals() else { return };
    let readable = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut ended = None;
    loop {
        reap(pid, &mut ended);
        if let Some(Ended { code, signal }) = ended {
            let _ = guest.send(&Notice::Exited { id, code, signal }, &[]);
            return;
        }
        let mut fds = [readable(guest.as_raw_fd()), readable(children.as_raw_fd())];
        system::poll(&mut fds, -1);
        if fds[1].revents != 0 {
            let _ = children.read(&mut [0; 512]);
        }
        if fds[0].revents != 0 {
            match guest.receive() {
                Ok(Some(message)) if message.bytes.first().is_some_and(|signal| *signal != KILL) => {
                    system::signal_group(pid, i32::from(message.bytes[0]));
                }
                // Asked to, or the guest is gone.
                _ => {
                    let own = std::process::id() as libc::pid_t;
                    processes::kill_descendants(own, KILL_LIMIT, || reap(pid, &mut ended));
                    reap(pid, &mut ended);
                    let killed = Ended { code: 128 + libc::SIGKILL, signal: Some(libc::SIGKILL) };
                    ended = ended.or(Some(killed));
                }
            }
        }
    }
}

fn reap(pid: libc::pid_t, ended: &mut Option<Ended>) {
    while let Waited::Child(child, how) = system::wait_any() {
        if child == pid {
            *ended = Some(how);
        }
    }
}
