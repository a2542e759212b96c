//! `test`: tidy, then everything.

use std::process::Command;

use crate::process::{self, Outcome, cargo, complain, exists, heading, say};
use crate::{testbed, tidy};

/// Runs tidy (unless a filter is given) and all tests with the test bed up.
///
/// # Errors
/// With the list of what failed; everything is run first.
pub fn run(filter: &[String]) -> Outcome {
    let mut failed = Vec::new();
    if filter.is_empty() {
        step(&mut failed, "tidy", tidy::run());
    }
    heading("test bed");
    let bed = testbed::up()?;
    for skipped in &bed.missing {
        say(&format!("SKIP {skipped}"));
    }
    heading("tests: build");
    run_with(cargo().args(["build", "--workspace", "--all-targets"]), &bed)?;
    heading("tests");
    step(&mut failed, "tests", tests(filter, &bed));
    if filter.is_empty() {
        heading("tests: documentation examples");
        step(
            &mut failed,
            "documentation examples",
            run_with(cargo().args(["test", "--workspace", "--doc", "--quiet"]), &bed),
        );
    }
    step(&mut failed, "test bed", bed.down());
    if failed.is_empty() {
        say("\nEverything passed");
        return Ok(());
    }
    Err(format!("Failed: {}", failed.join(", ")))
}

fn step(failed: &mut Vec<&'static str>, name: &'static str, outcome: Outcome) {
    if let Err(message) = outcome {
        complain(&message);
        failed.push(name);
    }
}

fn tests(filter: &[String], bed: &testbed::Bed) -> Outcome {
    // Tests wait on processes more than they compute, but what they start must get its turn.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = cores.max(4).to_string();
    if exists("cargo-nextest") {
        let mut command = cargo();
        command.args(["nextest", "run", "--workspace", "--no-fail-fast", "--test-threads", &threads]);
        command.args(["--status-level", "slow", "--final-status-level", "fail", "--failure-output", "immediate"]);
        command.args(filter);
        let outcome = run_with(&mut command, bed);
        skipped(filter, bed);
        return outcome;
    }
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]).args(filter);
    command.args(["--", "--test-threads", &threads]);
    run_with(&mut command, bed)
}

fn run_with(command: &mut Command, bed: &testbed::Bed) -> Outcome {
    command.env("RUST_BACKTRACE", "0").envs(bed.variables.iter().cloned());
    process::run(command)
}

/// Prints by name what was not run: trials without the control they try, and what tests said they skip.
fn skipped(filter: &[String], bed: &testbed::Bed) {
    heading("tests: not run");
    let mut list = cargo();
    list.args(["nextest", "list", "--workspace", "--run-ignored", "only", "--message-format", "oneline"]).args(filter);
    list.envs(bed.variables.iter().cloned());
    if let Ok(names) = process::output(&mut list) {
        say(&names);
    }
    let report = process::target().join("nextest/default/junit.xml");
    let text = std::fs::read_to_string(report).unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().filter(|line| line.starts_with("SKIP")).collect();
    lines.sort_unstable();
    lines.dedup();
    say(&lines.join("\n"));
}
