//! A daemon in a process of its own: signals, sudden death, and other users.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cove_api::Client;
use cove_core::{ErrorKind, Fact};
use support::{LONG, Place, spec};

const CHILD: &str = "COVE_TEST_DAEMON_CHILD";
const STRANGER: &str = "COVE_TEST_STRANGER";

/// Not a test by itself: the daemon that the others start.
#[test]
fn child_that_serves() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        let served = Place::at(dir.into()).serve().await;
        let mut run = std::pin::pin!(served.daemon.run(None));
        // Looked at once, it waits for signals.
        tokio::select! {
            biased;
            _ = &mut run => return,
            () = std::future::ready(()) => println!("\nserving"),
        }
        let why = run.await.unwrap();
        println!("\nended {why:?}");
    });
}

/// Not a test by itself: a process of another user at the socket.
#[test]
fn child_that_knocks() {
    let Some(socket) = std::env::var_os(STRANGER) else { return };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let answer = Client::unix(PathBuf::from(socket)).live().await;
        println!("\nanswer {:?}", answer.map_err(|e| e.kind()));
    });
}

fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).stdout(Stdio::piped());
    command
}

/// Starts a daemon and waits until it serves.
fn serve(dir: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = this_test("child_that_serves").env(CHILD, dir).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "serving"), "the daemon started");
    (child, lines)
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < 3 * LONG, "the daemon did not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn killed_it_leaves_nothing_in_the_way_and_loses_nothing() {
    let place = Place::new();
    let (mut child, _lines) = serve(place.path());
    let client = Client::unix(place.options().socket);
    let run = client.submit(&spec("survivor"), Some("key")).await.unwrap();
    let refused = place.serve_with(place.options()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains(&child.id().to_string()), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place.options().socket.exists(), "left behind");

    let served = place.serve().await;
    assert_eq!(served.client.run("survivor").await.unwrap().id, run.id);
    assert_eq!(served.client.submit(&spec("survivor"), Some("key")).await.unwrap().id, run.id);
    let entries = served.client.entries("survivor", 0, 10).await.unwrap();
    assert_eq!(entries.last().unwrap().fact, Fact::Note { text: "recovered".into() });
}

#[tokio::test]
async fn a_signal_ends_it_in_order() {
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let place = Place::new();
        let (mut child, lines) = serve(place.path());
        let client = Client::unix(place.options().socket);
        client.submit(&spec("working"), None).await.unwrap();
        // Followed while it ends; the stream is no reason to stay.
        let mut follow = client.follow("working", 0);
        follow.next().await.unwrap().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
        assert!(wait(&mut child).success());
        assert!(lines.into_iter().any(|line| line == "ended Signal"));
        assert!(!place.options().socket.exists());
        let served = place.serve().await;
        let facts: Vec<Fact> =
            served.client.entries("working", 1, 10).await.unwrap().into_iter().map(|e| e.fact).collect();
        assert_eq!(facts, ["interrupted", "recovered"].map(|text| Fact::Note { text: text.into() }));
    }
}

#[tokio::test]
async fn another_user_is_refused_even_where_the_files_let_them_through() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    let place = Place::new();
    let served = place.serve().await;
    let socket = served.daemon.socket().to_owned();
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    [place.path(), socket.parent().unwrap(), &socket].into_iter().for_each(open);
    // The test's program, where others may run it.
    let program = place.path().join("knocks");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    open(&program);
    let knock = move |uid: u32| {
        let output = Command::new(&program)
            .args(["--exact", "child_that_knocks", "--nocapture", "--test-threads=1"])
            .current_dir("/")
            .env(STRANGER, &socket)
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (stranger, owner) = tokio::task::spawn_blocking(move || (knock(65_534), knock(0))).await.unwrap();
    assert!(owner.contains("answer Ok"), "{owner}");
    assert!(stranger.contains("answer Err(Interrupted)"), "{stranger}");
}
