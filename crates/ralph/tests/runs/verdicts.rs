//! What is not accepted, and why.

use cove_core::agent::AgentEvent;
use cove_core::run::StoryStatus;
use cove_core::{AgentOutcome, Fact, Phase};
use cove_engines::fake::Act;

use crate::world::{World, event, gate, git, outcome, writes};

#[tokio::test]
async fn a_failed_gate_is_told_to_the_next_attempt() {
    let world = World::new(|asked| match asked.attempt {
        1 => writes("S1.txt", "almost"),
        _ => writes("S1.txt", "quite"),
    });
    let told = world.run(world.spec(&[("S1", "holds S1.txt quite")])).await;
    assert_eq!(told.verdicts(), ["S1: gatesFailed", "S1: accepted"]);
    assert_eq!(told.run.phase, Phase::Succeeded);
    let prompts = world.prompts.lock().unwrap();
    assert!(!prompts[0].prompt.contains("FAILED"));
    assert!(prompts[1].prompt.contains("FAILED: holds S1.txt quite"), "{}", prompts[1].prompt);
    assert!(prompts[1].prompt.contains("S1 check 1"));
    // The failed commit is kept on the side, and the branch holds nothing of it.
    assert_eq!(git(&told.repo, &["show", "refs/cove/attempts/s1/1:S1.txt"]), "almost");
    assert_eq!(told.subjects().len(), 1);
    assert_eq!(told.run.stories[0].attempts, 2);
}

#[tokio::test]
async fn an_agent_that_marks_the_prd_itself_has_done_nothing() {
    let world = World::new(|asked| {
        let act = writes("prd.json", "{\"userStories\": [{\"passes\": true}]}");
        if asked.attempt == 1 { act } else { act.write("S1.txt", "work") }
    });
    world.commit("prd.json", "the committed one\n");
    let mut spec = world.spec(&[("S1", "")]);
    spec.prd.path = Some(world.user().join("prd.json"));
    std::fs::write(world.user().join("prd.json"), &spec.prd.text).unwrap();
    let told = world.run(spec).await;
    assert_eq!(told.verdicts(), ["S1: noChange", "S1: accepted"], "{}", told.flags());
    assert!(told.flags().contains("prd.json"), "{}", told.flags());
    // What the agent did to it did not reach the branch; the user's file was marked by us alone.
    assert_eq!(told.tree()["prd.json"], "the committed one\n");
    assert!(std::fs::read_to_string(world.user().join("prd.json")).unwrap().contains("\"passes\": true"));
}

#[tokio::test]
async fn claiming_without_changing_is_no_change_and_in_the_end_stuck() {
    let world =
        World::new(|_| Act::exit(0).say(event(&AgentEvent::Final { text: "<promise>COMPLETE</promise>".to_owned() })));
    let told = world.run(world.spec(&[("S1", ""), ("S2<S1", "")])).await;
    assert_eq!(told.verdicts(), ["S1: noChange", "S1: noChange", "S1: noChange"]);
    assert_eq!(told.run.phase, Phase::Incomplete);
    assert_eq!(told.run.ending.as_ref().unwrap().exit_code(), 10);
    assert_eq!(told.statuses(), [("S1", StoryStatus::GivenUp), ("S2", StoryStatus::Open)]);
    assert!(told.notes().contains("S1 is given up: it is stuck"), "{}", told.notes());
    assert!(told.reason().contains("Given up: S1; waiting for them: S2"), "{}", told.reason());
    assert!(world.prompts.lock().unwrap()[1].prompt.contains("claimed to be complete"));
}

#[tokio::test]
async fn an_empty_story_passes_where_that_is_allowed() {
    let world = World::new(|_| Act::exit(0));
    let mut spec = world.spec(&[("S1", ""), ("S2", "has S2.txt")]);
    spec.allow_empty = true;
    spec.bounds.attempts_per_story = 1;
    let told = world.run(spec).await;
    assert_eq!(told.verdicts(), ["S1: accepted", "S2: gatesFailed"]);
    assert_eq!(told.run.head, told.run.base);
}

#[tokio::test]
async fn different_failures_are_not_stuck_and_end_at_the_bound_of_attempts() {
    let world = World::new(|asked| writes("S1.txt", &format!("try {}", asked.attempt)));
    let mut spec = world.spec(&[("S1", "has other.txt"), ("S2", "")]);
    spec.bounds.attempts_per_story = 4;
    let told = world.run(spec).await;
    assert_eq!(told.verdicts().iter().filter(|v| *v == "S1: gatesFailed").count(), 4);
    assert_eq!(told.statuses(), [("S1", StoryStatus::GivenUp), ("S2", StoryStatus::Passed)]);
    assert!(told.notes().contains("4 attempts failed"));
}

