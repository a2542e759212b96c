//! Placeholder.

pub mod fake;

pub use fake::FakeEngine;
