//! One supervisor process per local sandbox: builds it, owns it, outlives the daemon.
//!
//! ```text
//! engine ──starts──► supervisor ──launches──► guest ──► keeper ──► program
//!    └──control.sock──►  │  └──channel (orders, notices)──►│           │
//!                        └───────── stdin, stdout, stderr ─────────────┘
//! ```
//!
//! The supervisor has one thread until the sandbox is built. Then one thread owns the sandbox's
//! state ([`process`]), one serves each connection ([`serve`]), and one measures disk use where
//! there is a limit ([`disk`]). When the sandbox has ended and its output is delivered, it leaves.

pub mod control;
pub mod guest;
pub mod launch;
pub mod plan;

mod build;
mod disk;
mod feed;
mod log;
mod process;
mod pump;
mod serve;
mod streams;
mod system;
mod table;

pub(crate) use system::{memory_file, reap};

use std::path::PathBuf;

use cove_core::EngineKind;
use launch::Launcher;

/// The hidden subcommand of the program that supervises.
pub const SUBCOMMAND: &str = "__supervise";

/// How to start a supervisor: a program with its leading arguments; the sandbox's directory is
/// added as the last one. It must call [`helper_main`] before it starts any thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperProgram(pub Vec<String>);

impl HelperProgram {
    /// This program itself.
    ///
    /// # Errors
    /// `Internal` when the path of the running program is unknown.
    pub fn current() -> cove_core::Result<Self> {
        use cove_core::error::{Context, ErrorKind};
        let path =
            std::env::current_exe().context(ErrorKind::Internal, "The path of the running program cannot be found")?;
        Ok(Self(vec![path.to_string_lossy().into_owned(), SUBCOMMAND.to_owned()]))
    }
}

/// Becomes a supervisor when the arguments say so, and does not return then. To be called first
/// thing in `main`.
pub fn helper_main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|argument| argument == SUBCOMMAND)
        && let Some(dir) = arguments.next()
    {
        if dir == crate::native::probe::ARGUMENT {
            let rest: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
            crate::native::probe::main(&rest);
        }
        if dir == crate::container::probe::ARGUMENT {
            crate::container::probe::main(&arguments.next().unwrap_or_default());
        }
        process::main(PathBuf::from(dir));
    }
}

fn launcher(kind: EngineKind) -> Option<Box<dyn Launcher>> {
    match kind {
        EngineKind::Native => Some(crate::native::launcher()),
        EngineKind::Direct => Some(crate::direct::launcher()),
        EngineKind::Docker => Some(crate::docker::launcher()),
        EngineKind::Podman => Some(crate::podman::launcher()),
        _ => None,
    }
}
