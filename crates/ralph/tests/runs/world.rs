//! A world for one run: a user's repository, an engine whose processes are a script, an agent that
//! speaks plain events, and a clock that is moved by hand.
//!
//! Gates are commands of a small language, judged on the files of their checkout:
//! `has FILE`, `lacks FILE`, `holds FILE WORD`, `puts FILE WORD`, `slow`, `absent`, joined by `&&`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cove_control::Sandboxes;
use cove_core::agent::{AgentCommand, AgentRequest, StreamParser};
use cove_core::run::{AgentChoice, Bounds, GateSpec, PrdSource, RunRecord, StoryStatus};
use cove_core::{
    Agent, AgentCapability, AgentEvent, AgentOutcome, Clock, Door, DoorEvent, DoorHandle, EgressPolicy, Entry,
    ExitStatus, Fact, InstanceId, Limits, Records, Result, Root, RunId, RunSpec, Usage,
};
use cove_engines::FakeEngine;
use cove_engines::fake::{Act, End, Process};
use cove_git::Git;
use cove_ralph::{Dependencies, Pace, Runner};
use cove_stores::Store;
use jiff::Timestamp;
use serde_json::json;

/// Longer than anything takes on a slow machine under load.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What an agent knows when it begins.
pub struct Asked {
    pub story: String,
    pub attempt: u32,
    pub prompt: String,
}

type Play = Arc<dyn Fn(&Asked) -> Act + Send + Sync>;

pub struct World {
    pub dir: tempfile::TempDir,
    pub records: Arc<dyn Records>,
    pub engine: Arc<FakeEngine>,
    pub clock: Arc<Hands>,
    pub prompts: Arc<Mutex<Vec<Asked>>>,
    pub pace: Pace,
    pub concurrent: usize,
}

impl World {
    /// A world whose agents do what `play` says.
    pub fn new(play: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("user");
        std::fs::create_dir(&repo).unwrap();
        std::fs::write(repo.join("README.md"), "A project\n").unwrap();
        git(&repo, &["init", "-q", "-b", "main"]);
        git(&repo, &["add", "-A"]);
        git(&repo, &["commit", "-qm", "chore: begin"]);
        let prompts = Arc::new(Mutex::new(Vec::new()));
        let engine = engine(Arc::new(play), Arc::clone(&prompts));
        Self {
            dir,
            records: Arc::new(Store::memory().unwrap()),
            engine: Arc::new(engine),
            clock: Arc::default(),
            prompts,
            pace: Pace { first_backoff: Duration::from_millis(5), final_grace: Duration::from_millis(100) },
            concurrent: 4,
        }
    }

    pub fn user(&self) -> PathBuf {
        self.dir.path().join("user")
    }

    /// Adds a file to the user's repository and commits it.
    pub fn commit(&self, path: &str, content: &str) {
        let file = self.user().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        git(&self.user(), &["add", "-A"]);
        git(&self.user(), &["commit", "-qm", "chore: more"]);
    }

    pub fn runner(&self) -> Arc<Runner> {
        self.runner_on(Arc::clone(&self.records))
    }

    pub fn runner_on(&self, records: Arc<dyn Records>) -> Arc<Runner> {
        let engines: Vec<Arc<dyn cove_core::Engine>> = vec![self.engine.clone()];
        let instance: InstanceId = InstanceId::new();
        Runner::with_pace(
            Dependencies {
                records: records.clone(),
                sandboxes: Arc::new(Sandboxes::new(records, engines, instance)),
                door: Arc::new(Shut),
                agents: Arc::new(|choice: &AgentChoice| Ok(Arc::new(Plain::new(choice)) as Arc<dyn Agent>)),
                git: Git::new().unwrap(),
                clock: self.clock.clone(),
                data_dir: self.dir.path().join("data"),
                max_concurrent_runs: self.concurrent,
            },
            self.pace.clone(),
        )
    }

