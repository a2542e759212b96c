//! The circumstances in which the native engine is tried: as root, as a user with delegated control
//! groups, and as a user without any.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program says what it skips")]
#![allow(unsafe_code, reason = "a test changes its user and asks for its ids")]
#![allow(dead_code, reason = "each test program uses a part")]

pub mod suite;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cove_core::engine::{Collected, collect};
use cove_core::{Control, Engine, ExecSpec, InstanceId, Root, SandboxId, SandboxSpec};
use cove_engines::{HelperProgram, LocalEngine};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

/// Names the set-up to a test program that was started again.
const SETUP: &str = "COVE_TEST_SETUP";

/// A user that no account stands for.
const STRANGER: u32 = 61_234;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    Root,
    Rootless,
    RootlessWithoutGroups,
}

impl Setup {
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Rootless => "rootless",
            Self::RootlessWithoutGroups => "rootless-without-groups",
        }
    }

    /// The one that this process is in.
    pub fn current() -> Self {
        match std::env::var(SETUP).as_deref() {
            Ok("rootless") => Self::Rootless,
            Ok(_) => Self::RootlessWithoutGroups,
            Err(_) if is_root() => Self::Root,
            Err(_) => Self::Rootless,
        }
    }

    /// The engine under test.
    pub fn engine(
        self,
        state: &Path,
        instance: &InstanceId,
    ) -> cove_core::Result<LocalEngine<cove_engines::native::Native>> {
        self.engine_with(state, instance, HelperProgram::current()?)
    }

    /// With supervisors started in another way; the probe is made in the usual one.
    pub fn engine_with(
        self,
        state: &Path,
        instance: &InstanceId,
        helper: HelperProgram,
    ) -> cove_core::Result<LocalEngine<cove_engines::native::Native>> {
        use cove_engines::native::Native;
        let usual = HelperProgram::current()?;
        let native = match self {
            Self::RootlessWithoutGroups => Native::without_groups(state.join("images"), &usual)?,
            _ => Native::new(state.join("images"), &usual)?,
        };
        LocalEngine::new(native, state, instance.clone(), helper)
    }
}

/// An engine in a directory of its own, and a runtime to drive it.
pub struct Native {
    pub runtime: Runtime,
    pub engine: LocalEngine<cove_engines::native::Native>,
    dir: PathBuf,
    _own: Option<tempfile::TempDir>,
}

pub type Outcome = Result<(), Failed>;

impl Native {
    pub fn new(setup: Setup) -> cove_core::Result<Self> {
        let own = tempfile::Builder::new().prefix("cove-native-").tempdir();
        let own = own.map_err(|error| cove_core::Error::internal("No directory").because(error))?;
        Ok(Self::with(setup, own.path(), &InstanceId::new())?.owning(own))
    }

    fn owning(mut self, own: tempfile::TempDir) -> Self {
        self._own = Some(own);
        self
    }

    /// In a directory of the caller's.
    pub fn with(setup: Setup, dir: &Path, instance: &InstanceId) -> cove_core::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| cove_core::Error::internal("No runtime").because(error))?;
        let engine = setup.engine(&dir.join("state"), instance)?;
        Ok(Self { runtime, engine, dir: dir.to_owned(), _own: None })
    }

    pub fn has(&self, control: Control) -> bool {
        self.engine.capabilities().has(control)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A default sandbox; where control groups are missing, without their limits.
    pub fn spec(&self) -> SandboxSpec {
        let mut spec = SandboxSpec::new(Root::Host);
        spec.hardening.accept_missing = [Control::LimitCpu, Control::LimitMemory, Control::LimitPids].into();
        spec
    }

    pub fn create(&self, spec: &SandboxSpec) -> Result<SandboxId, String> {
        let id = SandboxId::new();
        let made = self.runtime.block_on(self.engine.create(&id, spec));
        made.map(|_| id).map_err(|error| error.chain().join(": "))
    }

    pub fn run(&self, id: &SandboxId, exec: ExecSpec) -> Result<Collected, Failed> {
        self.runtime.block_on(async {
            let exec = self.engine.exec(id, &exec).await.map_err(|error| error.chain().join(": "))?;
            let collected = tokio::time::timeout(Duration::from_secs(120), collect(exec, b"", 1 << 20)).await;
            Ok(collected.map_err(|_| "the process did not end")?.map_err(|error| error.chain().join(": "))?)
        })
    }

    pub fn remove(&self, id: &SandboxId) -> Outcome {
        Ok(self.runtime.block_on(self.engine.remove(id)).map_err(|error| error.chain().join(": "))?)
    }
}

