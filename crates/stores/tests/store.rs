//! The contract of `Records` on SQLite, on disk and in memory, and what becomes of bad files.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cove_core::agent::Usage;
use cove_core::engine::EngineKind;
use cove_core::run::{AgentChoice, Ending, PrdSource};
use cove_core::{
    ErrorKind, Fact, Phase, Records, Root, RunId, RunRecord, RunSpec, SandboxId, SandboxInfo, SandboxSpec, SandboxState,
};
use cove_stores::{Claim, Store};
use jiff::Timestamp;

fn run(name: &str) -> RunRecord {
    let spec: RunSpec = serde_json::from_value(serde_json::json!({
        "repository": "/nowhere",
        "prd": PrdSource { text: "{}".into(), ..PrdSource::default() },
        "agent": AgentChoice { name: "command".into(), ..AgentChoice::default() },
    }))
    .unwrap();
    RunRecord {
        id: RunId::new(),
        name: name.to_owned(),
        spec,
        version: 0,
        phase: Phase::Queued,
        reason: None,
        request: None,
        resume_at: Some(Timestamp::from_second(1_700_000_000).unwrap()),
        engine: None,
        base: None,
        branch: None,
        head: None,
        gates: vec![],
        baseline: vec![],
        stories: vec![],
        iterations: 0,
        infrastructure_failures: 0,
        usage: Usage { reported_cost_usd: Some(0.1 + 0.2), ..Usage::default() },
        worked_millis: 0,
        ending: None,
        created_at: Timestamp::now(),
        updated_at: Timestamp::now(),
    }
}

fn note(text: &str) -> Fact {
    Fact::Note { text: text.to_owned() }
}

fn texts(entries: &[cove_core::Entry]) -> Vec<(u64, String)> {
    entries
        .iter()
        .map(|e| match &e.fact {
            Fact::Note { text } => (e.seq, text.clone()),
            other => panic!("not a note: {other:?}"),
        })
        .collect()
}

