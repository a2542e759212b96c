//! Builds and proves one sandbox.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use cove_core::error::{Context, Error, ErrorKind, Result};
use cove_core::sandbox::{SandboxInfo, SandboxState};
use cove_core::{Attestation, Network, Report};
use cove_guest::channel::Channel;
use cove_guest::wire::{Notice, Order};

use super::disk;
use super::launch::{Launched, Place};
use super::log;
use super::plan::{Directory, Plan};
use super::system;
use super::table::{self, Event, Sandbox};

/// How long the guest may take for each answer while the sandbox is built.
const ANSWER: Duration = Duration::from_secs(25);

/// Shortest pause between two looks at the disk.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// What the owner works with.
pub struct Built {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// `control.sock`.
    pub listener: UnixListener,
}

/// Builds the sandbox that the directory's plan describes.
///
/// # Errors
/// `NotStarted` or what the launcher says, with the step in its text; everything is undone then.
pub fn build(dir: &Directory, events: SyncSender<Event>) -> Result<(Built, SandboxInfo)> {
    let plan = dir.read_plan()?;
    dir.note_supervisor(std::process::id())?;
    let launcher = super::launcher(plan.engine)
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("The engine {} has no supervisor", plan.engine)))?;
    let place = Place {
        id: plan.id.clone(),
        dir: dir.0.clone(),
        instance: plan.instance.clone(),
        guest: plan.guest.clone(),
        options: plan.options.clone(),
    };
    let no_channel = |error| not_started("opening the guest's channel", error);
    let (mine, guests) = Channel::pair().map_err(no_channel)?;
    mine.set_send_timeout(Duration::from_secs(20)).map_err(no_channel)?;
    let wake = table::event().map_err(no_channel)?;
    let mut launched = launcher.launch(&place, &plan.spec, guests.into_fd())?;
    match prove(&plan, &*launched, &mine) {
        Ok((attestation, environment)) => {
            let writable = launched.writable(&plan.spec);
            let sandbox = Arc::new(Sandbox::new(plan, launched, environment, mine, events, wake));
            finish(dir, &sandbox, attestation, writable).inspect_err(|_| undo(&mut **table::lock(&sandbox.launched)))
        }
        Err(error) => {
            undo(&mut *launched);
            Err(error)
        }
    }
}

fn undo(launched: &mut dyn Launched) {
    let killed = launched.kill_all();
    system::reap(launched.init());
    for trouble in [killed.err(), launched.release().err()].into_iter().flatten() {
        log::error(&trouble);
    }
}

fn not_started(step: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::NotStarted, format!("The sandbox could not be started: {step} failed")).because(error)
}

fn finish(
    dir: &Directory,
    sandbox: &Arc<Sandbox>,
    attestation: Attestation,
    writable: Vec<PathBuf>,
) -> Result<(Built, SandboxInfo)> {
    let plan = &sandbox.plan;
    let info = SandboxInfo {
        id: plan.id.clone(),
        name: plan.name.clone(),
        engine: plan.engine,
        state: SandboxState::Running,
        spec: plan.spec.clone(),
        attestation: Some(attestation),
        created_at: plan.created_at,
    };
    let listener = listen(&dir.0).map_err(|error| not_started("listening", error))?;
    if let Some(limit) = plan.spec.limits.disk_bytes {
        watch_disk(Arc::clone(sandbox), writable, limit)?;
    }
    dir.write_info(&info)?;
    Ok((Built { sandbox: Arc::clone(sandbox), listener }, info))
}

