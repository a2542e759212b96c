//! Images given to real engines: Docker and Podman of the test bed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it skips and fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder};
use cove_core::{EngineKind, ErrorKind, Root};
use cove_engines::container::client::Client;
use cove_engines::container::image::{Image, LABEL, collect, ensure};
use cove_engines::container::look;
use cove_engines::images::Images;

/// The engines that there are; the others are named.
async fn engines() -> Vec<Client> {
    let mut out = Vec::new();
    for (kind, variable, name) in [
        (EngineKind::Docker, "COVE_TEST_DOCKER", "docker"),
        (EngineKind::Podman, "COVE_TEST_PODMAN", "podman"),
        (EngineKind::Podman, "COVE_TEST_PODMAN_ROOTLESS", "podman rootless"),
    ] {
        match std::env::var(variable) {
            Ok(place) => {
                let socket = place.split_once(':').map_or(place.as_str(), |(_, socket)| socket);
                out.push(Client::connect(kind, Path::new(socket)).await.unwrap());
            }
            Err(_) => println!("SKIP {name}: no test bed ({variable})"),
        }
    }
    out
}

/// A root with one program and one line that makes it differ from all others.
fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("bin")).unwrap();
    std::fs::create_dir_all(dir.path().join("etc")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).unwrap();
    std::fs::copy(busybox, dir.path().join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", dir.path().join("bin/cat")).unwrap();
    std::fs::write(dir.path().join("etc/mark"), dir.path().display().to_string()).unwrap();
    dir
}

async fn tags(client: &Client, image: &Image) -> usize {
    let all = client.docker.list_images(Some(ListImagesOptionsBuilder::new().all(true).build())).await.unwrap();
    all.iter().filter(|i| i.id.trim_start_matches("sha256:") == image.id.trim_start_matches("sha256:")).count()
}

/// What a container made of the image, with nothing of its configuration in force, says of `/etc/mark`.
async fn mark(client: &Client, image: &Image) -> String {
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec!["/bin/cat".to_owned()]),
        cmd: Some(vec!["/etc/mark".to_owned()]),
        host_config: Some(bollard::models::HostConfig { network_mode: Some("none".to_owned()), ..Default::default() }),
        ..Default::default()
    };
    let id = client
        .docker
        .create_container(None::<bollard::query_parameters::CreateContainerOptions>, body)
        .await
        .unwrap()
        .id;
    client.docker.start_container(&id, None::<bollard::query_parameters::StartContainerOptions>).await.unwrap();
    // Read by our own eyes: Podman has states that the typed client does not know.
    let exited = || async {
        let seen = look::container(&client.address, &id).await.unwrap();
        seen.is_some_and(|seen| matches!(seen.life, look::Life::Ended { .. }))
    };
    for _ in 0..600 {
        if exited().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    use futures_util::StreamExt as _;
    let logs = bollard::query_parameters::LogsOptionsBuilder::new().stdout(true).build();
    let mut told = client.docker.logs(&id, Some(logs));
    let mut said = String::new();
    while let Some(piece) = told.next().await {
        said.push_str(&piece.unwrap().to_string());
    }
    let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    client.docker.remove_container(&id, Some(force)).await.unwrap();
    said
}

async fn forget(client: &Client, image: &Image) {
    let force = RemoveImageOptionsBuilder::new().force(true).build();
    let _ = client.docker.remove_image(&image.id, Some(force), None).await;
}

fn images(dir: &tempfile::TempDir) -> Images {
    Images::new(dir.path().join("cache"))
}

