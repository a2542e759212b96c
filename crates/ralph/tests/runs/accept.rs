//! What is accepted, and what follows from it.

use std::os::unix::fs::PermissionsExt;

use cove_core::run::{RunSpec, StoryStatus};
use cove_core::{ErrorKind, Fact, Phase};
use cove_engines::fake::Act;

use crate::world::{World, gate, git, prd, writes};

fn file_per_story(asked: &crate::world::Asked) -> Act {
    writes(&format!("{}.txt", asked.story), &format!("work of {}\n", asked.story))
}

#[tokio::test]
async fn three_stories_become_a_branch_and_three_marks() {
    let world = World::new(file_per_story);
    let spec = world.spec(&[("S1", "has S1.txt"), ("S2<S1", "has S1.txt && has S2.txt"), ("S3", "")]);
    let before = spec.prd.text.clone();
    std::fs::set_permissions(world.dir.path().join("prd.json"), PermissionsExt::from_mode(0o640)).unwrap();
    let runner = world.runner();
    let id = runner.submit(spec).await.unwrap().id;
    let told = world.ended(&id).await;

    assert_eq!(told.run.phase, Phase::Succeeded, "{}", told.reason());
    assert_eq!(told.passed(), ["S1", "S2", "S3"]);
    assert_eq!(told.verdicts(), ["S1: accepted", "S2: accepted", "S3: accepted"]);
    let names: Vec<String> = told.tree().into_keys().collect();
    assert_eq!(names, ["README.md", "S1.txt", "S2.txt", "S3.txt"]);
    assert_eq!(told.subjects(), ["feat: S1 - Story S1", "feat: S2 - Story S2", "feat: S3 - Story S3"]);
    assert_eq!(told.run.iterations, 3);
    let seqs: Vec<u64> = told.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());

    // Only `passes` differs in the user's file, and its mode is kept.
    assert_eq!(world.users_prd(), before.replace("\"passes\": false", "\"passes\": true"));
    let mode = std::fs::metadata(world.dir.path().join("prd.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    for story in ["S1", "S2", "S3"] {
        assert_eq!(world.users_progress().matches(&format!(" - {story}\n")).count(), 1, "{}", world.users_progress());
    }
    // The user's repository is untouched until somebody asks.
    assert_eq!(git(&world.user(), &["branch", "--format=%(refname:short)"]), "main\n");
    let delivered = runner.apply(&id, &world.user(), false).await.unwrap();
    assert_eq!(Some(delivered.commit), told.run.head);
    assert_eq!(git(&world.user(), &["rev-list", "--count", "main..ralph/trial"]), "3\n");

    let whole = String::from_utf8(runner.diff(&id, None).await.unwrap()).unwrap();
    let one = String::from_utf8(runner.diff(&id, Some("S2")).await.unwrap()).unwrap();
    assert!(whole.contains("S1.txt") && whole.contains("S3.txt"));
    assert!(one.contains("S2.txt") && !one.contains("S1.txt") && !one.contains("S3.txt"));
    assert!(std::fs::read_to_string(runner.log(&id, None).await.unwrap()).unwrap().contains("Done it"));
    let out = world.dir.path().join("out");
    let files = runner.export(&id, &out).await.unwrap();
    assert_eq!(files.len(), 6, "{files:?}");

    world.assert_clean().await;
    runner.remove(&id).await.unwrap();
    runner.remove(&id).await.unwrap();
    assert!(!told.repo.exists());
    assert_eq!(world.records.run(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn stories_that_passed_before_cost_nothing() {
    let world = World::new(|_| unreachable!("no agent is needed"));
    let mut spec = world.spec(&[("S1", ""), ("S2", "")]);
    spec.prd.text = spec.prd.text.replace("\"passes\": false", "\"passes\": true");
    let told = world.run(spec).await;
    assert_eq!(told.run.phase, Phase::Succeeded);
    assert_eq!(told.run.iterations, 0);
    assert!(told.verdicts().is_empty());
}

#[tokio::test]
async fn priority_decides_then_the_place_in_the_prd() {
    let world = World::new(file_per_story);
    let mut spec = world.spec(&[("A", ""), ("B", ""), ("C", "")]);
    spec.prd.text =
        spec.prd.text.replace("\"priority\": 1", "\"priority\": 7").replace("\"priority\": 3", "\"priority\": 2");
    assert_eq!(world.run(spec).await.passed(), ["B", "C", "A"]);
}

#[tokio::test]
async fn a_gate_that_failed_before_in_the_same_way_is_not_held_against_a_story() {
    let world = World::new(file_per_story);
    let mut spec = world.spec(&[("S1", "has S1.txt")]);
    spec.gates = Some(vec![gate("readme", "has README.md"), gate("red", "has missing.txt")]);
    let told = world.run(spec).await;
    assert_eq!(told.run.phase, Phase::Succeeded, "{}", told.reason());
    assert!(told.notes().contains("Failing before any work: red"), "{}", told.notes());
    let results = told.entries.iter().filter_map(|entry| match &entry.fact {
        Fact::GateFinished { gate, .. } => {
            Some(serde_json::to_value(gate.status).unwrap().as_str().unwrap().to_owned())
        }
        _ => None,
    });
    assert_eq!(results.collect::<Vec<_>>(), ["passed", "failedBefore", "passed"]);
}

#[tokio::test]
async fn a_branch_that_is_there_is_continued_moved_forward_or_refused() {
    // (what the user's branch holds, whether the run can go on, files of the run's branch)
    let rows: [(&str, bool, &[&str]); 3] = [
        ("more than the base", true, &["README.md", "S1.txt", "earlier.txt"]),
        ("less than the base", true, &["README.md", "S1.txt", "later.txt"]),
        ("something else", false, &[]),
    ];
    for (what, good, files) in rows {
        let world = World::new(file_per_story);
        let repo = world.user();
        if what != "less than the base" {
            git(&repo, &["switch", "-qc", "ralph/trial"]);
            world.commit("earlier.txt", "x");
            git(&repo, &["switch", "-q", "main"]);
        } else {
            git(&repo, &["branch", "ralph/trial"]);
        }
        if what != "more than the base" {
            world.commit("later.txt", "y");
        }
        let runner = world.runner();
        let id = runner.submit(world.spec(&[("S1", "")])).await.unwrap().id;
        let told = world.ended(&id).await;
        assert_eq!(told.run.phase, if good { Phase::Succeeded } else { Phase::Failed }, "{what}: {}", told.reason());
        if good {
            assert_eq!(told.tree().into_keys().collect::<Vec<_>>(), files, "{what}");
        } else {
            assert!(told.reason().contains("holds other work"), "{}", told.reason());
            // Once the user has put that right, the run can be begun again.
            git(&repo, &["branch", "-qm", "ralph/trial", "ralph/old"]);
            runner.retry(&id).await.unwrap();
            let told = world.ended(&id).await;
            assert_eq!(told.run.phase, Phase::Succeeded, "{}", told.reason());
            assert_eq!(told.tree().into_keys().collect::<Vec<_>>(), ["README.md", "S1.txt", "later.txt"]);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_at_once() {
    type Spoil = fn(&mut RunSpec);
    let rows: [(&str, Spoil, ErrorKind); 8] = [
        ("PRD", |s| s.prd.text = "{".to_owned(), ErrorKind::Invalid),
        ("cycle", |s| s.prd.text = prd(&[("A<B", ""), ("B<A", "")]), ErrorKind::Invalid),
        ("parallel", |s| s.parallel = 17, ErrorKind::Invalid),
        ("cost", |s| s.bounds.cost_usd = Some(f64::NAN), ErrorKind::Invalid),
        ("branch", |s| s.branch = Some("a..b".to_owned()), ErrorKind::Invalid),
        ("engine", |s| s.engine = "docker".to_owned(), ErrorKind::Unavailable),
        ("repository", |s| s.repository.push_str("-not-here"), ErrorKind::NotFound),
        ("base", |s| s.base = Some("no-such-branch".to_owned()), ErrorKind::NotFound),
    ];
    let world = World::new(file_per_story);
    let runner = world.runner();
    for (what, spoil, kind) in rows {
        let mut spec = world.spec(&[("S1", "")]);
        spoil(&mut spec);
        let error = runner.submit(spec).await.expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
    }
    assert!(world.records.runs(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_user_file_that_is_gone_or_changed_does_not_hold_the_run_up() {
    let world = World::new(file_per_story);
    let spec = world.spec(&[("S1", "")]);
    std::fs::remove_file(world.dir.path().join("prd.json")).unwrap();
    let told = world.run(spec).await;
    assert_eq!(told.run.phase, Phase::Succeeded);
    assert_eq!(told.statuses(), [("S1", StoryStatus::Passed)]);
    assert!(told.notes().contains("prd.json could not be brought up to date"), "{}", told.notes());
}

#[tokio::test]
async fn a_gate_that_has_passed_since_is_not_excused_any_more() {
    // The gate is red on the base; the first story mends it, the second one breaks it again.
    let world = World::new(|asked| match asked.story.as_str() {
        "S1" => writes("wanted.txt", "here"),
        _ => writes("S2.txt", "").remove("wanted.txt"),
    });
    let mut spec = world.spec(&[("S1", ""), ("S2<S1", "")]);
    spec.gates = Some(vec![gate("red", "has wanted.txt")]);
    spec.bounds.attempts_per_story = 1;
    let told = world.run(spec).await;
    assert_eq!(told.verdicts(), ["S1: accepted", "S2: gatesFailed"]);
}

#[tokio::test]
async fn a_gate_that_cannot_be_run_excuses_nobody() {
    let world = World::new(file_per_story);
    let mut spec = world.spec(&[("S1", "")]);
    spec.gates = Some(vec![gate("readme", "has README.md"), gate("tool", "absent")]);
    spec.bounds.attempts_per_story = 1;
    let told = world.run(spec).await;
    assert_eq!(told.verdicts(), ["S1: gatesFailed"]);
    assert!(told.notes().contains("held against every story: tool"), "{}", told.notes());
}

#[tokio::test]
async fn another_branch_begins_the_progress_anew_and_keeps_the_old_one() {
    let world = World::new(|asked| {
        let words = format!("- Did {}\n\n## Codebase Patterns\n- Tabs, not spaces\n", asked.story);
        let last = cove_core::AgentEvent::Final { text: words };
        Act::exit(0).write(format!("{}.txt", asked.story), "").say(crate::world::event(&last))
    });
    let spec = |branch: &str, story: &str| {
        let mut spec = world.spec(&[(story, "")]);
        spec.branch = Some(branch.to_owned());
        spec.prd.progress = world.users_progress();
        spec
    };
    let archive = world.dir.path().join("archive");
    world.run(spec("ralph/one", "S1")).await;
    let first = world.users_progress();
    assert!(first.contains(" - S1\n"), "{first}");
    // The same branch again: nothing is put away.
    let told = world.run(spec("ralph/one", "S2")).await;
    assert!(!archive.exists(), "{}", told.notes());
    let second = world.users_progress();
    assert!(second.starts_with(&first) && second.contains(" - S2\n"), "{second}");

    // Another branch, where the archive has a folder of that name already.
    let taken = archive.join("2026-01-02-one");
    std::fs::create_dir_all(&taken).unwrap();
    std::fs::write(taken.join("progress.txt"), "somebody's").unwrap();
    let told = world.run(spec("ralph/two", "S3")).await;
    assert_eq!(told.run.phase, Phase::Succeeded, "{}", told.reason());
    assert!(told.notes().contains("The progress of the branch ralph/one is kept as"), "{}", told.notes());
    assert_eq!(std::fs::read_to_string(taken.join("progress.txt")).unwrap(), "somebody's");
    assert_eq!(std::fs::read_to_string(archive.join("2026-01-02-one-2/progress.txt")).unwrap(), second);
    let third = world.users_progress();
    assert!(third.contains("- Tabs, not spaces\n") && third.contains(" - S3\n"), "{third}");
    assert!(!third.contains("- S1") && !third.contains("- S2"), "{third}");
    let prompt = world.prompts.lock().unwrap().pop().unwrap().prompt;
    assert!(prompt.contains("Tabs, not spaces") && !prompt.contains("Did S1"), "{prompt}");

    // An archive that cannot be made is told, and that is all.
    std::fs::rename(&archive, world.dir.path().join("moved")).unwrap();
    std::fs::write(&archive, "a file").unwrap();
    let told = world.run(spec("ralph/three", "S4")).await;
    assert_eq!(told.run.phase, Phase::Succeeded, "{}", told.reason());
    assert!(told.notes().contains("could not be archived"), "{}", told.notes());
    assert!(world.users_progress().starts_with(&third));
}
