//! Whether a gate failed the same way before anybody touched the code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use cove_core::ledger::{GateResult, GateStatus};
use regex::Regex;

use crate::evidence::Tripwire;

/// Turns failures that the base commit has in the same way into `FailedBefore`. Nothing is excused
/// where not one gate passes: nothing would tell done from not done.
pub(crate) fn judge(results: &mut [GateResult], baseline: &[GateResult]) {
    if !any_passes(results) {
        return;
    }
    for result in results {
        let before = baseline.iter().find(|b| b.name == result.name && b.command == result.command);
        if before.is_some_and(|before| same_failure(result, before)) {
            result.status = GateStatus::FailedBefore;
        }
    }
}

/// Positions of the gates with this status that are to be run with planted tests: those that counted
/// tests, whose command calls a test runner, or that named planted tests on the base.
pub(crate) fn tests_gates(
    results: &[GateResult],
    status: GateStatus,
    wires: &BTreeMap<String, Tripwire>,
) -> Vec<usize> {
    let named = |gate: &GateResult| wires.get(&gate.name).is_some_and(|wire| !wire.named.is_empty());
    let tests = |gate: &GateResult| gate.tests.is_some() || crate::evidence::runs_tests(&gate.command) || named(gate);
    (0..results.len()).filter(|at| results[*at].status == status && tests(&results[*at])).collect()
}

/// Whether a gate passes that tells something about the work: one that only installs does not.
pub(crate) fn any_passes(results: &[GateResult]) -> bool {
    results.iter().any(|gate| gate.status == GateStatus::Passed && !crate::gates::only_installs(&gate.command))
}

/// The same status and code, and no line about a failure that the base did not have.
fn same_failure(now: &GateResult, before: &GateResult) -> bool {
    match (now.status, before.status) {
        (GateStatus::TimedOut, GateStatus::TimedOut) => true,
        (GateStatus::Failed, GateStatus::Failed) if now.code == before.code => {
            let (new, old) = (complaints(&now.tail), complaints(&before.tail));
            new.is_subset(&old) && (!new.is_empty() || plain(&now.tail) == plain(&before.tail))
        }
        _ => false,
    }
}

static COMPLAINT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)fail|error|panic|assert|exception|not ok|✗|✘|×|undefined|cannot|missing|not found")
        .expect("the pattern is constant")
});

/// What differs between two runs of the same thing: durations, addresses, positions in files, and
/// counts of what went well.
static VARYING: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (r"\x1b\[[0-9;]*[A-Za-z]", ""),
        (r"0x[0-9a-fA-F]+", "#"),
        (r"\b\d+(\.\d+)?\s*(ns|µs|us|ms|s|sec|secs|seconds?|m|min|minutes?)\b", "#"),
        (r"\b\d+ (passed|passing|ok|succeeded|total|tests?|skipped|ignored|filtered|measured|suites?)\b", "# $1"),
        (r":\d+(:\d+)?", ":#"),
        (r"\bline \d+", "line #"),
        (r"/tmp/[^\s:'\x22]+", "/tmp/#"),
    ]
    .into_iter()
    .map(|(pattern, by)| (Regex::new(pattern).expect("the patterns are constant"), by))
    .collect()
});

fn plain(text: &str) -> String {
    VARYING.iter().fold(text.trim().to_owned(), |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
}

fn complaints(tail: &str) -> BTreeSet<String> {
    plain(tail).lines().filter(|line| COMPLAINT.is_match(line)).map(|line| line.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32, tail: &str) -> GateResult {
        GateResult {
            name: "test".to_owned(),
            command: "make test".to_owned(),
            status: if code == -1 { GateStatus::TimedOut } else { GateStatus::Failed },
            code: Some(code),
            millis: 1,
            tail: tail.to_owned(),
            tests: None,
        }
    }

    #[test]
    fn only_the_same_failure_is_excused() {
        let rows = [
            (
                "same text",
                failed(1, "test a FAILED\n3 passed in 0.2s"),
                failed(1, "test a FAILED\n4 passed in 0.35s"),
                true,
            ),
            ("another test", failed(1, "test a FAILED"), failed(1, "test a FAILED\ntest b FAILED"), false),
            ("more failures", failed(1, "2 failed, 3 passed"), failed(1, "3 failed, 3 passed"), false),
            ("fewer failures named", failed(1, "test a FAILED\ntest b FAILED"), failed(1, "test b FAILED"), true),
            ("another code", failed(1, "test a FAILED"), failed(2, "test a FAILED"), false),
            ("silent", failed(1, ""), failed(1, ""), true),
            ("silent, then words", failed(1, ""), failed(1, "boom"), false),
            ("timeouts", failed(-1, "x"), failed(-1, "y"), true),
            ("moved lines", failed(1, "error at src/a.rs:10:5"), failed(1, "error at src/a.rs:12:5"), true),
        ];
        for (what, before, now, excused) in rows {
            let passed = GateResult { name: "lint".to_owned(), status: GateStatus::Passed, ..failed(0, "") };
            let mut results = [now.clone(), passed];
            judge(&mut results, std::slice::from_ref(&before));
            assert_eq!(results[0].status == GateStatus::FailedBefore, excused, "{what}");
            let mut alone = [now];
            judge(&mut alone, &[before]);
            assert_ne!(alone[0].status, GateStatus::FailedBefore, "{what}, and nothing passes");
        }
    }
}
