//! Root file systems from archives and registries: unpacked once into a cache of directories.
//!
//! What is unpacked is hostile: names, links, devices, sizes and counts. Everything is done below an
//! open directory with `openat2(RESOLVE_IN_ROOT)`, so that no link of an archive leads out of it.

mod archive;
mod cache;
mod registry;
#[cfg(test)]
mod tests;
mod unpack;

use std::path::{Path, PathBuf};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result, Root};

pub(crate) use archive::architecture;
pub use unpack::Bounds;

/// Turns any [`Root`] but the host's into a directory.
#[derive(Debug, Clone)]
pub struct Images {
    cache: PathBuf,
    bounds: Bounds,
}

/// A root file system as a directory, and what its image says about processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// The directory. It belongs to the cache (or to the user) and must not be written to.
    pub directory: PathBuf,
    /// `NAME=value` pairs of the image's configuration.
    pub env: Vec<(String, String)>,
}

impl Images {
    /// Keeps unpacked roots below `cache`, which is made when absent.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), bounds: Bounds::default() }
    }

    /// With other bounds than the default ones.
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Holds others off, of other processes too, that make the same thing; until it is dropped.
    pub(crate) async fn lock(&self, key: &str) -> Result<cache::Lock> {
        let (cache, key) = (self.cache.clone(), key.to_owned());
        tokio::task::spawn_blocking(move || cache::exclusive(&cache, &key))
            .await
            .context(ErrorKind::Internal, "Waiting for an image was cut off")?
    }

    /// The directory for `root`; `None` for the host's own. Repeating is cheap: an archive is known by
    /// its identity and times, an image by its digest.
    ///
    /// # Errors
    /// `NotFound` when it is not there, `Invalid` when it is malformed or hostile (names the entry),
    /// `Exhausted` beyond a bound, `Unavailable` when the registry cannot be reached.
    pub async fn resolve(&self, root: &Root) -> Result<Option<Unpacked>> {
        match root {
            Root::Host => Ok(None),
            Root::Directory(path) => Ok(Some(directory(path)?)),
            Root::Archive(path) => {
                let (this, path) = (self.clone(), path.clone());
                tokio::task::spawn_blocking(move || archive::resolve(&this.cache, &path, &this.bounds))
                    .await
                    .context(ErrorKind::Internal, "Unpacking was cut off")?
                    .map(Some)
            }
            Root::Image(reference) => registry::resolve(&self.cache, reference, &self.bounds).await.map(Some),
        }
    }
}

fn directory(path: &Path) -> Result<Unpacked> {
    if !path.is_dir() {
        return Err(Error::not_found(format!("The root directory {} is not there", path.display()))
            .next("Name a directory that holds a root file system (with bin, lib, usr, …)"));
    }
    let directory = path
        .canonicalize()
        .context(ErrorKind::Invalid, format!("The root directory {} cannot be resolved", path.display()))?;
    if directory == Path::new("/") {
        return Err(Error::invalid("The root directory is the host's own root").next("Use the root kind host instead"));
    }
    Ok(Unpacked { directory, env: Vec::new() })
}
