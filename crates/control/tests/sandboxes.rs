//! `Sandboxes` over a scripted engine and real records.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cove_control::Sandboxes;
use cove_core::engine::collect;
use cove_core::{
    Control, Engine, EngineKind, ErrorKind, ExecSpec, InstanceId, Isolation, Network, Records, Root, SandboxId,
    SandboxSpec, SandboxState,
};
use cove_stores::Store;
use cove_testkit::{FakeEngine, eventually};

const LONG: Duration = Duration::from_secs(30);

struct Place {
    engine: Arc<FakeEngine>,
    records: Arc<Store>,
    sandboxes: Sandboxes,
}

impl Place {
    fn new() -> Self {
        Self::with(FakeEngine::new(EngineKind::Native, &[]))
    }

    fn with(engine: Arc<FakeEngine>) -> Self {
        let records = Arc::new(Store::memory().unwrap());
        let sandboxes = Sandboxes::new(records.clone(), vec![engine.clone()], InstanceId::new());
        Self { engine, records, sandboxes }
    }

    async fn create(&self, name: &str) -> cove_core::Result<cove_core::SandboxInfo> {
        self.sandboxes.create("auto", false, spec(name), "shell", BTreeMap::new()).await
    }

    async fn state(&self, id: &SandboxId) -> Option<SandboxState> {
        self.records.sandboxes().await.unwrap().into_iter().find(|i| i.id == *id).map(|i| i.state)
    }
}

fn spec(name: &str) -> SandboxSpec {
    SandboxSpec { name: name.to_owned(), ..SandboxSpec::new(Root::Host) }
}

