//! The engines: one folder each, and what those that run on this machine share.

#[cfg(target_os = "linux")]
pub mod container;
#[cfg(target_os = "linux")]
pub mod direct;
#[cfg(target_os = "linux")]
pub mod docker;
pub mod fake;
#[cfg(target_os = "linux")]
pub(crate) mod filter;
#[cfg(target_os = "linux")]
pub mod images;
#[cfg(target_os = "linux")]
pub mod local;
#[cfg(target_os = "linux")]
pub mod native;
#[cfg(target_os = "linux")]
pub mod podman;
#[cfg(target_os = "linux")]
pub(crate) mod proof;
#[cfg(all(test, target_os = "linux"))]
mod races;
#[cfg(target_os = "linux")]
pub mod supervisor;

pub use fake::FakeEngine;

#[cfg(target_os = "linux")]
pub use direct::Direct;
#[cfg(target_os = "linux")]
pub use local::LocalEngine;
#[cfg(target_os = "linux")]
pub use supervisor::{HelperProgram, helper_main};
