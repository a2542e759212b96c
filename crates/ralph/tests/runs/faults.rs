//! The host's and the provider's failures are not the story's.

use std::time::Duration;

use cove_core::{AgentEvent, AgentOutcome, Ending, ErrorKind, Phase};
use cove_engines::fake::{Act, Fault};

use crate::world::{World, outcome, writes};

fn limited(resets_at: Option<&str>) -> Act {
    let resets_at = resets_at.map(|at| at.parse().unwrap());
    Act::exit(1).say(outcome(&AgentOutcome::Limited { resets_at, reason: "Usage limit".to_owned() }))
}

#[tokio::test]
async fn a_provider_that_says_when_is_waited_for() {
    // (what it says, seconds until then)
    for (says, wait) in [(Some("2026-01-02T04:04:05Z"), 3600), (None, 300)] {
        let world = World::new(move |_| writes("S1.txt", ""));
        let calls = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = calls.clone();
        let world = World {
            engine: World::new(move |_| {
                if counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                    limited(says)
                } else {
                    writes("S1.txt", "")
                }
            })
            .engine,
            ..world
        };
        let runner = world.runner();
        let id = runner.submit(world.spec(&[("S1", "")])).await.unwrap().id;
        let run = world.until(&id, "the pause", |run| run.phase == Phase::Paused).await;
        assert!(run.reason.unwrap().contains("Usage limit"));
        assert!(run.resume_at.is_some());
        world.clock.forward(wait - 1);
        // Twice the time in which a pause looks at the clock.
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(world.records.run(&id).await.unwrap().phase, Phase::Paused);
        world.clock.forward(2);
        let told = world.ended(&id).await;
        assert_eq!(told.verdicts(), ["S1: providerLimit", "S1: accepted"]);
        assert_eq!((told.run.iterations, told.run.stories[0].attempts), (1, 1));
    }
}

#[tokio::test]
async fn a_person_can_end_the_waiting_and_settings_can_forbid_it() {
    let world = World::new(|_| limited(Some("2027-01-01T00:00:00Z")));
    let runner = world.runner();
    let id = runner.submit(world.spec(&[("S1", "")])).await.unwrap().id;
    world.until(&id, "the pause", |run| run.phase == Phase::Paused).await;
    runner.request(&id, cove_core::run::RunRequest::Stop).await.unwrap();
    assert_eq!(world.ended(&id).await.run.phase, Phase::Stopped);

    let mut spec = world.spec(&[("S1", "")]);
    spec.bounds.wait_for_provider = false;
    let told = world.run(spec).await;
    assert!(matches!(&told.run.ending, Some(Ending::LimitReached { limit, .. }) if limit == "provider"));
}

#[tokio::test]
async fn an_agent_that_sits_out_a_limit_in_silence_is_not_idle() {
    let world = World::new(|_| {
        let resets_at = Some("2026-01-02T04:04:05Z".parse().unwrap());
        let event = AgentEvent::RateLimit { resets_at, message: "Usage limit".to_owned() };
        Act::exit(0).say(crate::world::event(&event)).hang()
    });
    let mut spec = world.spec(&[("S1", "")]);
    spec.bounds.idle_seconds = 1;
    let runner = world.runner();
    let id = runner.submit(spec).await.unwrap().id;
    let run = world.until(&id, "the pause", |run| run.phase == Phase::Paused).await;
    assert_eq!(run.resume_at, Some("2026-01-02T04:04:05Z".parse().unwrap()));
    assert_eq!(world.told(&id).await.verdicts(), ["S1: providerLimit"]);
    runner.shutdown().await;
}

#[tokio::test]
async fn infrastructure_is_tried_again_and_not_counted() {
    let world = World::new(|asked| writes(&format!("{}.txt", asked.story), ""));
    // The baseline's sandbox, then an agent's, then a process that cannot be started.
    world.engine.inject(Fault::Create(ErrorKind::NotStarted));
    let runner = world.runner();
    let id = runner.submit(world.spec(&[("S1", "has S1.txt"), ("S2", "")])).await.unwrap().id;
    let told = world.ended(&id).await;
    assert_eq!(told.run.phase, Phase::Succeeded, "{}", told.reason());
    assert!(told.notes().contains("failure of the infrastructure"), "{}", told.notes());
    world.assert_clean().await;
}

/// Lost after it was made and before anything ran in it: at the baseline too.
#[tokio::test]
async fn a_sandbox_that_does_not_run_any_more_is_nobodys_fault() {
    for kind in [ErrorKind::Conflict, ErrorKind::NotFound] {
        let world = World::new(|_| writes("S1.txt", ""));
        world.engine.inject(Fault::Exec(kind));
        let told = world.run(world.spec(&[("S1", "has S1.txt")])).await;
        assert_eq!(told.run.phase, Phase::Succeeded, "{kind:?}: {}", told.reason());
        world.assert_clean().await;
    }
}

#[tokio::test]
async fn a_sandbox_lost_in_the_middle_is_nobodys_fault() {
    let lost = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let world = World::new(move |_| {
        if lost.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2 { Act::lost() } else { writes("S1.txt", "") }
    });
    let told = world.run(world.spec(&[("S1", "")])).await;
    assert_eq!(told.verdicts(), ["S1: infrastructure", "S1: infrastructure", "S1: accepted"]);
    assert_eq!((told.run.iterations, told.run.stories[0].attempts), (1, 1));
    assert_eq!(told.run.infrastructure_failures, 0);
    world.assert_clean().await;
}

#[tokio::test]
async fn too_many_failures_of_the_infrastructure_end_the_run() {
    let world = World::new(|_| Act::lost());
    let told = world.run(world.spec(&[("S1", "")])).await;
    assert_eq!(told.run.phase, Phase::Failed);
    assert!(told.reason().contains("3 failures of the infrastructure in a row"), "{}", told.reason());
    assert_eq!(told.verdicts().len(), 3);
    world.assert_clean().await;
}

#[tokio::test]
async fn a_creation_that_outlives_its_worker_is_undone() {
    let world = World::new(|_| writes("S1.txt", ""));
    let runner = world.runner();
    world.engine.inject(Fault::SlowCreate(Duration::from_millis(300)));
    let id = runner.submit(world.spec(&[("S1", "")])).await.unwrap().id;
    world.until(&id, "the start", |run| run.base.is_some()).await;
    runner.request(&id, cove_core::run::RunRequest::Stop).await.unwrap();
    assert_eq!(world.ended(&id).await.run.phase, Phase::Stopped);
    runner.shutdown().await;
    world.assert_clean().await;
}
