//! What the ledger says about one story.

use std::collections::BTreeSet;
use std::fmt;

use cove_scenarios::{Finished, World};
use serde_json::Value;

use crate::{Cheat, field};

/// A story's way through a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Whether it passed.
    pub passed: bool,
    /// Attempts that ended.
    pub attempts: usize,
    /// Codes of its refusals.
    pub codes: BTreeSet<String>,
    /// Their sentences, and those of verdicts.
    pub reasons: Vec<String>,
    /// All flags, one a line.
    pub flags: String,
    /// What its agents printed.
    pub said: String,
    /// Ends of the checks' outputs.
    pub checks: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "passed: {}, codes: {:?}", self.passed, self.codes)?;
        writeln!(out, "reasons: {}", self.reasons.join(" | "))?;
        writeln!(out, "flags: {}", self.flags.replace('\n', " | "))?;
        writeln!(out, "agent: {}", self.said.trim())?;
        write!(out, "checks: {}", self.checks.join("\n--\n"))
    }
}

/// Reads the ledger of the newest run.
///
/// # Panics
/// When there is none, or a line is no JSON.
pub(crate) fn read(world: &World, stories: &[String], finished: &Finished) -> Vec<Outcome> {
    let ledger = world.cove(&["logs", "-o", "ndjson"]);
    assert_eq!(ledger.code, 0, "{}\n{}", finished.said(), ledger.said());
    let mut outcomes = vec![Outcome::default(); stories.len()];
    let mut of_attempt: Vec<(String, usize)> = Vec::new();
    let (mut entries, mut run) = (0, String::new());
    for line in ledger.stdout.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        entries += 1;
        run = entry["run"].as_str().unwrap_or_default().to_owned();
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let named = stories.iter().position(|id| *id == text("story"));
        if entry["fact"] == "attemptStarted" {
            of_attempt.push((text("attempt"), named.unwrap()));
        }
        let at = named.or_else(|| of_attempt.iter().find(|(id, _)| *id == text("attempt")).map(|(_, at)| *at));
        let Some(outcome) = at.map(|at| &mut outcomes[at]) else { continue };
        match entry["fact"].as_str().unwrap_or_default() {
            "storyPassed" => outcome.passed = true,
            "refusal" => {
                outcome.codes.insert(text("code"));
                outcome.reasons.push(text("text"));
            }
            "attemptFinished" => {
                outcome.attempts += 1;
                outcome.reasons.push(entry["verdict"].to_string());
            }
            "collected" => {
                for flag in entry["flags"].as_array().unwrap() {
                    outcome.flags.push_str(flag.as_str().unwrap());
                    outcome.flags.push('\n');
                }
            }
            "gateFinished" => {
                let gate = &entry["gate"];
                let end = gate["tail"].as_str().unwrap_or_default();
                let cut = end.char_indices().rev().nth(600).map_or(0, |(at, _)| at);
                outcome.checks.push(format!("{} {}: {}", gate["name"], gate["status"], &end[cut..]));
            }
            _ => {}
        }
    }
    assert!(entries > 0 && !of_attempt.is_empty(), "{}", finished.said());
    let logs = world.path("data").join("runs").join(run).join("attempts");
    for (attempt, at) in of_attempt {
        let said = std::fs::read(logs.join(attempt).join("agent.log")).unwrap_or_default();
        outcomes[at].said.push_str(&String::from_utf8_lossy(&said[..said.len().min(64 << 10)]));
        outcomes[at].said.push_str(&String::from_utf8_lossy(&said[said.len().saturating_sub(4 << 10)..]));
    }
    outcomes
}

/// What speaks against a cheat's outcome; empty where it was refused as it must be.
pub fn judge(cheat: &Cheat, outcome: &Outcome) -> Vec<String> {
    let mut problems = Vec::new();
    if !field::fooled(cheat, outcome) {
        problems.push(format!("the positive control does not hold, so nothing is shown:\n{outcome}"));
    }
    if outcome.passed {
        problems.push(format!("it passed:\n{outcome}"));
    }
    let known: BTreeSet<String> = cheat.refused.iter().map(|&code| code.to_owned()).collect();
    if outcome.codes.is_empty() || !outcome.codes.is_subset(&known) {
        problems.push(format!("the ledger should name {known:?}:\n{outcome}"));
    }
    if outcome.reasons.iter().any(|reason| reason.trim().is_empty()) {
        problems.push("a refusal has no sentence".to_owned());
    }
    if !outcome.flags.contains(cheat.flag) {
        problems.push(format!("no flag says {:?}:\n{outcome}", cheat.flag));
    }
    problems
}
