//! Attempts to get out of a native sandbox, each with the errno that refuses it and, where that is
//! harmless, the control that the same attempt works outside.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program says what it skips")]

#[path = "../setups/mod.rs"]
mod setups;

mod attempts;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cove_core::engine::{Collected, PtySize};
use cove_core::{Control, Engine, ExecSpec, ExitReason, Limits, Mount, SandboxId, SandboxSpec, SandboxState};
use libtest_mimic::{Failed, Trial};
use setups::{Native, Outcome, Setup};

fn main() {
    attempts::main();
    cove_engines::helper_main();
    setups::main(trials)
}

/// Where the test program and a writable directory are inside.
const PROGRAM: &str = "/mnt/program";
const WORK: &str = "/mnt/work";

/// What all trials use: an engine, and one sandbox for the attempts that leave nothing behind.
struct Ground {
    native: Native,
    shared: OnceLock<Result<SandboxId, String>>,
}

impl Ground {
    /// The default sandbox with the program and `work` in it.
    fn spec(&self, work: &str) -> std::io::Result<SandboxSpec> {
        let mut spec = self.native.spec();
        let work = self.native.path(work);
        fs::create_dir_all(&work)?;
        spec.mounts = vec![
            Mount { source: std::env::current_exe()?, target: PROGRAM.into(), read_only: true, give: false },
            Mount { source: work, target: WORK.into(), read_only: false, give: true },
        ];
        Ok(spec)
    }

    fn shared(&self) -> Result<SandboxId, Failed> {
        let make = || self.native.create(&self.spec("shared").map_err(|error| error.to_string())?);
        Ok(self.shared.get_or_init(make).clone()?)
    }

    fn attempt(&self, id: &SandboxId, words: &[&str]) -> Result<Collected, Failed> {
        self.native.run(id, ExecSpec::new([PROGRAM, attempts::ARGUMENT].iter().chain(words).copied()))
    }

    fn inside(&self, words: &[&str]) -> Result<String, Failed> {
        let collected = self.attempt(&self.shared()?, words)?;
        let said = String::from_utf8_lossy(&collected.stdout).trim().to_owned();
        if collected.exit.success() {
            return Ok(said);
        }
        Err(format!("{:?} {said} {}", collected.exit, String::from_utf8_lossy(&collected.stderr)).into())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(Ok(id)) = self.shared.get() {
            let _ = self.native.remove(id);
        }
    }
}

