//! Runs gates on a commit: a clean checkout, an empty home and a fresh sandbox for each, so that nothing
//! that one gate started or changed decides about another. A gate gets what others built or installed
//! only where it names them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cove_core::ledger::{GateResult, GateStatus};
use cove_core::run::GateSpec;
use cove_core::{
    EgressPolicy, Error, ErrorKind, ExecSpec, ExitReason, ExitStatus, Fact, Network, Output, Result, SandboxId,
};

use super::bench::{self, Bench, Stand};
use super::crew::Crew;
use super::ground::given;
use super::{HOME, Site, WORKSPACE, place};
use crate::evidence::{self, Tally, Tripwire};

/// End of a gate's output in the ledger.
const TAIL: usize = 16 << 10;
/// A gate's output in its log.
const LOG: u64 = 16 << 20;
/// Longest time of any gate.
const LONGEST: u64 = 24 * 3600;
/// Given to the engine to end a gate whose time is up, before we give it up ourselves.
const GRACE: Duration = Duration::from_secs(60);

/// Gates on a commit.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// Tells one pass of an attempt from another.
    pub(crate) name: &'a str,
    pub(crate) commit: &'a str,
    pub(crate) gates: &'a [GateSpec],
}

/// Runs every gate of a pass, in order, whatever the ones before said.
///
/// # Errors
/// Those of git, door and engine: the gates have said nothing then.
pub(crate) async fn run(site: &Site, crew: &Crew, pass: Pass<'_>) -> Result<Vec<GateResult>> {
    let all: Vec<usize> = (0..pass.gates.len()).collect();
    Ok(some(site, crew, pass, &all, false).await?.into_values().collect())
}

/// Runs the gates at these positions, and those whose output they need. Results of all that ran, by
/// position. On the base, `keep_stores` keeps what package managers fetched.
///
/// # Errors
/// As [`run`].
pub(crate) async fn some(
    site: &Site,
    crew: &Crew,
    pass: Pass<'_>,
    which: &[usize],
    keep_stores: bool,
) -> Result<BTreeMap<usize, GateResult>> {
    let mut results = BTreeMap::new();
    if which.is_empty() {
        return Ok(results);
    }
    let bench = Bench::new(site, crew.attempt(), pass.name, pass.commit, pass.gates).await?;
    let chosen = bench.with_needed(which);
    let sandboxes = crew.intend(chosen.len()).await?;
    for (&at, sandbox) in chosen.iter().zip(&sandboxes) {
        let stand = bench.set_up(at, false).await?;
        let gate = &pass.gates[at];
        let result = one(site, crew, sandbox, gate, &stand, &log(site, crew, pass.name, at, gate)?).await;
        crew.end(sandbox).await?;
        results.insert(at, result?);
        if keep_stores {
            bench.keep_stores(at).await?;
        }
        bench.tear_down(at, &chosen).await?;
    }
    bench.end().await;
    Ok(results)
}

/// Runs the gates at these positions with tests among theirs that must fail: what came of it, by
/// position. Gates that they need run as they are.
///
/// # Errors
/// As [`run`].
pub(crate) async fn planted(
    site: &Site,
    crew: &Crew,
    pass: Pass<'_>,
    which: &[usize],
) -> Result<BTreeMap<usize, Tripwire>> {
    let mut wires = BTreeMap::new();
    if which.is_empty() {
        return Ok(wires);
    }
    let bench = Bench::new(site, crew.attempt(), pass.name, pass.commit, pass.gates).await?;
    let chosen = bench.with_needed(which);
    let sandboxes = crew.intend(chosen.len()).await?;
    // Not to be guessed by what runs, and a word in every language.
    let id = SandboxId::new();
    let mark = format!("t{}", id.as_str().get(id.as_str().len() - 10..).unwrap_or_default());
    for (&at, sandbox) in chosen.iter().zip(&sandboxes) {
        let stand = bench.set_up(at, which.contains(&at)).await?;
        let mut gate = pass.gates[at].clone();
        let planted = if which.contains(&at) {
            gate.command = evidence::to_the_end(&gate.command);
            bench.plant(&stand, &mark).await?
        } else {
            Vec::new()
        };
        let log = log(site, crew, pass.name, at, &gate)?;
        let result = one(site, crew, sandbox, &gate, &stand, &log).await;
        crew.end(sandbox).await?;
        let result = result?;
        if which.contains(&at) {
            let text = tokio::task::spawn_blocking(move || std::fs::read(log).unwrap_or_default()).await;
            let text = text.map_err(|e| Error::internal("Reading a check's output was cut off").because(e))?;
            let mut wire = bench::named(&text, &mark, &planted);
            wire.tripped = !matches!(result.status, GateStatus::Passed);
            wires.insert(at, wire);
        }
        bench.tear_down(at, &chosen).await?;
    }
    bench.end().await;
    Ok(wires)
}

fn log(site: &Site, crew: &Crew, pass: &str, at: usize, gate: &GateSpec) -> Result<PathBuf> {
    let logs = site.place.logs(crew.attempt()).join(pass);
    place::make(&logs)?;
    Ok(logs.join(format!("{:02}-{}.log", at + 1, crate::prd::slug(&gate.name, 40))))
}

async fn one(
    site: &Site,
    crew: &Crew,
    sandbox: &SandboxId,
    gate: &GateSpec,
    stand: &Stand,
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
    spec.mounts = vec![given(&stand.home, HOME)];
    stand.workspace.show(&mut spec, WORKSPACE);
    spec.mounts.extend(site.shown());
    spec.env.insert("HOME".to_owned(), site.seen(&stand.home, HOME).to_string_lossy().into_owned());
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
        tests: kept.tally.finish(),
    })
}

/// A gate's output: its beginning in a file, its end in memory.
struct Kept {
    file: std::io::BufWriter<std::fs::File>,
    written: u64,
    end: Vec<u8>,
    tally: Tally,
}

impl Kept {
    fn new(log: &Path) -> Result<Self> {
        let file = std::fs::File::create(log)
            .map_err(|e| Error::internal(format!("The log {} could not be made", log.display())).because(e))?;
        Ok(Self { file: std::io::BufWriter::new(file), written: 0, end: Vec::new(), tally: Tally::default() })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.tally.take(bytes);
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
