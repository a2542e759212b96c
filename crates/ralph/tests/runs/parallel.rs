//! Stories side by side: no work lost, conflicts told, the order that of the PRD.

use cove_core::Phase;

use crate::world::{World, writes};

#[tokio::test]
async fn four_at_once_two_of_them_on_one_file() {
    let world = World::new(|asked| match (asked.story.as_str(), asked.attempt) {
        ("S2", _) => writes("shared.txt", "by S2\n"),
        ("S3", 1) => writes("shared.txt", "by S3\n"),
        // It was told of the conflict and works on top of it.
        ("S3", _) => writes("shared.txt", "by S2\nby S3\n"),
        (story, _) => writes(&format!("{story}.txt"), ""),
    });
    let mut spec = world.spec(&[("S1", ""), ("S2", "holds shared.txt S2"), ("S3", "holds shared.txt S3"), ("S4", "")]);
    spec.parallel = 4;
    let told = world.run(spec).await;
    assert_eq!(told.run.phase, Phase::Succeeded, "{} {}", told.reason(), told.notes());
    assert_eq!(told.passed(), ["S1", "S2", "S4", "S3"]);
    let verdicts = told.verdicts();
    assert_eq!(verdicts.iter().filter(|v| *v == "S3: refused").count(), 1, "{verdicts:?}");
    let tree = told.tree();
    assert_eq!(tree.keys().map(String::as_str).collect::<Vec<_>>(), ["README.md", "S1.txt", "S4.txt", "shared.txt"]);
    assert_eq!(tree["shared.txt"], "by S2\nby S3\n");
    let prompts = world.prompts.lock().unwrap();
    let again = prompts.iter().find(|asked| asked.story == "S3" && asked.attempt == 2).unwrap();
    assert!(again.prompt.contains("both changed the same places in: shared.txt"), "{}", again.prompt);
}

#[tokio::test]
async fn a_merge_is_judged_like_any_other_work() {
    // Each is fine alone; together they break the gate.
    let world = World::new(|asked| match (asked.story.as_str(), asked.attempt) {
        ("S1", _) => writes("one.txt", ""),
        ("S2", 1) => writes("two.txt", ""),
        _ => writes("three.txt", ""),
    });
    let mut spec = world.spec(&[("S1", ""), ("S2", "")]);
    spec.gates = Some(vec![crate::world::gate("not both", "lacks one.txt || lacks two.txt")]);
    spec.parallel = 2;
    let told = world.run(spec).await;
    assert_eq!(told.passed(), ["S1", "S2"]);
    assert!(told.verdicts().contains(&"S2: gatesFailed".to_owned()), "{:?}", told.verdicts());
    assert!(!told.tree().contains_key("two.txt"));
}
