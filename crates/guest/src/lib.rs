//! The wire between a supervisor and the helper inside its sandbox, and the few system calls that
//! both sides make the same way.
//!
//! The helper itself is the program of this crate. It is built statically and embedded into
//! `cove-engines`, so this crate stays small: no runtime and none of Cove's other crates.

#[cfg(target_os = "linux")]
pub mod channel;
#[cfg(target_os = "linux")]
pub mod processes;
pub mod wire;