    /// A run of these stories (id, and a gate command of their own, which may be empty); the PRD and the
    /// progress file lie in the user's directory, outside the repository.
    pub fn spec(&self, stories: &[(&str, &str)]) -> RunSpec {
        let text = prd(stories);
        let path = self.dir.path().join("prd.json");
        std::fs::write(&path, &text).unwrap();
        RunSpec {
            name: String::new(),
            repository: self.user().to_str().unwrap().to_owned(),
            base: None,
            branch: None,
            prd: PrdSource {
                path: Some(path),
                text,
                progress_path: Some(self.dir.path().join("progress.txt")),
                progress: String::new(),
            },
            agent: AgentChoice { name: "plain".to_owned(), ..AgentChoice::default() },
            engine: "fake".to_owned(),
            accept_no_sandbox: false,
            root: Root::Host,
            limits: Limits::default(),
            accept_missing: Vec::new(),
            allow_hosts: Vec::new(),
            block_hosts: Vec::new(),
            gate_hosts: Vec::new(),
            gates: Some(vec![gate("readme", "has README.md")]),
            bounds: Bounds::default(),
            parallel: 1,
            token_means: Default::default(),
            allow_empty: false,
            trust_test_changes: false,
            prompt_template: None,
            warnings: Vec::new(),
        }
    }

    /// Runs it to its end.
    pub async fn run(&self, spec: RunSpec) -> Told {
        let runner = self.runner();
        let id = runner.submit(spec).await.unwrap().id;
        let told = self.ended(&id).await;
        runner.shutdown().await;
        told
    }

    pub async fn ended(&self, id: &RunId) -> Told {
        self.until(id, "the run's end", |run| run.phase.is_final()).await;
        self.told(id).await
    }

    pub async fn until(&self, id: &RunId, what: &str, holds: impl Fn(&RunRecord) -> bool) -> RunRecord {
        let begun = std::time::Instant::now();
        loop {
            let run = self.records.run(id).await.unwrap();
            if holds(&run) {
                return run;
            }
            assert!(begun.elapsed() < DEADLINE, "{what} did not come: {:?} {:?}", run.phase, run.reason);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the ledger holds a fact that fits.
    pub async fn fact(&self, id: &RunId, what: &str, fits: impl Fn(&Fact) -> bool) {
        let begun = std::time::Instant::now();
        while !self.records.entries(id, 0, 100_000).await.unwrap().iter().any(|entry| fits(&entry.fact)) {
            assert!(begun.elapsed() < DEADLINE, "{what} did not come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn told(&self, id: &RunId) -> Told {
        let run = self.records.run(id).await.unwrap();
        let entries = self.records.entries(id, 0, 100_000).await.unwrap();
        let repo = self.dir.path().join("data/runs").join(id.as_str()).join("repo.git");
        Told { run, entries, repo }
    }

    pub fn users_prd(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("prd.json")).unwrap()
    }

    pub fn users_progress(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("progress.txt")).unwrap_or_default()
    }

    /// Nothing is left of sandboxes, on record or in the engine.
    pub async fn assert_clean(&self) {
        assert_eq!(self.engine.living(), [], "sandboxes left");
        let left: Vec<_> = self.records.sandboxes().await.unwrap().into_iter().map(|info| info.state).collect();
        assert_eq!(left, [], "sandboxes on record");
    }
}

/// What a run came to.
pub struct Told {
    pub run: RunRecord,
    pub entries: Vec<Entry>,
    pub repo: PathBuf,
}

impl Told {
    pub fn statuses(&self) -> Vec<(&str, StoryStatus)> {
        self.run.stories.iter().map(|story| (story.id.as_str(), story.status)).collect()
    }

    /// Verdicts as `story: verdict`, in order.
    pub fn verdicts(&self) -> Vec<String> {
        let verdict = |entry: &Entry| match &entry.fact {
            Fact::AttemptFinished { story, verdict, .. } => {
                let name = serde_json::to_value(verdict).unwrap()["verdict"].as_str().unwrap().to_owned();
                Some(format!("{story}: {name}"))
            }
            _ => None,
        };
        self.entries.iter().filter_map(verdict).collect()
    }

    pub fn passed(&self) -> Vec<&str> {
        let passed = |entry: &'_ Entry| match &entry.fact {
            Fact::StoryPassed { story, .. } => self.run.stories.iter().find(|s| s.id == *story).map(|s| s.id.as_str()),
            _ => None,
        };
        self.entries.iter().filter_map(passed).collect()
    }

    pub fn notes(&self) -> String {
        let note = |entry: &Entry| match &entry.fact {
            Fact::Note { text } => Some(format!("{text}\n")),
            _ => None,
        };
        self.entries.iter().filter_map(note).collect()
    }

    pub fn flags(&self) -> String {
        let flags = |entry: &Entry| match &entry.fact {
            Fact::Collected { flags, .. } => Some(flags.join("\n")),
            _ => None,
        };
        self.entries.iter().filter_map(flags).collect()
    }

    pub fn reason(&self) -> String {
        self.run.ending.as_ref().map(|ending| ending.reason()).unwrap_or_default()
    }

    /// Files of the branch, with their text.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let head = self.run.head.as_deref().unwrap();
        let names = git(&self.repo, &["ls-tree", "-r", "--name-only", head]);
        names.lines().map(|name| (name.to_owned(), git(&self.repo, &["show", &format!("{head}:{name}")]))).collect()
    }

