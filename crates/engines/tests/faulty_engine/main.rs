//! Engines that hang, lie, or vanish between any two calls: a typed error that names the engine, in time,
//! and nothing that stays behind once they are back.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what it skips and fails by panicking"
)]

#[cfg(target_os = "linux")]
mod proxy;
#[cfg(target_os = "linux")]
mod trials;

#[cfg(target_os = "linux")]
fn main() {
    cove_engines::helper_main();
    trials::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}
