//! The process tree as `/proc` shows it, and ending a part of it.

#![allow(unsafe_code, reason = "kill has no safe form in the standard library")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A row of `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: libc::pid_t,
    /// Its parent.
    pub parent: libc::pid_t,
    /// Ended and not yet waited for.
    pub zombie: bool,
}

/// Every process that `/proc` shows.
pub fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: libc::pid_t| parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// `pid (name) state parent …`; the name may hold spaces and parentheses, so the last one counts.
fn parse(pid: libc::pid_t, stat: &str) -> Option<Process> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    Some(Process { pid, parent: fields.next()?.parse().ok()?, zombie: matches!(state, "Z" | "X" | "x") })
}

/// The living descendants of `root`, without `root` itself. Ended ones are walked through: their
/// children have been handed to someone else already.
pub fn descendants(root: libc::pid_t) -> Vec<libc::pid_t> {
    let all = all();
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        family.extend(all.iter().filter(|process| family.contains(&process.parent)).map(|p| p.pid).collect::<Vec<_>>());
        if family.len() == before {
            break;
        }
    }
    all.iter().filter(|p| p.pid != root && !p.zombie && family.contains(&p.pid)).map(|p| p.pid).collect()
}

/// Sends a signal; a process that is gone is no error.
pub fn signal(pid: libc::pid_t, signal: i32) {
    if pid > 0 {
        // SAFETY: kill takes two integers; a positive pid names one process.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Kills every descendant of `root` and goes on until none lives or `limit` has passed; `reap` is
/// called each round to wait for children that ended. Whether none is left.
///
/// They are stopped before they are killed, so that a process that only multiplies is not faster.
/// Children of a killed process go to the next subreaper, so `root` has to be one.
pub fn kill_descendants(root: libc::pid_t, limit: Duration, mut reap: impl FnMut()) -> bool {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        let mut stopped = BTreeSet::new();
        for _ in 0..64 {
            let fresh: Vec<_> = descendants(root).into_iter().filter(|pid| stopped.insert(*pid)).collect();
            if fresh.is_empty() {
                break;
            }
            fresh.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
        }
        stopped.iter().for_each(|pid| signal(*pid, libc::SIGKILL));
        reap();
        if stopped.is_empty() && descendants(root).is_empty() {
            return true;
        }
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_with_parentheses() {
        let process = parse(7, "7 (a) R 1 (b)) S 3 7 7 0").unwrap();
        assert_eq!(process, Process { pid: 7, parent: 3, zombie: false });
        assert!(parse(7, "7 (x) Z 1 7").unwrap().zombie);
        for broken in ["", "7", "7 (x)", "7 (x) S", "7 (x) S y"] {
            assert_eq!(parse(7, broken), None, "{broken:?}");
        }
    }

    #[test]
    fn finds_a_child() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id() as libc::pid_t;
        assert!(descendants(std::process::id() as libc::pid_t).contains(&pid));
        signal(pid, libc::SIGKILL);
        child.wait().unwrap();
        assert!(!descendants(std::process::id() as libc::pid_t).contains(&pid));
    }
}
