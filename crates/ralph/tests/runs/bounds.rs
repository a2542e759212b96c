//! Every bound ends what it bounds, in the middle of an attempt too.

use std::time::Duration;

use cove_core::agent::AgentEvent;
use cove_core::run::StoryStatus;
use cove_core::{Ending, Fact, Phase, Usage};
use cove_engines::fake::Act;

use crate::world::{World, dollars, event, writes};

fn limit(told: &crate::world::Told) -> String {
    match &told.run.ending {
        Some(Ending::LimitReached { limit, .. }) => limit.clone(),
        other => format!("{other:?}: {}", told.notes()),
    }
}

#[tokio::test]
async fn iterations() {
    let world = World::new(|asked| writes("S1.txt", &asked.attempt.to_string()));
    let mut spec = world.spec(&[("S1", "has other.txt")]);
    spec.bounds.iterations = 2;
    let told = world.run(spec).await;
    assert_eq!(limit(&told), "iterations");
    assert_eq!(told.run.ending.as_ref().unwrap().exit_code(), 11);
    assert_eq!(told.verdicts().len(), 2);
    assert_eq!(told.statuses(), [("S1", StoryStatus::Open)]);
}

#[tokio::test]
async fn success_in_the_last_iteration_is_success() {
    let world = World::new(|_| writes("S1.txt", ""));
    let mut spec = world.spec(&[("S1", "")]);
    spec.bounds.iterations = 1;
    assert_eq!(world.run(spec).await.run.phase, Phase::Succeeded);
}

#[tokio::test]
async fn money_stops_within_one_event_and_the_sums_agree() {
    let world = World::new(|asked| {
        let upto = if asked.story == "S1" { 4 } else { 100 };
        let act = Act::exit(0).write(format!("{}.txt", asked.story), "");
        (1..=upto).fold(act, |act, n| act.say(dollars(f64::from(n) / 10.0)))
    });
    let mut spec = world.spec(&[("S1", ""), ("S2", "")]);
    spec.bounds.cost_usd = Some(1.0);
    let told = world.run(spec).await;
    assert_eq!(limit(&told), "cost");
    assert_eq!(told.passed(), ["S1"]);
    let used: Vec<Usage> = told
        .entries
        .iter()
        .filter_map(|entry| match &entry.fact {
            Fact::AttemptFinished { usage, .. } => Some(usage.clone()),
            _ => None,
        })
        .collect();
    let sum: f64 = used.iter().filter_map(Usage::cost_usd).sum();
    assert!((sum - told.run.usage.cost_usd().unwrap()).abs() < 1e-6, "{sum}");
    // Output comes in pieces; whatever was said in the piece that reached the bound counts.
    assert!(sum >= 1.0 - 1e-6, "{sum}");
}

#[tokio::test]
async fn tokens_stop_an_agent_that_would_go_on() {
    let world = World::new(|_| Act::exit(0).say(dollars(0.0)).hang());
    let mut spec = world.spec(&[("S1", "")]);
    spec.bounds.tokens = Some(110);
    let told = world.run(spec).await;
    assert_eq!(limit(&told), "tokens");
    assert_eq!(told.run.usage.tokens(), 110);
    assert_eq!(told.run.stories[0].attempts, 0);
}

#[tokio::test]
async fn wall_clock_of_the_whole_run() {
    let world = World::new(|_| Act::exit(0).after(Duration::from_secs(3600)));
    let mut spec = world.spec(&[("S1", "")]);
    spec.bounds.wall_seconds = Some(1);
    let told = world.run(spec).await;
    assert_eq!(limit(&told), "wall");
    world.assert_clean().await;
}

#[tokio::test]
async fn time_idleness_turns_and_floods_end_one_attempt() {
    type Set = fn(&mut cove_core::run::Bounds);
    let slow = || Act::exit(0).after(Duration::from_secs(3600));
    let turns = (0..4).fold(Act::exit(0), |act, _| act.say(event(&AgentEvent::Turn)));
    let flood = Act::exit(0).say(vec![b'x'; 200 << 10]);
    let rows: [(&str, Act, Set, &str); 4] = [
        ("time", slow(), |b| b.attempt_seconds = 3, "after 3 s, the bound of one attempt"),
        ("idle", slow(), |b| b.idle_seconds = 3, "without any output"),
        ("turns", turns, |b| b.turns = Some(3), "bound of 3 turns"),
        ("flood", flood, |b| b.output_bytes = 16 << 10, "wrote more than 64.0 KiB"),
    ];
    for (what, act, set, words) in rows {
        let world = World::new(move |asked| if asked.attempt == 1 { act.clone() } else { writes("S1.txt", "") });
        let mut spec = world.spec(&[("S1", "")]);
        set(&mut spec.bounds);
        let runner = world.runner();
        let id = runner.submit(spec).await.unwrap().id;
        let told = world.ended(&id).await;
        assert_eq!(told.verdicts(), ["S1: agentFailed", "S1: accepted"], "{what}");
        assert!(world.prompts.lock().unwrap()[1].prompt.contains(words), "{what}");
        let first = told.entries.iter().find_map(|entry| match &entry.fact {
            Fact::AttemptStarted { attempt, .. } => Some(attempt.clone()),
            _ => None,
        });
        let log = std::fs::metadata(runner.log(&id, first.as_ref()).await.unwrap()).unwrap();
        assert!(log.len() <= 16 << 10, "{what}: {}", log.len());
    }
}

#[tokio::test]
async fn an_agent_that_hangs_after_its_last_words_is_ended_and_its_work_kept() {
    let world = World::new(|_| writes("S1.txt", "work").hang());
    let told = world.run(world.spec(&[("S1", "has S1.txt")])).await;
    assert_eq!(told.verdicts(), ["S1: accepted"]);
    world.assert_clean().await;
}

#[tokio::test]
async fn a_gate_that_does_not_end_fails() {
    let world = World::new(|_| writes("S1.txt", "work"));
    let mut spec = world.spec(&[("S1", "")]);
    // On the base it fails at once.
    let mut hangs = crate::world::gate("hangs", "has S1.txt && slow");
    hangs.timeout_seconds = 3;
    spec.gates = Some(vec![hangs]);
    spec.bounds.attempts_per_story = 1;
    let told = world.run(spec).await;
    assert_eq!(told.verdicts(), ["S1: gatesFailed"], "{}", told.notes());
    let timed_out = told.entries.iter().any(|entry| {
        matches!(&entry.fact, Fact::GateFinished { gate, .. } if gate.status == cove_core::ledger::GateStatus::TimedOut)
    });
    assert!(timed_out);
}
