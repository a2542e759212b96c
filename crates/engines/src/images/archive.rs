//! Archives: `docker save`, OCI layout, or a plain tar of a root file system; each also compressed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::unpack::{Bounds, Layers};
use super::{Unpacked, cache};

/// Bytes of any JSON document in an archive.
const DOCUMENT_BOUND: u64 = 8 << 20;

/// Entries looked at to tell what kind of archive it is.
const LOOK_BOUND: usize = 100_000;

pub(super) fn resolve(cache: &Path, path: &Path, bounds: &Bounds) -> Result<Unpacked> {
    let meta = std::fs::metadata(path).map_err(|e| {
        Error::not_found(format!("The image archive {} is not there or cannot be read", path.display())).because(e)
    })?;
    if !meta.is_file() {
        return Err(Error::invalid(format!("The image archive {} is not a file", path.display()))
            .next("For a directory use --root-dir"));
    }
    let identity = format!(
        "{}:{}:{}:{}.{}:{}.{}",
        meta.dev(),
        meta.ino(),
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    );
    let key = format!("archive-{}", &hex::encode(Sha256::digest(identity.as_bytes()))[..32]);
    cache::entry(cache, &key, |root| unpack(path, root, bounds))
        .map_err(|e| Error::new(e.kind(), format!("The image archive {} cannot be used", path.display())).because(e))
}

enum Kind {
    DockerSave,
    OciLayout,
    Plain,
}

fn unpack(path: &Path, root: &Path, bounds: &Bounds) -> Result<Vec<(String, String)>> {
    match look(path)? {
        Kind::Plain => {
            let mut layers = Layers::into(root, bounds)?;
            layers.apply(reader(path)?)?;
            layers.finish()?;
            Ok(Vec::new())
        }
        kind => {
            let blobs = tempfile::tempdir_in(root.parent().unwrap_or(root))
                .context(ErrorKind::Internal, "No room to spread the archive")?;
            let files = spread(path, blobs.path(), bounds)?;
            let image = match kind {
                Kind::DockerSave => docker(&files)?,
                _ => oci(&files)?,
            };
            let mut layers = Layers::into(root, bounds)?;
            for layer in &image.layers {
                layers.apply(reader(layer)?)?;
            }
            layers.finish()?;
            Ok(image.env)
        }
    }
}

/// Opens a file and undoes its compression, told by its first bytes.
pub(super) fn reader(path: &Path) -> Result<Box<dyn Read>> {
    use std::io::{Seek as _, SeekFrom};
    let mut file = File::open(path).context(ErrorKind::NotFound, format!("{} cannot be opened", path.display()))?;
    let mut magic = [0_u8; 4];
    let read = file.read(&mut magic).context(ErrorKind::Invalid, format!("{} cannot be read", path.display()))?;
    file.seek(SeekFrom::Start(0)).context(ErrorKind::Invalid, format!("{} cannot be read", path.display()))?;
    let file = BufReader::with_capacity(1 << 17, file);
    Ok(match &magic[..read] {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Box::new(zstd::Decoder::with_buffer(file).context(ErrorKind::Invalid, "The zstd stream cannot be read")?)
        }
        _ => Box::new(file),
    })
}

fn malformed(what: &str) -> Error {
    Error::invalid(what).next("Use docker save, an OCI layout, or a plain tar of a root file system")
}

fn look(path: &Path) -> Result<Kind> {
    let mut archive = tar::Archive::new(reader(path)?);
    let entries = archive.entries().map_err(|e| malformed("It is not a tar archive").because(e))?;
    let (mut seen, mut layout, mut manifest) = (0, false, false);
    for entry in entries.take(LOOK_BOUND) {
        let entry = entry.map_err(|e| malformed("It is damaged, or not a tar archive").because(e))?;
        seen += 1;
        let name = entry.path_bytes();
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        layout |= name == b"oci-layout";
        manifest |= name == b"manifest.json";
        if manifest || (layout && seen > 1000) {
            break;
        }
    }
    match (seen, manifest, layout) {
        (0, ..) => Err(malformed("It is empty")),
        (_, true, _) => Ok(Kind::DockerSave),
        (_, _, true) => Ok(Kind::OciLayout),
        _ => Ok(Kind::Plain),
    }
}

/// Writes the archive's regular files into `into` under numbers; returns name to place. Links of
/// `docker save` archives (layers that repeat) are followed by name.
fn spread(path: &Path, into: &Path, bounds: &Bounds) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    let mut left = bounds.bytes;
    let mut archive = tar::Archive::new(reader(path)?);
    let entries = archive.entries().map_err(|e| malformed("It is not a tar archive").because(e))?;
    for (number, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|e| malformed("It is damaged").because(e))?;
        if number as u64 > bounds.entries {
            return Err(Error::new(ErrorKind::Exhausted, format!("It has more than {} entries", bounds.entries)));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let place = into.join(number.to_string());
                let mut file = File::create(&place).context(ErrorKind::Internal, "No room to spread the archive")?;
                let copied = std::io::copy(&mut (&mut entry).take(left + 1), &mut file)
                    .context(ErrorKind::Invalid, format!("The entry {name:?} cannot be read or written"))?;
                left = left.checked_sub(copied).ok_or_else(|| {
                    Error::new(ErrorKind::Exhausted, format!("It holds more than {} bytes", bounds.bytes))
                })?;
                files.insert(name, place);
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                if let Some(target) = entry.link_name_bytes() {
                    links.push((name, String::from_utf8_lossy(&target).into_owned()));
                }
            }
            _ => {}
        }
    }
    for (name, target) in links {
        let beside = Path::new(&name).parent().unwrap_or(Path::new("")).join(&target);
        let target = normal(&beside);
        if let Some(place) = files.get(&target).cloned() {
            files.insert(name, place);
        }
    }
    Ok(files)
}

