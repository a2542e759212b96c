//! What the engines on a container daemon share: Docker and Podman, which speak two dialects of one
//! interface. Where they differ is in [`crate::docker`] and [`crate::podman`].

pub mod client;
pub mod image;
pub mod whereabouts;
