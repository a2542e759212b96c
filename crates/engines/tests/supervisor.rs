//! Supervisors when things go wrong: lost guests, damaged talk, starts that fail or are given up.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cove_core::engine::{ExecSpec, Output, collect};
use cove_core::sandbox::{ExitReason, ExitStatus, SandboxState};
use cove_core::{Engine, ErrorKind, Hardening, InstanceId, Isolation, Limits, Network, Root, SandboxId, SandboxSpec};
use cove_engines::supervisor::plan::Directory;
use cove_engines::supervisor::{HelperProgram, SUBCOMMAND};
use cove_engines::{Direct, LocalEngine};
use cove_guest::processes;
use cove_testkit::eventually;

const DEADLINE: Duration = Duration::from_secs(120);

struct World {
    place: tempfile::TempDir,
    state: PathBuf,
    engine: Arc<LocalEngine<Direct>>,
}

impl World {
    fn new() -> Self {
        Self::at("state", env!("CARGO_BIN_EXE_cove-engine-helper"))
    }

    fn at(name: &str, helper: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join(name);
        let helper = HelperProgram(vec![helper.to_owned(), SUBCOMMAND.to_owned()]);
        let engine = LocalEngine::new(Direct::new(), &state, InstanceId::new(), helper).unwrap();
        Self { place, state, engine: Arc::new(engine) }
    }

    fn dir(&self, id: &SandboxId) -> Directory {
        Directory(self.state.join("sandboxes").join(id.as_str()))
    }

    async fn create(&self) -> SandboxId {
        let id = SandboxId::new();
        self.engine.create(&id, &spec()).await.unwrap();
        id
    }

