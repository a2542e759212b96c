//! What the engines on a container daemon share: Docker and Podman, which speak two dialects of one
//! interface. Where they differ is in [`crate::docker`] and [`crate::podman`].
//!
//! ```text
//! supervisor ──create, start──► engine ──► container: guest (PID 1, every right dropped)
//!     │  join.sock  ◄──connects once──────────┘
//!     └──channel, limits, Landlock rules, seccomp programs──► guest puts them into force,
//!                                              tells device and inode of each mount, and goes on
//!                                              as on the native engine
//! ```
//!
//! The engine builds the container; it is never believed. Its word is not asked for after the start:
//! orders, streams and the proof go through the guest's channel, mounts are compared with
//! `/proc/<pid>/mountinfo` and by device and inode, limits are read from the control groups' files inside.
//! Processes are not started by the engine's `exec`, so that nothing flows through its daemon, and a sandbox
//! goes on when the daemon is gone.

pub mod client;
pub mod image;
pub mod look;
pub mod whereabouts;

pub(crate) mod base;
pub(crate) mod cache;
pub(crate) mod dialect;
pub(crate) mod join;
pub(crate) mod kind;
pub(crate) mod launch;
pub(crate) mod layout;
pub(crate) mod mounts;
pub(crate) mod probe;
pub(crate) mod remains;
pub(crate) mod removal;
pub(crate) mod request;
pub(crate) mod sandbox;

pub use kind::Containers;
