//! What the next attempt is told about the last one. Data for the prompt, which fences it.

use std::sync::LazyLock;

use cove_core::ledger::{GateResult, GateStatus};
use regex::Regex;

use super::text::{head, tail};

/// Bytes of all feedback together.
const BOUND: usize = 12 << 10;
/// Bytes of an agent's last words repeated to it.
const WORDS: usize = 1 << 10;

pub(crate) fn gates_failed(failed: &[&GateResult], restored: Option<&[String]>) -> String {
    let mut out = String::new();
    if let Some(paths) = restored {
        let shown: Vec<&str> = paths.iter().take(20).map(String::as_str).collect();
        out.push_str(&format!(
            "You changed tests or files of the checks ({}). The checks must pass with the original files too, and did not.\n\n",
            shown.join(", ")
        ));
    }
    let share = BOUND / failed.len().max(1);
    for gate in failed {
        let how = match (gate.status, gate.code) {
            (GateStatus::TimedOut, _) => "ran into its time limit".to_owned(),
            (GateStatus::Errored, Some(code)) => format!("could not be run (exit code {code})"),
            (_, Some(code)) => format!("failed with exit code {code}"),
            _ => "failed".to_owned(),
        };
        out.push_str(&format!("The check {} ({}) {how}. The end of its output:\n", gate.name, gate.command));
        out.push_str(tail(&gate.tail, share).trim_end());
        out.push_str("\n\n");
    }
    out
}

pub(crate) fn agent_failed(reason: &str, message: &str) -> String {
    let mut out = format!("The attempt was not judged: {reason}. Its changes were dropped.\n");
    if !message.trim().is_empty() {
        out.push_str(&format!("Its last words were: {}\n", head(message, WORDS)));
    }
    out
}

pub(crate) fn no_change(claims: bool, message: &str) -> String {
    let mut out = "Nothing in the repository was changed".to_owned();
    out.push_str(if claims { ", although the story was claimed to be complete.\n" } else { ".\n" });
    if !message.trim().is_empty() {
        out.push_str(&format!("The last words were: {}\n", head(message, WORDS)));
    }
    out
}

pub(crate) fn refused(reason: &str) -> String {
    format!("The work was refused. {reason}. Leave such things out.\n")
}

pub(crate) fn conflict(paths: &[String]) -> String {
    let shown: Vec<&str> = paths.iter().take(50).map(String::as_str).collect();
    format!(
        "Another story was accepted while this one was worked on, and both changed the same places in: {}. \
         The branch holds the other story's version now; do the work again on top of it.\n",
        shown.join(", ")
    )
}

static NUMBERS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9a-f]*[0-9][0-9a-f]*").expect("the pattern is constant"));

/// A reason without what differs between two equal failures: numbers and identifiers.
pub(crate) fn steady(reason: &str) -> String {
    NUMBERS.replace_all(&reason.to_lowercase(), "#").into_owned()
}