fn prove(plan: &Plan, launched: &dyn Launched, channel: &Channel) -> Result<(Attestation, BTreeMap<String, String>)> {
    let spec = &plan.spec;
    let Notice::Ready = answer(channel, "starting the guest")? else {
        return Err(not_started("starting the guest", "its first word is another"));
    };
    let order = |order: &Order, step: &str| channel.send(order, &[]).map_err(|error| not_started(step, error));
    order(&Order::Probe(launched.probe(spec)), "the proof")?;
    let facts = match answer(channel, "the proof")? {
        Notice::Report { facts } => facts,
        Notice::Blind { message } => return Err(not_started("the proof", message)),
        _ => return Err(not_started("the proof", "the guest answers something else")),
    };
    // The guest's shape and the vocabulary's are the same document.
    let report: Report = serde_json::to_value(facts)
        .and_then(serde_json::from_value)
        .context(ErrorKind::Internal, "The guest's report is not one")?;
    let attestation = launched.judge(spec, &report);
    if !attestation.deviations.is_empty() {
        let named: Vec<String> = attestation
            .deviations
            .iter()
            .map(|d| format!("{} (asked for {}, found {})", d.control, d.expected, d.found))
            .collect();
        return Err(Error::new(
            ErrorKind::NotStarted,
            format!("The sandbox is not what was asked for: {}", named.join("; ")),
        ));
    }
    let mut environment = launched.environment(spec);
    environment.extend(spec.env.clone());
    if let Network::Door { socket } = &spec.network {
        let (socket, port) = launched.door(socket);
        let socket = socket.to_string_lossy().into_owned();
        order(&Order::Relay { port, socket }, "opening the door")?;
        match answer(channel, "opening the door")? {
            Notice::Relayed { port: Some(port), .. } => environment.extend(proxies(port)),
            Notice::Relayed { message, .. } => return Err(not_started("opening the door", message)),
            _ => return Err(not_started("opening the door", "the guest answers something else")),
        }
    }
    Ok((attestation, environment))
}

fn proxies(port: u16) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        for name in [name.to_owned(), name.to_lowercase()] {
            out.push((name, format!("http://127.0.0.1:{port}")));
        }
    }
    for name in ["NO_PROXY", "no_proxy"] {
        out.push((name.to_owned(), "localhost,127.0.0.1,::1".to_owned()));
    }
    out
}

fn answer(channel: &Channel, step: &str) -> Result<Notice> {
    let deadline = Instant::now() + ANSWER;
    let mut fds = [system::watched(channel, true, false)];
    while fds[0].revents == 0 {
        if Instant::now() >= deadline {
            return Err(not_started(step, "the guest does not answer"));
        }
        system::poll(&mut fds, Some(deadline));
    }
    match channel.receive() {
        Ok(Some(message)) => serde_json::from_slice(&message.bytes).map_err(|error| not_started(step, error)),
        Ok(None) => Err(not_started(step, "the guest ended")),
        Err(error) => Err(not_started(step, error)),
    }
}

/// Binds by descriptor: a socket's path may have 107 bytes at most, a state directory more.
fn listen(dir: &Path) -> std::io::Result<UnixListener> {
    let _ = std::fs::remove_file(dir.join(Directory::SOCKET));
    let handle = File::open(dir)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), Directory::SOCKET))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn watch_disk(sandbox: Arc<Sandbox>, roots: Vec<PathBuf>, limit: u64) -> Result<()> {
    let held = disk::hold(&roots).map_err(|error| not_started("watching the disk", error))?;
    let watch = move || {
        while sandbox.ending().is_none() {
            let begun = Instant::now();
            if disk::usage(&held, limit) > limit {
                log::line(&format!("The disk limit of {limit} bytes is exceeded"));
                sandbox.tell(Event::DiskFull);
                return;
            }
            // A large tree is looked at less often, so that looking never takes a CPU.
            std::thread::sleep(DISK_PAUSE.max(begun.elapsed() * 20));
        }
    };
    std::thread::Builder::new()
        .name("disk".to_owned())
        .stack_size(512 << 10)
        .spawn(watch)
        .map_err(|error| not_started("watching the disk", error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cove_guest::wire::Facts;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_guests_facts_are_a_report() {
        let keys = |value: Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
        let facts = Facts { landlock: 4, interfaces: vec!["lo".to_owned()], ..Facts::default() };
        let document = serde_json::to_value(&facts).unwrap();
        assert_eq!(keys(document.clone()), keys(serde_json::to_value(Report::default()).unwrap()));
        let report: Report = serde_json::from_value(document).unwrap();
        assert_eq!((report.landlock, report.interfaces), (4, facts.interfaces));
    }
}
