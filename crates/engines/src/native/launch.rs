//! Starts a sandbox: the supervisor's side and, after the fork, the side of the first process.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use cove_core::{
    Attestation, Control, Error, ErrorKind, InstanceId, Isolation, Network, Report, Result, SandboxId, SandboxSpec,
};
use cove_guest::wire::{CHANNEL_FD, Probe};

use super::cgroup::{Groups, Sites};
use super::give;
use super::identity::Identity;
use super::lockdown::{Lockdown, landlock_abi};
use super::plan::{GUEST, Plan};
use super::root::{self, Failure, at};
use super::sys::{self, Fork};
use crate::filter::landlock::WITNESS;
use crate::proof;
use crate::supervisor::launch::{HOME, Launched, Launcher, Place, USER, base_environment};

/// How long building may take before it is given up.
const BUILD: Duration = Duration::from_secs(60);

/// How long a kill waits for the last process.
const KILL: Duration = Duration::from_secs(20);

/// Longest report of a failed step that is read from the first process.
const FAILURE_BYTES: u64 = 4096;

/// Namespaces of the first process; that of cgroups follows once it is in its groups.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Name of the sandbox's control groups; remains are found by it.
pub fn group_name(instance: &InstanceId, id: &SandboxId) -> String {
    format!("{}{id}", group_prefix(instance))
}

/// What the names of all groups of an instance begin with.
pub fn group_prefix(instance: &InstanceId) -> String {
    format!("cove-{}-", instance.short())
}

/// Builds sandboxes with namespaces, control groups and filters.
#[derive(Debug)]
pub struct NativeLauncher;

impl Launcher for NativeLauncher {
    fn launch(&self, place: &Place, spec: &SandboxSpec, guest_channel: OwnedFd) -> Result<Box<dyn Launched>> {
        refuse_what_is_not_offered(spec)?;
        let sites = if place.options["withoutGroups"] == true {
            Sites::none("control groups are switched off for this sandbox")
        } else {
            Sites::discover()
        };
        let waived = |control| spec.hardening.accept_missing.contains(&control);
        let mut groups = Groups::make(&sites, &group_name(&place.instance, &place.id), &spec.limits, waived)?;
        match start(place, spec, guest_channel, &groups) {
            Ok(mut sandbox) => {
                sandbox.groups = groups;
                Ok(Box::new(sandbox))
            }
            Err(error) => Err(match groups.remove() {
                Ok(()) => error,
                Err(left) => error.with("left", left),
            }),
        }
    }
}

fn refuse_what_is_not_offered(spec: &SandboxSpec) -> Result<()> {
    let control = match (spec.isolation, &spec.network) {
        (Isolation::Process, _) => Control::IsolationProcess,
        (Isolation::Gvisor, _) => Control::IsolationGvisor,
        (Isolation::Vm, _) => Control::IsolationVm,
        (Isolation::Container, Network::Host) => Control::NetworkHost,
        (Isolation::Container, _) => return Ok(()),
    };
    Err(Error::new(ErrorKind::Unsupported, format!("The native engine does not offer {control}")))
}

fn not_started(step: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::NotStarted, "The sandbox could not be built").with("step", step).because(error)
}

/// Everything but the groups, which the caller owns.
fn start(place: &Place, spec: &SandboxSpec, channel: OwnedFd, groups: &Groups) -> Result<NativeSandbox> {
    let identity = Identity::of(&place.id, spec.user);
    let unpacked = place.options.get("root").and_then(|root| root.as_str()).map(PathBuf::from);
    let plan = Plan::new(spec, identity, unpacked.as_deref(), &groups.directories())?;
    let lockdown = Lockdown::new(&spec.hardening, &spec.limits, &plan.open_to_writing())?;
    let guest = fs::File::open(&place.guest).map_err(|error| not_started("open the guest", error))?;
    if identity.privileged {
        for mount in spec.mounts.iter().filter(|mount| mount.give) {
            // The resolved one: what is given is what is shown.
            give::give(plan.source_at(&mount.target).unwrap_or(&mount.source), identity.outside)?;
        }
    }
    let mut first = First::fork(&plan, &lockdown, &guest, &channel)?;
    drop(channel);
    first.map(&plan.identity)?;
    groups.enter(first.pid)?;
    first.run()?;
    let environment = serde_json::from_value(place.options["env"].clone()).unwrap_or_default();
    Ok(first.into_sandbox(plan.read_only_root && spec.hardening.landlock, environment))
}

