//! Processes over the WebSocket.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use cove_api::NewSandbox;
use cove_core::engine::{PtySize, collect};
use cove_core::{ErrorKind, ExecSpec, ExitReason, Output, Root, SandboxSpec};
use cove_testkit::eventually;
use support::{LONG, Place, Served};

async fn with_sandbox(place: &Place) -> Served {
    let served = place.serve().await;
    let spec = SandboxSpec { name: "box".into(), ..SandboxSpec::new(Root::Host) };
    let new = NewSandbox { engine: "native".into(), accept_no_sandbox: false, spec };
    served.client.create_sandbox(&new).await.unwrap();
    served
}

#[tokio::test]
async fn output_input_and_exit() {
    let place = Place::new();
    let served = with_sandbox(&place).await;
    let run = async |spec: ExecSpec, stdin: &[u8]| {
        let exec = served.client.exec("box", &spec).await.unwrap();
        tokio::time::timeout(LONG, collect(exec, stdin, 64 << 20)).await.unwrap().unwrap()
    };
    let said = run(ExecSpec::new(["echo", "a", "b"]), b"").await;
    assert_eq!((said.stdout.as_slice(), said.exit.code), (b"a b\n".as_slice(), 0));
    let said = run(ExecSpec::new(["fail", "7", "why"]), b"").await;
    assert_eq!((said.stderr.as_slice(), said.exit.code), (b"why\n".as_slice(), 7));
    let said = run(ExecSpec::new(["nothing"]), b"").await;
    assert_eq!(said.exit.code, 127);
    let mut spec = ExecSpec::new(["env", "NAME"]);
    spec.env.insert("NAME".into(), "value".into());
    assert_eq!(run(spec, b"").await.stdout, b"value\n");
    let mut spec = ExecSpec::new(["hang"]);
    spec.timeout_ms = Some(50);
    assert_eq!(run(spec, b"").await.exit.reason, ExitReason::Timeout);
    // Megabytes in and out, while nobody reads at first.
    let large: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let exec = served.client.exec("box", &ExecSpec::new(["cat"])).await.unwrap();
    let (mut input, mut output) = (exec.input, exec.output);
    let writer = tokio::spawn({
        let large = large.clone();
        async move {
            input.write(&large).await.unwrap();
            input.close().await.unwrap();
            input
        }
    });
    let mut back = Vec::new();
    while let Some(piece) = tokio::time::timeout(LONG, output.next()).await.unwrap().unwrap() {
        if let Output::Stdout(bytes) = piece {
            back.extend(bytes);
        }
    }
    assert!(back == large, "{} of {}", back.len(), large.len());
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn signals_overtake_stdin_and_terminals_resize() {
    let place = Place::new();
    let served = with_sandbox(&place).await;
    let mut exec = served.client.exec("box", &ExecSpec::new(["hang"])).await.unwrap();
    exec.input.write(&vec![0; 100_000]).await.unwrap();
    exec.input.signal(15).await.unwrap();
    let last = tokio::time::timeout(LONG, exec.output.next()).await.unwrap().unwrap();
    assert!(matches!(last, Some(Output::Exit(exit)) if exit.code == 143));
    assert_eq!(exec.output.next().await.unwrap(), None);

    let mut spec = ExecSpec::new(["size"]);
    spec.pty = Some(PtySize { cols: 80, rows: 24 });
    let mut exec = served.client.exec("box", &spec).await.unwrap();
    exec.input.resize(PtySize { cols: 100, rows: 30 }).await.unwrap();
    let said = tokio::time::timeout(LONG, exec.output.next()).await.unwrap().unwrap();
    assert_eq!(said, Some(Output::Stdout(b"100x30\n".to_vec())));
}

#[tokio::test]
async fn refusals_and_losses_reach_the_client() {
    let place = Place::new();
    let served = with_sandbox(&place).await;
    let nothing = served.client.exec("nothing", &ExecSpec::new(["echo"])).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
    assert!(nothing.next_step().is_some());
    let mut empty = served.client.exec("box", &ExecSpec::default()).await.unwrap();
    assert_eq!(empty.output.next().await.unwrap_err().kind(), ErrorKind::Invalid);
    served.native.fail_next("exec", ErrorKind::Conflict);
    let mut refused = served.client.exec("box", &ExecSpec::new(["echo"])).await.unwrap();
    assert_eq!(refused.output.next().await.unwrap_err().kind(), ErrorKind::Conflict);

    // The sandbox is removed under a process.
    let mut exec = served.client.exec("box", &ExecSpec::new(["cat"])).await.unwrap();
    exec.input.write(b"x").await.unwrap();
    assert_eq!(exec.output.next().await.unwrap(), Some(Output::Stdout(b"x".to_vec())));
    served.client.stop_sandbox("box", Duration::ZERO).await.unwrap();
    let last = tokio::time::timeout(LONG, exec.output.next()).await.unwrap().unwrap();
    assert!(matches!(last, Some(Output::Exit(exit)) if exit.reason == ExitReason::Killed));
}

#[tokio::test]
async fn a_process_ends_with_its_client() {
    let place = Place::new();
    let served = with_sandbox(&place).await;
    let mut exec = served.client.exec("box", &ExecSpec::new(["cat"])).await.unwrap();
    exec.input.write(b"x").await.unwrap();
    exec.output.next().await.unwrap();
    assert_eq!(served.native.living_processes(), 1);
    drop(exec);
    eventually("the process ended", LONG, async || served.native.living_processes() == 0).await;

    // And with the daemon, which says so.
    let mut exec = served.client.exec("box", &ExecSpec::new(["cat"])).await.unwrap();
    exec.input.write(b"x").await.unwrap();
    exec.output.next().await.unwrap();
    let stopping = tokio::spawn(served.daemon.stop());
    let error = tokio::time::timeout(LONG, exec.output.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    drop(exec);
    tokio::time::timeout(LONG, stopping).await.unwrap().unwrap();
    assert_eq!(served.native.living_processes(), 0);
}