    async fn text(&self, id: &SandboxId, script: &str) -> String {
        let exec = self.engine.exec(id, &ExecSpec::new(["sh", "-c", script])).await.unwrap();
        let said = collect(exec, b"", 1 << 20).await.unwrap();
        assert!(said.exit.success(), "{script}: {said:?}");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    fn is_empty(&self) -> bool {
        std::fs::read_dir(self.state.join("sandboxes")).unwrap().next().is_none()
    }
}

fn spec() -> SandboxSpec {
    let mut spec = SandboxSpec::new(Root::Host);
    spec.isolation = Isolation::Process;
    spec.network = Network::Host;
    spec.limits = Limits::NONE;
    spec.hardening = Hardening { non_root: false, ..Hardening::default() };
    spec
}

fn guest_of(supervisor: u32) -> libc::pid_t {
    let supervisor = supervisor as libc::pid_t;
    processes::all().into_iter().find(|process| process.parent == supervisor).expect("a guest").pid
}

#[tokio::test]
async fn a_helper_that_is_none_leaves_nothing() {
    for helper in ["/bin/false", "/bin/true", "/no/such/helper"] {
        let world = World::at("state", helper);
        let error = world.engine.create(&SandboxId::new(), &spec()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotStarted, "{helper}: {error}");
        assert!(world.is_empty(), "{helper}");
    }
}

#[tokio::test]
async fn a_long_state_directory_works() {
    let world = World::at(&"long/".repeat(40), env!("CARGO_BIN_EXE_cove-engine-helper"));
    let id = world.create().await;
    assert_eq!(world.text(&id, "echo here").await, "here");
    world.engine.remove(&id).await.unwrap();
    assert!(world.is_empty());
}

#[tokio::test]
async fn a_lost_guest_ends_the_sandbox() {
    let world = World::new();
    let id = world.create().await;
    let mut exec = world.engine.exec(&id, &ExecSpec::new(["sleep", "100000"])).await.unwrap();
    let supervisor = world.dir(&id).supervisor().unwrap();
    processes::signal(guest_of(supervisor), libc::SIGKILL);
    let lost = ExitStatus { code: 137, reason: ExitReason::Lost };
    assert_eq!(exec.output.next().await.unwrap(), Some(Output::Exit(lost.clone())));
    eventually("the end", DEADLINE, async || {
        world.engine.inspect(&id).await.unwrap().state == SandboxState::Stopped { exit: lost.clone() }
    })
    .await;
    world.engine.remove(&id).await.unwrap();
}

#[tokio::test]
async fn what_a_lost_supervisor_and_guest_leave_is_cleared() {
    let world = World::new();
    let id = world.create().await;
    let pid: libc::pid_t = world.text(&id, "setsid sleep 100000 >/dev/null 2>&1 & echo $!").await.parse().unwrap();
    let lives = || processes::all().iter().any(|process| process.pid == pid && !process.zombie);
    assert!(lives());
    let supervisor = world.dir(&id).supervisor().unwrap();
    let guest = guest_of(supervisor);
    // Stopped first, so that neither can clear up after the other.
    processes::signal(guest, libc::SIGSTOP);
    processes::signal(supervisor as libc::pid_t, libc::SIGKILL);
    processes::signal(guest, libc::SIGKILL);
    eventually("the loss", DEADLINE, async || {
        matches!(world.engine.inspect(&id).await.unwrap().state, SandboxState::Failed { .. })
    })
    .await;
    assert!(!lives(), "what is known to be lost is dead");
    world.engine.remove(&id).await.unwrap();
    assert!(world.is_empty());
}

#[tokio::test]
async fn nonsense_is_answered_by_silence() {
    let world = World::new();
    let id = world.create().await;
    let socket = world.dir(&id).0.join(Directory::SOCKET);
    let rows: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 5],
        &[0, 0, 0, 0, 1],
        &[2, 0, 0, 0, 1, b'{', b'}'],
        &[9, 0, 0, 0, 200, 1],
    ];
    for row in rows {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(row);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 1000, "{row:?}");
    }
    assert_eq!(world.text(&id, "echo still here").await, "still here");
    world.engine.remove(&id).await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_given_up_is_swept() {
    let world = World::new();
    for millis in [1, 10, 30, 60] {
        let id = SandboxId::new();
        let spec = spec();
        let _ = tokio::time::timeout(Duration::from_millis(millis), world.engine.create(&id, &spec)).await;
    }
    // What was begun in the background may still appear.
    eventually("an empty directory", DEADLINE, async || {
        world.engine.sweep(&[]).await.unwrap();
        world.is_empty()
    })
    .await;
    assert!(world.engine.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn one_of_two_with_the_same_id_wins() {
    let world = World::new();
    let id = SandboxId::new();
    let (asked, again) = (spec(), spec());
    let (one, two) = tokio::join!(world.engine.create(&id, &asked), world.engine.create(&id, &again));
    assert_eq!(one.is_ok() as u8 + two.is_ok() as u8, 1);
    let lost = one.err().or(two.err()).unwrap();
    assert_eq!(lost.kind(), ErrorKind::Conflict);
    assert_eq!(world.text(&id, "echo won").await, "won");
    world.engine.remove(&id).await.unwrap();
}

#[tokio::test]
async fn a_supervisor_is_small_closed_and_knows_no_secret() {
    let world = World::new();
    let id = world.create().await;
    let dir = world.dir(&id);
    let supervisor = dir.supervisor().unwrap();
    let anonymous = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{supervisor}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    assert!(anonymous() < 4 << 10, "{} KiB while idle", anonymous());
    let flood = ExecSpec::new(["head", "-c", "300000000", "/dev/zero"]);
    let mut exec = world.engine.exec(&id, &flood).await.unwrap();
    let (mut bytes, mut most) = (0, 0);
    while let Some(Output::Stdout(piece)) = exec.output.next().await.unwrap() {
        bytes += piece.len();
        most = most.max(anonymous());
    }
    assert_eq!(bytes, 300_000_000);
    assert!(most < 16 << 10, "{most} KiB in a flood");
    for path in [dir.0.clone(), world.state.join("sandboxes")] {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
    }
    let environment = std::fs::read(format!("/proc/{supervisor}/environ")).unwrap();
    for variable in environment.split(|byte| *byte == 0).filter(|variable| !variable.is_empty()) {
        let name = String::from_utf8_lossy(variable).split('=').next().unwrap_or_default().to_owned();
        assert!(!name.starts_with("CARGO"), "{name} was handed on");
    }
    let stats = world.engine.stats(&id).await.unwrap();
    assert_eq!((stats.execs, stats.oom_kills), (0, 0));
    let log = world.engine.log(&id, 1 << 20).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("\"head\": ended with 0"), "{}", String::from_utf8_lossy(&log));
    world.engine.remove(&id).await.unwrap();
    assert!(world.place.path().exists());
}

#[tokio::test]
async fn damaged_files_hide_no_other_sandbox() {
    let world = World::new();
    let (sound, damaged, empty) = (world.create().await, world.create().await, SandboxId::new());
    world.engine.stop(&damaged, Duration::ZERO).await.unwrap();
    std::fs::write(world.dir(&damaged).info(), "{").unwrap();
    std::fs::create_dir(&world.dir(&empty).0).unwrap();
    std::fs::write(world.state.join("sandboxes/stray"), "not ours").unwrap();
    let listed: Vec<_> = world.engine.list().await.unwrap().into_iter().map(|info| info.id).collect();
    assert_eq!(listed, [sound.clone(), damaged.clone()]);
    let state = world.engine.inspect(&damaged).await.unwrap().state;
    assert!(matches!(&state, SandboxState::Failed { reason } if reason.contains("damaged")), "{state:?}");
    let swept = world.engine.sweep(std::slice::from_ref(&sound)).await.unwrap();
    assert_eq!(swept.len(), 2, "{swept:?}");
    assert_eq!(world.text(&sound, "echo sound").await, "sound");
    assert!(world.state.join("sandboxes/stray").exists(), "what we did not make stays");
    world.engine.remove(&sound).await.unwrap();
}

#[tokio::test]
async fn guests_of_old_versions_go_when_nobody_needs_them() {
    let world = World::new();
    let id = world.create().await;
    let old = world.state.join("guest/0123456789abcdef");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("cove-guest"), "old").unwrap();
    let plan = world.dir(&id).read_plan().unwrap();
    world.dir(&id).write_plan(&cove_engines::supervisor::plan::Plan { guest: old.join("cove-guest"), ..plan }).unwrap();
    assert_eq!(world.engine.sweep(std::slice::from_ref(&id)).await.unwrap(), []);
    world.engine.remove(&id).await.unwrap();
    assert_eq!(world.engine.sweep(&[]).await.unwrap().len(), 1);
    assert!(!old.exists());
    let id = world.create().await;
    world.engine.remove(&id).await.unwrap();
}

