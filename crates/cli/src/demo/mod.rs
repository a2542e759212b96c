//! What the demonstration carries with it.

pub mod bundle;
