//! What is tried to get out of a sandbox, and how it fares.
//!
//! ```text
//! catalogue (data) ──► lists ──► attack program ──► lines ──► judge ──► report
//!                                inside: attempts
//!                                outside: controls
//! ```
//!
//! The catalogue says what is attempted and what refuses it. The attack program is static and
//! embedded, so that it runs in any sandbox on any root. Each attempt has a control: outside, or with
//! a witness in its way, the same attempt has its effect, so that it cannot fail because it was
//! wrong. What would be read or written outside are files of our own.

pub mod catalogue;
mod control;
mod creation;
mod ground;
mod judge;
mod program;
mod report;
mod run;
mod stage;
mod survival;

pub use catalogue::{Group, Probe, Variant};
pub use creation::empty_root;
pub use ground::{EngineGround, Ground};
pub use report::{Line, Report, Score, Verdict};
pub use run::{Selection, attack};
