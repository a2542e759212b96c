//! Podman's own service, started on demand: by one of many, ending by itself, started again.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test says what it skips and fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cove_core::{EngineKind, ErrorKind};
use cove_engines::container::client::Client;
use cove_engines::podman::service::Service;

/// Waits for what has no other signal than its effect.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program in place of `podman` that counts its starts and listens for as long as it was told.
fn stand_in(directory: &Path) -> std::path::PathBuf {
    let program = directory.join("podman");
    let starts = directory.join("starts");
    let text = format!(
        "#!/usr/bin/env python3\nimport os, socket, sys\nopen({starts:?}, 'a').write('x')\n\
         assert sys.argv[1:3] == ['system', 'service'] and 'CONTAINER_HOST' not in os.environ\n\
         s = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[4].removeprefix('unix://'))\ns.listen(64)\n\
         s.settimeout(float(sys.argv[3].removeprefix('--time=')))\n\
         try:\n    while True: s.accept()[0].close()\nexcept TimeoutError: os.unlink(sys.argv[4].removeprefix('unix://'))\n"
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn one_of_many_starts_it_and_it_comes_back_after_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new(&dir.path().join("state"), stand_in(dir.path())).idle_after(Duration::from_secs(3));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| service.wake().unwrap());
        }
    });
    let starts = || std::fs::read(dir.path().join("starts")).unwrap_or_default().len();
    assert_eq!(starts(), 1);
    let owner_only = std::fs::metadata(service.socket().parent().unwrap()).unwrap().permissions().mode() & 0o777;
    assert_eq!(owner_only, 0o700);
    until("the end after idling", || !service.socket().exists());
    service.wake().unwrap();
    assert_eq!(starts(), 2);
    // A socket that a killed one left does not hinder the next.
    until("the second end", || !service.socket().exists());
    drop(std::os::unix::net::UnixListener::bind(service.socket()).unwrap());
    assert!(service.socket().exists() && UnixStream::connect(service.socket()).is_err());
    service.wake().unwrap();
    assert_eq!(starts(), 3);
}

#[test]
fn what_does_not_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("podman");
    std::fs::write(&program, "#!/bin/sh\necho 'Error: no such storage driver' >&2\nexit 125\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = Service::new(&dir.path().join("state"), &program).wake().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no such storage driver"), "{error}");
    let error = Service::new(&dir.path().join("state"), dir.path().join("absent")).wake().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let long = dir.path().join("d".repeat(120));
    assert_eq!(Service::new(&long, &program).wake().unwrap_err().kind(), ErrorKind::Invalid);
}

/// The real one, with the test bed's settings for this machine.
#[test]
fn podman_itself_is_started_ends_when_idle_and_starts_again() {
    let Some(script) = std::env::var_os("COVE_TEST_PODMAN_AS") else {
        println!("SKIP podman service: no test bed (COVE_TEST_PODMAN_AS)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let service = Service::new(dir.path(), script).with_arguments(["podman"]).idle_after(Duration::from_secs(2));
    for _ in 0..2 {
        service.wake().unwrap();
        // It answers, not only listens.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = service.socket();
            let client = Client::connect(EngineKind::Podman, &socket).await.unwrap();
            client.docker.ping().await.unwrap();
        });
        // `wake` counts as a call; only a refused connection says that it is gone.
        until("the end after idling", || {
            std::thread::sleep(Duration::from_secs(4));
            UnixStream::connect(service.socket()).is_err()
        });
    }
}
