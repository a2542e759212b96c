//! `cove completion`: scripts that ask this program for what can come next, so that names of runs and
//! sandboxes are completed too.

use cove_core::{Error, Result};

use crate::args::Shell;
use crate::context::Context;

/// Set by the scripts when they ask.
pub const VARIABLE: &str = "COVE_COMPLETE";

pub fn run(context: &Context, shell: Shell) -> Result<u8> {
    let mut script = Vec::new();
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
        Shell::PowerShell => "powershell",
        Shell::Elvish => "elvish",
        Shell::Nushell => {
            clap_complete::generate(clap_complete_nushell::Nushell, &mut crate::definition(), "cove", &mut script);
            context.printer.bytes(&script)?;
            return Ok(0);
        }
    };
    let shells = clap_complete::env::Shells::builtins();
    let completer = shells.completer(name).ok_or_else(|| Error::internal(format!("{name} has no completions")))?;
    completer
        .write_registration(VARIABLE, "cove", "cove", "cove", &mut script)
        .map_err(|e| Error::internal("The completions cannot be written").because(e))?;
    context.printer.bytes(&script)?;
    Ok(0)
}

/// Answers a script's question, if this is one; nothing else happens then.
pub fn answer() -> bool {
    std::env::var_os(VARIABLE).is_some()
        && clap_complete::CompleteEnv::with_factory(crate::definition)
            .var(VARIABLE)
            .bin("cove")
            .try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref())
            .unwrap_or(true)
}