#[tokio::test]
async fn a_program_does_not_outlive_its_keeper() {
    let world = World::new();
    let id = world.create().await;
    let mut exec = world.engine.exec(&id, &ExecSpec::new(["sleep", "100000"])).await.unwrap();
    let guest = guest_of(world.dir(&id).supervisor().unwrap());
    let keeper = processes::all().into_iter().find(|process| process.parent == guest).expect("a keeper").pid;
    let program = processes::all().into_iter().find(|process| process.parent == keeper).expect("a program").pid;
    processes::signal(keeper, libc::SIGKILL);
    let killed = ExitStatus { code: 137, reason: ExitReason::Signaled { signal: 9 } };
    assert_eq!(exec.output.next().await.unwrap(), Some(Output::Exit(killed)));
    eventually("the end of the program", DEADLINE, async || {
        !processes::all().iter().any(|process| process.pid == program && !process.zombie)
    })
    .await;
    assert_eq!(world.text(&id, "echo alive").await, "alive");
    world.engine.remove(&id).await.unwrap();
}

#[tokio::test]
async fn a_supervisor_without_its_directory_ends() {
    let world = World::new();
    let id = world.create().await;
    let supervisor = world.dir(&id).supervisor().unwrap() as libc::pid_t;
    let guest = guest_of(supervisor as u32);
    std::fs::remove_dir_all(&world.dir(&id).0).unwrap();
    eventually("the end of both", DEADLINE, async || {
        !processes::all().iter().any(|process| [supervisor, guest].contains(&process.pid) && !process.zombie)
    })
    .await;
}
