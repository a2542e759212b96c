//! Making, finding, ending and removing.

use std::time::Duration;

use cove_core::error::ErrorKind;
use cove_core::sandbox::{ExitReason, SandboxState};
use cove_core::{Control, Isolation, Network, Root, SandboxId, SandboxSpec};

use super::bench::{Bench, Pulse, reason, sh, with_daemon, within};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(what_was_made_is_found),
    trial!(it_is_attested),
    trial!(an_id_is_made_once),
    trial!(a_living_name_is_unique),
    trial!(a_wrong_spec_is_refused),
    trial!(what_is_not_offered_is_refused_by_name),
    trial!(unknown_ones_are_told_apart),
    trial!(stop_is_repeatable_and_keeps_what_is_known),
    trial!(remove_leaves_nothing, needs: [Mounts]),
    trial!(remove_takes_what_programs_made_unreadable),
    trial!(a_new_adapter_goes_on, needs: [Adopt, Mounts]),
    trial!(a_sweep_takes_the_unknown_and_keeps_the_known),
    trial!(several_are_made_at_once),
    trial!(a_lost_supervisor_takes_its_processes_along, needs: [Mounts], loss: true),
];

async fn what_was_made_is_found(setup: &Setup) {
    let bench = Bench::with(setup, |spec| spec.name = "named".to_owned()).await;
    assert_eq!((bench.info.name.as_str(), &bench.info.id), ("named", &bench.id));
    assert_eq!(bench.info.engine, setup.engine.kind());
    assert_eq!(setup.engine.inspect(&bench.id).await.unwrap(), bench.info);
    assert_eq!(setup.engine.list().await.unwrap(), std::slice::from_ref(&bench.info));
    bench.remove().await;
    let unnamed = Bench::new(setup).await;
    assert!(!unnamed.info.name.is_empty());
    unnamed.remove().await;
}

async fn it_is_attested(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let attestation = bench.info.attestation.clone().expect("a running sandbox has a proof");
    assert_eq!(attestation.deviations, []);
    assert!(attestation.report.pid > 0 && attestation.report.namespaces.contains_key("mnt"));
    for control in &attestation.proven {
        assert!(setup.engine.capabilities().has(*control), "{control} is proven inside but not offered");
    }
    bench.remove().await;
}

async fn an_id_is_made_once(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let again = setup.engine.create(&bench.id, &setup.spec).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(bench.text("echo alive").await, "alive");
    bench.remove().await;
}