/// A `docker save` archive with a configuration that wants everything.
fn hostile_archive(root: &Path, into: &Path) -> PathBuf {
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all(".", root).unwrap();
    let layer = layer.into_inner().unwrap();
    let diff = format!("sha256:{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&layer)));
    let config = serde_json::json!({
        "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }, "os": "linux",
        "config": {
            "Entrypoint": ["/bin/false"], "Cmd": ["x"], "WorkingDir": "/proc/self/fd/8", "User": "nobody:nogroup",
            "Env": ["LD_PRELOAD=/evil.so", "GOOD=yes", "=empty", "novalue"],
            "Volumes": {"/": {}, "/etc": {}}, "OnBuild": ["RUN evil"], "StopSignal": "SIGCONT",
            "Healthcheck": {"Test": ["CMD-SHELL", "evil"], "Interval": 1_000_000_000},
            "Labels": {LABEL: "archive-0"},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]}, "history": [],
    });
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": ["alpine:latest"], "Layers": ["layer.tar"]}]);
    let path = into.join("saved.tar");
    let mut out = tar::Builder::new(std::fs::File::create(&path).unwrap());
    for (name, bytes) in [
        ("layer.tar", layer),
        ("config.json", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    out.finish().unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_becomes_one_image_however_many_want_it() {
    for client in engines().await {
        let (root, cache) = (root(), tempfile::tempdir().unwrap());
        let images = images(&cache);
        let wanted = Root::Directory(root.path().to_owned());
        let all = futures_util::future::join_all((0..6).map(|_| ensure(&client, &images, &wanted))).await;
        let first = all[0].as_ref().unwrap().clone();
        for image in &all {
            assert_eq!(image.as_ref().unwrap(), &first);
        }
        assert_eq!(tags(&client, &first).await, 1);
        assert_eq!(mark(&client, &first).await, root.path().display().to_string());
        assert!(first.env.is_empty() && first.volumes.is_empty(), "{first:?}");
        // A change makes another.
        std::fs::write(root.path().join("etc/mark"), "changed").unwrap();
        let second = ensure(&client, &images, &wanted).await.unwrap();
        assert_ne!(second.id, first.id);
        assert_eq!(mark(&client, &second).await, "changed");
        forget(&client, &first).await;
        forget(&client, &second).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_brings_its_files_and_variables_and_nothing_else() {
    for client in engines().await {
        let (root, cache) = (root(), tempfile::tempdir().unwrap());
        let images = images(&cache);
        let path = hostile_archive(root.path(), cache.path());
        let image = ensure(&client, &images, &Root::Archive(path.clone())).await.unwrap();
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(image.env, [pair("LD_PRELOAD", "/evil.so"), pair("GOOD", "yes")]);
        assert!(image.volumes.is_empty());
        let config = client.docker.inspect_image(&image.id).await.unwrap().config.unwrap();
        assert!(config.entrypoint.unwrap_or_default().is_empty() && config.volumes.unwrap_or_default().is_empty());
        assert!(config.on_build.unwrap_or_default().is_empty() && config.healthcheck.is_none());
        assert!(config.user.unwrap_or_default().is_empty() && config.working_dir.unwrap_or_default().is_empty());
        assert_eq!(mark(&client, &image).await, root.path().display().to_string());
        assert_eq!(ensure(&client, &images, &Root::Archive(path)).await.unwrap(), image);
        // Nothing was named as the archive wanted.
        assert!(client.docker.inspect_image("alpine:latest").await.unwrap_err().to_string().contains("404"));
        forget(&client, &image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_half_way_leaves_nothing() {
    for client in engines().await {
        let (root, cache) = (root(), tempfile::tempdir().unwrap());
        let before = client.docker.list_images(Some(ListImagesOptionsBuilder::new().all(true).build())).await.unwrap();
        // Room for the first file and not for the second, which is larger than what waits on the way.
        std::fs::write(root.path().join("zz"), vec![7; 16 << 20]).unwrap();
        let bounds = cove_engines::images::Bounds { bytes: 8 << 20, entries: 1000 };
        let images = images(&cache).with_bounds(bounds);
        let error = ensure(&client, &images, &Root::Directory(root.path().to_owned())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        let garbage = cache.path().join("garbage.tar");
        std::fs::write(&garbage, vec![b'x'; 5000]).unwrap();
        let error = ensure(&client, &images, &Root::Archive(garbage)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let error = ensure(&client, &images, &Root::Directory("/nowhere".into())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        // Other tests make images beside this one: none may hold this root.
        let after = client.docker.list_images(Some(ListImagesOptionsBuilder::new().all(true).build())).await.unwrap();
        let known: Vec<&str> = before.iter().map(|i| i.id.as_str()).collect();
        assert!(after.iter().filter(|i| !known.contains(&i.id.as_str())).all(|i| i.size < 8 << 20), "{after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_another_architecture_is_refused_by_both_names() {
    let other = if std::env::consts::ARCH == "aarch64" { "amd64" } else { "arm64" };
    for client in engines().await {
        let cache = tempfile::tempdir().unwrap();
        // A layer without entries is enough: nothing is run.
        let layer = tar::Builder::new(Vec::new()).into_inner().unwrap();
        let diff = format!("sha256:{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&layer)));
        let name = format!("localhost/cove-test-arch:{}", std::process::id());
        let config = serde_json::json!({"architecture": other, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}});
        let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        let mut saved = tar::Builder::new(Vec::new());
        for (file, bytes) in [
            ("layer.tar", layer),
            ("config.json", config.to_string().into_bytes()),
            ("manifest.json", manifest.to_string().into_bytes()),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            saved.append_data(&mut header, file, &bytes[..]).unwrap();
        }
        let body = bollard::body_full(saved.into_inner().unwrap().into());
        use futures_util::StreamExt as _;
        let options = bollard::query_parameters::ImportImageOptionsBuilder::new().build();
        client.docker.import_image(options, body, None).for_each(|piece| async { drop(piece.unwrap()) }).await;
        let error = ensure(&client, &images(&cache), &Root::Image(name.clone())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let said = error.to_string();
        assert!(said.contains("amd64") && said.contains("arm64"), "{said}");
        let force = RemoveImageOptionsBuilder::new().force(true).build();
        client.docker.remove_image(&name, Some(force), None).await.unwrap();
    }
}

/// The engine's own error comes below a status of 200, or as one; both are errors here.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_no_registry_has_is_an_error_with_its_name() {
    for client in engines().await {
        let cache = tempfile::tempdir().unwrap();
        // Port 9 of loopback: nobody listens there.
        let name = "127.0.0.1:9/cove/absent:none";
        let wanted = Root::Image(name.to_owned());
        let deadline = Duration::from_secs(120);
        let error =
            tokio::time::timeout(deadline, ensure(&client, &images(&cache), &wanted)).await.unwrap().unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.chain().len() > 1 && error.next_step().is_some(), "{:?}", error.chain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_images_go_when_no_container_uses_them_and_others_stay() {
    for client in engines().await {
        let (root, cache) = (root(), tempfile::tempdir().unwrap());
        let image = ensure(&client, &images(&cache), &Root::Directory(root.path().to_owned())).await.unwrap();
        let there = || async { tags(&client, &image).await == 1 };
        // Young ones stay; nobody's clock is waited for.
        collect(&client, Duration::from_secs(86_400)).await.unwrap();
        assert!(there().await);
        let body = ContainerCreateBody {
            image: Some(image.id.clone()),
            cmd: Some(vec!["/bin/cat".to_owned()]),
            ..Default::default()
        };
        let id = client
            .docker
            .create_container(None::<bollard::query_parameters::CreateContainerOptions>, body)
            .await
            .unwrap()
            .id;
        // An image of the same age with a container on it. Other tests' images are younger than two
        // seconds for as long as they need no container, so only this one's end is asked for.
        let used = cove_engines::container::image::collect_only(&client, Duration::ZERO, &image.id).await.unwrap();
        assert!(used.is_empty() && there().await, "{used:?}");
        let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        client.docker.remove_container(&id, Some(force)).await.unwrap();
        let swept = cove_engines::container::image::collect_only(&client, Duration::ZERO, &image.id).await.unwrap();
        assert_eq!(swept.len(), 1, "{swept:?}");
        assert!(!there().await);
    }
}

/// Where Podman says things in its own way, we read the same as from Docker.
#[tokio::test(flavor = "multi_thread")]
async fn a_containers_life_reads_the_same_everywhere() {
    for client in engines().await {
        let (root, cache) = (root(), tempfile::tempdir().unwrap());
        let image = ensure(&client, &images(&cache), &Root::Directory(root.path().to_owned())).await.unwrap();
        let look = async |id: &str| look::container(&client.address, id).await.unwrap().map(|seen| seen.life);
        assert_eq!(look("cove-no-such-container").await, None);
        let body = ContainerCreateBody {
            image: Some(image.id.clone()),
            entrypoint: Some(vec!["/bin/busybox".to_owned(), "sh".to_owned(), "-c".to_owned()]),
            cmd: Some(vec!["trap 'exit 7' TERM; while :; do busybox sleep 0.05; done".to_owned()]),
            host_config: Some(bollard::models::HostConfig {
                network_mode: Some("none".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = None::<bollard::query_parameters::CreateContainerOptions>;
        let id = client.docker.create_container(options, body).await.unwrap().id;
        assert_eq!(look(&id).await, Some(look::Life::Made));
        let start = None::<bollard::query_parameters::StartContainerOptions>;
        client.docker.start_container(&id, start).await.unwrap();
        assert!(matches!(look(&id).await, Some(look::Life::Running { pid }) if pid > 0));
        // Podman leaves it `stopped` for a while, which Docker does not know.
        let term = bollard::query_parameters::KillContainerOptionsBuilder::new().signal("KILL").build();
        client.docker.kill_container(&id, Some(term)).await.unwrap();
        cove_testkit::eventually("the end of a killed container", Duration::from_secs(60), async || {
            matches!(look(&id).await, Some(look::Life::Ended { code: 137 }))
        })
        .await;
        let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        client.docker.remove_container(&id, Some(force)).await.unwrap();
        assert_eq!(look(&id).await, None);
        forget(&client, &image).await;
    }
}
