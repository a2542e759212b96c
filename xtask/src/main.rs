//! The project's own tasks: `cargo xtask TASK`, or `./x TASK` on a fresh machine.

mod bench;
mod process;
mod test;
mod testbed;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  test [FILTER…]   tidy, then all tests; installs what they need, and starts and ends its own servers
  tidy             formatting, lints, dependency table, file sizes, banned words, documents
  testbed          installs the servers and agent programs that tests run against
  testbed up -- COMMAND…   runs a command with the test bed's container engines up
  bench [PART…]    figures, as ratios measured in one run
  ci               what CI runs (the same as test)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = arguments.split_first().map_or(("help", &[][..]), |(t, r)| (t.as_str(), r));
    let outcome = match task {
        "test" | "ci" => test::run(rest),
        "tidy" => tidy::run(),
        "testbed" => testbed::run(rest),
        "bench" => bench::run_parts(rest),
        "help" | "--help" | "-h" => {
            process::say(HELP);
            Ok(())
        }
        other => Err(format!("There is no task {other:?}\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            process::complain(&message);
            ExitCode::FAILURE
        }
    }
}
