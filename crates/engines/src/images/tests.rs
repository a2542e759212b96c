use std::io::Write as _;
use std::path::PathBuf;

use cove_core::{ErrorKind, Root};

use super::*;

/// One entry: type, name, link target or content.
type Row = (tar::EntryType, &'static str, &'static str);

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIR: tar::EntryType = tar::EntryType::Directory;
const SYMLINK: tar::EntryType = tar::EntryType::Symlink;
const LINK: tar::EntryType = tar::EntryType::Link;

fn layer(rows: &[Row]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, text) in rows {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_mtime(1_700_000_000);
        // Names as an attacker would write them: past the checks of the builder.
        let raw = &mut header.as_gnu_mut().unwrap().name;
        raw[..name.len()].copy_from_slice(name.as_bytes());
        let content = if matches!(*kind, SYMLINK | LINK) {
            let raw = &mut header.as_gnu_mut().unwrap().linkname;
            raw[..text.len()].copy_from_slice(text.as_bytes());
            ""
        } else {
            text
        };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    async fn unpack(&self, bytes: &[u8]) -> Result<PathBuf> {
        let archive = self.write("image.tar", bytes);
        let images = Images::new(self.dir.path().join("cache"));
        Ok(images.resolve(&Root::Archive(archive)).await?.expect("an archive has a directory").directory)
    }
}

