//! The guest's loop: orders in, notices out, orphans reaped.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::time::Duration;

use cove_guest::channel::{Channel, Message};
use cove_guest::processes;
use cove_guest::wire::{CHANNEL_FD, Notice, Order};

use crate::keeper::{self, Task};
use crate::payload::reserve_standard_streams;
use crate::probe;
use crate::relay::Relay;
use crate::system::{self, Fork, Waited};

/// Most processes started and not yet ended.
const JOBS: usize = 256;

/// Longest time spent on killing what is left when the supervisor is gone.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// Runs until the supervisor is gone.
pub fn run() -> ExitCode {
    if !system::is_open(CHANNEL_FD) {
        return ExitCode::from(2);
    }
    system::set_dumpable(false);
    system::become_subreaper();
    system::ignore_signals();
    reserve_standard_streams();
    let (Ok(channel), Ok(children)) = (system::inherit(CHANNEL_FD), system::child_signals()) else {
        return ExitCode::from(2);
    };
    let mut guest =
        Guest { channel: Channel::new(channel), children, jobs: BTreeMap::new(), relay: None, leaving: false };
    guest.serve();
    let own = std::process::id() as libc::pid_t;
    processes::kill_descendants(own, KILL_LIMIT, || while let Waited::Child(..) = system::wait_any() {});
    ExitCode::SUCCESS
}

struct Guest {
    channel: Channel,
    children: std::fs::File,
    jobs: BTreeMap<u64, Job>,
    relay: Option<Relay>,
    leaving: bool,
}

struct Job {
    keeper: Channel,
    keeper_pid: libc::pid_t,
    /// The program, once it runs.
    program: Option<libc::pid_t>,
}

