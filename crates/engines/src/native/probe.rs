//! Proves the controls on this host by building throw-away sandboxes and judging their guests'
//! reports. Happens in a process of its own: building forks, which a process with threads must not.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cove_core::error::Context;
use cove_core::{
    Attestation, Capabilities, Control, Error, ErrorKind, InstanceId, Limits, Mount, Network, Report, Result, Root,
    SandboxId, SandboxSpec,
};
use cove_guest::channel::Channel;
use cove_guest::wire::{Notice, Order};
use serde_json::json;

use super::cgroup::{Controller, Sites};
use super::diagnosis::reason;
use super::launch::NativeLauncher;
use super::sys;
use crate::supervisor::HelperProgram;
use crate::supervisor::guest;
use crate::supervisor::launch::{Launched, Launcher, Place};

/// What the helper program gets in place of a sandbox's directory.
pub const ARGUMENT: &str = "--probe-native";

/// With this second argument, as on a host whose cgroups cannot be used.
pub const WITHOUT_GROUPS: &str = "--without-groups";

/// How long the whole probe may take; it normally takes less than a tenth of a second.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longest answer of the helper.
const ANSWER_BYTES: u64 = 256 << 10;

/// Results by helper program; a host does not change under a running daemon.
static KNOWN: Mutex<Vec<(Vec<String>, Capabilities)>> = Mutex::new(Vec::new());

/// What the native engine can do here, asked of the helper once and remembered.
///
/// # Errors
/// `Unavailable` when the helper cannot be run or does not answer.
pub fn probe(helper: &HelperProgram, without_groups: bool) -> Result<Capabilities> {
    let mut command = helper.0.clone();
    command.push(ARGUMENT.to_owned());
    if without_groups {
        command.push(WITHOUT_GROUPS.to_owned());
    }
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, capabilities)) = known.iter().find(|(asked, _)| *asked == command) {
        return Ok(capabilities.clone());
    }
    let capabilities = ask(&command, DEADLINE)?;
    known.push((command, capabilities.clone()));
    Ok(capabilities)
}

