//! `crash`: the crash suite at its full numbers; `test` runs a part of it.

use crate::process::{Outcome, cargo, heading, run, say};
use crate::testbed;

/// Kills at each boundary, random kills, and uses of each call that fail in turn.
const NUMBERS: [(&str, &str); 3] =
    [("COVE_CRASH_TIMES", "3"), ("COVE_CRASH_KILLS", "100"), ("COVE_CRASH_NTH", "10000")];

/// Builds what the suite drives and runs all of it, one test at a time; what is in the environment
/// already (`COVE_CRASH_SEED`, other numbers) goes before.
///
/// # Errors
/// When a build or a test fails.
pub fn run_suite(filter: &[String]) -> Outcome {
    heading("crash: build");
    run(cargo().args(["build", "--package", "cove-cli", "--package", "cove-crash"]))?;
    let bed = testbed::up()?;
    for skipped in &bed.missing {
        say(&format!("SKIP {skipped}"));
    }
    heading("crash");
    let mut command = cargo();
    command.args(["test", "--package", "cove-crash"]).args(filter).args(["--", "--nocapture", "--test-threads", "1"]);
    let numbers = NUMBERS.iter().filter(|(name, _)| std::env::var_os(name).is_none());
    run(command.envs(numbers.copied()).envs(bed.variables.iter().cloned()))
}
