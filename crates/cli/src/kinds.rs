//! How each kind of thing looks in tables.

use cove_core::quantity::format_duration;
use cove_core::{RunRecord, SandboxInfo};
use jiff::Timestamp;
use serde_json::Value;

use crate::output::{Column, Kind, Paint, fields_of, text};

macro_rules! column {
    ($title:literal, $cell:expr) => {
        Column { title: $title, wide: false, cell: $cell }
    };
    (wide $title:literal, $cell:expr) => {
        Column { title: $title, wide: true, cell: $cell }
    };
}

/// Runs.
pub fn runs() -> Kind {
    Kind { columns: &RUNS, id: "name", fields: fields_of::<RunRecord>() }
}

static RUNS: [Column; 9] = [
    column!("NAME", |run| (text(run, "name"), Some(Paint::Strong))),
    column!("PHASE", |run| phase(&text(run, "phase"))),
    column!("STORIES", |run| {
        let stories = run["stories"].as_array().map_or(&[][..], Vec::as_slice);
        let passed = stories.iter().filter(|story| story["status"] == "passed").count();
        (format!("{passed}/{}", stories.len()), None)
    }),
    column!("AGENT", |run| (text(run, "spec.agent.name"), None)),
    column!("SPENT", |run| (spent(run), None)),
    column!("AGE", |run| (age(&text(run, "createdAt")), None)),
    column!(wide "ENGINE", |run| (text(run, "engine"), None)),
    column!(wide "BRANCH", |run| (text(run, "branch"), None)),
    column!(wide "ID", |run| (text(run, "id"), None)),
];

/// Sandboxes.
pub fn sandboxes() -> Kind {
    Kind { columns: &SANDBOXES, id: "name", fields: fields_of::<SandboxInfo>() }
}

static SANDBOXES: [Column; 7] = [
    column!("NAME", |item| (text(item, "name"), Some(Paint::Strong))),
    column!("STATE", |item| {
        let state = text(item, "state.state");
        let paint = match state.as_str() {
            "running" => Paint::Active,
            "failed" => Paint::Bad,
            _ => Paint::Faint,
        };
        (state, Some(paint))
    }),
    column!("ENGINE", |item| (text(item, "engine"), None)),
    column!("ROLE", |item| {
        (item["spec"]["labels"].get("run.cove.role").and_then(Value::as_str).unwrap_or_default().to_owned(), None)
    }),
    column!("AGE", |item| (age(&text(item, "createdAt")), None)),
    column!(wide "ROOT", |item| {
        let root = &item["spec"]["root"];
        ([text(root, "kind"), text(root, "at")].join(" ").trim().to_owned(), None)
    }),
    column!(wide "ID", |item| (text(item, "id"), None)),
];

/// Engines.
pub fn engines() -> Kind {
    Kind { columns: &ENGINES, id: "kind", fields: fields_of::<cove_api::EngineReport>() }
}

static ENGINES: [Column; 5] = [
    column!("ENGINE", |item| (text(item, "kind"), Some(Paint::Strong))),
    column!("AVAILABLE", |item| match item["available"].as_bool() {
        Some(true) => ("yes".to_owned(), Some(Paint::Good)),
        _ => ("no".to_owned(), Some(Paint::Bad)),
    }),
    column!("ISOLATION", |item| {
        let levels = item["isolation"].as_array().map_or(&[][..], Vec::as_slice);
        let levels: Vec<&str> = levels.iter().filter_map(Value::as_str).collect();
        match levels.as_slice() {
            ["process"] => ("none".to_owned(), Some(Paint::Warn)),
            all => (all.join(", "), None),
        }
    }),
    column!("CONTROLS", |item| {
        let controls = item["controls"].as_array().map_or(&[][..], Vec::as_slice);
        let proven = controls.iter().filter(|control| control["state"] == "proven").count();
        (format!("{proven} of {}", controls.len()), None)
    }),
    column!("WHY NOT", |item| (text(item, "why"), None)),
];

/// Engines with their pass tables; people get a text of its own.
pub fn tested_engines() -> Kind {
    let fields = ["engine", "available", "why", "isolation", "decisive", "holds", "lacking", "controls", "live"];
    Kind { columns: &[], id: "engine", fields: fields.map(str::to_owned).to_vec() }
}

