//! Where records are kept.
//!
//! One adapter so far: [`Store`], an embedded SQLite database in one file.

mod sqlite;

pub use sqlite::{Claim, RunGlance, Store};
