//! `cove completion`.

use cove_core::Result;

use crate::args::Shell;
use crate::context::Context;

pub fn run(context: &Context, shell: Shell) -> Result<u8> {
    use clap_complete::Shell as Target;
    let target = match shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
        Shell::PowerShell => Target::PowerShell,
        Shell::Elvish => Target::Elvish,
    };
    let mut script = Vec::new();
    clap_complete::generate(target, &mut crate::definition(), "cove", &mut script);
    context.printer.bytes(&script)?;
    Ok(0)
}