/// The first process while it is being set up. Dropping kills it.
struct First {
    pid: libc::pid_t,
    pidfd: Option<OwnedFd>,
    /// Closing it without a word ends the child.
    go: Option<io::PipeWriter>,
    failures: io::PipeReader,
}

impl First {
    fn fork(plan: &Plan, lockdown: &Lockdown, guest: &fs::File, channel: &OwnedFd) -> Result<Self> {
        let trees = match plan.identity.privileged.then(|| root::open_trees(plan)) {
            Some(Ok(trees)) => Some(trees),
            // Root of a user namespace that may not mount outside of the sandbox's own.
            Some(Err(failure)) if failure.error.raw_os_error() == Some(libc::EPERM) => None,
            Some(Err(failure)) => return Err(reported(failure)),
            None => None,
        };
        let (waiting, go) = io::pipe().map_err(|error| not_started("make a pipe", error))?;
        let (failures, mut report) = io::pipe().map_err(|error| not_started("make a pipe", error))?;
        match sys::fork_into(NAMESPACES).map_err(|error| not_started("enter namespaces", error))? {
            Fork::Child => {
                drop((go, failures));
                let failure = match become_guest(plan, lockdown, guest, channel, trees, waiting) {
                    Ok(never) => match never {},
                    Err(failure) => failure,
                };
                let errno = failure.error.raw_os_error().unwrap_or(0);
                let _ = write!(report, "{errno}\n{}\n{}", failure.step, failure.error);
                sys::exit_now(125)
            }
            Fork::Parent { pid, pidfd } => Ok(Self { pid, pidfd: Some(pidfd), go: Some(go), failures }),
        }
    }

    fn map(&self, identity: &Identity) -> Result<()> {
        identity.map(self.pid).map_err(|error| not_started("map the user", error))
    }

    /// Lets the child build and waits until it has become the guest.
    fn run(&mut self) -> Result<()> {
        if let Some(mut go) = self.go.take() {
            go.write_all(b"!").map_err(|error| not_started("start building", error))?;
        }
        // The pipe closes when the guest's program takes over, or with the reason why it did not.
        let mut poll = [nix::poll::PollFd::new(self.failures.as_fd(), nix::poll::PollFlags::POLLIN)];
        let end = std::time::Instant::now() + BUILD;
        loop {
            let left = end.saturating_duration_since(std::time::Instant::now()).as_millis().min(60_000) as u16;
            match nix::poll::poll(&mut poll, left) {
                Ok(0) | Err(nix::errno::Errno::EINTR) if left > 0 => {}
                Ok(0) | Err(nix::errno::Errno::EINTR) => {
                    return Err(Error::new(ErrorKind::NotStarted, "Building the sandbox took longer than a minute"));
                }
                Err(error) => return Err(not_started("wait for the guest", error)),
                Ok(_) => break,
            }
        }
        let mut text = String::new();
        let read = (&mut self.failures).take(FAILURE_BYTES).read_to_string(&mut text);
        read.map_err(|error| not_started("wait for the guest", error))?;
        if text.is_empty() {
            return Ok(());
        }
        let mut parts = text.splitn(3, '\n');
        let (_errno, step, cause) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        Err(not_started(step, cause.to_owned()))
    }

    fn into_sandbox(mut self, landlock: bool, environment: Vec<(String, String)>) -> NativeSandbox {
        let pidfd = self.pidfd.take();
        NativeSandbox { pid: self.pid, pidfd, groups: Groups::default(), landlock, environment }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        // Still ours: it has not become the guest, so nobody else reaps it. By id, which needs no
        // descriptor and is safe for a child that has not been reaped.
        if self.pidfd.is_some() {
            sys::kill(self.pid);
            sys::reap(self.pid);
        }
    }
}

fn reported(failure: Failure) -> Error {
    not_started(&failure.step, failure.error)
}

