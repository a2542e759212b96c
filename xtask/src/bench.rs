//! `bench`: builds in release and hands over to `benches/`.

use crate::process::{Outcome, cargo, heading, run};
use crate::testbed;

/// Runs the named parts, or all.
///
/// # Errors
/// When a build or a part fails.
pub fn run_parts(parts: &[String]) -> Outcome {
    heading("bench: build");
    run(cargo().args(["build", "--release", "--package", "cove-cli", "--package", "cove-bench"]))?;
    let bed = testbed::up()?;
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "--package", "cove-bench", "--"]).args(parts);
    run(command.envs(bed.variables.iter().cloned()))
}
