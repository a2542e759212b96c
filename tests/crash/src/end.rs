//! What a run came to, as far as it must not depend on what happened around it.

use std::collections::BTreeMap;

use cove_scenarios::{Small, World};
use serde_json::Value;

use crate::ledger::Ledger;

/// The same for every run of the same PRD, however it was disturbed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Phase and reason.
    pub over: (String, String),
    /// Story, status.
    pub stories: Vec<(String, String)>,
    /// Path and content's name of every file on the branch.
    pub tree: String,
    /// Messages of the branch's commits, ids of this run taken out; newest first.
    pub commits: String,
    /// `passes` in the user's file.
    pub passes: Vec<bool>,
    /// The user's progress file, dates taken out.
    pub progress: String,
}

/// What disturbances may add to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Attempts that count against a story, all stories together.
    pub counted: u64,
    /// Attempts begun.
    pub begun: usize,
    /// Verdicts of attempts, with their numbers.
    pub verdicts: BTreeMap<String, usize>,
}

impl End {
    /// Reads it from the run's own repository, the ledger and the user's files.
    ///
    /// # Panics
    /// When the ledger has gaps, a story passed twice, an attempt was never closed, or the run ended
    /// twice.
    pub fn of(world: &World, small: &Small, run: &str) -> (Self, Standing) {
        let mut ledger = Ledger::new(&world.path("data"));
        assert_eq!(ledger.runs(), [run], "the run was doubled");
        let record = ledger.record(run);
        let entries = ledger.entries(run);
        let standing = sound(&record, &entries);
        let repo = world.path("data").join("runs").join(run).join("repo.git");
        let git = |arguments: &[&str]| {
            let repository = cove_scenarios::Repository { path: repo.clone() };
            repository.ask(arguments)
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let stories = record["stories"].as_array().unwrap();
        let end = Self {
            over: (text(&record["phase"]), text(&record["reason"])),
            stories: stories.iter().map(|story| (text(&story["id"]), text(&story["status"]))).collect(),
            tree: git(&["ls-tree", "-r", "cove/small"]),
            commits: anonymous(&git(&["log", "--format=%an%n%B", "main..cove/small"])),
            passes: small.passes(),
            progress: std::fs::read_to_string(world.path("progress.txt"))
                .unwrap_or_default()
                .lines()
                .map(undated)
                .collect(),
        };
        assert_eq!(git(&["rev-parse", "cove/small"]), text(&record["head"]), "branch and record differ");
        // The object store is whole.
        git(&["fsck", "--connectivity-only", "--no-dangling"]);
        (end, standing)
    }
}

fn sound(record: &Value, entries: &[Value]) -> Standing {
    let places: Vec<u64> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(places, (1..=places.len() as u64).collect::<Vec<_>>(), "the ledger has gaps");
    let of = |fact: &str| entries.iter().filter(|entry| entry["fact"] == fact).collect::<Vec<_>>();
    assert_eq!(of("finished").len(), 1, "the run ended more than once, or never");
    assert_eq!(of("created").len(), 1);
    let mut passed: Vec<&str> = of("storyPassed").iter().map(|entry| entry["story"].as_str().unwrap()).collect();
    passed.sort_unstable();
    let mut once = passed.clone();
    once.dedup();
    assert_eq!(passed, once, "a story passed twice");
    let attempts = |fact: &str| {
        let mut ids: Vec<String> = of(fact).iter().map(|e| e["attempt"].as_str().unwrap().to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(attempts("attemptStarted"), attempts("attemptFinished"), "attempts begun and ended");
    let mut verdicts = BTreeMap::new();
    for entry in of("attemptFinished") {
        *verdicts.entry(entry["verdict"]["verdict"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let counted = record["stories"].as_array().unwrap().iter().map(|story| story["attempts"].as_u64().unwrap()).sum();
    assert_eq!(record["iterations"].as_u64().unwrap(), counted, "iterations and counted attempts");
    Standing { counted, begun: of("attemptStarted").len(), verdicts }
}

/// Without the ids of run and attempts.
fn anonymous(text: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((key @ ("Run-Id" | "Attempt"), _)) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn undated(line: &str) -> String {
    let told = match line.strip_prefix("## ").and_then(|rest| rest.split_once(" - ")) {
        Some((_, story)) => format!("## {story}"),
        None if line.starts_with("Started: ") => "Started".to_owned(),
        None => line.to_owned(),
    };
    format!("{told}\n")
}
