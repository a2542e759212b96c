//! The adapter of the engines that run sandboxes on this machine.
//!
//! It keeps nothing in memory that matters: a sandbox is its directory and its supervisor, so that a
//! daemon that comes back finds everything as it was.

mod engine;
mod exec;
mod kind;
mod link;
mod removal;
mod shelf;
mod start;

pub use engine::LocalEngine;
pub use kind::Kind;