async fn a_living_name_is_unique(setup: &Setup) {
    let named = |spec: &mut SandboxSpec| spec.name = "one".to_owned();
    let first = Bench::with(setup, named).await;
    let mut spec = setup.spec.clone();
    named(&mut spec);
    let second = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Conflict);
    setup.engine.stop(&first.id, Duration::ZERO).await.unwrap();
    Bench::with(setup, named).await.remove().await;
    first.remove().await;
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn a_wrong_spec_is_refused(setup: &Setup) {
    let wrong: [fn(&mut SandboxSpec); 4] = [
        |spec| spec.workdir = "relative".into(),
        |spec| spec.workdir = "/up/../and/away".into(),
        |spec| spec.limits.wall_seconds = Some(0),
        |spec| drop(spec.env.insert("A=B".to_owned(), String::new())),
    ];
    for (index, change) in wrong.into_iter().enumerate() {
        let mut spec = setup.spec.clone();
        change(&mut spec);
        let error = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "row {index}");
    }
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn what_is_not_offered_is_refused_by_name(setup: &Setup) {
    type Ask = fn(&mut SandboxSpec);
    let asking: [(Control, Ask); 12] = [
        (Control::IsolationProcess, |spec| spec.isolation = Isolation::Process),
        (Control::IsolationContainer, |spec| spec.isolation = Isolation::Container),
        (Control::IsolationGvisor, |spec| spec.isolation = Isolation::Gvisor),
        (Control::IsolationVm, |spec| spec.isolation = Isolation::Vm),
        (Control::RootImage, |spec| spec.root = Root::Image("alpine".to_owned())),
        (Control::NetworkNone, |spec| spec.network = Network::None),
        (Control::NetworkHost, |spec| spec.network = Network::Host),
        (Control::LimitCpu, |spec| spec.limits.cpus = Some(1.0)),
        (Control::LimitMemory, |spec| spec.limits.memory_bytes = Some(1 << 30)),
        (Control::LimitPids, |spec| spec.limits.pids = Some(100)),
        (Control::LimitDisk, |spec| spec.limits.disk_bytes = Some(1 << 30)),
        (Control::LimitOpenFiles, |spec| spec.limits.open_files = Some(1024)),
    ];
    for (control, change) in asking {
        if setup.engine.capabilities().has(control) {
            continue;
        }
        let mut spec = setup.spec.clone();
        change(&mut spec);
        let error = setup.engine.create(&SandboxId::new(), &spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{control}");
        assert!(error.to_string().contains(&control.name()), "{control} is not named in: {error}");
    }
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn unknown_ones_are_told_apart(setup: &Setup) {
    let id = SandboxId::new();
    assert_eq!(setup.engine.inspect(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(setup.engine.exec(&id, &sh("true")).await.unwrap_err().kind(), ErrorKind::NotFound);
    setup.engine.stop(&id, Duration::ZERO).await.unwrap();
    setup.engine.remove(&id).await.unwrap();
}

async fn stop_is_repeatable_and_keeps_what_is_known(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for _ in 0..2 {
        within("stop", setup.engine.stop(&bench.id, Duration::from_secs(1))).await.unwrap();
    }
    let info = setup.engine.inspect(&bench.id).await.unwrap();
    assert_eq!(reason(&info.state), Some(ExitReason::Killed), "{:?}", info.state);
    assert!(info.attestation.is_some());
    assert_eq!(setup.engine.exec(&bench.id, &sh("true")).await.unwrap_err().kind(), ErrorKind::Conflict);
    bench.remove().await;
}

async fn remove_leaves_nothing(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    let mut pulse = Pulse::new(&dir, "pulse");
    bench.sh(&with_daemon("pulse", "echo kept > file")).await;
    pulse.begins().await;
    let id = bench.id.clone();
    bench.remove().await;
    pulse.ends().await;
    assert_eq!(setup.engine.list().await.unwrap(), []);
    assert_eq!(setup.engine.inspect(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "kept\n", "what was mounted is not ours to remove");
    assert_eq!(setup.engine.sweep(&[]).await.unwrap(), [], "nothing was left to sweep");
    setup.engine.remove(&id).await.unwrap();
}

async fn remove_takes_what_programs_made_unreadable(setup: &Setup) {
    let bench = Bench::new(setup).await;
    bench.text("mkdir -p closed/inner && echo x > closed/inner/f && chmod 0 closed/inner closed").await;
    bench.remove().await;
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn a_new_adapter_goes_on(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    let mut pulse = Pulse::new(&dir, "pulse");
    bench.sh(&with_daemon("pulse", "true")).await;
    pulse.begins().await;
    let engine = (setup.another)();
    assert_eq!(engine.list().await.unwrap(), std::slice::from_ref(&bench.info));
    assert!(pulse.beats(), "what ran goes on");
    let exec = within("exec", engine.exec(&bench.id, &sh("echo again"))).await.unwrap();
    let said = within("the program", cove_core::engine::collect(exec, b"", 100)).await.unwrap();
    assert_eq!(said.stdout, b"again\n");
    within("stop", engine.stop(&bench.id, Duration::ZERO)).await.unwrap();
    pulse.ends().await;
    engine.remove(&bench.id).await.unwrap();
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn a_sweep_takes_the_unknown_and_keeps_the_known(setup: &Setup) {
    let (kept, lost) = (Bench::new(setup).await, Bench::new(setup).await);
    let swept = within("sweep", setup.engine.sweep(std::slice::from_ref(&kept.id))).await.unwrap();
    assert!(swept.iter().any(|remain| remain.name.contains(lost.id.as_str())), "{swept:?}");
    assert_eq!(kept.text("echo alive").await, "alive");
    assert_eq!(setup.engine.list().await.unwrap().len(), 1);
    assert_eq!(within("sweep", setup.engine.sweep(std::slice::from_ref(&kept.id))).await.unwrap(), []);
    kept.remove().await;
}

async fn several_are_made_at_once(setup: &Setup) {
    let (a, b, c) = tokio::join!(Bench::new(setup), Bench::new(setup), Bench::new(setup));
    assert_eq!(setup.engine.list().await.unwrap().len(), 3);
    let said = tokio::join!(a.text("echo a"), b.text("echo b"), c.text("echo c"));
    assert_eq!(said, ("a".to_owned(), "b".to_owned(), "c".to_owned()));
    tokio::join!(a.remove(), b.remove(), c.remove());
    assert_eq!(setup.engine.list().await.unwrap(), []);
}

async fn a_lost_supervisor_takes_its_processes_along(setup: &Setup) {
    let (bench, dir) = Bench::shared(setup).await;
    let mut pulse = Pulse::new(&dir, "pulse");
    let mut running = bench.exec(&sh(&with_daemon("pulse", "sleep 100000"))).await;
    pulse.begins().await;
    setup.lose.as_ref().expect("asked for")(&bench.id);
    pulse.ends().await;
    let cut = within("the stream", running.output.next()).await.unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::Interrupted);
    let state = bench.ended().await;
    assert!(matches!(state, SandboxState::Failed { .. }), "{state:?}");
    assert_eq!(setup.engine.exec(&bench.id, &sh("true")).await.unwrap_err().kind(), ErrorKind::Conflict);
    setup.engine.stop(&bench.id, Duration::ZERO).await.unwrap();
    bench.remove().await;
    assert_eq!(setup.engine.sweep(&[]).await.unwrap(), [], "nothing was left to sweep");
}
