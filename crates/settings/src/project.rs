//! What a repository's own file may decide. It lies where an agent can write, so it may choose and
//! tighten, never widen.

use std::time::Duration;

use cove_core::quantity::{parse_duration, parse_size};
use serde::Serialize;
use serde_json::Value;

/// What a repository's own file may do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProjectRule {
    /// Set it.
    Set,
    /// Set it to a value that is not above the one of the layers below.
    Lower,
    /// Nothing: the value is ignored with a warning.
    Ignored,
}

impl ProjectRule {
    /// The rule for a key. What is not listed is ignored, so that a new key is closed until somebody
    /// decided otherwise.
    pub(crate) fn of(key: &str) -> Self {
        match key {
            "container.image" | "agent.name" | "agent.model" | "gates" | "prd.path" | "prd.progress"
            | "loop.prompt" | "loop.tokenMeans" => Self::Set,
            "container.timeout"
            | "container.resources.cpu"
            | "container.resources.memory"
            | "container.resources.storage"
            | "container.resources.pids"
            | "container.resources.openFiles"
            | "loop.maxIterations"
            | "loop.maxAttempts"
            | "loop.maxTime"
            | "loop.maxTokens"
            | "loop.maxCostUsd"
            | "loop.maxTurns"
            | "loop.idleTimeout"
            | "loop.parallel"
            | "loop.stuckAfter"
            | "loop.infrastructureFailures"
            | "loop.outputLimit" => Self::Lower,
            _ => Self::Ignored,
        }
    }
}

/// How much a value of a `Lower` key allows; no bound is infinite.
pub(crate) fn amount(key: &str, value: &Value) -> f64 {
    let plain = |number: f64| match key {
        "container.timeout" => number / 1000.0,
        _ => number,
    };
    let amount = match value {
        Value::Null => f64::INFINITY,
        Value::Number(number) => plain(number.as_f64().unwrap_or(f64::INFINITY)),
        Value::String(text) => match (key, text.trim().parse::<f64>()) {
            (_, Ok(number)) => plain(number),
            ("container.timeout" | "loop.maxTime" | "loop.idleTimeout", _) => {
                parse_duration(text).map_or(f64::INFINITY, |d: Duration| d.as_secs_f64())
            }
            _ => parse_size(text).map_or(f64::INFINITY, |bytes| bytes as f64),
        },
        _ => f64::INFINITY,
    };
    // 0 means no bound for what ends a run.
    let zero_is_unbounded = key.starts_with("loop.") || key == "container.timeout";
    if zero_is_unbounded && amount == 0.0 { f64::INFINITY } else { amount }
}
