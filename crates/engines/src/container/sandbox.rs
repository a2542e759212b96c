//! A sandbox that is a container.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::KillContainerOptionsBuilder;
use cove_core::capability::required;
use cove_core::{Attestation, Control, Deviation, Error, ErrorKind, Report, Result, SandboxSpec};
use cove_guest::wire::Probe;

use super::client::{Address, Client};
use super::dialect::Dialect;
use super::launch::{Found, Options};
use super::look;
use super::remains;
use super::removal::{remove, runtime, speaking};
use crate::filter::landlock::WITNESS;
use crate::native::cgroup::hierarchy::{Version, parse};
use crate::native::lockdown::capability_set;
use crate::native::sys;
use crate::proof;
use crate::supervisor::launch::{HOME, Launched, USER, base_environment};

/// How long a kill waits for the last process.
const KILL: Duration = Duration::from_secs(20);

/// How long the engine may take to kill.
const CALL: Duration = Duration::from_secs(30);

/// A running container.
#[derive(Debug)]
pub struct ContainerSandbox {
    dialect: &'static dyn Dialect,
    address: Address,
    id: String,
    dir: PathBuf,
    options: Options,
    found: Found,
    /// The host's file that counts kills for memory.
    kills: Option<PathBuf>,
    removed: bool,
}

impl ContainerSandbox {
    /// Takes over a container whose guest has joined.
    pub fn new(dialect: &'static dyn Dialect, id: String, dir: PathBuf, options: Options, found: Found) -> Self {
        let address = options.address.clone();
        let kills = memory_group(found.pid);
        Self { dialect, address, id, dir, options, found, kills, removed: false }
    }

    /// The engine's own kill, where ours is not permitted.
    fn kill_by_engine(&self) -> Result<()> {
        speaking(&self.address)?.block_on(async {
            let client = Client::to(&self.address)?;
            let signal = KillContainerOptionsBuilder::default().signal("KILL").build();
            let killed = client.docker.kill_container(&self.id, Some(signal));
            // That it does not run is said in many ways; what counts is the process.
            client.call("kill the container", CALL, killed).await
        })
    }
}

/// The file that counts kills in the memory group of a process.
fn memory_group(pid: libc::pid_t) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    parse(&mounts, &groups).into_iter().find_map(|hierarchy| {
        let file = match hierarchy.version {
            Version::V1 if hierarchy.controllers.iter().any(|name| name == "memory") => "memory.oom_control",
            Version::V2 => "memory.events",
            Version::V1 => return None,
        };
        let path = hierarchy.own.join(file);
        path.exists().then_some(path)
    })
}

fn kills_in(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

impl Launched for ContainerSandbox {
    fn init(&self) -> libc::pid_t {
        self.found.pid
    }

    fn probe(&self, spec: &SandboxSpec) -> Probe {
        let mut probe = proof::questions(spec, self.found.landlock, WITNESS);
        // What the engine itself makes is not the host's.
        let own = self.dialect.own_memory();
        probe.hidden.retain(|path| !own.iter().any(|own| Path::new(own).starts_with(path)));
        probe
    }

    fn judge(&self, spec: &SandboxSpec, report: &Report) -> Attestation {
        // Limits as the guest read them: the engine's word for them is none.
        let limits = report.cgroup.clone();
        let host = proof::host_namespaces(&self.dialect.namespaces(self.options.facts));
        let mut judged = proof::judge(spec, report, &limits, &host);
        let asked = capability_set(&spec.hardening.capabilities);
        let held = report.capabilities.get("CapEff").copied().unwrap_or(0);
        if required(spec).contains(&Control::CapabilityDrop) && held & asked != asked {
            judged.proven.retain(|control| *control != Control::CapabilityDrop);
            judged.deviations.push(Deviation {
                control: Control::CapabilityDrop,
                expected: format!("the capabilities {asked:#x} kept"),
                found: format!("{held:#x}"),
            });
        }
        judged
    }

    fn environment(&self, _spec: &SandboxSpec) -> BTreeMap<String, String> {
        let mut environment = base_environment(HOME, USER);
        // The image knows where its programs are; whose home it is, it does not.
        let of_image = self.options.image.env.iter().filter(|(name, _)| name != "HOME" && name != "USER");
        environment.extend(of_image.cloned());
        environment
    }

    fn writable(&self, spec: &SandboxSpec) -> Vec<PathBuf> {
        let mounted = spec.mounts.iter().filter(|mount| !mount.read_only).map(|mount| mount.source.clone());
        mounted.chain(self.found.upper.clone()).collect()
    }

    fn kill_all(&mut self) -> Result<()> {
        // The end of the first process ends its namespace: the kernel kills the rest and lets it end last.
        let failed = |error: io::Error| Error::internal("The sandbox's processes could not be killed").because(error);
        match sys::signal(self.found.pidfd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                if let Err(error) = self.kill_by_engine()
                    && !sys::wait_ended(self.found.pidfd.as_fd(), Duration::ZERO).map_err(failed)?
                {
                    return Err(error);
                }
            }
            other => other.map_err(failed)?,
        }
        if sys::wait_ended(self.found.pidfd.as_fd(), KILL).map_err(failed)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Timeout, "The sandbox's processes did not end after they were killed")
            .with("pid", self.found.pid))
    }

    fn oom_kills(&self) -> u64 {
        if let Some(count) = self.kills.as_deref().and_then(kills_in) {
            return count;
        }
        // The group is gone with its processes, or is not ours to see.
        let seen = runtime().and_then(|runtime| runtime.block_on(look::container(&self.address, &self.id)));
        u64::from(seen.ok().flatten().is_some_and(|seen| seen.out_of_memory))
    }

    fn release(&mut self) -> Result<()> {
        if self.removed {
            return Ok(());
        }
        speaking(&self.address)?.block_on(async { remove(&Client::to(&self.address)?, &self.id).await })?;
        remains::note_gone(&self.dir);
        self.removed = true;
        Ok(())
    }
}