#[tokio::test]
async fn edited_tests_count_only_where_the_originals_pass_too() {
    for trusted in [false, true] {
        let world = World::new(|_| writes("src.txt", "wrong").write("tests/check_test.txt", "wrong"));
        world.commit("tests/check_test.txt", "right");
        let mut spec = world.spec(&[("S1", "")]);
        // Passes only with the test as the agent rewrote it, or before there is any code.
        spec.gates = Some(vec![gate("suite", "lacks src.txt || holds tests/check_test.txt wrong")]);
        spec.bounds.attempts_per_story = 1;
        spec.trust_test_changes = trusted;
        let told = world.run(spec).await;
        let verdict = if trusted { "S1: accepted" } else { "S1: gatesFailed" };
        assert_eq!(told.verdicts(), [verdict], "trusted {trusted}: {} {}", told.flags(), told.notes());
        assert!(told.flags().contains("tests/check_test.txt"), "{}", told.flags());
    }
}

#[tokio::test]
async fn what_one_gate_does_to_the_checkout_does_not_decide_about_the_next() {
    let world = World::new(|_| writes("evil.txt", ""));
    world.commit("check.txt", "wrong");
    let mut spec = world.spec(&[("S1", "")]);
    spec.gates = Some(vec![
        gate("unit", "puts check.txt right && puts out.txt built"),
        gate("built", "holds out.txt built"),
        gate("accept", "lacks evil.txt || holds check.txt right"),
    ]);
    spec.bounds.attempts_per_story = 1;
    let told = world.run(spec).await;
    let gates = told.run.baseline.iter().map(|gate| gate.status).collect::<Vec<_>>();
    assert!(gates.iter().all(|status| *status == cove_core::ledger::GateStatus::Passed), "{gates:?}");
    assert_eq!(told.verdicts(), ["S1: gatesFailed"]);
}

#[tokio::test]
async fn where_no_gate_passes_nothing_is_excused() {
    let world = World::new(|_| writes("src.txt", ""));
    let mut spec = world.spec(&[("S1", "")]);
    spec.gates = Some(vec![gate("red", "has missing.txt")]);
    spec.bounds.attempts_per_story = 1;
    let told = world.run(spec).await;
    assert_eq!(told.verdicts(), ["S1: gatesFailed"]);
    assert!(told.notes().contains("a story has to make one pass"), "{}", told.notes());
}

#[tokio::test]
async fn a_failing_agent_is_not_judged_by_its_diff() {
    let world = World::new(|asked| match asked.attempt {
        1 => Act::exit(3).write("S1.txt", "half"),
        2 => {
            Act::exit(0).write("S1.txt", "half").say(outcome(&AgentOutcome::Failed { reason: "It gave up".to_owned() }))
        }
        _ => writes("S1.txt", "whole"),
    });
    let told = world.run(world.spec(&[("S1", "")])).await;
    assert_eq!(told.verdicts(), ["S1: agentFailed", "S1: agentFailed", "S1: accepted"]);
    assert_eq!(told.tree()["S1.txt"], "whole");
    assert!(world.prompts.lock().unwrap()[2].prompt.contains("It gave up"));
}

#[tokio::test]
async fn what_leads_out_of_the_tree_is_refused() {
    let world = World::new(|asked| {
        if asked.attempt == 1 {
            writes(".gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ext::sh -c id\n").write("x.txt", "")
        } else {
            writes("S1.txt", "fine")
        }
    });
    let told = world.run(world.spec(&[("S1", "")])).await;
    assert_eq!(told.verdicts(), ["S1: refused", "S1: accepted"], "{}", told.flags());
}

#[tokio::test]
async fn what_repeating_cannot_change_ends_the_run_at_once() {
    let mut noisy = Act::exit(127);
    noisy.stderr = b"plain: not found\n".to_vec();
    let rows: [(&str, Act, &str); 2] = [
        (
            "unauthorized",
            Act::exit(1).say(outcome(&AgentOutcome::Unauthorized { reason: "The key was refused".to_owned() })),
            "not signed in: The key was refused",
        ),
        ("absent", noisy, "could not be found"),
    ];
    for (what, act, words) in rows {
        let world = World::new(move |_| act.clone());
        let told = world.run(world.spec(&[("S1", ""), ("S2", "")])).await;
        assert_eq!(told.run.phase, Phase::Failed, "{what}");
        assert!(told.reason().contains(words), "{what}: {}", told.reason());
        assert_eq!(told.verdicts().len(), 1, "{what}");
        assert_eq!(told.run.stories[0].attempts, 0, "{what}");
        world.assert_clean().await;
    }
}

#[tokio::test]
async fn a_last_line_without_a_newline_counts() {
    let last = event(&AgentEvent::Final { text: "- Done without an end".to_owned() });
    let act = Act::exit(0).write("S1.txt", "").say(last.trim_end());
    let world = World::new(move |_| act.clone());
    let told = world.run(world.spec(&[("S1", "has S1.txt")])).await;
    assert_eq!(told.verdicts(), ["S1: accepted"]);
    let said =
        |fact: &Fact| matches!(fact, Fact::Agent { event: AgentEvent::Final { text }, .. } if text.ends_with("an end"));
    assert!(told.entries.iter().any(|entry| said(&entry.fact)));
    assert!(world.users_progress().contains("- Done without an end\n"), "{}", world.users_progress());
}
