//! The PRD loop: reads a PRD, picks a story, has an agent try it in a sandbox, judges the result with
//! gates of its own and moves the run's branch.
//!
//! The pure parts come first: formats ([`prd`], [`progress`]), what the agent is told ([`prompt`]),
//! what is checked ([`gates`]) and what makes a diff suspicious ([`tamper`], [`token`]). [`Runner`] is the
//! loop itself.

pub mod gates;
pub mod prd;
pub mod progress;
pub mod prompt;
mod run;
pub mod runner;
pub mod tamper;
pub mod token;

pub use runner::{Agents, Dependencies, Pace, Runner, check_request};
