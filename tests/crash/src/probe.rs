//! Small programs that system calls are made to fail in.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use cove_core::agent::Usage;
use cove_core::engine::collect;
use cove_core::run::{AgentChoice, PrdSource};
use cove_core::{
    Engine as _, Error, ExecSpec, Fact, InstanceId, Phase, Records as _, Result, Root, RunId, RunRecord, RunSpec,
    SandboxId, SandboxSpec,
};
use cove_engines::HelperProgram;
use cove_stores::Store;
use jiff::Timestamp;

/// Commits of one life.
const COMMITS: u32 = 8;

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

fn tell(what: &str, error: &Error) {
    say(&format!("error {what} {}: {}", error.kind().code(), error.chain().join(": ").replace('\n', " ")));
}

/// A run to be put on record.
///
/// # Panics
/// Never: the specification is constant.
pub fn store_record() -> RunRecord {
    let spec: RunSpec = serde_json::from_value(serde_json::json!({
        "repository": "/nowhere",
        "prd": PrdSource { text: "{}".into(), ..PrdSource::default() },
        "agent": AgentChoice { name: "command".into(), ..AgentChoice::default() },
    }))
    .unwrap();
    RunRecord {
        id: RunId::new(),
        name: "probe".to_owned(),
        spec,
        version: 0,
        phase: Phase::Running,
        reason: None,
        request: None,
        resume_at: None,
        engine: None,
        base: None,
        branch: None,
        head: None,
        gates: vec![],
        baseline: vec![],
        stories: vec![],
        iterations: 0,
        infrastructure_failures: 0,
        usage: Usage::default(),
        worked_millis: 0,
        ending: None,
        created_at: Timestamp::now(),
        updated_at: Timestamp::now(),
    }
}

/// Appends to the ledger at `path` and says what was acknowledged (`ack RUN VERSION ENTRIES`) and what
/// failed (`error WHAT CODE: TEXT`); goes on after a failure, as a daemon does.
///
/// # Panics
/// When its runtime cannot be made.
pub fn probe_ledger(path: &Path) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = match Store::open(path) {
            Ok(store) => store,
            Err(error) => {
                tell("open", &error);
                return 1;
            }
        };
        say("open");
        let mut record = store_record();
        for round in 0..COMMITS {
            // Long enough to take more than one page.
            let note = |n: u32| Fact::Note { text: format!("{round}.{n} {}", "x".repeat(1500)) };
            match store.commit(&mut record, vec![note(0), note(1)]).await {
                Ok(entries) => {
                    let last = entries.last().map_or(0, |entry| entry.seq);
                    say(&format!("ack {} {} {last}", record.id, record.version));
                }
                Err(error) => tell("commit", &error),
            }
            if let Err(error) = store.entries(&record.id, 0, 1000).await {
                tell("read", &error);
            }
        }
        drop(store);
        say("closed");
        0
    })
}

/// Makes a sandbox under `state` with supervisors started by `helper`, runs a program in it and removes
/// it; says how each step went.
///
/// # Errors
/// Those of starting the engine.
pub async fn probe_sandbox(
    state: &Path,
    instance: InstanceId,
    helper: HelperProgram,
    usual: &HelperProgram,
) -> Result<Vec<String>> {
    let native = cove_engines::native::Native::new(state.join("images"), usual)?;
    let engine = cove_engines::LocalEngine::new(native, state, instance, helper)?;
    let id = SandboxId::new();
    let mut said = Vec::new();
    let mut note = |step: &str, outcome: std::result::Result<String, Error>| {
        said.push(match outcome {
            Ok(text) => format!("{step} ok {text}"),
            Err(error) => format!("{step} {}: {}", error.kind().code(), error.chain().join(": ")),
        });
    };
    let made = engine.create(&id, &SandboxSpec::new(Root::Host)).await.map(|_| String::new());
    let works = made.is_ok();
    note("create", made);
    if works {
        let ran = async {
            let exec = ExecSpec::new(["sh", "-c", "echo works"]);
            let exec = engine.exec(&id, &exec).await?;
            let done = tokio::time::timeout(Duration::from_secs(60), collect(exec, b"", 1 << 16)).await;
            let done = done.map_err(|_| Error::internal("HANGS: the program did not end"))??;
            Ok(format!("{} {:?}", String::from_utf8_lossy(&done.stdout).trim(), done.exit.code))
        };
        note("exec", ran.await);
    }
    note("remove", engine.remove(&id).await.map(|()| String::new()));
    Ok(said)
}

/// Makes, uses and removes sandboxes; at each of the three steps in turn this process may open ever more
/// descriptors, from none on. Says for each number how it went; with as many as it likes, it sweeps
/// in between.
///
/// # Errors
/// Those of starting the engine, and of a sweep.
pub async fn probe_descriptors(state: &Path, instance: InstanceId, helper: &HelperProgram) -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let native = cove_engines::native::Native::new(state.join("images"), helper)?;
    let engine = cove_engines::LocalEngine::new(native, state, instance, helper.clone())?;
    let (usual, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let limit = |most: u64| setrlimit(Resource::RLIMIT_NOFILE, most, hard).is_ok();
    for (scarce, more) in
        ["create", "exec", "remove"].into_iter().flat_map(|step| (0..10).map(move |more| (step, more)))
    {
        // The lowest number that is free: those below it stay open.
        let free = std::fs::File::open("/dev/null").map_or(3, |file| std::os::fd::AsRawFd::as_raw_fd(&file));
        let most = |step: &str| if step == scarce { u64::try_from(free).unwrap_or(3) + more } else { usual };
        let id = SandboxId::new();
        limit(most("create"));
        let made = engine.create(&id, &SandboxSpec::new(Root::Host)).await;
        limit(most("exec"));
        let exec = async {
            let exec = engine.exec(&id, &ExecSpec::new(["true"])).await?;
            let done = tokio::time::timeout(Duration::from_secs(60), collect(exec, b"", 1 << 16)).await;
            done.map_err(|_| Error::internal("HANGS: the program did not end"))?
        };
        let ran = if made.is_ok() { exec.await.map(drop) } else { Ok(()) };
        limit(most("remove"));
        let removed = engine.remove(&id).await;
        let listed = engine.list().await.map(drop);
        limit(usual);
        for (step, outcome) in [("create", made.map(drop)), ("exec", ran), ("remove", removed), ("list", listed)] {
            match outcome {
                Ok(()) => say(&format!("{scarce} {more} {step} ok")),
                Err(error) => {
                    let text = error.chain().join(": ").replace('\n', " ");
                    say(&format!("{scarce} {more} {step} {}: {text}", error.kind().code()));
                }
            }
        }
        for swept in engine.sweep(&[]).await? {
            say(&format!("{scarce} {more} swept {} {}", swept.kind, swept.name));
        }
    }
    Ok(())
}