/// The child: builds the root, gives up every right and becomes the guest.
fn become_guest(
    plan: &Plan,
    lockdown: &Lockdown,
    guest: &fs::File,
    channel: &OwnedFd,
    trees: Option<Vec<OwnedFd>>,
    mut waiting: io::PipeReader,
) -> std::result::Result<std::convert::Infallible, Failure> {
    let mut word = [0];
    let told = waiting.read(&mut word);
    if !matches!(told, Ok(1)) {
        // The supervisor gave up or died.
        sys::exit_now(125);
    }
    drop(waiting);
    at(|| "enter a cgroup namespace".to_owned(), sys::unshare(libc::CLONE_NEWCGROUP))?;
    at(|| "part from the host's mounts".to_owned(), sys::make_mounts_private())?;
    let trees = match trees {
        Some(trees) => trees,
        None => root::open_trees(plan)?,
    };
    let identity = &plan.identity;
    // Capabilities survive the change of ids until the lockdown drops them.
    let keep = sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).map(|_| ());
    at(|| "keep capabilities while building".to_owned(), keep)?;
    let user = sys::become_user(identity.inside.uid, identity.inside.gid, identity.privileged);
    at(|| "become the sandbox's user".to_owned(), user)?;
    let all = sys::permitted_capabilities().and_then(|all| sys::set_capabilities(all, all, 0));
    at(|| "raise capabilities while building".to_owned(), all)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    at(|| "bring the loopback interface up".to_owned(), sys::loopback_up())?;
    at(|| "name the host".to_owned(), nix::unistd::sethostname("cove").map_err(io::Error::from))?;
    root::build(plan, trees, guest)?;
    at(|| "leave the session".to_owned(), nix::unistd::setsid().map(|_| ()).or_else(already_leader))?;
    at(|| "set up the descriptors".to_owned(), place_descriptors(channel))?;
    lockdown.apply()?;
    let text = |s: &str| CString::new(s).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let environment = [format!("HOME={HOME}"), format!("USER={USER}"), "PATH=/usr/bin:/bin".to_owned()];
    let environment: io::Result<Vec<CString>> = environment.iter().map(|s| text(s)).collect();
    let environment = at(|| "prepare the environment".to_owned(), environment)?;
    let program = at(|| "prepare the program".to_owned(), text(GUEST))?;
    let error = sys::execute(&program, &[c"cove-guest".to_owned()], &environment);
    Err(Failure { step: "start the guest".to_owned(), error })
}

fn already_leader(error: nix::errno::Errno) -> io::Result<()> {
    if error == nix::errno::Errno::EPERM { Ok(()) } else { Err(error.into()) }
}

/// Null as stdin, stdout and stderr, the channel at its number, everything else marked to close at
/// the exec (the failures' pipe has to stay until then).
fn place_descriptors(channel: &OwnedFd) -> io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // Out of the way of the numbers that are about to be filled.
    let channel = nix::fcntl::fcntl(channel, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(8))?;
    let null = nix::fcntl::fcntl(&null, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(8))?;
    sys::close_on_exec_from(0)?;
    for number in 0..3 {
        sys::put_at(null, number)?;
    }
    sys::put_at(channel, CHANNEL_FD)
}

/// A sandbox of the native engine.
#[derive(Debug)]
pub struct NativeSandbox {
    pid: libc::pid_t,
    pidfd: Option<OwnedFd>,
    groups: Groups,
    /// Whether Landlock holds something that the guest can try.
    landlock: bool,
    /// What the root's image says about variables.
    environment: Vec<(String, String)>,
}

impl Launched for NativeSandbox {
    fn init(&self) -> libc::pid_t {
        self.pid
    }

    fn probe(&self, spec: &SandboxSpec) -> Probe {
        proof::questions(spec, self.landlock.then(landlock_abi).filter(|abi| *abi > 0), WITNESS)
    }

    fn judge(&self, spec: &SandboxSpec, report: &Report) -> Attestation {
        proof::judge(spec, report, &self.groups.read(), &proof::host_namespaces(proof::NAMESPACES))
    }

    fn environment(&self, _spec: &SandboxSpec) -> BTreeMap<String, String> {
        let mut environment = base_environment(HOME, USER);
        // The image knows where its programs are; whose home it is, it does not.
        let of_image = self.environment.iter().filter(|(name, _)| name != "HOME" && name != "USER");
        environment.extend(of_image.cloned());
        environment
    }

    fn kill_all(&mut self) -> Result<()> {
        // The end of the first process ends its namespace: the kernel kills the rest and lets it end
        // last. A group's own kill comes first where it exists, as it cannot be outrun.
        let failed = |error: io::Error| Error::internal("The sandbox's processes could not be killed").because(error);
        if let Some(pidfd) = &self.pidfd {
            sys::signal(pidfd.as_fd(), libc::SIGKILL).map_err(failed)?;
            if !sys::wait_ended(pidfd.as_fd(), KILL).map_err(failed)? {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "The sandbox's processes did not end after they were killed",
                )
                .with("pid", self.pid)
                .with("fd", pidfd.as_raw_fd()));
            }
        }
        if self.groups.kill(KILL) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Timeout, "Processes are left in the sandbox's control groups"))
    }

    fn oom_kills(&self) -> u64 {
        self.groups.oom_kills()
    }

    fn release(&mut self) -> Result<()> {
        // Mounts were the sandbox's namespace's own and went with it.
        self.groups.remove()
    }
}