    /// Subjects of the commits that the run added, oldest first.
    pub fn subjects(&self) -> Vec<String> {
        let range = format!("{}..{}", self.run.base.as_deref().unwrap(), self.run.head.as_deref().unwrap());
        let log = git(&self.repo, &["log", "--reverse", "--topo-order", "--format=%s", &range]);
        log.lines().map(str::to_owned).collect()
    }
}

pub fn gate(name: &str, command: &str) -> GateSpec {
    GateSpec {
        name: name.to_owned(),
        command: command.to_owned(),
        timeout_seconds: 60,
        protects: Vec::new(),
        after: Vec::new(),
    }
}

/// A PRD in the canonical form; `id<other` depends on another story.
pub fn prd(stories: &[(&str, &str)]) -> String {
    let stories: Vec<serde_json::Value> = stories
        .iter()
        .enumerate()
        .map(|(at, (id, command))| {
            let (id, on) = id.split_once('<').map_or((*id, vec![]), |(id, on)| (id, vec![on]));
            let commands: Vec<&str> = command.split('|').filter(|c| !c.is_empty()).collect();
            json!({
                "id": id, "title": format!("Story {id}"), "description": "Do it", "acceptanceCriteria": ["It is done"],
                "priority": at + 1, "passes": false, "notes": "", "dependsOn": on, "commands": commands, "extra": [1, 2],
            })
        })
        .collect();
    let prd = json!({ "project": "Trial", "branchName": "ralph/trial", "description": "", "userStories": stories });
    serde_json::to_string_pretty(&prd).unwrap() + "\n"
}

/// Runs git on a repository of the test's own.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let out = std::process::Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Lines of the plain agent.
pub fn event(event: &AgentEvent) -> String {
    serde_json::to_string(event).unwrap() + "\n"
}

pub fn outcome(outcome: &AgentOutcome) -> String {
    serde_json::to_string(outcome).unwrap() + "\n"
}

/// Writes one file and ends well.
pub fn writes(path: &str, content: &str) -> Act {
    Act::exit(0)
        .write(path, content)
        .say(event(&AgentEvent::Final { text: "- Done it\n\n<promise>COMPLETE</promise>".to_owned() }))
}

pub fn dollars(cost: f64) -> String {
    event(&AgentEvent::Usage {
        usage: Usage { input_tokens: 100, output_tokens: 10, reported_cost_usd: Some(cost), ..Usage::default() },
    })
}

fn engine(play: Play, prompts: Arc<Mutex<Vec<Asked>>>) -> FakeEngine {
    FakeEngine::scripted(move |mut process: Process| {
        let (play, prompts) = (Arc::clone(&play), Arc::clone(&prompts));
        async move {
            if process.role() == "gate" {
                return judge(&process).await;
            }
            let prompt = String::from_utf8(process.stdin().await).unwrap();
            let asked = asked(&prompt);
            let act = play(&asked);
            prompts.lock().unwrap().push(asked);
            act.perform(&process).await
        }
    })
}

