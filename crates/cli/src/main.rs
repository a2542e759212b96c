//! The `cove` command: arguments become settings, settings a request to the daemon, and what the
//! daemon says is printed.

mod agent_program;
mod args;
mod commands;
mod context;
mod daemon;
mod demo;
mod follow;
mod kinds;
mod names;
mod output;
mod proof;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind as ClapKind};
use cove_core::Error;

use args::Cli;
use context::Context;

fn main() -> ExitCode {
    // The helper of a sandbox is this same program under another name; it must run before any thread.
    #[cfg(target_os = "linux")]
    cove_engines::supervisor::helper_main();
    if commands::answer() {
        return ExitCode::SUCCESS;
    }
    let code = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => refuse_arguments(&error),
    };
    ExitCode::from(code)
}

fn run(cli: Cli) -> u8 {
    let context = match Context::new(&cli.globals) {
        Ok(context) => context,
        Err(error) => {
            let printer = context::bare_printer(&cli.globals);
            output::print_error(&printer, &error);
            return error.kind().exit_code();
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(commands::dispatch(&context, cli.command));
            // A blocked read of stdin must not hold the end up.
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            outcome
        }
        Err(e) => Err(Error::internal("The process cannot start its threads").because(e)),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => 0,
        Err(error) => {
            output::print_error(&context.printer, &error);
            error.kind().exit_code()
        }
    }
}

/// Help and versions are data; everything else is a mistake in the arguments.
fn refuse_arguments(error: &clap::Error) -> u8 {
    if matches!(error.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion) {
        let _ = error.print();
        return 0;
    }
    if wants_machine(&std::env::args().collect::<Vec<_>>()) {
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let what = lines.next().unwrap_or("The arguments are wrong").trim_start_matches("error: ").to_owned();
        let next = lines.find(|line| line.starts_with("tip:")).map(|line| line.trim_start_matches("tip:").trim());
        let problem = Error::invalid(what).next(next.unwrap_or("cove --help shows the arguments"));
        output::line_to_stderr(&output::problem(&problem).to_string());
    } else {
        let _ = error.print();
    }
    2
}

/// Whether errors shall be problem documents, as far as arguments that are wrong can tell.
fn wants_machine(args: &[String]) -> bool {
    let formats = ["json", "ndjson", "yaml"];
    let mut before = "";
    args.iter().map(String::as_str).take_while(|arg| *arg != "--").any(|arg| {
        let value = match before {
            "-o" | "--output" => Some(arg),
            _ => arg.strip_prefix("--output=").or_else(|| arg.strip_prefix("-o")),
        };
        before = arg;
        arg == "--json" || arg.starts_with("--json=") || value.is_some_and(|value| formats.contains(&value))
    })
}

/// The definition of the command line, for completions.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::wants_machine;

    #[test]
    fn wrong_arguments_are_answered_in_the_format_asked_for() {
        let asked = |line: &str| wants_machine(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for line in
            ["cove x -o json", "cove -ojson x", "cove x --output=yaml", "cove x --output ndjson", "cove --json=a x"]
        {
            assert!(asked(line), "{line}");
        }
        for line in ["cove x", "cove -o table x", "cove json", "cove sandbox exec s -- x -o json"] {
            assert!(!asked(line), "{line}");
        }
    }
}
