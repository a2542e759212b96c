//! The daemon itself: one at a time, private, restarted, idle, and over TCP.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use cove_api::{Client, NewSandbox};
use cove_core::run::Ending;
use cove_core::{ErrorKind, Fact, Phase, Root, SandboxSpec, SandboxState};
use cove_server::{Tcp, token};
use cove_testkit::eventually;
use support::{LONG, Place, spec};

#[tokio::test]
async fn a_restart_keeps_runs_and_sandboxes() {
    let place = Place::new();
    let first = place.serve().await;
    let run = first.client.submit(&spec("kept"), None).await.unwrap();
    let new = |name: &str| NewSandbox {
        engine: "auto".into(),
        accept_no_sandbox: false,
        spec: SandboxSpec { name: name.into(), ..SandboxSpec::new(Root::Host) },
    };
    let kept = first.client.create_sandbox(&new("kept")).await.unwrap();
    let lost = first.client.create_sandbox(&new("lost")).await.unwrap();
    let instance = first.client.status().await.unwrap().instance;
    first.daemon.stop().await;
    first.native.lose(&lost.id);
    let orphan = first.native.plant(&SandboxSpec::new(Root::Host));

    let second = place.serve().await;
    assert_eq!(second.client.status().await.unwrap().instance, instance);
    assert_eq!(second.client.run("kept").await.unwrap().id, run.id);
    let notes: Vec<Fact> = second.client.entries("kept", 1, 10).await.unwrap().into_iter().map(|e| e.fact).collect();
    let note = |text: &str| Fact::Note { text: text.into() };
    assert_eq!(notes, [note("interrupted"), note("recovered")]);
    eventually("the orphan is removed", LONG, async || !second.native.ids().contains(&orphan)).await;
    let state = async |name: &str| second.client.sandbox(name).await.unwrap().state;
    assert_eq!(state("kept").await, SandboxState::Running);
    assert!(matches!(state("lost").await, SandboxState::Failed { .. }));
    assert!(second.native.ids().contains(&kept.id));
}

#[tokio::test]
async fn a_second_daemon_is_refused_by_name() {
    let place = Place::new();
    let first = place.serve().await;
    let pid = std::process::id().to_string();
    // The same state, and another state over the same data or at the same socket.
    let mut other_state = place.options();
    other_state.state_dir = place.path().join("other");
    other_state.socket = other_state.state_dir.join("cove.sock");
    let mut other_all = other_state.clone();
    other_all.state_dir = place.path().join("third");
    other_all.data_dir = place.path().join("third-data");
    other_all.socket = first.daemon.socket().to_owned();
    for (options, names) in [(place.options(), true), (other_state, true), (other_all, false)] {
        let error = place.serve_with(options).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert_eq!(error.message().contains(&pid), names, "{error}");
        assert!(error.next_step().is_some());
    }
    first.client.live().await.unwrap();
    first.daemon.stop().await;
    assert!(!place.options().socket.exists());
    place.serve().await.client.live().await.unwrap();
}