#[tokio::test]
async fn a_sandbox_from_intent_to_removal() {
    let place = Place::new();
    place.engine.hold(true);
    let creating = tokio::spawn({
        let sandboxes = place.sandboxes.clone();
        async move { sandboxes.create("auto", false, spec("box"), "shell", BTreeMap::new()).await }
    });
    eventually("the intent is recorded", LONG, async || {
        place.records.sandboxes().await.unwrap().iter().any(|i| i.state == SandboxState::Creating)
    })
    .await;
    // Reconciling neither touches one that is being made nor lists it as lost.
    eventually("the engine is asked", LONG, async || !place.engine.calls().is_empty()).await;
    assert_eq!(place.sandboxes.list().await.unwrap()[0].state, SandboxState::Creating);
    place.engine.hold(false);
    let info = creating.await.unwrap().unwrap();
    assert_eq!(info.state, SandboxState::Running);
    assert_eq!(info.spec.labels["run.cove.role"], "shell");
    assert!(info.attestation.is_some());
    assert_eq!(place.state(&info.id).await, Some(SandboxState::Running));

    let exec = place.sandboxes.exec(&info.id, &ExecSpec::new(["cat"])).await.unwrap();
    let said = collect(exec, b"hello", 100).await.unwrap();
    assert_eq!((said.stdout.as_slice(), said.exit.code), (b"hello".as_slice(), 0));

    for text in ["box", info.id.as_str(), info.id.short(), &info.id.as_str()[..12]] {
        assert_eq!(place.sandboxes.find(text).await.unwrap().id, info.id, "{text}");
    }
    for _ in 0..2 {
        place.sandboxes.stop(&info.id, Duration::ZERO).await.unwrap();
    }
    assert!(matches!(place.state(&info.id).await, Some(SandboxState::Stopped { .. })));
    for _ in 0..2 {
        place.sandboxes.remove(&info.id).await.unwrap();
    }
    assert_eq!(place.state(&info.id).await, None);
    assert!(place.engine.ids().is_empty());
    let gone = place.sandboxes.exec(&info.id, &ExecSpec::new(["cat"])).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn names_and_ids_are_unique_among_the_living() {
    let place = Place::new();
    let first = place.create("box").await.unwrap();
    assert_eq!(place.create("box").await.unwrap_err().kind(), ErrorKind::Conflict);
    place.sandboxes.stop(&first.id, Duration::ZERO).await.unwrap();
    let second = place.create("box").await.unwrap();
    assert_eq!(place.sandboxes.find("box").await.unwrap().id, second.id);
    let same = place.sandboxes.create_as(first.id, "auto", false, spec("other"), "gate", BTreeMap::new()).await;
    assert_eq!(same.unwrap_err().kind(), ErrorKind::Conflict);
    for bad in ["Box", "-x", "a b", "sbx_1", &"x".repeat(64)] {
        assert_eq!(place.create(bad).await.unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
    let race: Vec<_> = (0..8)
        .map(|_| {
            let sandboxes = place.sandboxes.clone();
            tokio::spawn(async move { sandboxes.create("auto", false, spec("raced"), "shell", BTreeMap::new()).await })
        })
        .collect();
    let mut won = 0;
    for one in race {
        won += usize::from(one.await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_failed_creation_leaves_nothing_and_an_unsure_one_its_reason() {
    let place = Place::new();
    place.engine.fail_next("create", ErrorKind::NotStarted);
    let error = place.create("box").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotStarted);
    assert_eq!(place.sandboxes.find("box").await.unwrap_err().kind(), ErrorKind::NotFound);
    // An engine that did not answer may have made it all the same.
    place.engine.fail_next("create", ErrorKind::Timeout);
    assert_eq!(place.create("box").await.unwrap_err().kind(), ErrorKind::Timeout);
    let failed = place.sandboxes.find("box").await.unwrap();
    assert!(matches!(failed.state, SandboxState::Failed { .. }));
    place.create("box").await.unwrap();
}

#[tokio::test]
async fn a_creation_ends_well_when_its_caller_leaves() {
    let place = Place::new();
    place.engine.hold(true);
    let sandboxes = place.sandboxes.clone();
    let caller =
        tokio::spawn(async move { sandboxes.create("auto", false, spec("box"), "shell", BTreeMap::new()).await });
    eventually("the engine is asked", LONG, async || !place.engine.calls().is_empty()).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    place.engine.hold(false);
    place.sandboxes.settle().await;
    assert_eq!(place.sandboxes.find("box").await.unwrap().state, SandboxState::Running);
}

#[tokio::test]
async fn the_choice_of_an_engine() {
    let native = FakeEngine::new(EngineKind::Native, &[Control::LimitDisk, Control::IsolationGvisor]);
    let docker = FakeEngine::new(EngineKind::Docker, &[Control::Seccomp]);
    let direct = FakeEngine::new(
        EngineKind::Direct,
        &[Control::IsolationContainer, Control::NetworkNone, Control::LimitMemory, Control::LimitDisk],
    );
    let records = Arc::new(Store::memory().unwrap());
    let engines: Vec<Arc<dyn Engine>> = vec![direct.clone(), docker, native];
    let sandboxes = Sandboxes::new(records, engines, InstanceId::new());
    let plain = spec("");
    let mut waived = plain.clone();
    waived.hardening.accept_missing.insert(Control::LimitDisk);
    let mut loose = plain.clone();
    loose.hardening.seccomp = false;
    let mut gvisor = waived.clone();
    gvisor.isolation = Isolation::Gvisor;
    use ErrorKind::{Invalid, Refused, Unavailable, Unsupported};
    for (name, accept, spec, expected) in [
        ("auto", false, &waived, Ok(EngineKind::Native)),
        ("auto", true, &loose, Ok(EngineKind::Docker)),
        ("auto", true, &plain, Err((Unsupported, "disk"))),
        ("auto", true, &gvisor, Err((Unsupported, "gvisor"))),
        ("native", false, &plain, Err((Unsupported, "limit-disk"))),
        ("docker", false, &plain, Err((Unsupported, "seccomp"))),
        ("podman", false, &plain, Err((Unavailable, "podman"))),
        ("direct", false, &plain, Err((Refused, "direct"))),
        ("none", true, &plain, Ok(EngineKind::Direct)),
        ("direct", true, &plain, Ok(EngineKind::Direct)),
        ("lxc", true, &plain, Err((Invalid, "lxc"))),
    ] {
        match (sandboxes.choose(name, accept, spec), expected) {
            (Ok(engine), Ok(kind)) => assert_eq!(engine.kind(), kind, "{name}"),
            (Err(error), Err((kind, words))) => {
                assert_eq!(error.kind(), kind, "{name}: {error}");
                let text = format!("{error} {}", error.next_step().unwrap());
                assert!(text.contains(words), "{name}: {text}");
            }
            (got, _) => panic!("{name}: {:?}", got.map(|e| e.kind())),
        }
    }
    let accepted = sandboxes.choose("native", false, &plain).map(|_| ()).unwrap_err();
    assert!(accepted.next_step().unwrap().contains("--accept-missing limit-disk"));

    // Without isolation, the record says what is really there.
    let info = sandboxes.create("direct", true, plain, "agent", BTreeMap::new()).await.unwrap();
    assert_eq!(info.spec.isolation, Isolation::Process);
    assert_eq!(info.spec.network, Network::Host);
    assert_eq!((info.spec.limits.memory_bytes, info.spec.limits.disk_bytes), (None, None));
    assert!(info.spec.limits.pids.is_some());
}

#[tokio::test]
async fn reconciling_adopts_marks_and_removes() {
    let place = Place::new();
    let kept = place.create("kept").await.unwrap();
    let lost = place.create("lost").await.unwrap();
    let stopped = place.create("stopped").await.unwrap();
    place.engine.lose(&lost.id);
    place.engine.stop(&stopped.id, Duration::ZERO).await.unwrap();
    let orphan = place.engine.plant(&spec("orphan"));
    let meant = place.engine.plant(&spec("meant"));
    // A crash between intent and effect, and one between effect and record.
    let mut half = kept.clone();
    half.id = SandboxId::new();
    half.name = "half".into();
    half.state = SandboxState::Creating;
    place.records.put_sandbox(&half).await.unwrap();
    let made = place.engine.plant(&spec("made"));
    let mut unrecorded = half.clone();
    unrecorded.id = made.clone();
    unrecorded.name = "made".into();
    place.records.put_sandbox(&unrecorded).await.unwrap();

    // As after a restart: a fresh control over the same records.
    let engines: Vec<Arc<dyn Engine>> = vec![place.engine.clone()];
    let again = Sandboxes::new(place.records.clone(), engines, InstanceId::new());
    let swept = again.reconcile(std::slice::from_ref(&meant)).await.unwrap();
    assert_eq!(swept.iter().map(|s| s.name.clone()).collect::<Vec<_>>(), [orphan.to_string()]);
    assert!(place.engine.ids().contains(&meant));
    assert_eq!(place.state(&kept.id).await, Some(SandboxState::Running));
    assert_eq!(place.state(&made).await, Some(SandboxState::Running));
    assert!(matches!(place.state(&stopped.id).await, Some(SandboxState::Stopped { .. })));
    for id in [&lost.id, &half.id] {
        assert!(matches!(place.state(id).await, Some(SandboxState::Failed { .. })), "{id}");
    }
    // Again changes nothing.
    assert!(again.reconcile(&[meant]).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_left_alone() {
    let place = Place::new();
    let info = place.create("box").await.unwrap();
    let orphan = place.engine.plant(&spec("orphan"));
    place.engine.fail_next("list", ErrorKind::Unavailable);
    assert!(place.sandboxes.reconcile(&[]).await.unwrap().is_empty());
    assert_eq!(place.state(&info.id).await, Some(SandboxState::Running));
    assert!(place.engine.ids().contains(&orphan));
    place.engine.fail_next("remove", ErrorKind::Internal);
    assert!(place.sandboxes.remove(&info.id).await.is_err());
    assert!(place.state(&info.id).await.is_some(), "the record stays until the engine removed it");
}

#[tokio::test]
async fn failures_are_kept_for_a_while_and_in_bounds() {
    let place = Place::new();
    for _ in 0..105 {
        place.engine.fail_next("create", ErrorKind::Timeout);
        place.create("").await.unwrap_err();
    }
    let mut old = place.records.sandboxes().await.unwrap()[0].clone();
    old.created_at = "2020-01-01T00:00:00Z".parse().unwrap();
    place.records.put_sandbox(&old).await.unwrap();
    place.sandboxes.reconcile(&[]).await.unwrap();
    assert_eq!(place.records.sandboxes().await.unwrap().len(), 99);
    assert_eq!(place.state(&old.id).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn looking_never_brings_back_what_is_removed() {
    let place = Place::new();
    let looking = tokio::spawn({
        let sandboxes = place.sandboxes.clone();
        async move {
            loop {
                sandboxes.list().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..100 {
        let info = place.create("").await.unwrap();
        place.sandboxes.remove(&info.id).await.unwrap();
    }
    looking.abort();
    let _ = looking.await;
    assert_eq!(place.records.sandboxes().await.unwrap(), []);
}

#[tokio::test]
async fn one_that_is_being_made_is_removed_after_that() {
    let place = Place::new();
    place.engine.hold(true);
    let id = SandboxId::new();
    let (sandboxes, its_id) = (place.sandboxes.clone(), id.clone());
    let creating =
        tokio::spawn(
            async move { sandboxes.create_as(its_id, "auto", false, spec("box"), "shell", BTreeMap::new()).await },
        );
    eventually("the engine is asked", LONG, async || !place.engine.calls().is_empty()).await;
    let removing = tokio::spawn({
        let (sandboxes, id) = (place.sandboxes.clone(), id.clone());
        async move { sandboxes.remove(&id).await }
    });
    place.engine.hold(false);
    creating.await.unwrap().unwrap();
    removing.await.unwrap().unwrap();
    assert!(place.engine.ids().is_empty());
    assert_eq!(place.state(&id).await, None);
}
