//! The Podman engine: sandboxes as containers of Podman on this machine, rootful or rootless.

pub mod service;
