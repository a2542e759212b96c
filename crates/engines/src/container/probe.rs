//! Proves the controls of a container engine by building throw-away sandboxes and judging their guests'
//! reports; in a process of its own, as the native engine's probe.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use cove_core::{
    Attestation, Capabilities, Control, Error, ErrorKind, InstanceId, Limits, Mount, Network, Report, Result, Root,
    SandboxId, SandboxSpec,
};
use cove_guest::channel::Channel;
use cove_guest::wire::{Notice, Order};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{Address, Client};
use super::dialect::{Facts, of};
use super::launch::{ContainerLauncher, Options};
use super::{base, remains::Left, removal};
use crate::supervisor::guest;
use crate::supervisor::launch::{Launched, Launcher, Place, Remains};

/// What the helper program gets in place of a sandbox's directory; then a [`Question`].
pub const ARGUMENT: &str = "--probe-container";

/// What to prove.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The engine.
    pub address: Address,
    /// About it.
    pub facts: Facts,
}

/// The helper's side: probes, prints and ends.
pub fn main(question: &OsStr) -> ! {
    let asked: Option<Question> = serde_json::from_slice(question.as_encoded_bytes()).ok();
    let answer = asked.map(|question| run(&question));
    let answer = serde_json::to_vec(&answer.unwrap_or_default()).unwrap_or_default();
    let written = std::io::stdout().write_all(&answer).and_then(|()| std::io::stdout().flush());
    std::process::exit(i32::from(written.is_err()))
}

/// Controls that one trial with everything in it proves.
const OF_TRIAL: &[Control] = &[
    Control::IsolationContainer,
    Control::RootHost,
    Control::ReadOnlyRoot,
    Control::NoNewPrivileges,
    Control::Seccomp,
    Control::CapabilityDrop,
    Control::NonRoot,
    Control::MaskedPaths,
    Control::NetworkDoor,
    Control::LimitDisk,
    Control::LimitOpenFiles,
    Control::LimitWall,
    Control::Mounts,
];

/// Limits that an engine may not have, each tried alone where all together fail.
const LIMITS: &[Control] = &[Control::LimitCpu, Control::LimitMemory, Control::LimitPids];

fn run(question: &Question) -> Capabilities {
    let mut capabilities = not_ours(question);
    let trials = Trials::new(question);
    let trial = |wanted: &[Control]| trials.as_ref().map_err(reason).and_then(|trials| trials.run(wanted));
    let mut all = trial(LIMITS);
    let complete = all.as_ref().is_ok_and(|judged| judged.deviations.is_empty());
    if complete {
        for control in LIMITS {
            capabilities = capabilities.proven(*control);
        }
    } else {
        for control in LIMITS {
            let alone = trial(&[*control]);
            capabilities = settle(capabilities, &alone, *control);
        }
        all = trial(&[]);
    }
    for control in OF_TRIAL {
        capabilities = settle(capabilities, &all, *control);
    }
    capabilities = match &all {
        Ok(judged) if judged.report.landlock > 0 => capabilities.proven(Control::Landlock),
        Ok(_) => {
            capabilities.missing(Control::Landlock, "The kernel does not enforce Landlock; boot with lsm=landlock,…")
        }
        Err(why) => capabilities.missing(Control::Landlock, why.clone()),
    };
    // The lesser case of the same trial, or what needs no more than that a sandbox can be built.
    for (control, like) in [
        (Control::NetworkNone, Control::NetworkDoor),
        (Control::Pty, Control::IsolationContainer),
        (Control::Adopt, Control::IsolationContainer),
        (Control::RootImage, Control::IsolationContainer),
        (Control::RootArchive, Control::IsolationContainer),
        (Control::RootDirectory, Control::IsolationContainer),
    ] {
        capabilities = match capabilities.why_missing(like).map(str::to_owned) {
            None => capabilities.proven(control),
            Some(why) => capabilities.missing(control, why),
        };
    }
    capabilities
}

fn not_ours(question: &Question) -> Capabilities {
    let engine = super::client::name(question.address.engine);
    Capabilities::default()
        .missing(Control::IsolationProcess, format!("{engine} always isolates; the engine direct does not"))
        .missing(Control::IsolationGvisor, format!("{engine} is asked for containers on the host's kernel only"))
        .missing(Control::IsolationVm, format!("{engine} is asked for containers on the host's kernel only"))
        .missing(Control::NetworkHost, format!("{engine} is never asked for the host's network; use a door"))
}