#[tokio::test]
async fn a_plain_archive_becomes_a_directory_once() {
    let world = World::new();
    let rows = [
        (DIR, "usr", ""),
        (DIR, "usr/bin", ""),
        (FILE, "usr/bin/tool", "#!/bin/sh\n"),
        (SYMLINK, "bin", "usr/bin"),
        (FILE, "bin/second", "x"),
        (LINK, "third", "/usr/bin/tool"),
    ];
    let root = world.unpack(&layer(&rows)).await.unwrap();
    assert_eq!(std::fs::read(root.join("usr/bin/tool")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(std::fs::read(root.join("usr/bin/second")).unwrap(), b"x", "an entry below a link lands where it leads");
    assert_eq!(std::fs::read(root.join("third")).unwrap(), b"#!/bin/sh\n");
    let again = Images::new(world.dir.path().join("cache"));
    let same = again.resolve(&Root::Archive(world.dir.path().join("image.tar"))).await.unwrap().unwrap();
    assert_eq!(same.directory, root);
}

#[tokio::test]
async fn compressed_archives_are_told_by_their_first_bytes() {
    let plain = layer(&[(FILE, "etc/name", "cove")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for bytes in [gzip.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()] {
        let root = World::new().unpack(&bytes).await;
        assert!(root.is_ok(), "{root:?}");
    }
}

#[tokio::test]
async fn hostile_archives_are_refused_and_touch_nothing_outside() {
    let device = |name| (tar::EntryType::Char, name, "");
    let rows: Vec<(&str, Vec<Row>)> = vec![
        ("a name with ..", vec![(FILE, "../escaped", "x")]),
        ("a name with .. inside", vec![(FILE, "a/../../escaped", "x")]),
        ("a hard link out", vec![(LINK, "inside", "../../../etc/hostname")]),
        ("a hard link to what is not there", vec![(LINK, "inside", "/no/such")]),
        ("a device", vec![device("sda")]),
        ("a pipe", vec![(tar::EntryType::Fifo, "pipe", "")]),
        ("a whiteout of nothing", vec![(FILE, ".wh.", "")]),
        ("a whiteout of ..", vec![(FILE, "a/.wh...", "")]),
    ];
    for (what, rows) in rows {
        let world = World::new();
        let outcome = world.unpack(&layer(&rows)).await;
        let error = outcome.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        assert!(!world.dir.path().join("escaped").exists(), "{what}");
        let left = std::fs::read_dir(world.dir.path().join("cache/roots")).unwrap().flatten();
        let left: Vec<_> = left.filter(|e| !e.file_name().to_string_lossy().ends_with(".lock")).collect();
        assert!(left.is_empty(), "{what} left {left:?}");
    }
}

#[tokio::test]
async fn links_of_an_archive_never_lead_out_while_it_is_unpacked() {
    let world = World::new();
    let outside = world.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target: &'static str = Box::leak(outside.to_string_lossy().into_owned().into_boxed_str());
    let rows = [
        (SYMLINK, "way", target),
        (FILE, "way/planted", "x"),
        (SYMLINK, "up", "../../../../../../../tmp"),
        (FILE, "up/cove-planted", "x"),
    ];
    let root = world.unpack(&layer(&rows)).await;
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none(), "{root:?}");
    assert!(!std::path::Path::new("/tmp/cove-planted").exists());
}

#[tokio::test]
async fn absolute_names_lie_below_the_root_and_devices_in_dev_are_left_out() {
    let rows = [(FILE, "/etc/name", "cove"), (tar::EntryType::Char, "dev/null", ""), (FILE, "set", "")];
    let root = World::new();
    let root = root.unpack(&layer(&rows)).await.unwrap();
    assert!(!root.join("dev/null").exists());
}

#[tokio::test]
async fn what_is_no_image_is_named() {
    for (what, bytes) in [("noise", vec![7_u8; 4096]), ("nothing", Vec::new()), ("cut gzip", vec![0x1f, 0x8b, 8, 0, 0])]
    {
        let error = World::new().unpack(&bytes).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}");
        assert!(error.message().contains("image.tar"), "{what}: {error}");
    }
    let images = Images::new("/nonexistent/cache");
    let error = images.resolve(&Root::Archive("/no/such.tar".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = images.resolve(&Root::Directory("/no/such".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn more_bytes_than_the_bound_are_refused() {
    let world = World::new();
    let archive = world.write("image.tar", &layer(&[(FILE, "large", "0123456789")]));
    let images = Images::new(world.dir.path().join("cache")).with_bounds(Bounds { bytes: 5, entries: 10 });
    let error = images.resolve(&Root::Archive(archive.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let images = Images::new(world.dir.path().join("cache")).with_bounds(Bounds { bytes: 50, entries: 0 });
    assert_eq!(images.resolve(&Root::Archive(archive)).await.unwrap_err().kind(), ErrorKind::Exhausted);
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn docker_save_applies_layers_with_their_whiteouts() {
    let lower = layer(&[
        (DIR, "etc", ""),
        (FILE, "etc/old", "1"),
        (FILE, "etc/kept", "1"),
        (DIR, "gone", ""),
        (FILE, "gone/x", "1"),
    ]);
    let upper = layer(&[
        (FILE, "etc/.wh.old", ""),
        (FILE, "etc/kept", "2"),
        (FILE, "gone/.wh..wh..opq", ""),
        (FILE, "gone/y", "2"),
    ]);
    let manifest = br#"[{"Config":"config.json","RepoTags":["cove:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let config = br#"{"config":{"Env":["PATH=/tools:/bin","GREETING=hello=you","broken"]}}"#;
    let archive = tar_of(&[
        ("a/layer.tar", &lower),
        ("b/layer.tar", &upper),
        ("config.json", config),
        ("manifest.json", manifest),
    ]);
    let world = World::new();
    let path = world.write("saved.tar", &archive);
    let unpacked = Images::new(world.dir.path().join("cache")).resolve(&Root::Archive(path)).await.unwrap().unwrap();
    let root = &unpacked.directory;
    assert!(!root.join("etc/old").exists());
    assert_eq!(std::fs::read(root.join("etc/kept")).unwrap(), b"2");
    assert!(!root.join("gone/x").exists());
    assert!(root.join("gone/y").exists());
    assert_eq!(unpacked.env, [("PATH".into(), "/tools:/bin".into()), ("GREETING".into(), "hello=you".into())]);
}

#[tokio::test]
async fn an_oci_layout_is_checked_against_its_digests() {
    use sha2::Digest as _;
    let digest = |bytes: &[u8]| hex::encode(sha2::Sha256::digest(bytes));
    let content = layer(&[(FILE, "name", "cove")]);
    let config = br#"{"config":{}}"#.to_vec();
    for honest in [true, false] {
        let stored = if honest { content.clone() } else { layer(&[(FILE, "name", "evil")]) };
        let manifest = format!(
            r#"{{"config":{{"digest":"sha256:{}"}},"layers":[{{"digest":"sha256:{}"}}]}}"#,
            digest(&config),
            digest(&content)
        );
        let index = format!(
            r#"{{"manifests":[{{"digest":"sha256:{}","mediaType":"application/vnd.oci.image.manifest.v1+json"}}]}}"#,
            digest(manifest.as_bytes())
        );
        let names =
            [digest(&config), digest(&content), digest(manifest.as_bytes())].map(|d| format!("blobs/sha256/{d}"));
        let archive = tar_of(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", index.as_bytes()),
            (&names[0], &config),
            (&names[1], &stored),
            (&names[2], manifest.as_bytes()),
        ]);
        let outcome = World::new().unpack(&archive).await;
        assert_eq!(outcome.is_ok(), honest, "{outcome:?}");
    }
}
