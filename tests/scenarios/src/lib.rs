//! A world for the `cove` binary: directories, a user and a clean environment of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says what it skips"
)]

mod container;
mod process;
mod repository;
mod server;
mod story;
mod world;

pub use container::{ContainerEngine, Cut, OwnDocker};
pub use process::{Finished, finish, wait_until};
pub use repository::Repository;
pub use server::GitServer;
pub use story::{Small, quoted};
pub use world::{Account, World};

/// Prints by name what is not run, and why.
pub fn skip(what: &str, why: &str) {
    println!("SKIP {what}: {why}");
}
