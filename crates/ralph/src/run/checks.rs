//! Runs gates on a commit: a clean checkout and a fresh sandbox for each gate, so that nothing that
//! one gate started or changed decides about the next. What a gate built is there for the next one.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use cove_core::ledger::{GateResult, GateStatus};
use cove_core::run::GateSpec;
use cove_core::{
    EgressPolicy, Error, ErrorKind, ExecSpec, ExitReason, ExitStatus, Fact, Network, Output, Result, SandboxId,
};

use super::crew::Crew;
use super::ground::{Workspace, given};
use super::{HOME, Site, WORKSPACE, leftovers, place};

/// End of a gate's output in the ledger.
const TAIL: usize = 16 << 10;
/// A gate's output in its log.
const LOG: u64 = 16 << 20;
/// Longest time of any gate.
const LONGEST: u64 = 24 * 3600;
/// Given to the engine to end a gate whose time is up, before we give it up ourselves.
const GRACE: Duration = Duration::from_secs(60);

/// Runs every gate on `commit`, in order, whatever the ones before said. `name` tells one pass of an
/// attempt from another.
///
/// # Errors
/// Those of git, door and engine: the gates have said nothing then.
pub(crate) async fn run(
    site: &Site,
    crew: &Crew,
    name: &str,
    commit: &str,
    gates: &[GateSpec],
) -> Result<Vec<GateResult>> {
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    let work = site.place.work(crew.attempt()).join(name);
    let logs = site.place.logs(crew.attempt()).join(name);
    let (workspace, home) = (work.join("workspace"), work.join("home"));
    // A pass that was cut off may have left its checkout.
    place::clear(work.clone()).await?;
    place::make(&work)?;
    place::make(&home)?;
    place::make(&logs)?;
    let mut workspace = site.workspace(commit, &workspace).await?;
    let sandboxes = crew.intend(gates.len()).await?;
    let mut results = Vec::with_capacity(gates.len());
    for (nth, (gate, sandbox)) in gates.iter().zip(&sandboxes).enumerate() {
        if nth > 0 {
            workspace = renew(site, &work, commit, workspace, &home).await?;
        }
        let log = logs.join(format!("{:02}-{}.log", nth + 1, crate::prd::slug(&gate.name, 40)));
        let result = one(site, crew, sandbox, gate, &workspace, &home, &log).await;
        crew.close(sandbox).await;
        results.push(result?);
    }
    let _ = place::clear(work).await;
    Ok(results)
}

/// A clean checkout and home again for the next gate: what the code under test did to files of the
/// commit, to git's own or to settings must not decide about another gate. What a gate built or
/// installed stays.
async fn renew(site: &Site, work: &Path, commit: &str, workspace: Workspace, home: &Path) -> Result<Workspace> {
    let failed = |e: std::io::Error| Error::internal("The checkout for the next gate could not be made").because(e);
    let (used, used_home) = (work.join("used"), work.join("used-home"));
    let at = workspace.path().to_owned();
    std::fs::rename(&at, &used).and_then(|()| std::fs::rename(home, &used_home)).map_err(failed)?;
    place::make(home)?;
    let old = workspace.moved(used.clone());
    let fresh = site.workspace(commit, &at).await?;
    let (to, to_home) = (fresh.clone(), home.to_owned());
    let from_home = used_home.clone();
    let moving = tokio::task::spawn_blocking(move || {
        leftovers::of_workspace(&old, &to).and_then(|()| leftovers::of_home(&from_home, &to_home))
    });
    moving
        .await
        .map_err(|e| Error::internal("Carrying a gate's output over was cut off").because(e))?
        .map_err(failed)?;
    place::clear(used).await?;
    place::clear(used_home).await?;
    Ok(fresh)
}

async fn one(
    site: &Site,
    crew: &Crew,
    sandbox: &SandboxId,
    gate: &GateSpec,
    workspace: &Workspace,
    home: &Path,
    log: &Path,
) -> Result<GateResult> {
    let door = if site.spec.gate_hosts.is_empty() {
        None
    } else {
        let policy = EgressPolicy {
            allow: site.spec.gate_hosts.clone(),
            block: site.spec.block_hosts.clone(),
            allow_private: true,
        };
        Some(site.shared.deps.door.open(&format!("gate {}", gate.name), &policy).await?)
    };
    let network = door.as_ref().map_or(Network::None, |door| Network::Door { socket: door.socket() });
    let mut spec = crew.blueprint(network);
    spec.mounts = vec![given(home, HOME)];
    workspace.show(&mut spec, WORKSPACE);
    spec.mounts.extend(site.shown());
    spec.env.insert("HOME".to_owned(), site.seen(home, HOME).to_string_lossy().into_owned());
    spec.env.insert("CI".to_owned(), "true".to_owned());
    crew.open(sandbox, "gate", spec).await?;
    let result = shell(crew, sandbox, gate, log).await;
    if let Some(door) = door {
        let attempt = crew.attempt().cloned();
        let events = door.take_events().into_iter().take(100);
        let facts = events.map(|event| Fact::Egress { attempt: attempt.clone(), event }).collect();
        door.close().await;
        crew.tell(facts).await?;
    }
    result
}

