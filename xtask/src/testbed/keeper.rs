//! The process that owns the test bed's servers.
//!
//! It is this program again, in a process group of its own (so that Ctrl-C reaches only the tests), and
//! holds one end of a pipe. When the other end closes, because the tests are done or because whoever
//! started them died in any way, it ends every server by process id and removes what they left.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::{docker, is_root, podman, server};
use crate::process::{Outcome, complain, say};

/// What came up.
#[derive(Default)]
pub struct Started {
    /// Variables for the tests.
    pub variables: Vec<(String, String)>,
    /// What this machine cannot have, with the reason.
    pub skipped: Vec<String>,
    /// What is installed and did not start, with the reason.
    pub failed: Vec<String>,
}

/// The other process, as its starter sees it.
pub struct Keeper {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Keeper {
    /// Ends the servers; waits for it.
    ///
    /// # Errors
    /// When something of them remained.
    pub fn end(mut self) -> Outcome {
        self.close()
    }

    fn close(&mut self) -> Outcome {
        if self.lifeline.take().is_none() {
            return Ok(());
        }
        let status = self.child.wait().map_err(|e| format!("The test bed's keeper cannot be waited for: {e}"))?;
        if status.success() { Ok(()) } else { Err("The test bed's servers left something behind".to_owned()) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Err(message) = self.close() {
            complain(&message);
        }
    }
}

/// Starts the keeper and waits until it said what is there. It bounds each server's start itself.
///
/// # Errors
/// When it cannot be started or ends early.
pub fn start() -> Outcome<(Keeper, Started)> {
    let program = std::env::current_exe().map_err(|e| format!("This program's path is not known: {e}"))?;
    // Short, for the paths of sockets have 107 bytes; and where another account may pass through.
    let directory = PathBuf::from(format!("/tmp/cove-bed-{}", std::process::id()));
    let mut child = Command::new(program)
        .args(["testbed", "keep"])
        .arg(&directory)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("The test bed's keeper cannot be started: {e}"))?;
    let lifeline = child.stdin.take();
    let out = child.stdout.take().ok_or("The test bed's keeper has no output")?;
    let keeper = Keeper { child, lifeline };
    let mut started = Started::default();
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("set", pair)) => {
                started.variables.extend(pair.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())));
            }
            Some(("skip", reason)) => started.skipped.push(reason.to_owned()),
            Some(("fail", reason)) => started.failed.push(reason.to_owned()),
            _ if line == "ready" => return Ok((keeper, started)),
            _ => say(&line),
        }
    }
    Err("The test bed's keeper ended before it was ready".to_owned())
}

/// Why a server is not there.
pub enum Absence {
    /// Not to be had on this machine.
    Skipped(String),
    /// Should work and does not.
    Failed(String),
}

/// A started server with what tests are told of it.
pub type Up = Result<(Box<dyn server::Kept>, Vec<(String, String)>), Absence>;

/// The keeper's life.
///
/// # Errors
/// When its directory cannot be made, or something remained at the end.
pub fn serve(directory: &Path) -> Outcome {
    let made = std::fs::create_dir(directory).and_then(|()| server::mode(directory, 0o711));
    made.map_err(|e| format!("{} cannot be made: {e}", directory.display()))?;
    let root = is_root();
    // Side by side: each takes seconds.
    let ups: Vec<(&str, Up)> = std::thread::scope(|scope| {
        let handles = [
            ("docker", scope.spawn(|| docker::up(&directory.join("d"), root))),
            ("podman", scope.spawn(|| podman::up(&directory.join("p"), root))),
            ("podman rootless", scope.spawn(|| podman::up_rootless(&directory.join("r"), root))),
        ];
        let failed = |_| Err(Absence::Failed("its starter failed unexpectedly".to_owned()));
        handles.into_iter().map(|(name, handle)| (name, handle.join().unwrap_or_else(failed))).collect()
    });
    let mut kept = Vec::new();
    for (name, up) in ups {
        match up {
            Ok((server, variables)) => {
                kept.push(server);
                for (name, value) in variables {
                    say(&format!("set {name}={value}"));
                }
            }
            Err(Absence::Skipped(reason)) => say(&format!("skip {name}: {}", reason.replace('\n', " | "))),
            Err(Absence::Failed(reason)) => say(&format!("fail {name}: {}", reason.replace('\n', " | "))),
        }
    }
    say("ready");
    // Until the other end closes.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    for server in &mut kept {
        server.end();
    }
    server::clear(directory)
}
