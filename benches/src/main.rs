//! Figures as ratios measured in one run: `cargo xtask bench [sandbox] [iteration] [memory]`.
//!
//! Parts alternate between what is compared, so that a busy moment hits both.

#![allow(clippy::print_stdout, reason = "the output is the result")]

mod iteration;
mod memory;
mod peers;
mod sandbox;
mod series;

use std::process::ExitCode;

use cove_core::Result;

fn main() -> ExitCode {
    cove_engines::helper_main();
    let parts: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome: Result<()> = runtime.block_on(async {
        if wanted("sandbox") {
            sandbox::run().await?;
        }
        if wanted("iteration") {
            iteration::run().await?;
        }
        if wanted("memory") {
            memory::run()?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", error.chain().join(": "));
            ExitCode::FAILURE
        }
    }
}
