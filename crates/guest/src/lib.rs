//! The wire between a supervisor and the helper inside its sandbox.
//!
//! The helper itself is the program of this crate. It is built statically and embedded into
//! `cove-engines`, so this crate stays small: no runtime and none of Cove's other crates.

pub mod wire;
