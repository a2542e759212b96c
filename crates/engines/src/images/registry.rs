//! Images from a registry, by the OCI distribution protocol.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWrite;

use super::archive::{ImageConfig, reader};
use super::unpack::{Bounds, Layers};
use super::{Unpacked, cache};

/// For the manifest and its configuration.
const DOCUMENT_DEADLINE: Duration = Duration::from_secs(60);

/// For one layer.
const LAYER_DEADLINE: Duration = Duration::from_secs(1800);

/// Layers of one image.
const LAYER_BOUND: usize = 512;

pub(super) async fn resolve(cache: &Path, reference: &str, bounds: &Bounds) -> Result<Unpacked> {
    let image: Reference = reference.parse().map_err(|e| {
        Error::invalid(format!("{reference:?} is not an image reference"))
            .because(e)
            .next("Write it as [host[:port]/]name[:tag][@digest]")
    })?;
    let client = client(&image);
    let named = |e: Error| Error::new(e.kind(), format!("The image {reference} cannot be used")).because(e);
    let pulled =
        tokio::time::timeout(DOCUMENT_DEADLINE, client.pull_manifest_and_config(&image, &RegistryAuth::Anonymous))
            .await
            .map_err(|_| late(reference, DOCUMENT_DEADLINE))?;
    let (manifest, digest, config) = pulled.map_err(|e| named(translate(e, image.resolve_registry())))?;
    let declared: u64 = manifest.layers.iter().map(|layer| u64::try_from(layer.size).unwrap_or(0)).sum();
    if manifest.layers.len() > LAYER_BOUND || declared > bounds.bytes {
        return Err(named(Error::new(ErrorKind::Exhausted, "It has too many layers or bytes")));
    }
    let blobs = cache.join("blobs");
    tokio::fs::create_dir_all(&blobs).await.context(ErrorKind::Internal, "The image cache cannot be made")?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let place = blobs.join(layer.digest.replace(':', "-"));
        if tokio::fs::metadata(&place).await.is_err() {
            let download = download(&client, &image, layer, &place, bounds.bytes);
            tokio::time::timeout(LAYER_DEADLINE, download)
                .await
                .map_err(|_| late(reference, LAYER_DEADLINE))?
                .map_err(named)?;
        }
        layers.push(place);
    }
    let config: ImageConfig = serde_json::from_str(&config)
        .map_err(|e| named(Error::invalid("Its configuration is malformed").because(e)))?;
    let (cache, bounds) = (cache.to_path_buf(), *bounds);
    let key = format!("image-{}", digest.replace(':', "-"));
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(named(Error::invalid(format!("The registry gave the malformed digest {digest:?}"))));
    }
    tokio::task::spawn_blocking(move || {
        cache::entry(&cache, &key, |root| {
            let mut into = Layers::into(root, &bounds)?;
            for layer in &layers {
                into.apply(reader(layer)?)?;
            }
            into.finish()?;
            Ok(config.env())
        })
    })
    .await
    .context(ErrorKind::Internal, "Unpacking was cut off")?
    .map_err(named)
}

/// Plain HTTP for registries on loopback only, as other engines do.
fn client(image: &Reference) -> Client {
    let registry = image.resolve_registry().to_owned();
    let host = registry.rsplit_once(':').map_or(registry.as_str(), |(host, _)| host);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let protocol = if loopback { ClientProtocol::HttpsExcept(vec![registry]) } else { ClientProtocol::Https };
    Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(Duration::from_secs(15)),
        read_timeout: Some(Duration::from_secs(60)),
        ..ClientConfig::default()
    })
}

async fn download(
    client: &Client,
    image: &Reference,
    layer: &oci_client::manifest::OciDescriptor,
    place: &Path,
    bound: u64,
) -> Result<()> {
    // A name of its own: two pulls of one layer at once both succeed. Removed when dropped.
    let folder = place.parent().unwrap_or(Path::new("."));
    let part = tempfile::NamedTempFile::new_in(folder).context(ErrorKind::Internal, "A layer cannot be stored")?;
    let file = part.reopen().context(ErrorKind::Internal, "A layer cannot be stored")?;
    let declared = u64::try_from(layer.size).unwrap_or(0).min(bound);
    let mut out = Bounded { file: tokio::fs::File::from_std(file), left: declared };
    client.pull_blob(image, layer, &mut out).await.map_err(|e| translate(e, image.resolve_registry()))?;
    out.file.sync_all().await.context(ErrorKind::Internal, "A layer cannot be stored")?;
    part.persist(place).map(|_| ()).context(ErrorKind::Internal, "A layer cannot be put in place")
}

fn late(reference: &str, deadline: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("The registry did not deliver {reference} within {} s", deadline.as_secs()))
}

fn translate(error: OciDistributionError, registry: &str) -> Error {
    let kind = match &error {
        OciDistributionError::ImageManifestNotFoundError(_) => ErrorKind::NotFound,
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
            ErrorKind::Denied
        }
        OciDistributionError::RequestError(_) => ErrorKind::Unavailable,
        OciDistributionError::RegistryError { envelope, .. } => {
            let text = envelope.to_string().to_ascii_lowercase();
            if text.contains("unknown") || text.contains("not found") {
                ErrorKind::NotFound
            } else {
                ErrorKind::Invalid
            }
        }
        _ => ErrorKind::Invalid,
    };
    let message = match kind {
        ErrorKind::NotFound => format!("The registry {registry} has no such image"),
        ErrorKind::Denied => format!("The registry {registry} does not give it without signing in"),
        ErrorKind::Unavailable => format!("The registry {registry} cannot be reached"),
        _ => format!("The registry {registry} gave an answer that cannot be used"),
    };
    Error::new(kind, message).because(error)
}

/// Refuses bytes beyond what the manifest declared.
struct Bounded {
    file: tokio::fs::File,
    left: u64,
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.len() as u64 > self.left {
            return Poll::Ready(Err(io::Error::other("the layer is larger than its manifest declares")));
        }
        let written = std::task::ready!(Pin::new(&mut self.file).poll_write(cx, bytes))?;
        self.left -= written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}