/// Lexical normal form; `..` beyond the start is dropped, since the result is only looked up by name.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                parts.pop();
            }
            std::path::Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            _ => {}
        }
    }
    parts.join("/")
}

struct Image {
    layers: Vec<PathBuf>,
    env: Vec<(String, String)>,
}

fn document<T: serde::de::DeserializeOwned>(files: &BTreeMap<String, PathBuf>, name: &str) -> Result<T> {
    let place = files.get(name).ok_or_else(|| malformed(&format!("It has no {name}")))?;
    let mut text = Vec::new();
    File::open(place)
        .and_then(|f| f.take(DOCUMENT_BOUND).read_to_end(&mut text))
        .context(ErrorKind::Internal, format!("{name} cannot be read"))?;
    serde_json::from_slice(&text).map_err(|e| malformed(&format!("Its {name} is malformed")).because(e))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    layers: Vec<String>,
}

/// The part of an image configuration that processes need (OCI image specification, `config.Env`).
#[derive(Default, Deserialize)]
pub(super) struct ImageConfig {
    #[serde(default)]
    config: Option<ProcessConfig>,
}

#[derive(Default, Deserialize)]
struct ProcessConfig {
    #[serde(default, rename = "Env")]
    env: Option<Vec<String>>,
}

impl ImageConfig {
    pub(super) fn env(self) -> Vec<(String, String)> {
        let pairs = self.config.and_then(|c| c.env).unwrap_or_default();
        pairs
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, value)| !name.is_empty() && !name.contains('\0') && !value.contains('\0'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

fn docker(files: &BTreeMap<String, PathBuf>) -> Result<Image> {
    let manifests: Vec<DockerManifest> = document(files, "manifest.json")?;
    let [manifest] = &manifests[..] else {
        return Err(malformed(&format!("It holds {} images, not one", manifests.len())));
    };
    let config: ImageConfig = document(files, &manifest.config)?;
    let layers = manifest
        .layers
        .iter()
        .map(|name| files.get(name).cloned().ok_or_else(|| malformed(&format!("Its layer {name} is missing"))))
        .collect::<Result<_>>()?;
    Ok(Image { layers, env: config.env() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciIndex {
    manifests: Vec<OciDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciDescriptor {
    digest: String,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    platform: Option<OciPlatform>,
}

#[derive(Deserialize)]
struct OciPlatform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct OciManifest {
    config: OciDescriptor,
    layers: Vec<OciDescriptor>,
}

/// The machine's architecture in the words of image indices.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn oci(files: &BTreeMap<String, PathBuf>) -> Result<Image> {
    let mut index: OciIndex = document(files, "index.json")?;
    // An index may lead to a further index, once per platform list.
    for _ in 0..4 {
        let fitting = index
            .manifests
            .iter()
            .find(|m| m.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture()));
        let Some(found) = fitting else {
            return Err(malformed(&format!("It holds no image for linux/{}", architecture())));
        };
        let place = blob(&found.digest)?;
        if found.media_type.contains("index") || found.media_type.contains("manifest.list") {
            index = document(files, &place)?;
            continue;
        }
        let manifest: OciManifest = document(files, &place)?;
        let config: ImageConfig = document(files, &blob(&manifest.config.digest)?)?;
        let layers = manifest.layers.iter().map(|layer| verified(files, &layer.digest)).collect::<Result<_>>()?;
        return Ok(Image { layers, env: config.env() });
    }
    Err(malformed("Its indices lead to indices without end"))
}

fn blob(digest: &str) -> Result<String> {
    match digest.split_once(':') {
        Some((kind @ ("sha256" | "sha512"), hash)) if hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(format!("blobs/{kind}/{hash}"))
        }
        _ => Err(malformed(&format!("The digest {digest:?} is malformed"))),
    }
}

fn verified(files: &BTreeMap<String, PathBuf>, digest: &str) -> Result<PathBuf> {
    let place = files.get(&blob(digest)?).ok_or_else(|| malformed(&format!("Its blob {digest} is missing")))?;
    if let Some(expected) = digest.strip_prefix("sha256:") {
        let mut hasher = Sha256::new();
        let mut file = File::open(place).context(ErrorKind::Internal, "A blob cannot be read")?;
        std::io::copy(&mut file, &mut hasher).context(ErrorKind::Internal, "A blob cannot be read")?;
        if hex::encode(hasher.finalize()) != expected {
            return Err(Error::invalid(format!("Its blob {digest} has another content than its digest says")));
        }
    }
    Ok(place.clone())
}
