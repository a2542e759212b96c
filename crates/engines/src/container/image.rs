//! Images for sandboxes on a container engine.
//!
//! What a sandbox's root may be elsewhere it may be here. Directories and archives go through our own
//! unpacker (so hostile entries are refused alike) and into the engine as one layer, under a name made of
//! what they hold. An image of a registry is the engine's own; nothing its configuration says about
//! processes (entrypoint, user, health check, …) is ever used, only what [`Image`] holds.

mod collect;
mod registry;
mod tree;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result, Root};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;

use super::client::{self, Client};
use crate::images::Images;

pub use collect::{collect, collect_only};

/// The label of images that were made here; its value is the key of what they hold.
pub const LABEL: &str = "run.cove.managed";

/// The name of images that were made here; the tag is the key.
const NAME: &str = "localhost/cove-root";

/// How long the engine may take to be given an image, or to fetch one.
const DELIVERY: Duration = Duration::from_secs(1800);

/// Pieces of an image on their way to the engine that may wait for it.
const AHEAD: usize = 8;

/// Bytes of such a piece.
const PIECE: usize = 256 << 10;

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

/// Sees to it that the engine has an image for `root`. The second time costs a look: an archive is known by
/// its identity and times, a directory by those of all its files, an image of a registry by its name.
/// Several at once, of several processes too, make one image; what fails leaves none.
///
/// Everything but [`Root::Host`], whose base is made elsewhere.
///
/// # Errors
/// `NotFound` and `Invalid` for what is not there, malformed or hostile; `Exhausted` beyond the bounds of
/// `images`; `Unsupported` for an image of another architecture; and what [`client::trouble`] tells.
pub async fn ensure(client: &Client, images: &Images, root: &Root) -> Result<Image> {
    match root {
        Root::Host => Err(Error::internal("The host's own root is no image").with("root", "host")),
        Root::Directory(path) => {
            let directory = images.resolve(root).await?.map_or_else(|| path.clone(), |found| found.directory);
            let bounds = images.bounds();
            let (of, within) = (directory.clone(), bounds);
            let key = blocking(move || tree::identity(&of, &within)).await?;
            let same = key.clone();
            let write = move |out: &mut Pipe| {
                tree::write(&directory, &bounds, out)?;
                // A tree that changed meanwhile is not what the key says.
                if tree::identity(&directory, &bounds)? == same {
                    return Ok(());
                }
                Err(Error::new(ErrorKind::Conflict, format!("{} changed while it was read", directory.display()))
                    .next("Try again when nothing writes to it"))
            };
            imported(client, images, &key, Vec::new(), write).await
        }
        Root::Archive(path) => {
            let found = images.resolve(root).await?.unwrap_or_default();
            let name = found.directory.parent().and_then(|entry| entry.file_name()?.to_str()).map(str::to_owned);
            let key = name.ok_or_else(|| Error::internal(format!("{} has no place in the cache", path.display())))?;
            let bounds = images.bounds();
            let write = move |out: &mut Pipe| tree::write(&found.directory, &bounds, out);
            imported(client, images, &key, found.env, write).await
        }
        Root::Image(reference) => registry::ensure(client, images, reference).await,
    }
}

const GONE: &str = "The engine does not take the image any more";

/// The image under `key`, made by `write` when it is not there yet.
async fn imported(
    client: &Client,
    images: &Images,
    key: &str,
    env: Vec<(String, String)>,
    write: impl FnOnce(&mut Pipe) -> Result<()> + Send + 'static,
) -> Result<Image> {
    let with_env = |image: Image| Image { env, ..image };
    if let Some(image) = ours(client, key).await? {
        return Ok(with_env(image));
    }
    let _one_at_a_time = images.lock(key).await?;
    if let Some(image) = ours(client, key).await? {
        return Ok(with_env(image));
    }
    deliver(client, key, write).await?;
    ours(client, key).await?.map(with_env).ok_or_else(|| {
        Error::internal(format!("{} took an image and does not have it", client::name(client.engine())))
            .with("image", format!("{NAME}:{key}"))
    })
}

/// What an earlier call made under `key`. An image of somebody else with our name is none.
async fn ours(client: &Client, key: &str) -> Result<Option<Image>> {
    let found = look(client, &format!("{NAME}:{key}")).await?;
    let label = |found: &ImageInspect| found.config.as_ref()?.labels.as_ref()?.get(LABEL).cloned();
    Ok(found.filter(|found| label(found).as_deref() == Some(key)).and_then(described))
}

/// What the engine says of an image; `None` when it has none of this name.
async fn look(client: &Client, name: &str) -> Result<Option<ImageInspect>> {
    match client.call("inspect image", client::CALL, client.docker.inspect_image(name)).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads what is needed of an image; `None` without an id.
fn described(found: ImageInspect) -> Option<Image> {
    let config = found.config.unwrap_or_default();
    let pairs = config.env.unwrap_or_default();
    let env = pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, value)| !name.is_empty() && !name.contains('\0') && !value.contains('\0'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let volumes = config.volumes.unwrap_or_default().into_iter().map(PathBuf::from).collect();
    let architecture = found.architecture.unwrap_or_default();
    found.id.filter(|id| !id.is_empty()).map(|id| Image { id, env, volumes, architecture })
}

/// Gives the engine a tar as one image. Nothing of it stays there unless all of it arrived.
async fn deliver(
    client: &Client,
    key: &str,
    write: impl FnOnce(&mut Pipe) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let writing = tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { sender, piece: Vec::new() };
        let outcome = write(&mut pipe).and_then(|()| io::Write::flush(&mut pipe).context(ErrorKind::Interrupted, GONE));
        if outcome.is_err() {
            // Cut off before its end, the body is refused as a whole.
            let _ = pipe.sender.blocking_send(Err(io::Error::other("the image could not be read")));
        }
        outcome
    });
    let body = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) });
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        // With the tag in it, for Podman before 5 does not know the other field.
        .repo(&format!("{NAME}:{key}"))
        // One label: Podman takes a line as one pair, whatever it holds.
        .changes(vec![format!("LABEL {LABEL}={key}")])
        .build();
    let told = client.docker.create_image(Some(options), Some(bollard::body_try_stream(body)), None);
    let answer = client.call("import image", DELIVERY, drained(told)).await;
    match (writing.await.context(ErrorKind::Internal, "Reading an image was cut off")?, answer) {
        (Err(error), _) if error.kind() != ErrorKind::Interrupted => Err(error),
        (_, Err(error)) => Err(error),
        (written, Ok(())) => written,
    }
}

/// Waits for the end of an answer that comes in pieces. An error in it, even below a status of 200, is one.
async fn drained<T, E>(told: impl stream::Stream<Item = std::result::Result<T, E>>) -> std::result::Result<(), E> {
    let mut told = std::pin::pin!(told);
    while let Some(piece) = told.next().await {
        piece?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context(ErrorKind::Internal, "Reading an image was cut off")?
}

/// The writing end of an image on its way.
struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
