//! `cove-crash-probe ledger FILE`, `cove-crash-probe descriptors STATE INSTANCE COVE`: the programs that
//! system calls are made to fail in.

#![allow(clippy::print_stdout, reason = "it says how it went")]

use std::path::Path;
use std::process::ExitCode;

use cove_engines::HelperProgram;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["ledger", path] => ExitCode::from(cove_crash::probe_ledger(Path::new(path))),
        ["descriptors", state, instance, cove] => {
            let helper = HelperProgram(vec![cove.to_owned(), cove_engines::supervisor::SUBCOMMAND.to_owned()]);
            let Ok(instance) = instance.parse() else { return ExitCode::from(2) };
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return ExitCode::from(3);
            };
            match runtime.block_on(cove_crash::probe_descriptors(Path::new(state), instance, &helper)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("broken {}: {}", error.kind().code(), error.chain().join(": "));
                    ExitCode::from(1)
                }
            }
        }
        _ => ExitCode::from(2),
    }
}
