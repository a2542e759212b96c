//! The native engine.
//
// To be provided here: `pub fn launcher() -> Box<dyn Launcher>` (supervisor's side) and a type that
// implements `crate::local::Kind` (daemon's side).
