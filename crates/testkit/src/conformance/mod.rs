//! One suite a port, written against its contract alone.

#![allow(clippy::unwrap_used, reason = "a trial that fails panics")]

pub mod engine;