async fn contract(store: &Store) {
    // A new run with its first facts.
    let mut one = run("one");
    let entries = store.commit(&mut one, vec![note("a"), note("b")]).await.unwrap();
    assert_eq!(texts(&entries), [(1, "a".to_owned()), (2, "b".to_owned())]);
    assert_eq!(one.version, 1);
    assert_eq!(store.run(&one.id).await.unwrap(), one);

    // A stale writer changes nothing, neither state nor ledger.
    let mut stale = one.clone();
    one.phase = Phase::Running;
    store.commit(&mut one, vec![note("c")]).await.unwrap();
    stale.phase = Phase::Failed;
    let refused = store.commit(&mut stale, vec![note("lost")]).await.unwrap_err();
    assert_eq!((refused.kind(), stale.version), (ErrorKind::Conflict, 1));
    assert_eq!(store.run(&one.id).await.unwrap().phase, Phase::Running);

    // Places without gaps, in pages.
    store.commit(&mut one, vec![]).await.unwrap();
    store.commit(&mut one, vec![note("d"), note("e")]).await.unwrap();
    let all = store.entries(&one.id, 0, 100).await.unwrap();
    assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let page = store.entries(&one.id, 2, 2).await.unwrap();
    assert_eq!(texts(&page), [(3, "c".to_owned()), (4, "d".to_owned())]);
    assert!(store.entries(&one.id, u64::MAX, 10).await.unwrap().is_empty());

    // A name belongs to one living run.
    let taken = store.commit(&mut run("one"), vec![note("never")]).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    assert!(taken.message().contains("one"), "{taken}");
    one.phase = Phase::Stopped;
    one.ending = Some(Ending::Stopped);
    store.commit(&mut one, vec![]).await.unwrap();
    let mut again = run("one");
    store.commit(&mut again, vec![note("x")]).await.unwrap();
    one.phase = Phase::Queued;
    assert_eq!(store.commit(&mut one, vec![]).await.unwrap_err().kind(), ErrorKind::Conflict);

    // Newest first, bounded.
    let ids: Vec<RunId> = store.runs(10).await.unwrap().into_iter().map(|r| r.id).collect();
    let mut sorted = vec![one.id.clone(), again.id.clone()];
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(ids, sorted);
    assert_eq!(store.runs(1).await.unwrap().len(), 1);
    let seen: Vec<_> = store.glance().await.unwrap().into_iter().map(|g| (g.id, g.name, g.phase)).collect();
    let known: Vec<_> = store.runs(10).await.unwrap().into_iter().map(|r| (r.id, r.name, r.phase)).collect();
    assert_eq!(seen, known);
    assert_eq!(store.living_runs().await.unwrap(), std::slice::from_ref(&again));

    // Forgetting takes the ledger along and may be repeated; updating what is gone is refused.
    for _ in 0..2 {
        store.forget_run(&again.id).await.unwrap();
    }
    assert_eq!(store.run(&again.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(store.entries(&again.id, 0, 10).await.unwrap().is_empty());
    assert_eq!(store.commit(&mut again, vec![]).await.unwrap_err().kind(), ErrorKind::NotFound);

    // Sandboxes are replaced whole.
    let mut info = SandboxInfo {
        id: SandboxId::new(),
        name: "box".into(),
        engine: EngineKind::Fake,
        state: SandboxState::Creating,
        spec: SandboxSpec::new(Root::Host),
        attestation: None,
        created_at: Timestamp::now(),
    };
    store.put_sandbox(&info).await.unwrap();
    info.state = SandboxState::Failed { reason: "lost".into() };
    store.put_sandbox(&info).await.unwrap();
    assert_eq!(store.sandboxes().await.unwrap(), [info.clone()]);
    for _ in 0..2 {
        store.forget_sandbox(&info.id).await.unwrap();
    }
    assert!(store.sandboxes().await.unwrap().is_empty());

    // Request keys.
    assert_eq!(store.claim_request("k", "d1").await.unwrap(), Claim::New);
    assert!(matches!(store.claim_request("k", "d1").await.unwrap(), Claim::Unfinished { .. }));
    store.release_request("k").await.unwrap();
    assert_eq!(store.claim_request("k", "d1").await.unwrap(), Claim::New);
    store.fulfil_request("k", &one.id).await.unwrap();
    store.release_request("k").await.unwrap();
    assert_eq!(store.claim_request("k", "d1").await.unwrap(), Claim::Made(one.id.clone()));
    assert_eq!(store.claim_request("k", "d2").await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn in_memory() {
    contract(&Store::memory().unwrap()).await;
}

#[tokio::test]
async fn on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cove.db");
    contract(&Store::open(&path).unwrap()).await;
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn reopened_after_drop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cove.db");
    let mut record = run("kept");
    {
        let store = Store::open(&path).unwrap();
        store.commit(&mut record, vec![note("a")]).await.unwrap();
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.run(&record.id).await.unwrap(), record);
    assert_eq!(store.commit(&mut record, vec![note("b")]).await.unwrap()[0].seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_handles_race_and_one_wins_each_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cove.db");
    let stores = [Arc::new(Store::open(&path).unwrap()), Arc::new(Store::open(&path).unwrap())];
    let mut record = run("raced");
    stores[0].commit(&mut record, vec![]).await.unwrap();
    let id = record.id.clone();
    const EACH: usize = 20;
    let writers: Vec<_> = stores
        .iter()
        .cloned()
        .enumerate()
        .map(|(who, store)| {
            let id = id.clone();
            tokio::spawn(async move {
                for turn in 0..EACH {
                    loop {
                        let mut mine = store.run(&id).await.unwrap();
                        mine.iterations += 1;
                        match store.commit(&mut mine, vec![note(&format!("{who}-{turn}"))]).await {
                            Ok(_) => break,
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{:?}", e.chain()),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = stores[1].run(&id).await.unwrap();
    assert_eq!((end.iterations as usize, end.version as usize), (2 * EACH, 2 * EACH + 1));
    let entries = stores[0].entries(&id, 0, 1000).await.unwrap();
    assert_eq!(entries.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=2 * EACH as u64).collect::<Vec<_>>());
}

const CHILD: &str = "COVE_TEST_STORE_CHILD";

/// Not a test by itself: the process that [`acknowledged_rows_survive_kill`] kills.
#[test]
fn child_that_writes_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = Store::open(Path::new(&path)).unwrap();
        let mut record = run("killed");
        loop {
            let entries = store.commit(&mut record, vec![note("x"), note("y")]).await.unwrap();
            println!("ack {} {} {}", record.id, record.version, entries[1].seq);
            std::io::stdout().flush().unwrap();
        }
    });
}

#[tokio::test]
async fn acknowledged_rows_survive_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cove.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_killed", "--nocapture", "--test-threads=1"])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    // The harness may print its own text on the line of the first one.
    let take = |line: String, into: &mut Vec<(RunId, u64, u64)>| {
        if let Some(at) = line.find("ack run_") {
            let parts: Vec<&str> = line[at..].split(' ').collect();
            if let [_, id, version, seq] = parts[..] {
                into.push((id.parse().unwrap(), version.parse().unwrap(), seq.parse().unwrap()));
            }
        }
    };
    while acknowledged.len() < 25 {
        take(lines.next().expect("the child writes").unwrap(), &mut acknowledged);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        take(line, &mut acknowledged);
    }
    let (id, version, seq) = acknowledged.last().unwrap().clone();
    let store = Store::open(&path).unwrap();
    let record = store.run(&id).await.unwrap();
    assert!(record.version >= version, "{} < {version}", record.version);
    let entries = store.entries(&id, 0, usize::MAX).await.unwrap();
    assert!(entries.len() as u64 >= seq);
    assert_eq!(entries.len() as u64, record.version * 2, "state and facts come together or not at all");
    assert!(entries.iter().zip(1..).all(|(e, n)| e.seq == n));
}

#[test]
fn bad_files_are_refused_with_a_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let sql = |path: &Path, text: &str| {
        rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap();
    };
    type Make<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: Vec<(&str, Make<'_>, ErrorKind, &str)> = vec![
        ("noise", Box::new(|p| std::fs::write(p, vec![7_u8; 8192]).unwrap()), ErrorKind::Internal, "damaged"),
        (
            "damaged",
            Box::new(|p| {
                drop(Store::open(p).unwrap());
                let mut bytes = std::fs::read(p).unwrap();
                bytes[4096..8192].fill(0xA5);
                std::fs::write(p, bytes).unwrap();
            }),
            ErrorKind::Internal,
            "damaged",
        ),
        (
            "newer",
            Box::new(|p| {
                drop(Store::open(p).unwrap());
                sql(p, "PRAGMA user_version = 99");
            }),
            ErrorKind::Unsupported,
            "newer",
        ),
        ("foreign", Box::new(|p| sql(p, "CREATE TABLE t (x)")), ErrorKind::Conflict, "another program"),
        ("directory", Box::new(|p| std::fs::create_dir(p).unwrap()), ErrorKind::Internal, "cannot be opened"),
    ];
    for (name, make, kind, words) in cases {
        let path = dir.path().join(name);
        make(&path);
        let error = Store::open(&path).expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {:?}", error.chain());
        assert!(error.message().contains(words), "{name}: {error}");
        assert!(error.next_step().is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_database_held_by_another_process_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cove.db");
    drop(Store::open(&path).unwrap());
    let holder = rusqlite::Connection::open(&path).unwrap();
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").unwrap();
    let error = tokio::task::spawn_blocking(move || Store::open(&path).map(|_| ())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{:?}", error.chain());
    assert!(error.next_step().is_some());
}
