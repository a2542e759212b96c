//! The loop as a whole: real git, real SQLite, a scripted engine and a scripted agent.

mod accept;
mod bounds;
mod crash;
mod faults;
mod parallel;
mod requests;
mod verdicts;
mod world;
