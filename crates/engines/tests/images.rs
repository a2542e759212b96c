//! Images pulled from a real registry on loopback.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it skips and fails by panicking")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cove_core::{ErrorKind, Root};
use cove_engines::images::Images;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

/// A `docker-registry` process; ended when dropped.
struct Registry {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<&'static str> {
    ["/usr/bin/docker-registry", "/usr/bin/registry"].into_iter().find(|p| Path::new(p).exists())
}

async fn registry() -> Option<Registry> {
    let Some(program) = program() else {
        println!("SKIP images from a registry: the program docker-registry is not installed");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    // The port may be taken between our look and the registry's start: try again then.
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..600 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(Registry { child, port, _dir: dir });
            }
            if child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    panic!("docker-registry did not start");
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

async fn push(port: u16, name: &str) {
    let reference: Reference = format!("127.0.0.1:{port}/{name}").parse().unwrap();
    let protocol = ClientProtocol::HttpsExcept(vec![format!("127.0.0.1:{port}")]);
    let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
    let layers = [
        ImageLayer::oci_v1_gzip(layer("etc/name", b"lower"), None),
        ImageLayer::oci_v1_gzip(layer("etc/name", b"upper"), None),
    ];
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Env":["GREETING=hello"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    client
        .push(&reference, &layers, Config::oci_v1(config.to_vec(), None), &RegistryAuth::Anonymous, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_image_is_pulled_once_and_then_served_from_the_cache() {
    let Some(registry) = registry().await else { return };
    push(registry.port, "team/tool:1").await;
    let cache = tempfile::tempdir().unwrap();
    let images = Images::new(cache.path());
    let root = Root::Image(format!("127.0.0.1:{}/team/tool:1", registry.port));
    let (first, second) = tokio::join!(images.resolve(&root), images.resolve(&root));
    let first = first.unwrap().unwrap();
    assert_eq!(std::fs::read(first.directory.join("etc/name")).unwrap(), b"upper");
    assert_eq!(first.env, [("GREETING".to_owned(), "hello".to_owned())]);
    assert_eq!(second.unwrap().unwrap(), first, "two at once share one directory");
}

#[tokio::test]
async fn what_the_registry_does_not_have_is_named() {
    let Some(registry) = registry().await else { return };
    let cache = tempfile::tempdir().unwrap();
    let images = Images::new(cache.path());
    let absent = format!("127.0.0.1:{}/team/absent:1", registry.port);
    let error = images.resolve(&Root::Image(absent.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{:?}", error.chain());
    assert!(error.message().contains(&absent));
}

#[tokio::test]
async fn a_registry_that_is_not_there_and_a_bad_reference_are_told_apart() {
    let cache = tempfile::tempdir().unwrap();
    let images = Images::new(cache.path());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = images.resolve(&Root::Image(format!("127.0.0.1:{port}/x:1"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{:?}", error.chain());
    let error = images.resolve(&Root::Image("Not A Reference".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
