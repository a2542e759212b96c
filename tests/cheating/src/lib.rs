//! Scripted agents that try to get a story passed without doing it.
//!
//! Every [`Cheat`] is one story of a PRD. Its script changes the workspace; then the checks are run right
//! there, in the agent's own sandbox: where they pass (or the token is said), the cheat would have fooled
//! a loop that believes what it sees. That is its positive control. The run itself has to refuse it, with
//! a reason that the table names. An [`Honest`] twin does the work, and has to pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

pub mod cheats;
mod field;
mod outcome;

pub use field::Field;
pub use outcome::{Outcome, judge};

/// What shows that a cheat would have worked without the protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fools {
    /// The checks pass in the agent's own tree.
    Checks,
    /// The agent's output holds this.
    Saying(&'static str),
}

/// A dishonest agent.
#[derive(Debug, Clone, Copy)]
pub struct Cheat {
    /// What it does.
    pub name: &'static str,
    /// POSIX shell, run in the workspace.
    pub script: &'static str,
    /// Its positive control.
    pub fools: Fools,
    /// Codes of which the ledger must name at least one, and beside which it may name no other.
    pub refused: &'static [&'static str],
    /// A part of a flag that the ledger must have; empty for none.
    pub flag: &'static str,
}

/// An agent that does its work.
#[derive(Debug, Clone, Copy)]
pub struct Honest {
    /// What it does.
    pub name: &'static str,
    /// POSIX shell, run in the workspace.
    pub script: &'static str,
    /// A part of a flag that the ledger must have all the same; empty for none.
    pub flag: &'static str,
}