/// Runs a helper that answers with what it has proven.
///
/// # Errors
/// `Unavailable` when it cannot be run or does not answer within `limit`.
pub fn ask(command: &[String], limit: Duration) -> Result<Capabilities> {
    let unavailable = |message: String| Error::new(ErrorKind::Unavailable, message);
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::invalid("The helper program has no name"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context(ErrorKind::Unavailable, format!("The program {program} cannot be started to probe this host"))?;
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        stdout.map(|out| out.take(ANSWER_BYTES).read_to_end(&mut answer));
        answer
    });
    let end = Instant::now() + limit;
    while !reader.is_finished() {
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(unavailable("The probe of this host did not end in time".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.wait();
    let answer = reader.join().unwrap_or_default();
    serde_json::from_slice(&answer).context(ErrorKind::Unavailable, "The probe of this host gave no answer")
}

/// The helper's side: probes, prints and ends.
pub fn main(arguments: &[String]) -> ! {
    let without_groups = arguments.iter().any(|argument| argument == WITHOUT_GROUPS);
    let answer = serde_json::to_vec(&run(without_groups)).unwrap_or_default();
    let written = std::io::stdout().write_all(&answer).and_then(|()| std::io::stdout().flush());
    std::process::exit(i32::from(written.is_err()))
}

/// Controls that one trial with the host's root proves.
const OF_HOST_TRIAL: &[Control] = &[
    Control::IsolationContainer,
    Control::RootHost,
    Control::ReadOnlyRoot,
    Control::NoNewPrivileges,
    Control::Seccomp,
    Control::CapabilityDrop,
    Control::NonRoot,
    Control::MaskedPaths,
    Control::NetworkDoor,
    Control::LimitCpu,
    Control::LimitMemory,
    Control::LimitPids,
    Control::LimitDisk,
    Control::LimitOpenFiles,
    Control::LimitWall,
    Control::Mounts,
];

fn run(without_groups: bool) -> Capabilities {
    let sites = if without_groups { Sites::none("control groups are switched off") } else { Sites::discover() };
    let mut capabilities = not_ours();
    let trials = Trials::new(without_groups);
    let host = trials.as_ref().map_err(reason).and_then(|trials| trials.of_host(&sites));
    for control in OF_HOST_TRIAL {
        capabilities = match (&host, site_missing(&sites, *control)) {
            (_, Some(why)) => capabilities.missing(*control, why),
            (Err(why), None) => capabilities.missing(*control, why.clone()),
            (Ok(judged), None) => settle(capabilities, judged, *control),
        };
    }
    // With loopback only and without a door is the lesser case of the same trial; the terminals'
    // file system was mounted; adoption needs nothing but a supervisor that can build.
    for (control, like) in [
        (Control::NetworkNone, Control::NetworkDoor),
        (Control::Pty, Control::IsolationContainer),
        (Control::Adopt, Control::IsolationContainer),
    ] {
        capabilities = match capabilities.why_missing(like).map(str::to_owned) {
            None => capabilities.proven(control),
            Some(why) => capabilities.missing(control, why),
        };
    }
    capabilities = match &host {
        Ok(judged) if judged.report.landlock > 0 => capabilities.proven(Control::Landlock),
        Ok(_) => {
            capabilities.missing(Control::Landlock, "The kernel does not enforce Landlock; boot with lsm=landlock,…")
        }
        Err(why) => capabilities.missing(Control::Landlock, why.clone()),
    };
    let directory = trials.as_ref().map_err(reason).and_then(Trials::of_directory);
    for control in [Control::RootDirectory, Control::RootArchive, Control::RootImage] {
        capabilities = match &directory {
            Ok(judged) => settle(capabilities, judged, control),
            Err(why) => capabilities.missing(control, why.clone()),
        };
    }
    capabilities
}

fn not_ours() -> Capabilities {
    Capabilities::default()
        .missing(Control::IsolationProcess, "The native engine always isolates; the engine direct does not")
        .missing(Control::IsolationGvisor, "The native engine uses the host's kernel; use Docker or Podman with runsc")
        .missing(Control::IsolationVm, "The native engine uses the host's kernel")
        .missing(Control::NetworkHost, "The native engine never shows the host's network; use a door")
}

fn site_missing(sites: &Sites, control: Control) -> Option<String> {
    let controller = match control {
        Control::LimitMemory => Controller::Memory,
        Control::LimitPids => Controller::Pids,
        Control::LimitCpu => Controller::Cpu,
        _ => return None,
    };
    sites.site(controller).err().map(sentence)
}

fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Proven unless the judgement says otherwise.
fn settle(capabilities: Capabilities, judged: &Attestation, control: Control) -> Capabilities {
    // Archives and images are directories by the time they are shown.
    let as_directory = matches!(control, Control::RootArchive | Control::RootImage);
    let judged_as = if as_directory { Control::RootDirectory } else { control };
    match judged.deviations.iter().find(|deviation| deviation.control == judged_as) {
        Some(deviation) => {
            capabilities.missing(control, format!("Asked for {}, found {}", deviation.expected, deviation.found))
        }
        None if judged.proven.contains(&judged_as) => capabilities.proven(control),
        None => capabilities.missing(control, "The trial did not prove it"),
    }
}

/// What the trials share.
struct Trials {
    dir: tempfile::TempDir,
    guest: std::path::PathBuf,
    _door: UnixListener,
    without_groups: bool,
}

impl Trials {
    fn new(without_groups: bool) -> Result<Self> {
        let make = || -> std::io::Result<_> {
            let dir = tempfile::Builder::new().prefix("cove-probe-").tempdir()?;
            for name in ["root", "mount"] {
                std::fs::create_dir(dir.path().join(name))?;
            }
            let door = UnixListener::bind(dir.path().join("door"))?;
            Ok((dir, door))
        };
        let (dir, door) =
            make().context(ErrorKind::Unavailable, "A temporary directory for the probe cannot be made")?;
        let guest = guest::install(dir.path())?;
        Ok(Self { dir, guest, _door: door, without_groups })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn of_host(&self, sites: &Sites) -> Result<Attestation, String> {
        let mut spec = SandboxSpec::new(Root::Host);
        let limits = Limits { wall_seconds: Some(60), ..Limits::default() };
        let given = |controller| sites.site(controller).is_ok();
        spec.limits = Limits {
            memory_bytes: limits.memory_bytes.filter(|_| given(Controller::Memory)),
            pids: limits.pids.filter(|_| given(Controller::Pids)),
            cpus: limits.cpus.filter(|_| given(Controller::Cpu)),
            ..limits
        };
        spec.network = Network::Door { socket: self.path("door") };
        spec.mounts.push(Mount {
            source: self.path("mount"),
            target: "/mnt/probe".into(),
            read_only: false,
            give: true,
        });
        self.run(&spec)
    }

    fn of_directory(&self) -> Result<Attestation, String> {
        let mut spec = SandboxSpec::new(Root::Directory(self.path("root")));
        spec.limits = Limits::NONE;
        self.run(&spec)
    }

    fn run(&self, spec: &SandboxSpec) -> Result<Attestation, String> {
        let place = Place {
            id: SandboxId::new(),
            dir: self.dir.path().to_owned(),
            instance: InstanceId::new(),
            guest: self.guest.clone(),
            options: json!({ "withoutGroups": self.without_groups }),
        };
        let (mine, guests) = Channel::pair().map_err(|error| error.to_string())?;
        let mut launched = NativeLauncher.launch(&place, spec, guests.into_fd()).map_err(|error| reason(&error))?;
        let judged = examine(&*launched, spec, &mine);
        let ended = launched.kill_all();
        sys::reap(launched.init());
        let released = launched.release();
        let judged = judged?;
        ended.and(released).map_err(|error| reason(&error))?;
        Ok(judged)
    }
}

/// Asks the guest to look around and judges what it saw.
fn examine(launched: &dyn Launched, spec: &SandboxSpec, channel: &Channel) -> Result<Attestation, String> {
    hear(channel, |notice| matches!(notice, Notice::Ready).then_some(()))?;
    channel.send(&Order::Probe(launched.probe(spec)), &[]).map_err(|error| error.to_string())?;
    let facts = hear(channel, |notice| match notice {
        Notice::Report { facts } => Some(facts),
        _ => None,
    })?;
    let report: Report =
        serde_json::to_value(facts).and_then(serde_json::from_value).map_err(|error| error.to_string())?;
    Ok(launched.judge(spec, &report))
}

fn hear<T>(channel: &Channel, wanted: impl Fn(Notice) -> Option<T>) -> Result<T, String> {
    let message = channel.receive().map_err(|error| error.to_string())?.ok_or("The guest ended")?;
    let notice = serde_json::from_slice(&message.bytes).map_err(|error| error.to_string())?;
    wanted(notice).ok_or_else(|| "The guest said something else than was asked".to_owned())
}
