//! The daemon with everything it really has: the engine without isolation, doors, git, agents and the
//! loop, over the socket. This program is the supervisor of its own sandboxes.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cove_api::{Apply, Client, Export, NewSandbox};
use cove_core::engine::collect;
use cove_core::{Control, ErrorKind, ExecSpec, Phase, Root, RunSpec, SandboxSpec, SandboxState};
use cove_engines::local::Kind;
use cove_server::{Daemon, Options, Standard};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::json;

const LONG: Duration = Duration::from_secs(120);

fn main() {
    cove_engines::helper_main();
    let trial = |name: &str, test: fn(&Path, &tokio::runtime::Runtime)| {
        Trial::test(name.to_owned(), move || -> Result<(), Failed> {
            let dir = tempfile::tempdir()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            test(dir.path(), &runtime);
            Ok(())
        })
    };
    libtest_mimic::run(
        &Arguments::from_args(),
        vec![
            trial("a_sandbox_outlives_its_daemon", |dir, runtime| runtime.block_on(outlives(dir))),
            trial("a_run_from_prd_to_branch", |dir, runtime| runtime.block_on(to_branch(dir))),
            trial("a_run_from_prd_to_branch_in_isolation", |dir, runtime| runtime.block_on(in_isolation(dir)))
                .with_ignored_flag(!isolates()),
            trial("a_run_goes_on_after_a_restart", |dir, runtime| runtime.block_on(goes_on(dir))),
        ],
    )
    .exit();
}

/// Whether the native engine can be had on this host.
fn isolates() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let helper = cove_engines::HelperProgram::current().unwrap();
    match cove_engines::native::Native::new(dir.path(), &helper) {
        Ok(native) => native.capabilities().has(Control::IsolationContainer),
        Err(_) => false,
    }
}

async fn serve(dir: &Path) -> (Daemon, Client) {
    let options = Options::new(dir.join("data"), dir.join("state"), dir.join("cache"));
    let daemon = Daemon::start_with(options, &Standard::new().unwrap()).await.unwrap();
    let client = Client::unix(daemon.socket());
    (daemon, client)
}

async fn said(client: &Client, name: &str, script: &str, stdin: &[u8]) -> (String, i32) {
    let exec = client.exec(name, &ExecSpec::new(["/bin/sh", "-c", script])).await.unwrap();
    let out = tokio::time::timeout(LONG, collect(exec, stdin, 1 << 20)).await.unwrap().unwrap();
    (String::from_utf8(out.stdout).unwrap(), out.exit.code)
}

