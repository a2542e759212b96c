//! Exit status and terminal event together.

use cove_core::{AgentOutcome, ExitReason, ExitStatus};

use super::reading::{Reading, Terminal, one_line};
use super::refusal::{self, Trouble};
use crate::definition::TerminalRule;

/// What an attempt came to. Neither word alone suffices: programs exit with 0 after a failure, report
/// success of an error message, and are cut off in the middle.
pub(crate) fn outcome(reading: &mut Reading, rule: TerminalRule, exit: &ExitStatus) -> AgentOutcome {
    match reading.terminal.take() {
        Some(Terminal::Good) if exit.success() => done(reading),
        Some(Terminal::Good) => failed(format!("It reported success, but {}", ending(exit))),
        Some(Terminal::Bad(reason)) => {
            let own = refusal::read(&reason, reading.now());
            // Its last error says more than "failed", but only its own words can add to them.
            let trouble = match (own, reading.trouble.take()) {
                (Trouble::Limit { resets_at: None, reason }, Some(Trouble::Limit { resets_at, .. })) => {
                    Trouble::Limit { resets_at, reason }
                }
                (Trouble::Other(_), Some(earlier)) if !matches!(earlier, Trouble::Other(_)) => earlier,
                (own, _) => own,
            };
            from_trouble(trouble)
        }
        None if rule == TerminalRule::ExitCode && exit.success() => done(reading),
        None => without_terminal(reading, rule, exit),
    }
}

fn done(reading: &mut Reading) -> AgentOutcome {
    let message = std::mem::take(&mut reading.message);
    // Refusals that were printed as if they were an answer.
    match refusal::whole_message(&message, reading.now()) {
        Some(trouble) => from_trouble(trouble),
        None => AgentOutcome::Done { message },
    }
}

fn without_terminal(reading: &mut Reading, rule: TerminalRule, exit: &ExitStatus) -> AgentOutcome {
    if let Some(trouble) = reading.trouble.take() {
        return match trouble {
            Trouble::Other(reason) if rule == TerminalRule::ExitCode => failed(format!("{reason} ({})", ending(exit))),
            Trouble::Other(reason) => failed(format!("{reason} ({}, without a final event)", ending(exit))),
            refusal => from_trouble(refusal),
        };
    }
    let now = reading.now();
    if rule == TerminalRule::Event && exit.reason == ExitReason::Exited && exit.code != 0 {
        // What a known program printed beside the stream is all there is; the latest refusal counts. Of
        // any other program it may be about anything.
        let refused = reading.remarks().rev().map(|line| refusal::read(line, now));
        if let Some(trouble) = refused.into_iter().find(|t| !matches!(t, Trouble::Other(_))) {
            return from_trouble(trouble);
        }
    }
    let last = reading.remarks().next_back().map(|l| format!(": {l}")).unwrap_or_default();
    let cut_off = if rule == TerminalRule::Event { ", before its final event" } else { "" };
    let mut end = ending(exit);
    if let Some(first) = end.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    failed(format!("{end}{cut_off}{last}"))
}

fn from_trouble(trouble: Trouble) -> AgentOutcome {
    let words = |reason: &str| one_line(&refusal::plain(reason));
    match trouble {
        Trouble::Limit { resets_at, reason } => AgentOutcome::Limited { resets_at, reason: words(&reason) },
        Trouble::Unauthorized(reason) => AgentOutcome::Unauthorized { reason: words(&reason) },
        Trouble::Other(reason) => failed(reason),
    }
}

fn failed(reason: String) -> AgentOutcome {
    let reason = one_line(&refusal::plain(&reason));
    AgentOutcome::Failed { reason: if reason.is_empty() { "It failed without a reason".to_owned() } else { reason } }
}

fn ending(exit: &ExitStatus) -> String {
    match &exit.reason {
        ExitReason::Exited => format!("it ended with exit code {}", exit.code),
        ExitReason::Signaled { signal } => format!("it was ended by signal {signal}"),
        ExitReason::OutOfMemory => "it ran into the memory limit".to_owned(),
        ExitReason::DiskFull => "it ran into the disk limit".to_owned(),
        ExitReason::Timeout => "it ran into the time limit".to_owned(),
        ExitReason::Killed => "it was ended from outside".to_owned(),
        ExitReason::Lost => "its sandbox was lost".to_owned(),
    }
}
