//! The adapter of the engines that run sandboxes on this machine.

mod kind;

pub use kind::Kind;