async fn outlives(dir: &Path) {
    let (daemon, client) = serve(dir).await;
    let spec = SandboxSpec { name: "box".into(), workdir: dir.join("work"), ..SandboxSpec::new(Root::Host) };
    let new = |accept| NewSandbox { engine: "direct".into(), accept_no_sandbox: accept, spec: spec.clone() };
    assert_eq!(client.create_sandbox(&new(false)).await.unwrap_err().kind(), ErrorKind::Refused);
    let info = client.create_sandbox(&new(true)).await.unwrap();
    assert_eq!(info.state, SandboxState::Running);
    assert_eq!(said(&client, "box", "cat; exit 3", b"through").await, ("through".to_owned(), 3));
    assert!(!client.status().await.unwrap().engines.contains(&info.engine), "it does not isolate");
    daemon.stop().await;

    let (daemon, client) = serve(dir).await;
    assert_eq!(client.sandbox("box").await.unwrap().state, SandboxState::Running);
    assert_eq!(said(&client, "box", "echo still", b"").await, ("still\n".to_owned(), 0));
    client.remove_sandbox("box").await.unwrap();
    assert!(client.sandboxes().await.unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(dir.join("state/sandboxes")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    daemon.stop().await;
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository, and a run of two stories whose agent is a shell script.
fn project(dir: &Path, script: &str) -> RunSpec {
    let repository = dir.join("project");
    std::fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q"]);
    std::fs::write(repository.join("README.md"), "A project\n").unwrap();
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "-qm", "chore: begin"]);
    let prd = json!({
        "project": "Test", "branchName": "ralph/test", "description": "Two files",
        "userStories": [
            {"id": "US-1", "title": "First", "description": "Write first", "acceptanceCriteria": ["it is there"], "priority": 1, "passes": false, "notes": ""},
            {"id": "US-2", "title": "Second", "description": "Write second", "acceptanceCriteria": ["it is there"], "priority": 2, "passes": false, "notes": ""},
        ],
    });
    serde_json::from_value(json!({
        "name": "test",
        "repository": repository,
        "prd": {"text": prd.to_string()},
        "agent": {"name": "command", "command": ["/bin/sh", "-c", script]},
        "engine": "direct",
        "acceptNoSandbox": true,
        "gates": [{"name": "clean", "command": "test -s README.md"}],
    }))
    .unwrap()
}

/// Follows a run to its end.
async fn ended(client: &Client, name: &str) -> cove_core::RunRecord {
    let mut follow = client.follow(name, 0);
    let all = async {
        let mut seen = Vec::new();
        while let Some(entry) = follow.next().await.unwrap() {
            seen.push(entry);
        }
        seen
    };
    let seen = tokio::time::timeout(LONG, all).await.expect("the run ends");
    let run = client.run(name).await.unwrap();
    assert!(seen.iter().zip(1..).all(|(entry, seq)| entry.seq == seq));
    if run.phase != Phase::Succeeded {
        eprintln!("{}", serde_json::to_string_pretty(&seen).unwrap());
    }
    run
}

const WORK: &str = "cat > prompt.txt; n=$(ls | wc -l); echo work > file$n.txt; rm prompt.txt";

async fn to_branch(dir: &Path) {
    delivered(dir, project(dir, WORK)).await;
}

async fn in_isolation(dir: &Path) {
    // Besides its work, the agent looks for what it should not see.
    let script = format!("{WORK}; test ! -e {}/project || exit 9", dir.display());
    let limits = [Control::LimitCpu, Control::LimitMemory, Control::LimitPids, Control::LimitDisk];
    let spec = project(dir, &script);
    let spec = RunSpec { engine: "native".into(), accept_no_sandbox: false, accept_missing: limits.into(), ..spec };
    delivered(dir, spec).await;
}

async fn delivered(dir: &Path, spec: RunSpec) {
    let (daemon, client) = serve(dir).await;
    let run = client.submit(&spec, Some("once")).await.unwrap();
    assert_eq!(client.submit(&spec, Some("once")).await.unwrap().id, run.id);
    let run = ended(&client, "test").await;
    assert_eq!(run.phase, Phase::Succeeded, "{:?}", run.ending);
    let diff = String::from_utf8(client.diff("test", None).await.unwrap()).unwrap();
    assert_eq!(diff.matches("+work").count(), 2, "{diff}");
    client.log("test", None).await.unwrap();
    let repository = dir.join("project");
    let done = client.apply("test", &Apply { repository: repository.clone(), switch: false }).await.unwrap();
    assert_eq!((done.branch.as_str(), done.switched), ("ralph/test", false));
    assert_eq!(git(&repository, &["rev-parse", "ralph/test"]), run.head.unwrap());
    let out = dir.join("out");
    std::fs::create_dir(&out).unwrap();
    let exported = client.export("test", &Export { directory: out }).await.unwrap();
    assert!(!exported.files.is_empty() && exported.files.iter().all(|file| file.exists()));
    let metrics = client.metrics().await.unwrap();
    assert!(metrics.contains("cove_runs{phase=\"succeeded\"} 1"), "{metrics}");
    client.remove_run("test").await.unwrap();
    assert!(client.sandboxes().await.unwrap().is_empty());
    daemon.stop().await;
}

async fn goes_on(dir: &Path) {
    let (daemon, client) = serve(dir).await;
    // The first attempt waits until it is ended; those after it find the mark and work.
    let mark = dir.join("mark");
    let script = format!(
        "cat >/dev/null; if [ ! -e {mark} ]; then : > {mark}; exec sleep 1000; fi; n=$(ls | wc -l); echo work > file$n.txt",
        mark = mark.display()
    );
    client.submit(&project(dir, &script), None).await.unwrap();
    cove_testkit::eventually("the first attempt works", LONG, async || mark.exists()).await;
    daemon.stop().await;

    let (daemon, client) = serve(dir).await;
    let run = ended(&client, "test").await;
    assert_eq!(run.phase, Phase::Succeeded, "{:?}", run.ending);
    assert!(client.sandboxes().await.unwrap().is_empty(), "what the first daemon began is cleaned up");
    daemon.stop().await;
}
