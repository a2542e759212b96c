//! What people ask of a run, and what a restart in good order does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cove_core::run::{RunRequest, StoryStatus};
use cove_core::{ErrorKind, Fact, Phase};

use crate::world::{World, writes};

/// Agents hang until the switch is on.
fn hanging() -> (World, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let on = Arc::clone(&go);
    let world = World::new(move |asked| {
        let act = writes(&format!("{}.txt", asked.story), "");
        if on.load(Ordering::SeqCst) { act } else { act.after(Duration::from_secs(3600)) }
    });
    (world, go)
}

fn is_agent(fact: &Fact) -> bool {
    matches!(fact, Fact::SandboxStarted { role, .. } if role == "agent")
}

#[tokio::test]
async fn stopping_ends_the_agent_in_the_middle_and_retrying_goes_on() {
    let (world, go) = hanging();
    let runner = world.runner();
    let id = runner.submit(world.spec(&[("S1", ""), ("S2", "")])).await.unwrap().id;
    world.fact(&id, "the agent", is_agent).await;

    let asked = Instant::now();
    runner.request(&id, RunRequest::Stop).await.unwrap();
    let told = world.ended(&id).await;
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!(told.run.phase, Phase::Stopped);
    assert_eq!(told.verdicts(), ["S1: interrupted"]);
    assert_eq!(told.run.stories[0].attempts, 0);
    world.assert_clean().await;
    runner.request(&id, RunRequest::Stop).await.unwrap();
    assert_eq!(runner.request(&id, RunRequest::Pause).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(runner.resume(&id).await.unwrap_err().kind(), ErrorKind::Conflict);

    go.store(true, Ordering::SeqCst);
    runner.retry(&id).await.unwrap();
    let told = world.ended(&id).await;
    assert_eq!(told.run.phase, Phase::Succeeded);
    assert_eq!(runner.retry(&id).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn pausing_waits_for_a_word() {
    let (world, go) = hanging();
    let runner = world.runner();
    let id = runner.submit(world.spec(&[("S1", "")])).await.unwrap().id;
    world.fact(&id, "the agent", is_agent).await;
    assert_eq!(runner.remove(&id).await.unwrap_err().kind(), ErrorKind::Conflict);
    runner.request(&id, RunRequest::Pause).await.unwrap();
    let run = world.until(&id, "the pause", |run| run.phase == Phase::Paused).await;
    assert_eq!((run.request, run.resume_at), (None, None));
    world.assert_clean().await;
    // Time alone does not end it, a restart neither.
    world.clock.forward(1_000_000);
    runner.shutdown().await;
    go.store(true, Ordering::SeqCst);
    let runner = world.runner();
    runner.recover().await.unwrap();
    assert_eq!(world.records.run(&id).await.unwrap().phase, Phase::Paused);
    runner.resume(&id).await.unwrap();
    let told = world.ended(&id).await;
    assert_eq!(told.run.phase, Phase::Succeeded);
    assert_eq!(told.verdicts(), ["S1: interrupted", "S1: accepted"]);
}

#[tokio::test]
async fn retrying_gives_stories_that_were_given_up_fresh_limits() {
    let good = Arc::new(AtomicBool::new(false));
    let is_good = Arc::clone(&good);
    let world = World::new(move |asked| {
        writes(&format!("{}.txt", asked.story), if is_good.load(Ordering::SeqCst) { "good" } else { "bad" })
    });
    let mut spec = world.spec(&[("S1", ""), ("S2", "holds S2.txt good")]);
    spec.bounds.iterations = 3;
    spec.bounds.attempts_per_story = 2;
    let runner = world.runner();
    let id = runner.submit(spec).await.unwrap().id;
    let told = world.ended(&id).await;
    assert_eq!(told.run.phase, Phase::Incomplete);
    let head = told.run.head.clone();
    good.store(true, Ordering::SeqCst);
    runner.retry(&id).await.unwrap();
    let told = world.ended(&id).await;
    assert_eq!(told.run.phase, Phase::Succeeded, "{}", told.reason());
    assert_eq!(told.statuses(), [("S1", StoryStatus::Passed), ("S2", StoryStatus::Passed)]);
    assert_ne!(told.run.head, head);
    assert_eq!(told.subjects(), ["feat: S1 - Story S1", "feat: S2 - Story S2"]);
}

#[tokio::test]
async fn an_orderly_end_records_what_it_cuts_off() {
    let (world, go) = hanging();
    let runner = world.runner();
    let id = runner.submit(world.spec(&[("S1", "")])).await.unwrap().id;
    world.fact(&id, "the agent", is_agent).await;
    runner.shutdown().await;
    let told = world.told(&id).await;
    assert_eq!((told.run.phase, told.verdicts()), (Phase::Running, vec!["S1: interrupted".to_owned()]));
    world.assert_clean().await;
    assert_eq!(runner.submit(world.spec(&[("S1", "")])).await.unwrap_err().kind(), ErrorKind::Unavailable);
    go.store(true, Ordering::SeqCst);
    let runner = world.runner();
    runner.recover().await.unwrap();
    assert_eq!(world.ended(&id).await.run.phase, Phase::Succeeded);
}

#[tokio::test]
async fn runs_wait_for_a_place_and_can_be_stopped_there() {
    let (mut world, go) = hanging();
    world.concurrent = 1;
    let runner = world.runner();
    let mut ids = Vec::new();
    for branch in ["one", "two", "three"] {
        let mut spec = world.spec(&[("S1", "")]);
        spec.branch = Some(branch.to_owned());
        ids.push(runner.submit(spec).await.unwrap().id);
    }
    world.fact(&ids[0], "the first agent", is_agent).await;
    for id in &ids[1..] {
        assert_eq!(world.records.run(id).await.unwrap().phase, Phase::Queued);
    }
    runner.request(&ids[1], RunRequest::Stop).await.unwrap();
    assert_eq!(world.ended(&ids[1]).await.run.phase, Phase::Stopped);
    go.store(true, Ordering::SeqCst);
    runner.request(&ids[0], RunRequest::Stop).await.unwrap();
    assert_eq!(world.ended(&ids[2]).await.run.phase, Phase::Succeeded);
}

#[tokio::test]
async fn names_are_unique_among_the_living() {
    let (world, _) = hanging();
    let runner = world.runner();
    let first = runner.submit(world.spec(&[("S1", "")])).await.unwrap();
    let second = runner.submit(world.spec(&[("S1", "")])).await.unwrap();
    assert_eq!((first.name.as_str(), second.name.as_str()), ("trial", "trial-2"));
    let mut spec = world.spec(&[("S1", "")]);
    spec.name = "trial".to_owned();
    assert_eq!(runner.submit(spec).await.unwrap_err().kind(), ErrorKind::Conflict);
    runner.shutdown().await;
}
