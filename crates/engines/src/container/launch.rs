//! Starts a sandbox in a container engine; the supervisor's side.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};
use cove_core::error::Context;
use cove_core::{Control, Error, ErrorKind, Isolation, Network, Result, SandboxSpec};
use cove_guest::wire::Join;
use serde::{Deserialize, Serialize};

use super::client::{Address, Client, name};
use super::dialect::{Dialect, Facts};
use super::image::Image;
use super::join::{Door, Guest};
use super::layout::Layout;
use super::look::{self, Life};
use super::removal::{remove, runtime, speaking};
use super::request;
use super::sandbox::ContainerSandbox;
use super::{mounts, remains};
use crate::filter::{landlock, limits, program};
use crate::native::give;
use crate::native::lockdown::landlock_abi;
use crate::native::sys;
use crate::supervisor::launch::{Launched, Launcher, Place};

/// How long the engine may take to make and to start a container.
const BEGIN: Duration = Duration::from_secs(70);

/// How long the guest may take to come after the start.
const ARRIVAL: Duration = Duration::from_secs(30);

/// Between two looks whether a guest that does not come has ended.
const LOOK: Duration = Duration::from_millis(300);

/// What the daemon's side found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// The engine.
    pub address: Address,
    /// The image to start from.
    pub image: Image,
    /// About the engine.
    pub facts: Facts,
}

/// Builds sandboxes as containers.
#[derive(Debug)]
pub struct ContainerLauncher(pub &'static dyn Dialect);

impl Launcher for ContainerLauncher {
    fn launch(&self, place: &Place, spec: &SandboxSpec, guest_channel: OwnedFd) -> Result<Box<dyn Launched>> {
        let options: Options = serde_json::from_value(place.options.clone())
            .context(ErrorKind::Internal, "What was found out about the engine is not there")?;
        refuse_what_is_not_offered(spec, self.0, options.facts)?;
        let layout = Layout::new(place, spec, &options.image, self.0)?;
        give_away(spec, options.facts)?;
        let door = Door::open(&place.dir.join("inside"))?;
        let body = request::body(place, spec, &options.image, &layout, options.facts, self.0)?;
        let container = Container::begin(place, &options, body)?;
        match container.finish(door, place, spec, &layout, guest_channel) {
            Ok(found) => {
                let Container { id, dir, .. } = container;
                Ok(Box::new(ContainerSandbox::new(self.0, id, dir, options, found)))
            }
            Err(error) => Err(container.undo(error)),
        }
    }
}

/// Refuses what no container of this engine has.
///
/// # Errors
/// `Unsupported` with the control's name.
pub fn refuse_what_is_not_offered(spec: &SandboxSpec, dialect: &dyn Dialect, facts: Facts) -> Result<()> {
    let engine = name(dialect.engine());
    let refuse = |control: Control, why: &str| {
        Err(Error::new(ErrorKind::Unsupported, format!("{engine} cannot give {control}{why}")))
    };
    match (spec.isolation, &spec.network) {
        (Isolation::Process, _) => return refuse(Control::IsolationProcess, ": it always isolates"),
        (Isolation::Gvisor, _) => return refuse(Control::IsolationGvisor, ""),
        (Isolation::Vm, _) => return refuse(Control::IsolationVm, ""),
        (Isolation::Container, Network::Host) => return refuse(Control::NetworkHost, ": use a door"),
        (Isolation::Container, _) => {}
    }
    if !spec.hardening.capabilities.is_empty() && spec.user.uid != 0 && !dialect.keeps_capabilities() {
        let kept: Vec<&str> = spec.hardening.capabilities.iter().map(String::as_str).collect();
        let kept = kept.join(", ");
        let told = format!("{engine} cannot give {kept} to a user other than root; native and podman can");
        return Err(Error::new(ErrorKind::Unsupported, told));
    }
    // The smallest that Docker takes.
    if spec.limits.memory_bytes.is_some_and(|bytes| bytes < 6 << 20) {
        return refuse(Control::LimitMemory, " below 6 MiB; native can");
    }
    let (own, _) = sys::own_ids();
    let gives = spec.mounts.iter().find(|mount| mount.give);
    // Rootless Podman shows the caller's files as the sandbox user's; root gives them away.
    let podman = facts.rootless && dialect.users(facts, spec.user).is_some();
    if let Some(mount) = gives
        && !podman
        && own != 0
        && (facts.own_users || own != spec.user.uid)
    {
        let next = if facts.own_users {
            "Use the engine native or podman".to_owned()
        } else {
            format!("Let the sandbox's user be {own}, or use the engine native or podman")
        };
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{engine} cannot give mounts: {} cannot be handed to user {}",
                mount.source.display(),
                spec.user.uid
            ),
        )
        .next(next));
    }
    Ok(())
}