async fn shell(crew: &Crew, sandbox: &SandboxId, gate: &GateSpec, log: &Path) -> Result<GateResult> {
    let seconds = if gate.timeout_seconds == 0 { LONGEST } else { gate.timeout_seconds.min(LONGEST) };
    let spec = ExecSpec {
        workdir: Some(WORKSPACE.into()),
        timeout_ms: Some(seconds * 1000),
        ..ExecSpec::new(["/bin/sh", "-c", &gate.command])
    };
    let begun = Instant::now();
    let mut exec = crew.exec(sandbox, &spec).await?;
    let _ = exec.input.close().await;
    let mut kept = Kept::new(log)?;
    let reading = async {
        loop {
            match exec.output.next().await? {
                Some(Output::Stdout(bytes) | Output::Stderr(bytes)) => kept.take(&bytes),
                Some(Output::Exit(exit)) => return Ok(exit),
                None => return Err(Error::new(ErrorKind::Interrupted, "A gate's output ended before the gate did")),
            }
        }
    };
    let exit = match tokio::time::timeout(Duration::from_secs(seconds) + GRACE, reading).await {
        Ok(exit) => exit?,
        Err(_) => ExitStatus { code: 137, reason: ExitReason::Timeout },
    };
    let note = match exit.reason {
        ExitReason::Lost | ExitReason::Killed => {
            return Err(Error::new(ErrorKind::Interrupted, "A gate's sandbox was taken away while it ran")
                .with("gate", &gate.name));
        }
        ExitReason::Timeout => Some(format!("stopped after {seconds} s, its time limit")),
        ExitReason::OutOfMemory => Some("ran into the memory limit of its sandbox".to_owned()),
        ExitReason::DiskFull => Some("ran into the disk limit of its sandbox".to_owned()),
        ExitReason::Signaled { signal } => Some(format!("ended by signal {signal}")),
        ExitReason::Exited => None,
    };
    let status = match exit.reason {
        ExitReason::Timeout => GateStatus::TimedOut,
        ExitReason::Exited if exit.code == 0 => GateStatus::Passed,
        // What a shell says when a program is not there or cannot be run.
        ExitReason::Exited if matches!(exit.code, 126 | 127) => GateStatus::Errored,
        _ => GateStatus::Failed,
    };
    let mut tail = kept.tail();
    if let Some(note) = note {
        tail.push_str(&format!("\n[cove: the gate was {note}]\n"));
    }
    Ok(GateResult {
        name: gate.name.clone(),
        command: gate.command.clone(),
        status,
        code: (status != GateStatus::TimedOut).then_some(exit.code),
        millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        tail,
    })
}

/// A gate's output: its beginning in a file, its end in memory.
struct Kept {
    file: std::io::BufWriter<std::fs::File>,
    written: u64,
    end: Vec<u8>,
}

impl Kept {
    fn new(log: &Path) -> Result<Self> {
        let file = std::fs::File::create(log)
            .map_err(|e| Error::internal(format!("The log {} could not be made", log.display())).because(e))?;
        Ok(Self { file: std::io::BufWriter::new(file), written: 0, end: Vec::new() })
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = usize::try_from(LOG.saturating_sub(self.written)).unwrap_or(usize::MAX);
        // The verdict stands on the exit status, not on the log.
        let _ = self.file.write_all(&bytes[..bytes.len().min(room)]);
        self.written = self.written.saturating_add(bytes.len() as u64);
        self.end.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        if self.end.len() > 2 * TAIL {
            self.end.drain(..self.end.len() - TAIL);
        }
    }

    /// At most [`TAIL`] bytes of text.
    fn tail(&self) -> String {
        let from = self.end.len().saturating_sub(TAIL - 256);
        String::from_utf8_lossy(&self.end[from..]).chars().filter(|c| *c != '\0').collect()
    }
}
