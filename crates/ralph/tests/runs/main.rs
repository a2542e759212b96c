//! The loop as a whole: real git, real SQLite, a scripted engine and a scripted agent.

#![allow(clippy::unwrap_used, reason = "tests may panic, their helpers too")]

mod accept;
mod bounds;
mod crash;
mod faults;
mod parallel;
mod requests;
mod verdicts;
mod world;