fn give_away(spec: &SandboxSpec, facts: Facts) -> Result<()> {
    if sys::own_ids().0 != 0 || facts.own_users {
        return Ok(());
    }
    for mount in spec.mounts.iter().filter(|mount| mount.give) {
        give::give(&mount.source, spec.user)?;
    }
    Ok(())
}

fn not_started(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::NotStarted, what.into())
}

/// A writable root takes the host's disk, so the disk limit has to see it.
fn bounded_root(spec: &SandboxSpec, upper: Option<&std::path::Path>) -> Result<()> {
    let waived = spec.hardening.accept_missing.contains(&Control::LimitDisk);
    if spec.hardening.read_only_root || spec.limits.disk_bytes.is_none() || waived {
        return Ok(());
    }
    match upper.map(fs::read_dir) {
        Some(Ok(_)) => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} cannot be given with a writable root: what is written to it cannot be seen from here",
                Control::LimitDisk
            ),
        )
        .next("Keep the root read-only, or use the engine native")),
    }
}

/// A container whose guest has joined.
#[derive(Debug)]
pub struct Found {
    /// The guest as this process sees it.
    pub pid: libc::pid_t,
    /// Its process.
    pub pidfd: OwnedFd,
    /// The Landlock interface in force, where the guest can try it.
    pub landlock: Option<u32>,
    /// Where what is written to the root goes, when it can be written.
    pub upper: Option<PathBuf>,
}

/// A container on its way.
struct Container {
    id: String,
    address: Address,
    dir: PathBuf,
}

