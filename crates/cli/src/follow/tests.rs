//! A run told fact by fact, for the view, the lines and the picture.

use cove_core::agent::{AgentEvent, Usage};
use cove_core::ledger::{GateResult, GateStatus, Verdict};
use cove_core::run::{RunRecord, StoryStatus};
use cove_core::{DoorEvent, Ending, Entry, Fact, Phase};
use serde_json::json;

use super::{Lines, View};
use crate::output::Style;

pub fn record() -> RunRecord {
    let story = |id: &str, title: &str, status: &str| {
        json!({
            "id": id, "title": title, "dependsOn": [], "status": status, "attempts": 0, "current": null,
            "feedback": null, "failures": [], "commit": null,
        })
    };
    serde_json::from_value(json!({
        "id": "run_01m7zsxnc06gdpy34az9wqv4e6", "name": "amber",
        "spec": {"repository": "/r", "prd": {"text": ""}, "agent": {"name": "claude"}},
        "version": 1, "phase": "queued", "reason": null, "request": null, "resumeAt": null, "engine": null,
        "base": null, "branch": null, "head": null, "gates": [], "baseline": [],
        "stories": [
            story("US-001", "Print the total", "open"), story("US-002", "Print sums by category", "open"),
            story("US-003", "Begin", "passed"), story("US-004", "日本語のタイトル", "open"),
        ],
        "iterations": 0, "infrastructureFailures": 0, "usage": {}, "workedMillis": 0, "ending": null,
        "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

const ATTEMPTS: [&str; 3] =
    ["att_01m7zsxnc06gdpy34az9wqv4e1", "att_01m7zsxnc06gdpy34az9wqv4e2", "att_01m7zsxnc06gdpy34az9wqv4e3"];

pub fn facts() -> Vec<Fact> {
    let attempt = |n: usize| ATTEMPTS[n].parse().unwrap();
    let gate = |status, code, tail: &str| GateResult {
        name: "tests".to_owned(),
        command: "sh check.sh".to_owned(),
        status,
        code: Some(code),
        millis: 1500,
        tail: tail.to_owned(),
        tests: None,
    };
    let start = |n: usize, story: &str, number| Fact::AttemptStarted {
        attempt: attempt(n),
        story: story.to_owned(),
        number,
        base: "0123456789abcdef".to_owned(),
    };
    let usage = |tokens, cost| Usage { input_tokens: tokens, reported_cost_usd: Some(cost), ..Usage::default() };
    let event = |n: usize, event| Fact::Agent { attempt: attempt(n), event };
    vec![
        Fact::Created,
        Fact::PhaseChanged { phase: Phase::Running, reason: None },
        Fact::Prepared { base: "0123456789abcdef".to_owned(), branch: "ralph/x".to_owned() },
        Fact::Baseline { gates: vec![gate(GateStatus::Passed, 0, "")] },
        start(0, "US-001", 1),
        Fact::SandboxStarted {
            attempt: Some(attempt(0)),
            sandbox: "sbx_01m7zsxnc06gdpy34az9wqv4e6".parse().unwrap(),
            role: "agent".to_owned(),
            engine: "native".to_owned(),
        },
        event(0, AgentEvent::ToolUse { tool: "Bash".to_owned(), summary: "ls\u{1b}[2J -la".to_owned() }),
        Fact::Collected { attempt: attempt(0), commit: Some("fedcba9876543210".to_owned()), files: 1, flags: vec![] },
        Fact::GateFinished { attempt: attempt(0), gate: gate(GateStatus::Passed, 0, "") },
        Fact::AttemptFinished {
            attempt: attempt(0),
            story: "US-001".to_owned(),
            verdict: Verdict::Accepted,
            usage: usage(10_000, 0.30),
        },
        Fact::StoryPassed { story: "US-001".to_owned(), attempt: attempt(0), commit: "fedcba9876543210".to_owned() },
        start(1, "US-002", 1),
        event(1, AgentEvent::Text { text: "I will\nlook \u{202e}around".to_owned() }),
        Fact::Egress {
            attempt: Some(attempt(1)),
            event: DoorEvent {
                host: "collector.example".to_owned(),
                port: 443,
                allowed: false,
                reason: "no rule allows it".to_owned(),
                count: 2,
            },
        },
        Fact::Collected {
            attempt: attempt(1),
            commit: Some("1111111111111111".to_owned()),
            files: 3,
            flags: vec!["check.sh was changed".to_owned()],
        },
        Fact::GateFinished { attempt: attempt(1), gate: gate(GateStatus::Failed, 1, "ok one\nFAIL two\n\n") },
        Fact::AttemptFinished {
            attempt: attempt(1),
            story: "US-002".to_owned(),
            verdict: Verdict::GatesFailed { gates: vec!["tests".to_owned()] },
            usage: usage(2000, 0.10),
        },
        start(2, "US-002", 2),
        event(2, AgentEvent::Usage { usage: usage(345, 0.02) }),
        Fact::Collected { attempt: attempt(2), commit: Some("2222222222222222".to_owned()), files: 2, flags: vec![] },
        Fact::GateFinished { attempt: attempt(2), gate: gate(GateStatus::Passed, 0, "") },
        Fact::AttemptFinished {
            attempt: attempt(2),
            story: "US-002".to_owned(),
            verdict: Verdict::Accepted,
            usage: usage(345, 0.02),
        },
        Fact::StoryPassed { story: "US-002".to_owned(), attempt: attempt(2), commit: "2222222222222222".to_owned() },
        Fact::Finished { ending: Ending::Incomplete { reason: "US-004 was given up".to_owned() } },
    ]
}

fn entries() -> Vec<Entry> {
    let at = |n: u64| format!("2026-01-01T00:02:{:02}Z", if n >= 24 { 0 } else { n }).parse().unwrap();
    let place = |(n, fact): (usize, Fact)| {
        let seq = n as u64 + 1;
        Entry { seq, run: record().id, at: at(seq), fact }
    };
    facts().into_iter().enumerate().map(place).collect()
}

/// The view after the first `count` facts.
pub fn view_after(count: usize) -> View {
    let mut view = View::new(&record());
    entries().iter().take(count).for_each(|entry| view.apply(entry));
    view
}

#[test]
fn every_fact_is_one_line_that_names_its_story() {
    let mut view = View::new(&record());
    let lines = Lines { style: Style::PLAIN, timestamps: false, utc: true, agent: true };
    let mut out = Vec::new();
    for entry in entries() {
        view.apply(&entry);
        out.extend(lines.line(&entry, &view));
    }
    let expected = "\
Run amber created
Run running
Branch ralph/x begins at 0123456789
Before the first change: tests passed
US-001 attempt 1 begins at 0123456789
US-001 sandbox z9wqv4e6 for the agent by native
US-001 uses Bash: ls -la
US-001 changed 1 file in fedcba9876
US-001 gate tests passed after 1s
US-001 attempt accepted (10000 tokens, $0.30)
US-001 passed with fedcba9876
US-002 attempt 1 begins at 0123456789
US-002 says: I will look around
US-002 blocked collector.example:443: no rule allows it
US-002 changed 3 files in 1111111111; look at: check.sh was changed
US-002 gate tests failed with exit code 1 after 1s: FAIL two
US-002 attempt not accepted: tests failed (2000 tokens, $0.10)
US-002 attempt 2 begins at 0123456789
US-002 changed 2 files in 2222222222
US-002 gate tests passed after 1s
US-002 attempt accepted (345 tokens, $0.02)
US-002 passed with 2222222222
Run incomplete: US-004 was given up";
    assert_eq!(out.join("\n"), expected);
    let stamped = Lines { timestamps: true, ..lines };
    let first = stamped.line(&entries()[0], &view).unwrap();
    assert_eq!(first, "2026-01-01T00:02:01+00:00 Run amber created");
}

#[test]
fn a_fact_seen_twice_changes_nothing() {
    let mut view = view_after(facts().len());
    let before = format!("{view:?}");
    entries().iter().for_each(|entry| view.apply(entry));
    assert_eq!(format!("{view:?}"), before);
    assert_eq!(view.usage().tokens(), 12_345);
    assert_eq!(view.stories[3].status, StoryStatus::Open);
}
