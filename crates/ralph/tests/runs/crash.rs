//! A crash at every step the records take, before it and after it: the run started again ends as if
//! nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use cove_core::run::{RunRecord, StoryStatus};
use cove_core::{Entry, Fact, Phase, Records, Result, RunId, RunSpec, SandboxId, SandboxInfo};
use cove_ralph::Runner;
use tokio::sync::Notify;

use crate::world::{DEADLINE, Told, World, gate, writes};

/// Records that stop answering at a step: the process is as good as dead from then on.
struct Mortal {
    inner: Arc<dyn Records>,
    steps: AtomicU64,
    last: u64,
    /// Whether the last step is still taken.
    taken: bool,
    dead: AtomicBool,
    died: Notify,
}

impl Mortal {
    async fn breathe(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    async fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.died.notify_one();
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl Records for Mortal {
    async fn commit(&self, record: &mut RunRecord, facts: Vec<Fact>) -> Result<Vec<Entry>> {
        self.breathe().await;
        let last = self.steps.fetch_add(1, Ordering::SeqCst) + 1 >= self.last;
        if last && !self.taken {
            self.die().await;
        }
        let entries = self.inner.commit(record, facts).await;
        if last {
            self.die().await;
        }
        entries
    }

    async fn run(&self, id: &RunId) -> Result<RunRecord> {
        self.breathe().await;
        self.inner.run(id).await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.breathe().await;
        self.inner.runs(limit).await
    }

    async fn forget_run(&self, id: &RunId) -> Result<()> {
        self.breathe().await;
        self.inner.forget_run(id).await
    }

    async fn entries(&self, id: &RunId, after: u64, limit: usize) -> Result<Vec<Entry>> {
        self.breathe().await;
        self.inner.entries(id, after, limit).await
    }

    async fn put_sandbox(&self, info: &SandboxInfo) -> Result<()> {
        self.breathe().await;
        self.inner.put_sandbox(info).await
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxInfo>> {
        self.breathe().await;
        self.inner.sandboxes().await
    }

    async fn forget_sandbox(&self, id: &SandboxId) -> Result<()> {
        self.breathe().await;
        self.inner.forget_sandbox(id).await
    }
}

/// What must not depend on crashes.
#[derive(Debug, PartialEq)]
struct End {
    phase: Phase,
    stories: Vec<(String, StoryStatus, u32)>,
    passed: Vec<String>,
    tree: BTreeMap<String, String>,
    subjects: Vec<String>,
    iterations: u32,
    prd: String,
    progress: Vec<String>,
}

fn end(world: &World, told: &Told) -> End {
    End {
        phase: told.run.phase,
        stories: told.run.stories.iter().map(|s| (s.id.clone(), s.status, s.attempts)).collect(),
        passed: told.passed().into_iter().map(str::to_owned).collect(),
        tree: told.tree(),
        subjects: told.subjects(),
        iterations: told.run.iterations,
        prd: world.users_prd(),
        // Entries are dated by the clock, or after a crash by the ledger.
        progress: world.users_progress().lines().map(undated).collect(),
    }
}

fn undated(line: &str) -> String {
    let line = line.trim_start_matches("Started: ");
    if line.starts_with("20") {
        "a date".to_owned()
    } else {
        line.split_once(" - ").map_or(line, |(_, rest)| rest).to_owned()
    }
}

/// Three attempts: one accepted, one that fails its gate, one accepted.
fn world() -> World {
    World::new(|asked| match (asked.story.as_str(), asked.attempt) {
        ("S2", 1) => writes("S2.txt", "almost"),
        (story, _) => writes(&format!("{story}.txt"), "quite"),
    })
}

const STORIES: [(&str, &str); 2] = [("S1", ""), ("S2", "")];

fn spec(world: &World) -> RunSpec {
    let mut spec = world.spec(&STORIES);
    spec.gates = Some(vec![gate("whole", "lacks S2.txt || holds S2.txt quite")]);
    spec
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// How a life ends at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Just before it.
    Before,
    /// Just after it.
    After,
    /// Just after it, and the next life just after its second step.
    Twice,
}

/// One life of a runner on records that stop answering at a step; whether it died there.
fn mortal_life(world: &World, spec: &RunSpec, last: u64, taken: bool) -> bool {
    let mortal = Arc::new(Mortal {
        inner: Arc::clone(&world.records),
        steps: AtomicU64::new(0),
        last,
        taken,
        dead: AtomicBool::new(false),
        died: Notify::new(),
    });
    let runtime = runtime();
    let died = runtime.block_on(async {
        let runner = world.runner_on(mortal.clone());
        let life = async {
            let id = continued(world, &runner, spec).await;
            world.ended(&id).await;
        };
        let died = tokio::select! {
            () = life => false,
            () = mortal.died.notified() => true,
        };
        if !died {
            runner.shutdown().await;
        }
        died
    });
    // Every task of this life ends where it stands.
    runtime.shutdown_timeout(DEADLINE);
    died
}

/// The run on record, continued; a new one where there is none.
async fn continued(world: &World, runner: &Runner, spec: &RunSpec) -> RunId {
    if let Some(run) = world.records.runs(2).await.unwrap().first() {
        runner.recover().await.unwrap();
        return run.id.clone();
    }
    // The first time, or it died before the run was taken in: the person asks again.
    runner.submit(spec.clone()).await.unwrap().id
}

/// Lives that end early and a last one that does not. `None` when the first one came to the end.
fn lives(world: &World, spec: &RunSpec, last: u64, way: Way) -> Option<Told> {
    if !mortal_life(world, spec, last, way != Way::Before) {
        return None;
    }
    if way == Way::Twice {
        mortal_life(world, spec, 2, true);
    }
    Some(runtime().block_on(async {
        let runner = world.runner();
        let id = continued(world, &runner, spec).await;
        let told = world.ended(&id).await;
        runner.shutdown().await;
        world.assert_clean().await;
        let passed = told.entries.iter().filter(|e| matches!(e.fact, Fact::StoryPassed { .. })).count();
        assert_eq!(passed, told.run.stories.len(), "step {last}, {way:?}");
        let work = told.repo.parent().unwrap().join("work");
        assert!(!work.exists(), "step {last}, {way:?}: work is left");
        told
    }))
}

/// Tries steps from the first to the last that a run takes; `trial` says whether there was such a step.
fn every_step(by: u64, trial: impl Fn(u64) -> bool + Sync) -> u64 {
    let next = AtomicU64::new(1);
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    if !trial(next.fetch_add(by, Ordering::SeqCst)) {
                        over.store(true, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    next.load(Ordering::SeqCst)
}

#[test]
fn a_crash_at_any_step_changes_nothing() {
    let expected = {
        let world = world();
        runtime().block_on(async {
            let told = world.run(spec(&world)).await;
            end(&world, &told)
        })
    };
    assert_eq!(expected.phase, Phase::Succeeded);
    assert_eq!(expected.passed, ["S1", "S2"]);
    let steps = every_step(1, |step| {
        [Way::Before, Way::After, Way::Twice].into_iter().all(|way| {
            let world = world();
            let told = lives(&world, &spec(&world), step, way);
            if let Some(told) = &told {
                assert_eq!(end(&world, told), expected, "step {step}, {way:?}");
            }
            told.is_some()
        })
    });
    assert!(steps > 15, "only {steps} steps were tried");
}

#[test]
fn a_crash_between_parallel_stories_loses_none() {
    // Whether the second story is merged or begun again depends on the step; what comes out does not.
    let steps = every_step(5, |step| {
        let world = World::new(|asked| writes(&format!("{}.txt", asked.story), "work"));
        let mut spec = world.spec(&[("S1", ""), ("S2", ""), ("S3<S2", "")]);
        spec.parallel = 2;
        let Some(told) = lives(&world, &spec, step, Way::After) else { return false };
        assert_eq!(told.run.phase, Phase::Succeeded, "step {step}: {}", told.reason());
        assert_eq!(told.tree().into_keys().collect::<Vec<_>>(), ["README.md", "S1.txt", "S2.txt", "S3.txt"], "{step}");
        assert_eq!(told.run.iterations, 3, "step {step}");
        assert!(!world.users_prd().contains("\"passes\": false"), "step {step}");
        true
    });
    assert!(steps > 15, "only {steps} steps were tried");
}
