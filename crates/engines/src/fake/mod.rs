//! The scripted engine: no sandbox at all, no process, only what a script says would have happened.
//!
//! It keeps the port's promises (states, repeatability, error kinds, cancellation), edits the real
//! directories behind the mounts, and produces delays and faults on demand. Never chosen by `auto`.

mod engine;
mod script;
mod table;

pub use engine::{FakeEngine, Fault};
pub use script::{End, Process, Script};
pub use table::{Act, Rule, Table};