fn reason(error: &Error) -> String {
    error.chain().join(": ")
}

fn settle(capabilities: Capabilities, judged: &Result<Attestation, String>, control: Control) -> Capabilities {
    let judged = match judged {
        Ok(judged) => judged,
        Err(why) => return capabilities.missing(control, sentence(why)),
    };
    match judged.deviations.iter().find(|deviation| deviation.control == control) {
        Some(deviation) => {
            let why = format!("Asked for {}, found {}", deviation.expected, deviation.found);
            capabilities.missing(control, why)
        }
        None if judged.proven.contains(&control) => capabilities.proven(control),
        None => capabilities.missing(control, "The trial did not prove it"),
    }
}

/// What engines and kernels say where limits cannot be had.
const NO_GROUPS: &[&str] = &["cgroup", "controller", "systemd"];

fn sentence(why: &str) -> String {
    if NO_GROUPS.iter().any(|word| why.contains(word)) {
        return format!(
            "Its containers are given no control groups here; rootless engines need cgroup v2 with delegation \
             (systemctl edit user@.service: Delegate=cpu memory pids) ({why})"
        );
    }
    why.to_owned()
}

struct Trials {
    dir: tempfile::TempDir,
    guest: PathBuf,
    options: Options,
    instance: InstanceId,
    _door: UnixListener,
}

impl Trials {
    fn new(question: &Question) -> Result<Self> {
        let make = || -> std::io::Result<_> {
            let dir = tempfile::Builder::new().prefix("cove-probe-").tempdir()?;
            std::fs::create_dir(dir.path().join("mount"))?;
            let door = UnixListener::bind(dir.path().join("door"))?;
            Ok((dir, door))
        };
        let (dir, door) = make().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "A temporary directory for the probe cannot be made").because(error)
        })?;
        let guest = guest::install(dir.path())?;
        let image = removal::runtime()?.block_on(async { base::ensure(&Client::to(&question.address)?).await })?;
        let options = Options { address: question.address.clone(), image, facts: question.facts };
        Ok(Self { dir, guest, options, instance: InstanceId::new(), _door: door })
    }

    fn run(&self, wanted: &[Control]) -> Result<Attestation, String> {
        let id = SandboxId::new();
        let dir = self.dir.path().join(id.as_str());
        std::fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let place = Place {
            id,
            dir,
            instance: self.instance.clone(),
            guest: self.guest.clone(),
            options: serde_json::to_value(&self.options).unwrap_or(json!(null)),
        };
        let spec = self.spec(wanted);
        let tried = self.build(&place, &spec);
        // Also what a failed trial may have left.
        let cleared = Left { address: self.options.address.clone() }.clear(&place);
        let judged = tried?;
        cleared.map_err(|error| reason(&error))?;
        Ok(judged)
    }

    fn spec(&self, wanted: &[Control]) -> SandboxSpec {
        let mut spec = SandboxSpec::new(Root::Host);
        let limits = Limits { wall_seconds: Some(60), ..Limits::default() };
        let asked = |control| wanted.contains(&control);
        spec.limits = Limits {
            memory_bytes: limits.memory_bytes.filter(|_| asked(Control::LimitMemory)),
            pids: limits.pids.filter(|_| asked(Control::LimitPids)),
            cpus: limits.cpus.map(|cpus| cpus / 2.0).filter(|_| asked(Control::LimitCpu)),
            ..limits
        };
        spec.network = Network::Door { socket: self.dir.path().join("door") };
        let (own, group) = crate::native::sys::own_ids();
        if own != 0 && !self.options.facts.own_users {
            // What the caller cannot give away is given to whom it belongs.
            spec.user = cove_core::User { uid: own, gid: group };
        }
        spec.mounts.push(Mount {
            source: self.dir.path().join("mount"),
            target: "/mnt/probe".into(),
            read_only: false,
            give: true,
        });
        spec
    }

    fn build(&self, place: &Place, spec: &SandboxSpec) -> Result<Attestation, String> {
        let dialect = of(self.options.address.engine).map_err(|error| reason(&error))?;
        let (mine, guests) = Channel::pair().map_err(|error| error.to_string())?;
        let launched = ContainerLauncher(dialect).launch(place, spec, guests.into_fd());
        let mut launched = launched.map_err(|error| reason(&error))?;
        let judged = examine(&*launched, spec, &mine);
        let ended = launched.kill_all();
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