/// Engines under attack.
pub fn isolation() -> Kind {
    let fields = [
        "engine",
        "holds",
        "score",
        "groups",
        "probes",
        "reachableCalls",
        "families",
        "changed",
        "missing",
        "seconds",
        "lines",
    ];
    Kind { columns: &ISOLATION, id: "engine", fields: fields.map(str::to_owned).to_vec() }
}

static ISOLATION: [Column; 2] = [
    column!("ENGINE", |item| (text(item, "engine"), Some(Paint::Strong))),
    column!("HOLDS", |item| match item["holds"].as_bool() {
        Some(true) => ("yes".to_owned(), Some(Paint::Good)),
        _ => ("no".to_owned(), Some(Paint::Bad)),
    }),
];

/// Settings.
pub fn settings() -> Kind {
    let fields = ["key", "value", "origin", "overrides"].map(str::to_owned).to_vec();
    Kind { columns: &SETTINGS, id: "key", fields }
}

static SETTINGS: [Column; 3] = [
    column!("KEY", |item| (text(item, "key"), Some(Paint::Strong))),
    column!("VALUE", |item| (if item["value"].is_null() { "-".to_owned() } else { item["value"].to_string() }, None)),
    column!("ORIGIN", |item| {
        let origin = text(item, "origin");
        let paint = (origin == "default").then_some(Paint::Faint);
        (origin, paint)
    }),
];

/// Stories of a PRD.
pub fn stories() -> Kind {
    let fields = ["id", "title", "priority", "passes", "dependsOn", "description", "acceptance", "notes", "commands"];
    Kind { columns: &STORIES, id: "id", fields: fields.map(str::to_owned).to_vec() }
}

static STORIES: [Column; 5] = [
    column!("ID", |item| (text(item, "id"), Some(Paint::Strong))),
    column!("PASSES", |item| match item["passes"].as_bool() {
        Some(true) => ("yes".to_owned(), Some(Paint::Good)),
        _ => ("no".to_owned(), None),
    }),
    column!("PRIORITY", |item| (text(item, "priority"), None)),
    column!("AFTER", |item| {
        let ids = item["dependsOn"].as_array().map_or(&[][..], Vec::as_slice);
        (ids.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "), None)
    }),
    column!("TITLE", |item| (text(item, "title"), None)),
];

/// Checks of the doctor.
pub fn checks() -> Kind {
    let fields = ["check", "result", "found", "fix"].map(str::to_owned).to_vec();
    Kind { columns: &CHECKS, id: "check", fields }
}

static CHECKS: [Column; 4] = [
    column!("CHECK", |item| (text(item, "check"), Some(Paint::Strong))),
    column!("RESULT", |item| {
        let result = text(item, "result");
        let paint = match result.as_str() {
            "ok" => Paint::Good,
            "missing" => Paint::Bad,
            _ => Paint::Warn,
        };
        (result, Some(paint))
    }),
    column!("FOUND", |item| (text(item, "found"), None)),
    column!("FIX", |item| (text(item, "fix"), None)),
];

/// A phase in words, with its paint.
pub fn phase(name: &str) -> (String, Option<Paint>) {
    let paint = match name {
        "succeeded" => Paint::Good,
        "failed" | "incomplete" | "limit_reached" => Paint::Bad,
        "paused" | "waiting_input" | "stopped" => Paint::Warn,
        _ => Paint::Active,
    };
    (name.replace('_', " "), Some(paint))
}

/// A time for people, in the zone they asked for.
pub fn moment(at: Timestamp, utc: bool) -> String {
    let zone = if utc { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() };
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

fn spent(run: &Value) -> String {
    let usage = &run["usage"];
    match (usage["reportedCostUsd"].as_f64(), usage["estimatedCostUsd"].as_f64()) {
        (Some(cost), _) => format!("${cost:.2}"),
        (None, Some(cost)) => format!("about ${cost:.2}"),
        (None, None) => {
            let sum: u64 = ["inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens"]
                .iter()
                .filter_map(|name| usage[*name].as_u64())
                .sum();
            if sum > 0 { format!("{sum} tokens") } else { "-".to_owned() }
        }
    }
}

fn age(at: &str) -> String {
    let Ok(at) = at.parse::<Timestamp>() else { return String::new() };
    let seconds = u64::try_from(Timestamp::now().as_second() - at.as_second()).unwrap_or(0);
    format_duration(std::time::Duration::from_secs(seconds.max(1)))
}