impl Guest {
    fn serve(&mut self) {
        let readable = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        if self.tell(&Notice::Ready).is_err() {
            return;
        }
        loop {
            let mut fds = vec![readable(self.channel.as_raw_fd()), readable(self.children.as_raw_fd())];
            let jobs: Vec<u64> = self.jobs.keys().copied().collect();
            fds.extend(self.jobs.values().map(|job| readable(job.keeper.as_raw_fd())));
            let first_of_relay = fds.len();
            let mut timeout = -1;
            if let Some(relay) = &self.relay {
                timeout = relay.watch(&mut fds);
            }
            system::poll(&mut fds, timeout);
            if fds[1].revents != 0 {
                self.reap();
            }
            for (job, fd) in jobs.into_iter().zip(&fds[2..first_of_relay]) {
                if fd.revents != 0 && self.forward(job).is_err() {
                    return;
                }
            }
            if let Some(relay) = &mut self.relay {
                relay.carry(&fds[first_of_relay..]);
            }
            if fds[0].revents != 0 {
                match self.channel.receive() {
                    Ok(Some(message)) => {
                        if self.obey(message).is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
            if self.leaving && self.jobs.is_empty() && self.childless() {
                self.leaving = false;
                if self.tell(&Notice::Quiet).is_err() {
                    return;
                }
            }
        }
    }

    fn tell(&self, notice: &Notice) -> std::io::Result<()> {
        self.channel.send(notice, &[])
    }

    fn reap(&mut self) {
        let _ = (&self.children).read(&mut [0; 4096]);
        while let Waited::Child(..) = system::wait_any() {}
    }

    fn childless(&self) -> bool {
        loop {
            match system::wait_any() {
                Waited::Child(..) => {}
                Waited::Living => return false,
                Waited::Childless => return true,
            }
        }
    }

    /// Passes on what a keeper said. A keeper that vanished without a last word was killed from
    /// inside: its program must not outlive it unwatched.
    fn forward(&mut self, id: u64) -> std::io::Result<()> {
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        let Ok(Some(message)) = job.keeper.receive() else {
            if let Some(program) = job.program {
                end_orphan(program, job.keeper_pid);
            }
            self.jobs.remove(&id);
            let signal = libc::SIGKILL;
            return self.tell(&Notice::Exited { id, code: 128 + signal, signal: Some(signal) });
        };
        match serde_json::from_slice(&message.bytes) {
            Ok(Notice::Started { pid, .. }) => job.program = Some(pid),
            _ => drop(self.jobs.remove(&id)),
        }
        let fds: Vec<_> = message.fds.iter().map(AsFd::as_fd).collect();
        self.channel.send_bytes(&message.bytes, &fds)
    }

    fn obey(&mut self, message: Message) -> std::io::Result<()> {
        let Ok(order) = serde_json::from_slice::<Order>(&message.bytes) else {
            return Err(std::io::ErrorKind::InvalidData.into());
        };
        match order {
            Order::Probe(what) => self.tell(&match probe::run(&what, &self.channel) {
                Ok(facts) => Notice::Report { facts },
                Err(error) => Notice::Blind { message: error.to_string() },
            }),
            Order::Exec { id, .. } if message.fds_lost => {
                self.tell(&Notice::Refused { id, message: "too many open files inside".to_owned() })
            }
            Order::Exec { id, .. } if self.jobs.len() >= JOBS => {
                self.tell(&Notice::Refused { id, message: format!("{JOBS} processes are running already") })
            }
            Order::Exec { id, pty } => match self.begin(Task { id, pty, fds: message.fds }) {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.tell(&Notice::Refused { id, message: format!("no process can be started: {error}") })
                }
            },
            Order::Signal { id, signal } => {
                if let (Some(job), Ok(signal @ 1..=64)) = (self.jobs.get(&id), u8::try_from(signal)) {
                    let _ = job.keeper.send_bytes(&[signal], &[]);
                }
                Ok(())
            }
            Order::Kill { id } => {
                if let Some(job) = self.jobs.get(&id) {
                    let _ = job.keeper.send_bytes(&[keeper::KILL], &[]);
                }
                Ok(())
            }
            Order::Relay { port, socket } => {
                let notice = match Relay::listen(port, socket) {
                    Ok(relay) => {
                        let port = Some(relay.port());
                        self.relay = Some(relay);
                        Notice::Relayed { port, message: String::new() }
                    }
                    Err(error) => Notice::Relayed { port: None, message: error.to_string() },
                };
                self.tell(&notice)
            }
            Order::Terminate => {
                self.leaving = true;
                // Keepers ignore it.
                let own = std::process::id() as libc::pid_t;
                for pid in processes::descendants(own) {
                    processes::signal(pid, libc::SIGTERM);
                    processes::signal(pid, libc::SIGCONT);
                }
                Ok(())
            }
        }
    }

    fn begin(&mut self, task: Task) -> std::io::Result<()> {
        let (mine, keepers) = Channel::pair()?;
        let id = task.id;
        match system::fork()? {
            Fork::Parent(keeper_pid) => {
                self.jobs.insert(id, Job { keeper: mine, keeper_pid, program: None });
                Ok(())
            }
            Fork::Child => {
                drop(mine);
                self.forget();
                keeper::run(task, &keepers)
            }
        }
    }

    /// Closes in a forked child what belongs to the guest.
    fn forget(&mut self) {
        self.jobs.clear();
        self.relay = None;
        if let Ok(null) = std::fs::File::open("/dev/null") {
            // Replaces the channel in place, which closes this process's copy of it.
            let _ = system::install_over(&null, self.channel.as_raw_fd());
            let _ = system::install_over(&null, self.children.as_raw_fd());
        }
    }
}

/// Kills the program of a keeper that was killed, and its descendants. The keeper's descriptors close
/// before its children are handed on, so the program's parent may still be the keeper.
fn end_orphan(program: libc::pid_t, keeper: libc::pid_t) {
    let own = std::process::id() as libc::pid_t;
    let parents = [own, keeper];
    // A process of another parent is a stranger that got the number.
    if processes::all().iter().any(|process| process.pid == program && parents.contains(&process.parent)) {
        processes::signal(program, libc::SIGSTOP);
        processes::kill_descendants(program, Duration::from_secs(2), || ());
        processes::signal(program, libc::SIGKILL);
    }
}