fn asked(prompt: &str) -> Asked {
    let word = |before: &str| {
        let rest = prompt.split_once(before)?.1;
        rest.split(|c: char| c.is_whitespace() || c == '.' || c == ';').next().map(str::to_owned)
    };
    Asked {
        story: word("Your task: story ").unwrap(),
        attempt: word("This is attempt ").map_or(1, |n| n.parse().unwrap()),
        prompt: prompt.to_owned(),
    }
}

async fn judge(process: &Process) -> End {
    for part in process.command().split(" && ") {
        match part {
            "slow" => std::future::pending::<()>().await,
            "absent" => return End::code(127),
            _ => {}
        }
        let good = part.split(" || ").any(|one| match one.split(' ').collect::<Vec<_>>()[..] {
            ["has", file] => process.read(file).is_some(),
            ["lacks", file] => process.read(file).is_none(),
            ["puts", file, word] => process.write(file, word).is_ok(),
            ["holds", file, word] => process.read(file).is_some_and(|text| text.contains(word)),
            _ => panic!("unknown gate {part}"),
        });
        if !good {
            process.stdout(format!("FAILED: {part}\n")).await;
            return End::code(1);
        }
    }
    End::code(0)
}

/// A clock that is moved by hand.
pub struct Hands(Mutex<Timestamp>);

impl Default for Hands {
    fn default() -> Self {
        Self(Mutex::new("2026-01-02T03:04:05Z".parse().unwrap()))
    }
}

impl Hands {
    pub fn forward(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A door that leads nowhere.
struct Shut;

#[async_trait]
impl Door for Shut {
    async fn open(&self, _label: &str, _policy: &EgressPolicy) -> Result<Box<dyn DoorHandle>> {
        Ok(Box::new(Shut))
    }
}

#[async_trait]
impl DoorHandle for Shut {
    fn socket(&self) -> PathBuf {
        "/run/nowhere.sock".into()
    }

    fn take_events(&self) -> Vec<DoorEvent> {
        Vec::new()
    }

    async fn close(&self) {}
}

/// An agent whose output is one normalised event, or its outcome, a line.
struct Plain {
    capabilities: BTreeSet<AgentCapability>,
}

impl Plain {
    fn new(_choice: &AgentChoice) -> Self {
        Self { capabilities: [AgentCapability::Stream].into() }
    }
}

impl Agent for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn capabilities(&self) -> &BTreeSet<AgentCapability> {
        &self.capabilities
    }

    fn hosts(&self, _request: &AgentRequest) -> Vec<String> {
        vec!["model.example.com".to_owned()]
    }

    fn program(&self) -> &str {
        "plain"
    }

    fn command(&self, request: &AgentRequest) -> Result<AgentCommand> {
        Ok(AgentCommand {
            argv: vec!["plain".to_owned()],
            stdin: request.prompt.clone().into_bytes(),
            files: vec![(".plain/settings.json".into(), b"{}".to_vec())],
            ..AgentCommand::default()
        })
    }

    fn parser(&self) -> Box<dyn StreamParser> {
        Box::<Lines>::default()
    }
}

#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    message: String,
    outcome: Option<AgentOutcome>,
}

impl StreamParser for Lines {
    fn stdout(&mut self, bytes: &[u8]) -> Vec<AgentEvent> {
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Ok(outcome) = serde_json::from_slice::<AgentOutcome>(&line) {
                self.outcome = Some(outcome);
            } else if let Ok(event) = serde_json::from_slice::<AgentEvent>(&line) {
                if let AgentEvent::Final { text } = &event {
                    self.message.clone_from(text);
                }
                events.push(event);
            }
        }
        // A line without an end is noise.
        if self.rest.len() > 1 << 20 {
            self.rest.clear();
        }
        events
    }

    fn stderr(&mut self, _bytes: &[u8]) -> Vec<AgentEvent> {
        Vec::new()
    }

    fn finish(&mut self, exit: &ExitStatus) -> AgentOutcome {
        self.outcome.take().unwrap_or_else(|| {
            if exit.success() {
                AgentOutcome::Done { message: self.message.clone() }
            } else {
                AgentOutcome::Failed { reason: format!("It ended with exit code {}", exit.code) }
            }
        })
    }
}
