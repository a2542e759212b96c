//! The scripted engine keeps the port's promises.

use std::time::Duration;

use cove_core::engine::collect;
use cove_core::{Engine, ErrorKind, ExecSpec, ExitReason, Mount, Root, SandboxId, SandboxSpec};
use cove_engines::fake::{Act, End, FakeEngine, Fault, Table};

fn spec(dir: &std::path::Path) -> SandboxSpec {
    let mut spec = SandboxSpec::new(Root::Host);
    let mount = |name: &str, read_only| Mount {
        source: dir.join(name),
        target: format!("/{name}").into(),
        read_only,
        give: false,
    };
    spec.mounts = vec![mount("workspace", false), mount("seen", true)];
    spec.labels.insert("run.cove.role".to_owned(), "agent".to_owned());
    spec
}

#[tokio::test]
async fn a_table_decides_and_edits_what_lies_behind_the_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FakeEngine::new(
        Table::default()
            .rule("agent", "go", [Act::exit(0).write("src/a.txt", "one").say("done"), Act::exit(3)])
            .rule("", "spoil", [Act::exit(0).write("/seen/b.txt", "two")])
            .rule("", "vanish", [Act::lost()])
            .script(),
    );
    let id = SandboxId::new();
    engine.create(&id, &spec(dir.path())).await.unwrap();
    assert_eq!(engine.create(&id, &spec(dir.path())).await.unwrap_err().kind(), ErrorKind::Conflict);

    let mut said = Vec::new();
    for command in ["go", "go", "go", "spoil", "else"] {
        let exec = engine.exec(&id, &ExecSpec::new(["sh", "-c", command])).await.unwrap();
        let collected = collect(exec, b"", 1024).await.unwrap();
        said.push((collected.exit.code, String::from_utf8(collected.stdout).unwrap()));
    }
    let said: Vec<(i32, &str)> = said.iter().map(|(code, text)| (*code, text.as_str())).collect();
    assert_eq!(said, [(0, "done"), (3, ""), (3, ""), (1, ""), (0, "")]);
    assert_eq!(std::fs::read_to_string(dir.path().join("workspace/src/a.txt")).unwrap(), "one");
    assert!(!dir.path().join("seen/b.txt").exists());

    let exec = engine.exec(&id, &ExecSpec::new(["vanish"])).await.unwrap();
    assert_eq!(collect(exec, b"", 1024).await.unwrap_err().kind(), ErrorKind::Interrupted);
}

#[tokio::test]
async fn stopping_signalling_and_time_end_a_process() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FakeEngine::scripted(async |_process| std::future::pending::<End>().await);
    let id = SandboxId::new();
    engine.create(&id, &spec(dir.path())).await.unwrap();

    let timed = ExecSpec { timeout_ms: Some(20), ..ExecSpec::new(["wait"]) };
    let exec = engine.exec(&id, &timed).await.unwrap();
    assert_eq!(collect(exec, b"", 16).await.unwrap().exit.reason, ExitReason::Timeout);

    let mut exec = engine.exec(&id, &ExecSpec::new(["wait"])).await.unwrap();
    exec.input.signal(15).await.unwrap();
    assert_eq!(collect(exec, b"", 16).await.unwrap().exit.reason, ExitReason::Signaled { signal: 15 });

    let exec = engine.exec(&id, &ExecSpec::new(["wait"])).await.unwrap();
    engine.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(collect(exec, b"", 16).await.unwrap().exit.reason, ExitReason::Killed);
    assert_eq!(engine.exec(&id, &ExecSpec::new(["wait"])).await.unwrap_err().kind(), ErrorKind::Conflict);

    engine.remove(&id).await.unwrap();
    engine.remove(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn faults_happen_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FakeEngine::new(Table::default().script());
    engine.inject(Fault::Create(ErrorKind::NotStarted));
    let id = SandboxId::new();
    assert_eq!(engine.create(&id, &spec(dir.path())).await.unwrap_err().kind(), ErrorKind::NotStarted);
    assert!(engine.living().is_empty());
    engine.create(&id, &spec(dir.path())).await.unwrap();
    assert_eq!(engine.sweep(&[]).await.unwrap().len(), 1);
}