fn outside(words: &[&str]) -> Result<String, Failed> {
    let output = Command::new(std::env::current_exe()?).arg(attempts::ARGUMENT).args(words).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Expectation of an attempt outside.
#[derive(Clone, Copy)]
enum Outside {
    /// It works for anyone.
    Works,
    /// It works for root.
    WorksForRoot,
    /// Not tried: harmful, or nothing to try it on.
    Untried,
}

use Outside::{Untried, Works, WorksForRoot};

/// Name, words, allowed answers inside, control outside.
type Row = (&'static str, &'static [&'static str], &'static [&'static str], Outside);

const ROWS: &[Row] = &[
    ("home-of-root", &["list", "/root"], &["ENOENT"], WorksForRoot),
    ("password-hashes", &["read", "/etc/shadow"], &["ENOENT"], WorksForRoot),
    ("variable-data", &["list", "/var"], &["ENOENT"], Works),
    ("machine-id", &["exists", "/etc/machine-id"], &["ENOENT"], Untried),
    ("docker-socket", &["exists", "/run/docker.sock"], &["ENOENT"], Untried),
    ("root-of-init", &["list", "/proc/1/root/"], &["EACCES", "EPERM"], Untried),
    ("memory-of-init", &["read", "/proc/1/mem"], &["EACCES", "EPERM"], Untried),
    ("environment-of-init", &["read", "/proc/1/environ"], &["EACCES", "EPERM"], Untried),
    ("trace-init", &["trace-init"], &["EPERM"], Untried),
    ("trace-child", &["trace-child"], &["EPERM"], Works),
    ("user-namespace", &["user-namespace"], &["EPERM"], Works),
    ("clone-user-namespace", &["clone-user-namespace"], &["EPERM"], Works),
    ("clone3", &["clone3"], &["ENOSYS"], Untried),
    ("mount", &["mount"], &["EPERM"], WorksForRoot),
    ("disk-device", &["exists", "/dev/vda"], &["ENOENT"], Untried),
    ("kernel-memory", &["read", "/proc/kcore"], &["EACCES", "EPERM", "ENOENT"], Untried),
    ("kernel-log", &["exists", "/dev/kmsg"], &["ENOENT"], Works),
    ("core-pattern", &["write", "/proc/sys/kernel/core_pattern"], &["EROFS", "EACCES"], WorksForRoot),
    ("module-loader", &["write", "/proc/sys/kernel/modprobe"], &["EROFS", "EACCES", "ENOENT"], Untried),
    ("system-request", &["write", "/proc/sysrq-trigger"], &["EROFS", "EACCES", "ENOENT"], Untried),
    ("own-limits", &["write", "/sys/fs/cgroup/memory/memory.limit_in_bytes"], &["EROFS", "EACCES", "ENOENT"], Untried),
    ("release-agent", &["write", "/sys/fs/cgroup/memory/release_agent"], &["EROFS", "EACCES", "ENOENT"], Untried),
    ("raw-socket", &["socket-raw"], &["EPERM"], WorksForRoot),
    ("packet-socket", &["socket-packet"], &["EPERM"], WorksForRoot),
    ("crypto-socket", &["socket-alg"], &["EPERM"], Untried),
    ("machine-socket", &["socket-vsock"], &["EPERM"], Untried),
    ("netfilter-socket", &["socket-netfilter"], &["EPERM"], Untried),
    ("metadata-service", &["connect", "169.254.169.254:80"], &["ENETUNREACH"], Untried),
    ("metadata-service-6", &["connect", "[fd00:ec2::254]:80"], &["ENETUNREACH", "EADDRNOTAVAIL"], Untried),
    ("public-address", &["connect", "1.1.1.1:443"], &["ENETUNREACH"], Untried),
    ("own-program", &["rewrite-own-program"], &["EROFS", "ETXTBSY", "EACCES"], Untried),
    ("guest-program", &["rewrite-guest"], &["EROFS", "ETXTBSY", "EACCES"], Untried),
    ("write-root", &["make", "/file"], &["EROFS", "EACCES"], Untried),
    ("write-usr", &["make", "/usr/file"], &["EROFS", "EACCES"], Untried),
    ("raise-a-hard-limit", &["raise-limit"], &["EPERM"], Untried),
    ("core-dumps-to-the-host", &["core-limit"], &["1"], Works),
    ("limits-of-init", &["limit-init"], &["EPERM"], Untried),
    ("be-spared-by-the-killer", &["spare-me"], &["EACCES", "EPERM"], Untried),
    ("landlock", &["write", "/dev/zero"], &["EACCES"], Works),
    ("descriptors", &["descriptors"], &["DONE"], Untried),
];

fn trials(setup: Setup) -> Vec<Trial> {
    let ground = match Native::new(setup) {
        Ok(native) => Arc::new(Ground { native, shared: OnceLock::new() }),
        Err(error) => {
            let told = error.chain().join(": ");
            return vec![Trial::test(format!("{}::engine", setup.name()), move || Err(told.into()))];
        }
    };
    let mut out = Vec::new();
    let mut add = |name: &str, trial: Box<dyn FnOnce(&Ground) -> Outcome + Send>| {
        let ground = Arc::clone(&ground);
        out.push(Trial::test(format!("{}::{name}", setup.name()), move || trial(&ground)));
    };
    for row in ROWS {
        add(row.0, Box::new(move |ground| refused(ground, row)));
    }
    add("calls", Box::new(calls));
    add("host-listeners", Box::new(host_listeners));
    add("host-process", Box::new(host_process));
    add("environment", Box::new(environment));
    add("files-in-a-mount", Box::new(files_in_a_mount));
    add("links-in-a-mount", Box::new(links_in_a_mount));
    add("typing-into-the-terminal", Box::new(typing));
    add("processes", Box::new(processes));
    add("memory", Box::new(memory));
    add("disk", Box::new(disk));
    add("survivors", Box::new(survivors));
    add("the-guest-on-the-host", Box::new(guest_unchanged));
    out
}

fn refused(ground: &Ground, (name, words, expected, control): &Row) -> Outcome {
    let needs_landlock = *name == "landlock" && !ground.native.has(Control::Landlock);
    if needs_landlock {
        eprintln!("SKIPPED {name}: no Landlock here");
        return Ok(());
    }
    let tried = match control {
        Works => true,
        WorksForRoot => setups::is_root(),
        Untried => false,
    };
    if tried {
        let answer = outside(words)?;
        if answer != "DONE" {
            return Err(format!("the control failed outside: {answer}").into());
        }
    }
    let answer = ground.inside(words)?;
    if expected.contains(&answer.as_str()) { Ok(()) } else { Err(format!("{words:?}: {answer}").into()) }
}

fn calls(ground: &Ground) -> Outcome {
    let mut wrong = Vec::new();
    for (name, _) in attempts::CALLS {
        let answer = ground.inside(&[name])?;
        if answer != "EPERM" {
            wrong.push(format!("{name}: {answer}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join(", ").into()) }
}

fn host_listeners(ground: &Ground) -> Outcome {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("cove-containment-{}", SandboxId::new());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)?;
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address)?;
    let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = tcp.local_addr()?.to_string();
    for words in [["connect-abstract", &name], ["connect", &port]] {
        assert_eq!(outside(&words)?, "DONE", "{words:?} outside");
        assert_eq!(ground.inside(&words)?, "ECONNREFUSED", "{words:?} inside");
    }
    Ok(())
}

fn host_process(ground: &Ground) -> Outcome {
    // Ids inside count from one; this process's is taken outside and surely not inside when large.
    let pid = std::process::id().to_string();
    assert_eq!(outside(&["signal", &pid])?, "DONE");
    if std::process::id() > 1000 {
        assert_eq!(ground.inside(&["signal", &pid])?, "ESRCH");
    }
    let listing =
        ground.native.run(&ground.shared()?, ExecSpec::new(["/bin/sh", "-c", "ls -d /proc/[0-9]* | wc -l"]))?;
    let visible: u32 = String::from_utf8_lossy(&listing.stdout).trim().parse()?;
    assert!(visible < 40, "{visible} processes are visible");
    Ok(())
}

fn environment(ground: &Ground) -> Outcome {
    // Cargo and the test runner set these for us; nothing of it may reach the inside.
    let ours: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    let said = ground.native.run(&ground.shared()?, ExecSpec::new(["/usr/bin/env"]))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let known = ["PATH", "HOME", "USER", "LANG", "TERM", "PWD", "SHLVL", "_"];
    let leaked: Vec<&String> = ours
        .iter()
        .filter(|name| {
            !known.contains(&name.as_str()) && said.lines().any(|line| line.starts_with(&format!("{name}=")))
        })
        .collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    Ok(())
}

fn files_in_a_mount(ground: &Ground) -> Outcome {
    let here = ground.native.path("plain");
    fs::create_dir_all(&here)?;
    let outside_dir = here.to_string_lossy().into_owned();
    assert_eq!(outside(&["set-user-id", &outside_dir])?, "DONE");
    assert_eq!(ground.inside(&["set-user-id", WORK])?, "EPERM");
    if setups::is_root() {
        assert_eq!(outside(&["device-node", &outside_dir])?, "DONE");
    }
    assert_eq!(ground.inside(&["device-node", WORK])?, "EPERM");
    Ok(())
}

fn links_in_a_mount(ground: &Ground) -> Outcome {
    let canary = ground.native.path("canary");
    fs::write(&canary, "whole")?;
    let target = canary.to_string_lossy().into_owned();
    assert_eq!(ground.inside(&["follow-link", WORK, &target])?, "ENOENT");
    assert_eq!(fs::read_to_string(&canary)?, "whole");
    let control = ground.native.path("control");
    fs::create_dir_all(&control)?;
    assert_eq!(outside(&["follow-link", &control.to_string_lossy(), &target])?, "DONE");
    assert_eq!(fs::read_to_string(&canary)?, "changed");
    Ok(())
}

fn typing(ground: &Ground) -> Outcome {
    let mut exec = ExecSpec::new([PROGRAM, attempts::ARGUMENT, "type-into-terminal"]);
    exec.pty = Some(PtySize { cols: 80, rows: 24 });
    let said = ground.native.run(&ground.shared()?, exec)?;
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "EPERM");
    Ok(())
}

/// Held by the control group, and where there is none by the user namespace's own count.
fn processes(ground: &Ground) -> Outcome {
    let mut spec = ground.spec("processes")?;
    spec.limits.pids = Some(48);
    let id = ground.native.create(&spec)?;
    let said = ground.attempt(&id, &["many-processes", "500"])?;
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "EAGAIN");
    // The sandbox lives on.
    assert!(ground.native.run(&id, ExecSpec::new(["/bin/true"]))?.exit.success());
    ground.native.remove(&id)
}

fn memory(ground: &Ground) -> Outcome {
    if !ground.native.has(Control::LimitMemory) {
        eprintln!(
            "SKIPPED memory: {}",
            ground.native.engine.capabilities().why_missing(Control::LimitMemory).unwrap_or("")
        );
        return Ok(());
    }
    let mut spec = ground.spec("memory")?;
    spec.limits.memory_bytes = Some(64 << 20);
    let id = ground.native.create(&spec)?;
    let control = ground.attempt(&id, &["hog-memory", "16"])?;
    assert!(control.exit.success(), "{:?}", control.exit);
    let exit = ground.attempt(&id, &["hog-memory", "512"])?.exit;
    assert_eq!((exit.code, &exit.reason), (137, &ExitReason::OutOfMemory));
    ground.native.remove(&id)
}

fn disk(ground: &Ground) -> Outcome {
    let mut spec = ground.spec("disk")?;
    spec.limits = Limits { disk_bytes: Some(8 << 20), ..spec.limits };
    let id = ground.native.create(&spec)?;
    let _ = ground.attempt(&id, &["fill-disk", WORK, "24"]);
    let state = || ground.native.runtime.block_on(ground.native.engine.inspect(&id)).map(|info| info.state);
    let ended = setups::wait(|| matches!(state(), Ok(SandboxState::Stopped { .. })));
    assert!(ended, "{:?}", state());
    match state()? {
        SandboxState::Stopped { exit } => assert_eq!(exit.reason, ExitReason::DiskFull),
        other => return Err(format!("{other:?}").into()),
    }
    ground.native.remove(&id)
}

fn survivors(ground: &Ground) -> Outcome {
    let id = ground.native.create(&ground.spec("survivors")?)?;
    let mark = SandboxId::new().to_string();
    assert!(ground.attempt(&id, &["linger", &mark])?.exit.success());
    let lives = || processes_with(&mark) > 0;
    assert!(setups::wait(lives), "the control: the process that lingers is not there");
    ground.native.runtime.block_on(ground.native.engine.stop(&id, Duration::ZERO))?;
    assert!(!lives(), "a process outlived its sandbox");
    ground.native.remove(&id)
}

fn guest_unchanged(ground: &Ground) -> Outcome {
    ground.shared()?;
    let mut found = Vec::new();
    walk(&ground.native.path("state/guest"), &mut found);
    assert_eq!(found.len(), 1, "{found:?}");
    let mode = fs::metadata(&found[0])?.permissions().mode();
    assert_eq!(mode & 0o022, 0, "others may write the guest");
    Ok(())
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

/// Processes of the host whose command line has this mark.
fn processes_with(mark: &str) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
        })
        .count()
}
