//! A run of the built `cove` that is disturbed.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cove_scenarios::{Account, Small, World, finish, wait_until};
use cove_testkit::remains::{Remain, Territory, listed};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::end::{End, Standing};
use crate::ledger::{Ledger, Seen};

/// Longer than anything takes on a slow machine under load.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How long what a former life left may be there after the next one began.
const CLEAN: Duration = Duration::from_secs(10);

/// A world with a small PRD of two stories, and its run.
pub struct Life {
    /// The world.
    pub world: World,
    /// Repository and PRD.
    pub small: Small,
    agent: String,
    /// The longest time that anything of a former life was seen after a restart.
    pub longest: Duration,
    /// Restarts so far.
    pub restarts: usize,
    /// Entries that were acknowledged before a kill.
    acknowledged: Vec<Value>,
}

impl Life {
    /// Nothing has begun yet. `agent` is a line of shell, `$story` the story's id.
    pub fn new(agent: &str) -> Self {
        let world = World::new(Account::Own);
        let small = Small::new(&world, 2);
        let (longest, acknowledged) = (Duration::ZERO, Vec::new());
        Self { world, small, agent: agent.to_owned(), longest, restarts: 0, acknowledged }
    }

    /// The ledger on disk.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(&self.world.path("data"))
    }

    /// The instance's marks.
    pub fn territory(&self) -> Territory {
        self.world.territory()
    }

    /// Asks for the run in the background; the request starts the daemon.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn begin(&self) -> Request {
        let arguments = self.small.arguments(&self.agent, &["--detach", "-q"]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.world.command(&arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Request(command.spawn().unwrap())
    }

    /// The daemon's process, if one lives.
    pub fn daemon(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.world.path("state").join("daemon.lock")).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?);
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (kill(pid, None).is_ok() && String::from_utf8_lossy(&line).contains("serve")).then_some(pid)
    }

    /// Ends the daemon with SIGKILL and waits until it is gone. What it had acknowledged is noted.
    ///
    /// # Panics
    /// When no daemon lives.
    pub fn kill_daemon(&mut self) {
        let daemon = self.daemon().expect("a daemon lives");
        strike(daemon);
        wait_until("the daemon's end", DEADLINE, || gone(daemon).then_some(()));
        self.note_acknowledged();
    }

    /// Ends every process of the world, as when the machine stops.
    ///
    /// # Panics
    /// When they do not end.
    pub fn kill_everything(&mut self) {
        wait_until("the end of every process", DEADLINE, || {
            let left = self.territory().processes();
            left.iter().for_each(|process| strike(Pid::from_raw(process.pid)));
            left.is_empty().then_some(())
        });
        self.note_acknowledged();
    }

    fn note_acknowledged(&mut self) {
        let mut ledger = self.ledger();
        if let Some(seen) = ledger.look() {
            self.acknowledged = ledger.entries(&seen.run);
        }
    }

    /// Starts the daemon again, and measures until nothing is there any more of what was there before.
    ///
    /// # Panics
    /// When it does not start, or something is there for too long.
    #[track_caller]
    pub fn restart(&mut self) {
        let former = self.territory().orphans();
        self.world.cove(&["daemon", "start"]).expect(0);
        self.restarts += 1;
        let begun = Instant::now();
        loop {
            let left: BTreeSet<Remain> = self.territory().orphans().intersection(&former).cloned().collect();
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < CLEAN, "{CLEAN:?} after a restart there still is\n{}", listed(&left));
            std::thread::sleep(Duration::from_millis(20));
        }
        self.longest = self.longest.max(begun.elapsed());
    }

    /// Waits for the run's end, asking for it again where it was never taken in; then looks at all
    /// that came of it.
    ///
    /// # Panics
    /// When it does not end, what was acknowledged is lost, or anything is left behind.
    #[track_caller]
    pub fn ends(&mut self) -> (End, Standing) {
        let mut ledger = self.ledger();
        if ledger.look().is_none() {
            drop(self.begin());
        }
        let seen = ledger.wait("the run's end", DEADLINE, Seen::over);
        let entries = ledger.entries(&seen.run);
        assert!(entries.len() >= self.acknowledged.len(), "acknowledged entries are lost");
        assert_eq!(entries[..self.acknowledged.len()], self.acknowledged[..], "acknowledged entries changed");
        let end = End::of(&self.world, &self.small, &seen.run);
        self.longest = self.longest.max(self.territory().clean_within(CLEAN));
        end
    }

    /// Ends the daemon in order; then nothing at all is left.
    ///
    /// # Panics
    /// When it does not end or something is left.
    #[track_caller]
    pub fn over(self) {
        self.world.cove(&["daemon", "stop"]).expect(0);
        let territory = self.territory();
        wait_until("the end of everything", DEADLINE, || territory.remains().is_empty().then_some(()));
    }

    /// Runs a program that is not part of Cove.
    #[track_caller]
    pub fn run(program: &str, arguments: &[&str]) -> cove_scenarios::Finished {
        let mut command = Command::new(program);
        command.args(arguments);
        finish(command, DEADLINE)
    }
}

/// The command that asked for the run; collected when dropped.
pub struct Request(std::process::Child);

impl Drop for Request {
    fn drop(&mut self) {
        let begun = Instant::now();
        while self.0.try_wait().ok().flatten().is_none() {
            if begun.elapsed() > DEADLINE {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Kills a process that may have ended meanwhile.
fn strike(pid: Pid) {
    assert!(pid.as_raw() > 1);
    let _ = kill(pid, Signal::SIGKILL);
}

fn gone(pid: Pid) -> bool {
    kill(pid, None) == Err(Errno::ESRCH)
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}
