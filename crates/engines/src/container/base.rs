//! The image under a sandbox that shows the host's system: directories to mount on and the links that the
//! host has at its top. It is loaded once, named by what it holds, and shared by all sandboxes.

use std::time::Duration;

use bollard::body_full;
use bollard::query_parameters::ImportImageOptionsBuilder;
use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};
use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::client::{Client, name};
use super::image::Image;
use super::look;
use crate::native::host_root::{self, Piece};

/// How long loading may take: a few kilobytes.
const LOADING: Duration = Duration::from_secs(60);

/// Directories that something is mounted on.
const DIRECTORIES: &[&str] =
    &["dev", "etc", "home", "home/ralph", "proc", "run", "run/cove", "sys", "tmp", "usr", "workspace"];

/// Sees to it that the engine has it.
///
/// # Errors
/// `Unavailable` or `Internal` when the engine does not take it.
pub async fn ensure(client: &Client) -> Result<Image> {
    let layer = layer().context(ErrorKind::Internal, "The base image cannot be put together")?;
    let reference = format!("localhost/cove-base:{}", &hex::encode(Sha256::digest(&layer))[..16]);
    let found = match look::image(&client.address, &reference).await? {
        Some(id) => Some(id),
        None => {
            load(client, &reference, &layer).await?;
            look::image(&client.address, &reference).await?
        }
    };
    let id = found.ok_or_else(|| {
        Error::internal(format!("{} took an image and does not have it", name(client.engine())))
            .with("image", reference)
    })?;
    Ok(Image { id, env: Vec::new(), volumes: Vec::new(), architecture: architecture().to_owned() })
}

/// As OCI calls this machine's.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn layer() -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut made: Vec<String> = DIRECTORIES.iter().map(|path| (*path).to_owned()).collect();
    for path in &made {
        archive.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), path, std::io::empty())?;
    }
    for piece in host_root::pieces(std::path::Path::new("/")) {
        let Piece::Link { at, to } = piece else { continue };
        let at = at.strip_prefix("/").unwrap_or(&at);
        let parents: Vec<_> = at.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev() {
            let parent = parent.to_string_lossy().into_owned();
            if !made.contains(&parent) {
                archive.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), &parent, std::io::empty())?;
                made.push(parent);
            }
        }
        archive.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), at, to)?;
    }
    archive.into_inner()
}

/// As `docker save` writes it.
async fn load(client: &Client, reference: &str, layer: &[u8]) -> Result<()> {
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": { "Labels": { "run.cove.managed": "true", "run.cove.role": "base", "run.cove.schema": "1" } },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(layer)))] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cove" }],
    });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let manifest = json!([{ "Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"] }]);
    let manifest = manifest.to_string().into_bytes();
    let write = || -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        let files: [(&str, &[u8]); 3] = [("manifest.json", &manifest), (&config_name, &config), ("layer.tar", layer)];
        for (path, bytes) in files {
            archive.append_data(&mut header(tar::EntryType::Regular, 0o644, bytes.len() as u64), path, bytes)?;
        }
        archive.into_inner()
    };
    let archive = write().context(ErrorKind::Internal, "The base image cannot be put together")?;
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let loading = async {
        let mut answers = std::pin::pin!(client.docker.import_image(options, body_full(archive.into()), None));
        // Podman tells of failures within a 200.
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    };
    client.call("load the base image", LOADING, loading).await
}
