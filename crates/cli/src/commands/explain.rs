//! `cove explain`: error codes, exit codes, settings, promises.

use cove_core::{Error, ErrorKind, Result};
use cove_settings::Key;

use crate::context::Context;

/// A code of an error, its exit code, and what to do about it.
const CODES: [(&str, u8, &str, &str); 12] = [
    (
        "invalid",
        2,
        "What was asked for is wrong in itself; asking again cannot help.",
        "Correct what the message names; cove help COMMAND shows what a command takes.",
    ),
    (
        "not_found",
        5,
        "The thing named does not exist.",
        "Check the name or path; cove runs list and cove sandbox list show what there is.",
    ),
    (
        "conflict",
        6,
        "The thing exists already, is in another state, or changed meanwhile.",
        "Look at its state (cove runs show) and decide again.",
    ),
    (
        "denied",
        4,
        "Not signed in, or not allowed.",
        "Give the agent its key with --agent-env NAME, or the server its token with COVE_TOKEN.",
    ),
    (
        "refused",
        7,
        "A policy refuses it: the managed policy, the rules for a repository's own settings, or the demand for isolation.",
        "cove config explain KEY shows who decided a setting; the managed policy is in /etc/cove/policy.json.",
    ),
    (
        "unsupported",
        9,
        "A control, limit or feature was asked for that this host or engine cannot give. Cove does not run with less than was asked for.",
        "cove engine test shows what each engine can give; limits may be left out with --accept-missing.",
    ),
    ("unavailable", 9, "No engine or server that works.", "cove doctor shows what is missing and how to get it."),
    (
        "timeout",
        124,
        "A deadline passed. What was asked for may still happen.",
        "Look at the state before asking again.",
    ),
    (
        "exhausted",
        1,
        "A bound was reached: a queue, a number of sandboxes, disk space.",
        "Wait, or remove what is not needed (cove runs rm, cove sandbox rm).",
    ),
    (
        "not_started",
        125,
        "The sandbox could not be built, or its proof differs from what was asked for. Nothing ran in it.",
        "cove engine test shows the controls; the message names the one that differs.",
    ),
    ("interrupted", 1, "Cut off in the middle: the other side is gone.", "Ask again; runs go on where they were."),
    (
        "internal",
        1,
        "A defect of Cove, or a failing host.",
        "Look into the daemon's log (cove config paths names the state directory) and report it.",
    ),
];

/// What to do about an error that does not say it itself.
pub fn remedy(kind: ErrorKind) -> &'static str {
    CODES.iter().find(|(name, ..)| *name == kind.code()).map_or("cove help shows all commands", |(.., remedy)| *remedy)
}

pub fn run(context: &Context, code: &str) -> Result<u8> {
    let wanted = code.to_lowercase().replace('-', "_");
    if let Some((code, exit, meaning, remedy)) = CODES.iter().find(|(name, ..)| *name == wanted) {
        context.printer.write(&format!("{code} (exit code {exit})\n  {meaning}\n  {remedy}\n"))?;
        return Ok(0);
    }
    if let Ok(number) = wanted.parse::<u8>() {
        let text = super::help::exit_code(number).ok_or_else(|| {
            Error::not_found(format!("Cove has no exit code {number}")).next("cove help exit-codes lists them")
        })?;
        context.printer.write(&format!("exit code {number}\n  {text}\n"))?;
        let kinds = CODES.iter().filter(|(_, exit, ..)| *exit == number);
        for (code, _, meaning, remedy) in kinds {
            context.printer.write(&format!("{code}\n  {meaning}\n  {remedy}\n"))?;
        }
        return Ok(0);
    }
    if let Some((sentence, tests)) = promise(code) {
        context.printer.write(&format!("{}\n  {sentence}\n  held by {tests}\n", code.to_uppercase()))?;
        return Ok(0);
    }
    match Key::find(code) {
        Ok(key) => {
            super::config::explain(context, key)?;
            Ok(0)
        }
        Err(_) => {
            let names: Vec<&str> = CODES.iter().map(|(name, ..)| *name).collect();
            Err(Error::not_found(format!("{code} is neither an error code nor a setting"))
                .next(format!("The codes are {}; cove config list shows the settings", names.join(", "))))
        }
    }
}

/// The sentence of a promise and the tests that hold it.
fn promise(number: &str) -> Option<(&'static str, String)> {
    const BOOK: &str = include_str!("../../../../SPECIFICATION.md");
    let number = number.to_uppercase();
    BOOK.lines().find_map(|line| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let found = cells.next() == Some(number.as_str()) && number.starts_with("S-");
        let (sentence, tests) = (cells.next()?, cells.next()?);
        found.then(|| (sentence, tests.replace('`', "")))
    })
}

#[cfg(test)]
mod tests {
    use cove_core::ErrorKind;

    #[test]
    fn every_kind_is_explained_with_its_exit_code() {
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::Denied,
            ErrorKind::Refused,
            ErrorKind::Unsupported,
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Exhausted,
            ErrorKind::NotStarted,
            ErrorKind::Interrupted,
            ErrorKind::Internal,
        ] {
            let found = super::CODES.iter().find(|(name, ..)| *name == kind.code());
            assert_eq!(found.map(|(_, exit, ..)| *exit), Some(kind.exit_code()), "{kind:?}");
            assert!(super::super::help::exit_code(kind.exit_code()).is_some(), "{kind:?}");
        }
    }
}
