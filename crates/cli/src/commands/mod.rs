//! One file a command.

mod completion;
mod config;
mod daemon;
mod demo;
mod doctor;
mod engine;
mod explain;
mod following;
mod help;
mod isolation;
mod isolation_text;
mod logs;
mod prd;
mod run;
mod run_spec;
mod runs;
mod sandbox;
mod sandbox_exec;
mod serve;
mod status;

pub use completion::answer;
pub use explain::remedy;

use cove_core::Result;

use crate::args::Command;
use crate::context::Context;

/// Does what was asked for and returns the exit code.
///
/// # Errors
/// Whatever went wrong; its kind decides the exit code.
pub async fn dispatch(context: &Context, command: Option<Command>) -> Result<u8> {
    let Some(command) = command else { return help::overview(context) };
    match command {
        Command::Run(args) => run::run(context, &args).await,
        Command::Runs(command) => runs::run(context, command).await,
        Command::Logs(args) => logs::run(context, &args).await,
        Command::Status(args) => status::run(context, &args).await,
        Command::Prd(command) => prd::run(context, command),
        Command::Sandbox(command) => sandbox::run(context, command).await,
        Command::Engine(command) => engine::run(context, command).await,
        Command::Config(command) => config::run(context, command),
        Command::Daemon(command) => daemon::run(context, command).await,
        Command::Doctor(args) if args.isolation => isolation::run(context, &args).await,
        Command::Doctor(_) => doctor::run(context).await,
        Command::Demo(args) => demo::run(context, &args).await,
        Command::Serve(args) => serve::run(context, &args).await,
        Command::Completion { shell } => completion::run(context, shell),
        Command::Explain { code } => explain::run(context, &code),
        Command::Help { topic } => help::run(context, &topic),
    }
}