impl Container {
    /// Makes and starts it.
    fn begin(place: &Place, options: &Options, body: bollard::models::ContainerCreateBody) -> Result<Self> {
        let name = request::container_name(&place.instance, &place.id);
        let engine = super::client::name(options.address.engine);
        let mut container = Self { id: name.clone(), address: options.address.clone(), dir: place.dir.clone() };
        let begun: Result<()> = runtime()?.block_on(async {
            let client = Client::to(&options.address)?;
            let query = CreateContainerOptionsBuilder::default().name(&name).build();
            let made = client.docker.create_container(Some(query), body);
            let made = client.call("create the container", BEGIN, made).await?;
            container.id = made.id;
            let started = client.docker.start_container(&container.id, None::<StartContainerOptions>);
            let started = client.call("start the container", BEGIN, started).await;
            let Err(refused) = started else { return Ok(()) };
            // It may run although its engine says otherwise.
            match look::container(&options.address, &container.id).await {
                Ok(Some(look::Seen { life: Life::Running { .. }, .. })) => Ok(()),
                _ => Err(refused),
            }
        });
        match begun {
            Ok(()) => Ok(container),
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Denied) => {
                Err(container.undo(error))
            }
            Err(error) => {
                Err(container.undo(not_started(format!("{engine} does not start the container")).because(error)))
            }
        }
    }

    /// Takes the guest in, and compares what is there with what was asked for.
    fn finish(
        &self,
        door: Door,
        place: &Place,
        spec: &SandboxSpec,
        layout: &Layout,
        channel: OwnedFd,
    ) -> Result<Found> {
        let guest = self.await_guest(&door)?;
        drop(door);
        let upper = self.of_the_containers(&guest)?.upper.filter(|_| !spec.hardening.read_only_root);
        bounded_root(spec, upper.as_deref())?;
        let options: Options =
            serde_json::from_value(place.options.clone()).context(ErrorKind::Internal, "No options")?;
        let abi = spec.hardening.landlock.then(landlock_abi).filter(|abi| *abi > 0);
        let views: Vec<_> = layout.views.iter().filter_map(|view| Some((view, view.is?))).collect();
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let mut writable = layout.writable.clone();
        if !spec.hardening.read_only_root {
            writable.push("/".into());
        }
        let counted_alone = options.facts.own_users && sys::counts_processes_by_namespace();
        let resources = limits::resources(&spec.limits, counted_alone);
        let filters = spec.hardening.seccomp.then(program::filters).transpose()?;
        let join = Join {
            directories: layout.directories.iter().map(|path| text(path)).collect(),
            limits: resources.into_iter().map(|(resource, value)| (resource as u32, value)).collect(),
            landlock: abi.and_then(|abi| landlock::rules(abi, &writable)),
            filters: filters.as_ref().map_or(0, |filters| u32::try_from(filters.len()).unwrap_or(0)),
            look: views.iter().map(|(view, _)| text(&view.target)).collect(),
        };
        let programs = filters.as_ref().map(program::bytes).unwrap_or_default();
        let (joined, pid, pidfd) = guest.join(&join, channel, &programs)?;
        for (number, (view, is)) in views.iter().enumerate() {
            if joined.places.get(number).copied().flatten() != Some(*is) {
                return Err(not_started(format!(
                    "The sandbox is not what was asked for: {} (asked for what was at {} when the sandbox was \
                     begun, found something else)",
                    Control::Mounts,
                    view.target.display()
                )));
            }
        }
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"));
        let table = table.context(ErrorKind::NotStarted, "The sandbox's mounts cannot be looked at")?;
        let differences = mounts::differences(&table, layout);
        if !differences.is_empty() {
            return Err(not_started(format!(
                "The sandbox is not what was asked for: {} ({})",
                Control::Mounts,
                differences.join("; ")
            )));
        }
        Ok(Found { pid, pidfd, landlock: abi.filter(|_| spec.hardening.read_only_root), upper })
    }

    fn await_guest(&self, door: &Door) -> Result<Guest> {
        let end = Instant::now() + ARRIVAL;
        loop {
            if let Some(guest) = door.wait(LOOK)? {
                return Ok(guest);
            }
            let engine = name(self.address.engine);
            match runtime()?.block_on(look::container(&self.address, &self.id))? {
                Some(seen) => match seen.life {
                    Life::Ended { code } => {
                        let text = std::io::Error::from_raw_os_error(i32::try_from(code).unwrap_or(0)).to_string();
                        return Err(not_started("The guest ended before it came to its supervisor")
                            .with("code", code)
                            .with("meaning", text)
                            .with("engine", seen.trouble));
                    }
                    Life::Running { .. } | Life::Made => {}
                    other => return Err(not_started(format!("{engine}'s container is {other:?}"))),
                },
                None => return Err(not_started(format!("{engine} has no such container any more"))),
            }
            if Instant::now() >= end {
                return Err(not_started(format!("The container that {engine} started does not reach its supervisor"))
                    .next(format!("{engine} has to run on this very machine, not in another or in a virtual one")));
            }
        }
    }

    /// The container, if it is its first process that came.
    fn of_the_containers(&self, guest: &Guest) -> Result<look::Seen> {
        let seen = runtime()?.block_on(look::container(&self.address, &self.id))?;
        match seen {
            Some(seen) if seen.life == (Life::Running { pid: guest.pid }) => Ok(seen),
            Some(look::Seen { life: Life::Running { pid }, .. }) => {
                Err(not_started("Another process came in the guest's place")
                    .with("expected", pid)
                    .with("came", guest.pid)
                    .next("The engine has to run on this very machine and in the same process namespace"))
            }
            other => Err(not_started("The guest's container is gone")
                .with("state", format!("{:?}", other.map(|seen| seen.life)))),
        }
    }

    fn undo(&self, error: Error) -> Error {
        let removed = speaking(&self.address)
            .and_then(|runtime| runtime.block_on(async { remove(&Client::to(&self.address)?, &self.id).await }));
        match removed {
            Ok(()) => {
                remains::note_gone(&self.dir);
                error
            }
            Err(left) => error.with("left", left),
        }
    }
}
