//! Deadlines, and that nothing survives.

use std::time::{Duration, Instant};

use cove_core::engine::{ExecSpec, Output};
use cove_core::error::ErrorKind;
use cove_core::sandbox::ExitReason;

use super::bench::{Bench, Pulse, reason, rest, sh, until, with_daemon, within};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(a_timeout_ends_all_descendants, needs: [Mounts]),
    trial!(stop_ends_what_hides_in_a_session_of_its_own, needs: [Mounts]),
    trial!(stop_lets_programs_say_goodbye, needs: [Mounts]),
    trial!(stop_does_not_wait_for_the_stubborn),
    trial!(the_wall_clock_ends_everything, needs: [LimitWall, Mounts]),
    trial!(removal_ends_a_running_exec),
];

async fn a_timeout_ends_all_descendants(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    // On a slow machine the first deadline may pass before everything runs; then a longer one.
    for (round, timeout_ms) in [3_000, 15_000, 60_000].into_iter().enumerate() {
        let names = [format!("daemon{round}"), format!("child{round}")];
        let [mut daemon, mut child] = names.each_ref().map(|name| Pulse::new(&dir, name));
        let [at_daemon, at_child] = &names;
        let then = format!("trap '' TERM; exec 8>{at_child}; echo x >&8; echo said; sleep 100000");
        let mut exec =
            bench.exec(&ExecSpec { timeout_ms: Some(timeout_ms), ..sh(&with_daemon(at_daemon, &then)) }).await;
        let (said, exit) = rest(&mut exec).await;
        assert_eq!((exit.code, exit.reason), (137, ExitReason::Timeout));
        let begun = daemon.has_begun() && child.has_begun() && said == "said\n";
        tokio::join!(daemon.ends(), child.ends());
        assert_eq!(bench.text("echo alive").await, "alive", "the sandbox goes on");
        if begun {
            return bench.remove().await;
        }
    }
    panic!("a minute was not enough to start two processes");
}

async fn stop_ends_what_hides_in_a_session_of_its_own(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    let mut pulse = Pulse::new(&dir, "pulse");
    bench.sh(&with_daemon("pulse", "true")).await;
    pulse.begins().await;
    assert!(pulse.beats(), "it outlives its exec");
    within("stop", setup.engine.stop(&bench.id, Duration::ZERO)).await.unwrap();
    assert!(!pulse.beats(), "no process lives when stop returns");
    assert_eq!(reason(&bench.state().await), Some(ExitReason::Killed));
    bench.remove().await;
}

async fn stop_lets_programs_say_goodbye(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    let mut exec =
        bench.exec(&sh("trap 'echo bye > bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")).await;
    until(&mut exec, "ready").await;
    let begun = Instant::now();
    within("stop", setup.engine.stop(&bench.id, Duration::from_secs(100))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(90), "stop waits no longer than needed");
    assert_eq!(std::fs::read_to_string(dir.join("bye")).unwrap(), "bye\n");
    let (_, exit) = rest(&mut exec).await;
    assert_eq!(exit.reason, ExitReason::Killed);
    bench.remove().await;
}

async fn stop_does_not_wait_for_the_stubborn(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let mut exec = bench.exec(&sh("trap '' TERM HUP INT; echo ready; while :; do sleep 1; done")).await;
    until(&mut exec, "ready").await;
    within("stop", setup.engine.stop(&bench.id, Duration::from_millis(200))).await.unwrap();
    let (_, exit) = rest(&mut exec).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed));
    bench.remove().await;
}

async fn the_wall_clock_ends_everything(setup: &Setup) {
    let dir = super::bench::shared_dir(setup, "shared");
    let bench = Bench::with(setup, |spec| {
        spec.limits.wall_seconds = Some(4);
        spec.mounts.push(cove_core::Mount {
            source: dir.clone(),
            target: super::bench::WORK.into(),
            read_only: false,
            give: false,
        });
    })
    .await;
    let mut pulse = Pulse::new(&dir, "pulse");
    // On a very slow machine the limit may come first; the end is the same.
    if let Ok(mut exec) = setup.engine.exec(&bench.id, &sh(&with_daemon("pulse", "sleep 100000"))).await {
        let (_, exit) = rest(&mut exec).await;
        assert_eq!(exit.reason, ExitReason::Timeout);
    }
    assert_eq!(reason(&bench.ended().await), Some(ExitReason::Timeout));
    assert!(!pulse.beats());
    bench.remove().await;
}

async fn removal_ends_a_running_exec(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let mut exec = bench.exec(&sh("echo ready; sleep 100000")).await;
    until(&mut exec, "ready").await;
    bench.remove().await;
    match within("the stream", exec.output.next()).await {
        Ok(Some(Output::Exit(exit))) => assert_eq!(exit.reason, ExitReason::Killed),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        other => panic!("{other:?}"),
    }
}