/// Whether something comes to hold within a minute.
pub fn wait(holds: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    holds()
}

pub fn is_root() -> bool {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Runs `trials` in this process's set-up and, as root, one trial more for each set-up that a
/// process of its own is needed for.
pub fn main(trials: impl FnOnce(Setup) -> Vec<Trial>) -> ! {
    let mut arguments = Arguments::from_args();
    // Every trial has sandboxes of its own; two at a time are enough for a small machine.
    arguments.test_threads.get_or_insert(2);
    let setup = Setup::current();
    if let Some(why) = unable(setup) {
        eprintln!("SKIPPED set-up {}: {why}", setup.name());
        let trial = Trial::test(format!("{}::all", setup.name()), || Ok(())).with_kind("not on this host");
        libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(true)]).exit();
    }
    let mut all = trials(setup);
    if setup == Setup::Root {
        for other in [Setup::Rootless, Setup::RootlessWithoutGroups] {
            all.push(Trial::test(format!("{}::all", other.name()), move || again(other)));
        }
    } else if std::env::var_os(SETUP).is_none() {
        eprintln!("SKIPPED set-up root: not run as root");
    }
    libtest_mimic::run(&arguments, all).exit()
}

/// Why this host cannot isolate at all, as its probe says.
fn unable(setup: Setup) -> Option<String> {
    let dir = tempfile::tempdir().ok()?;
    let engine = setup.engine(dir.path(), &InstanceId::new()).ok()?;
    engine.capabilities().why_missing(Control::IsolationContainer).map(str::to_owned)
}

/// This program again, as a stranger. Its files have to be readable for that user.
fn again(setup: Setup) -> Result<(), Failed> {
    let dir = tempfile::Builder::new().prefix("cove-test-").tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let home = dir.path().join("home");
    fs::create_dir(&home)?;
    chown(&home, Some(STRANGER), Some(STRANGER))?;
    let groups = if setup == Setup::Rootless { Delegated::new()? } else { Delegated::default() };
    if setup == Setup::Rootless && groups.0.is_empty() {
        eprintln!("SKIPPED set-up {}: no control group can be delegated here", setup.name());
        return Ok(());
    }
    let enter: Vec<PathBuf> = groups.0.iter().map(|group| group.join("cgroup.procs")).collect();
    let mut command = Command::new(&program);
    command.env(SETUP, setup.name()).env("HOME", &home).env("TMPDIR", &home).current_dir(&home);
    command.stdin(Stdio::null()).args(["--test-threads", "2"]);
    // SAFETY: the new process has a single thread and only makes system calls and small allocations
    // of a program that was forked from a place where no allocation was under way in this thread;
    // the standard library's own fork path keeps the allocator usable.
    unsafe {
        command.pre_exec(move || {
            for group in &enter {
                fs::write(group, "0")?;
            }
            libc::setgroups(0, std::ptr::null());
            if libc::setresgid(STRANGER, STRANGER, STRANGER) != 0 || libc::setresuid(STRANGER, STRANGER, STRANGER) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    // Another trial's fork may still hold the copy open for writing for a moment.
    let output = loop {
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}

/// Control groups that were made for the stranger below our own.
#[derive(Default)]
struct Delegated(Vec<PathBuf>);

impl Delegated {
    fn new() -> std::io::Result<Self> {
        let mut made = Self::default();
        let name = format!("cove-test-{}", std::process::id());
        let own = fs::read_to_string("/proc/self/cgroup")?;
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let wanted = ["memory", "pids", "cpu"].iter().any(|c| controllers.split(',').any(|known| known == *c));
            let top = match controllers {
                "" => PathBuf::from("/sys/fs/cgroup"),
                _ => Path::new("/sys/fs/cgroup").join(controllers),
            };
            let group = top.join(path.trim_start_matches('/')).join(&name);
            let unified = controllers.is_empty() && top.join("cgroup.controllers").exists();
            if !(wanted || unified) || fs::create_dir(&group).is_err() {
                continue;
            }
            made.0.push(group.clone());
            chown(&group, Some(STRANGER), Some(STRANGER))?;
            for entry in fs::read_dir(&group)?.flatten() {
                let _ = chown(entry.path(), Some(STRANGER), Some(STRANGER));
            }
        }
        Ok(made)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for group in &self.0 {
            for _ in 0..1000 {
                match fs::remove_dir(group) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
    }
}
