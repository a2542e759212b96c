//! Bounds on what a sandbox may use.

use std::time::Duration;

use cove_core::Control;
use cove_core::engine::ExecSpec;
use cove_core::sandbox::{ExitReason, SandboxState};

use super::bench::{Bench, WORK, reason, sh, shared_dir, until, within};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(memory_is_bounded, needs: [LimitMemory]),
    trial!(processes_are_bounded, needs: [LimitPids]),
    trial!(a_fork_bomb_is_survived_and_ended, needs: [LimitPids]),
    trial!(open_files_are_bounded, needs: [LimitOpenFiles]),
    trial!(a_single_file_is_bounded, needs: [LimitDisk, Mounts]),
    trial!(all_files_together_are_bounded, needs: [LimitDisk, Mounts]),
    trial!(limits_are_proven, needs: [LimitCpu, LimitMemory, LimitPids]),
];

async fn memory_is_bounded(setup: &Setup) {
    let bench = Bench::with(setup, |spec| spec.limits.memory_bytes = Some(64 << 20)).await;
    // One endless line, which has to be kept whole.
    let said = bench.run(&ExecSpec::new(["tail", "/dev/zero"]), b"").await;
    assert_eq!((said.exit.code, said.exit.reason), (137, ExitReason::OutOfMemory));
    assert_eq!(bench.text("echo alive").await, "alive", "the sandbox goes on");
    assert_eq!(bench.sh("exit 3").await.exit.reason, ExitReason::Exited, "an old kill is not a new one's reason");
    bench.remove().await;
}

async fn processes_are_bounded(setup: &Setup) {
    let bench = Bench::with(setup, |spec| spec.limits.pids = Some(24)).await;
    let script = "i=0; while [ $i -lt 60 ]; do (exec sleep 1000) & i=$((i+1)); done; echo all";
    let said = bench.sh(script).await;
    assert!(!said.stdout.ends_with(b"all\n"), "60 processes were started");
    assert_eq!(bench.state().await, SandboxState::Running);
    within("stop", setup.engine.stop(&bench.id, Duration::ZERO)).await.unwrap();
    bench.remove().await;
}

async fn a_fork_bomb_is_survived_and_ended(setup: &Setup) {
    let bench = Bench::with(setup, |spec| spec.limits.pids = Some(64)).await;
    let mut bomb = bench.exec(&sh("echo begun; b() { b | b & b; }; b 2>/dev/null")).await;
    until(&mut bomb, "begun").await;
    within("stop", setup.engine.stop(&bench.id, Duration::from_millis(500))).await.unwrap();
    assert!(matches!(bench.state().await, SandboxState::Stopped { .. }));
    bench.remove().await;
    assert_eq!(within("sweep", setup.engine.sweep(&[])).await.unwrap(), []);
}

async fn open_files_are_bounded(setup: &Setup) {
    let bench = Bench::with(setup, |spec| spec.limits.open_files = Some(128)).await;
    assert_eq!(bench.text("ulimit -n; ulimit -Hn").await, "128\n128");
    assert_ne!(bench.sh("ulimit -n 256").await.exit.code, 0);
    bench.remove().await;
}

async fn on_disk<'a>(setup: &'a Setup, bytes: u64) -> Bench<'a> {
    let mount =
        cove_core::Mount { source: shared_dir(setup, "disk"), target: WORK.into(), read_only: false, give: false };
    Bench::with(setup, |spec| {
        spec.limits.disk_bytes = Some(bytes);
        spec.mounts.push(mount);
    })
    .await
}

async fn a_single_file_is_bounded(setup: &Setup) {
    let bench = on_disk(setup, 8 << 20).await;
    let said = bench.sh("head -c 33554432 /dev/zero > large; code=$?; rm large; exit $code").await;
    assert!(!said.exit.success(), "{:?}", said.exit);
    bench.remove().await;
}

async fn all_files_together_are_bounded(setup: &Setup) {
    let bench = on_disk(setup, 8 << 20).await;
    let script = "for n in 1 2 3 4 5 6 7 8; do head -c 4194304 /dev/zero > file$n || exit 0; done; sleep 100000";
    // Refused by a quota, or ended by a watch.
    let said = bench.sh(script).await;
    if said.exit.reason == ExitReason::DiskFull {
        assert_eq!(reason(&bench.ended().await), Some(ExitReason::DiskFull));
    } else {
        assert_eq!(said.exit.code, 0);
        let kib: u64 = bench.text("du -sk . | cut -f1").await.parse().unwrap();
        assert!(kib <= 9 << 10, "{kib} KiB");
    }
    bench.remove().await;
}

async fn limits_are_proven(setup: &Setup) {
    let bench = Bench::with(setup, |spec| {
        spec.limits.cpus = Some(0.5);
        spec.limits.memory_bytes = Some(256 << 20);
        spec.limits.pids = Some(77);
    })
    .await;
    let attestation = bench.info.attestation.clone().unwrap();
    for control in [Control::LimitCpu, Control::LimitMemory, Control::LimitPids] {
        assert!(attestation.proven.contains(&control), "{control}");
    }
    bench.remove().await;
}
