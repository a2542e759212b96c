//! The container engines in each set-up that this machine has: Docker, Podman as root, Podman as a user.
//!
//! `COVE_TEST_DOCKER` and `COVE_TEST_PODMAN` name sockets, `COVE_TEST_PODMAN_ROOTLESS` a user and that
//! user's socket as `name:path`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program says what it skips")]
#![allow(unsafe_code, reason = "a test changes its user")]

#[cfg(target_os = "linux")]
mod setup;
#[cfg(target_os = "linux")]
mod suite;

#[cfg(target_os = "linux")]
fn main() {
    cove_engines::helper_main();
    setup::main(suite::trials)
}

#[cfg(not(target_os = "linux"))]
fn main() {}
