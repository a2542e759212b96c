//! Programs on a terminal.

use cove_core::engine::{ExecSpec, PtySize};
use cove_core::error::ErrorKind;
use cove_core::sandbox::ExitStatus;

use super::bench::{Bench, rest, sh, until, within};
use super::{Setup, Trial, trial};

pub(super) const TRIALS: &[Trial] = &[
    trial!(a_terminal_is_one, needs: [Pty]),
    trial!(a_terminal_changes_its_size, needs: [Pty]),
    trial!(a_terminal_ends_input, needs: [Pty]),
    trial!(a_terminal_interrupts, needs: [Pty]),
    trial!(pipes_have_no_size),
];

fn on_terminal(script: &str) -> ExecSpec {
    ExecSpec { pty: Some(PtySize { cols: 91, rows: 33 }), ..sh(script) }
}

async fn a_terminal_is_one(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size && echo err >&2; exit 4";
    let said = bench.run(&on_terminal(script), b"").await;
    assert_eq!(String::from_utf8_lossy(&said.stdout), "33 91\r\nerr\r\n");
    assert_eq!((said.exit, said.stderr.is_empty()), (ExitStatus::exited(4), true));
    let spec = ExecSpec { pty: Some(PtySize { cols: 80, rows: 24 }), ..ExecSpec::new(["no-such-program"]) };
    let missing = bench.run(&spec, b"").await;
    assert_eq!(missing.exit, ExitStatus::exited(127));
    bench.remove().await;
}

async fn a_terminal_changes_its_size(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let mut exec = bench.exec(&on_terminal("echo ready; read line; echo got $line; stty size")).await;
    until(&mut exec, "ready").await;
    within("resize", exec.input.resize(PtySize { cols: 120, rows: 50 })).await.unwrap();
    exec.input.write(b"word\n").await.unwrap();
    let (said, exit) = rest(&mut exec).await;
    assert!(said.contains("got word\r\n50 120\r\n"), "{said:?}");
    assert!(exit.success());
    bench.remove().await;
}

async fn a_terminal_ends_input(setup: &Setup) {
    let bench = Bench::new(setup).await;
    for (sent, lines) in [("one\ntwo\n", 2), ("one\nin the middle", 2)] {
        let mut exec = bench.exec(&on_terminal("stty -echo; echo ready; cat; echo done")).await;
        until(&mut exec, "ready").await;
        exec.input.write(sent.as_bytes()).await.unwrap();
        exec.input.close().await.unwrap();
        exec.input.close().await.unwrap();
        let (said, exit) = rest(&mut exec).await;
        assert!(said.contains("done"), "{said:?}");
        assert!(said.matches(['\n']).count() >= lines && exit.success(), "{said:?} {exit:?}");
    }
    bench.remove().await;
}

async fn a_terminal_interrupts(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let script = "trap 'echo caught; exit 6' INT; echo ready; while :; do sleep 0.05; done";
    let mut exec = bench.exec(&on_terminal(script)).await;
    until(&mut exec, "ready").await;
    exec.input.write(&[3]).await.unwrap();
    let (said, exit) = rest(&mut exec).await;
    assert!(said.contains("caught"), "{said:?}");
    assert_eq!(exit, ExitStatus::exited(6));
    bench.remove().await;
}

async fn pipes_have_no_size(setup: &Setup) {
    let bench = Bench::new(setup).await;
    let mut exec = bench.exec(&ExecSpec::new(["cat"])).await;
    let error = exec.input.resize(PtySize { cols: 1, rows: 1 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    exec.input.close().await.unwrap();
    assert!(rest(&mut exec).await.1.success());
    bench.remove().await;
}