#[tokio::test]
async fn the_socket_is_private_and_a_stale_one_replaced() {
    let place = Place::new();
    let options = place.options();
    std::fs::create_dir(&options.state_dir).unwrap();
    drop(UnixListener::bind(&options.socket).unwrap());
    assert!(options.socket.exists(), "stale");
    let served = place.serve().await;
    served.client.live().await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&options.socket), 0o600);
    assert_eq!(mode(&options.data_dir), 0o700);
    served.daemon.stop().await;

    std::fs::write(&options.socket, "not a socket").unwrap();
    assert_eq!(place.serve_with(options.clone()).await.map(|_| ()).unwrap_err().kind(), ErrorKind::Conflict);
    assert!(options.socket.exists(), "what is no socket is not removed");
    std::fs::remove_file(&options.socket).unwrap();
    std::fs::set_permissions(&options.state_dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = place.serve_with(options.clone()).await.map(|_| ()).unwrap_err();
    assert_eq!(open.kind(), ErrorKind::Denied);
    std::fs::set_permissions(&options.state_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut long = options;
    long.socket = long.state_dir.join("x".repeat(120));
    assert_eq!(place.serve_with(long).await.map(|_| ()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn tcp_needs_the_token() {
    let place = Place::new();
    let mut options = place.options();
    let token = token(&options.state_dir).unwrap();
    options.tcp = Some(Tcp { address: ([127, 0, 0, 1], 0).into(), token: "short".into(), hosts: vec![] });
    assert_eq!(place.serve_with(options.clone()).await.map(|_| ()).unwrap_err().kind(), ErrorKind::Invalid);
    options.tcp = Some(Tcp { address: ([127, 0, 0, 1], 0).into(), token: token.clone(), hosts: vec![] });
    let served = place.serve_with(options).await.unwrap();
    let port = served.daemon.address().unwrap().port();
    let at = |host: &str, token: &str| Client::tcp(&format!("http://{host}:{port}"), token).unwrap();

    let good = at("127.0.0.1", &token);
    let run = good.submit(&spec("remote"), None).await.unwrap();
    let new = NewSandbox { engine: "auto".into(), accept_no_sandbox: false, spec: SandboxSpec::new(Root::Host) };
    let info = good.create_sandbox(&new).await.unwrap();
    let exec = good.exec(info.id.as_str(), &cove_core::ExecSpec::new(["echo", "hi"])).await.unwrap();
    assert_eq!(cove_core::engine::collect(exec, b"", 100).await.unwrap().stdout, b"hi\n");
    served.runs.finish(&run.id, Ending::Succeeded).await;
    let mut follow = good.follow("remote", 0);
    while follow.next().await.unwrap().is_some() {}
    assert_eq!(follow.position(), 2);

    let wrong = token.replace(&token[..1], if &token[..1] == "0" { "1" } else { "0" });
    for shown in ["", "wrong", wrong.as_str()] {
        let bad = at("127.0.0.1", shown);
        bad.live().await.unwrap();
        bad.ready().await.unwrap();
        for error in [
            bad.status().await.unwrap_err(),
            bad.metrics().await.unwrap_err(),
            bad.submit(&spec("never"), None).await.unwrap_err(),
            bad.exec(info.id.as_str(), &cove_core::ExecSpec::new(["echo"])).await.unwrap_err(),
            bad.follow("remote", 0).next().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{shown:?}: {error}");
        }
    }
    assert_eq!(good.runs(10).await.unwrap().len(), 1);
    // The socket needs none.
    served.client.status().await.unwrap();
    for url in ["https://x", "ftp://x", "http://u@x", "http://x/path", "x"] {
        assert_eq!(Client::tcp(url, &token).unwrap_err().kind(), ErrorKind::Invalid, "{url}");
    }
}

#[tokio::test]
async fn idle_means_no_client_and_no_work() {
    let place = Place::new();
    let served = place.serve().await;
    let quiet = Duration::from_millis(200);
    let idle = async |limit: Duration| tokio::time::timeout(limit, served.daemon.wait_idle(quiet)).await.is_ok();
    let soon = Duration::from_millis(700);
    assert!(idle(LONG).await);
    let run = served.client.submit(&spec("busy"), None).await.unwrap();
    assert!(!idle(soon).await, "a run works");
    served.client.pause_run("busy").await.unwrap();
    assert_eq!(served.client.run("busy").await.unwrap().phase, Phase::Paused);
    assert!(idle(LONG).await, "a paused run waits for a person");
    let mut follow = served.client.follow(run.id.as_str(), 0);
    follow.next().await.unwrap();
    assert!(!idle(soon).await, "a client is there");
    drop(follow);
    assert!(idle(LONG).await);
}

#[tokio::test]
async fn what_ended_runs_left_is_removed_and_nothing_else() {
    let place = Place::new();
    let mut options = place.options();
    options.reconcile_every = Duration::from_millis(50);
    let served = place.serve_with(options).await.unwrap();
    let run = served.client.submit(&spec("over"), None).await.unwrap();
    let of = |name: &str, run: Option<&str>| {
        let mut spec = SandboxSpec { name: name.into(), ..SandboxSpec::new(Root::Host) };
        spec.labels.extend(run.map(|run| ("run.cove.run-id".to_owned(), run.to_owned())));
        NewSandbox { engine: "auto".into(), accept_no_sandbox: false, spec }
    };
    served.client.create_sandbox(&of("gone", Some("run_that_was_removed"))).await.unwrap();
    served.client.create_sandbox(&of("used", Some(run.id.as_str()))).await.unwrap();
    served.client.create_sandbox(&of("own", None)).await.unwrap();
    let there = async || {
        let mut names: Vec<String> = served.client.sandboxes().await.unwrap().into_iter().map(|i| i.name).collect();
        names.sort();
        names
    };
    eventually("that of a run that is gone is removed", LONG, async || there().await == ["own", "used"]).await;
    // The engine's first refusal is not the last word.
    served.native.fail_next("remove", ErrorKind::Internal);
    served.runs.finish(&run.id, Ending::Succeeded).await;
    eventually("that of a run that is over is removed", LONG, async || there().await == ["own"]).await;
}
