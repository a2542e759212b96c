//! Taking a run in: everything that can be known to be wrong is refused before anything is done.

use std::path::Path;

use cove_core::agent::AgentRequest;
use cove_core::run::{Bounds, Phase, RunRecord, StoryState, StoryStatus};
use cove_core::{EgressPolicy, Error, ErrorKind, Fact, HostRule, Network, Result, RunId, RunSpec, Usage};

use super::{RUNS, Runner};
use crate::prd::{self, Prd};
use crate::run::crew::blueprint;
use crate::run::{HOME, Place};

/// Runs that have not ended.
const UNFINISHED: usize = 1000;
/// Characters of a name.
const NAME: usize = 48;

impl Runner {
    /// Checks what is asked for, puts it on record and queues it.
    ///
    /// # Errors
    /// `Invalid` for what cannot be meant, `NotFound` without the repository, `Conflict` when a living
    /// run has the name, `Exhausted` when too many runs wait, and those of choosing an engine.
    pub async fn submit(&self, spec: RunSpec) -> Result<RunRecord> {
        self.open()?;
        let prd = self.check(&spec).await?;
        let _changing = self.changing.lock().await;
        let known = self.shared.deps.records.runs(RUNS).await?;
        if known.iter().filter(|run| !run.phase.is_final()).count() >= UNFINISHED {
            return Err(Error::new(ErrorKind::Exhausted, format!("{UNFINISHED} runs wait or work already"))
                .next("Stop some: `cove runs list`, `cove runs stop RUN`"));
        }
        let branch = spec.branch.clone().unwrap_or_else(|| prd.branch());
        let name = name(&spec.name, &branch, &known)?;
        let now = self.shared.deps.clock.now();
        let mut facts = vec![Fact::Created];
        facts.extend(spec.warnings.iter().take(50).map(|text| Fact::Note { text: text.clone() }));
        let mut record = RunRecord {
            id: RunId::new(),
            name,
            version: 0,
            phase: Phase::Queued,
            reason: None,
            request: None,
            resume_at: None,
            engine: Some(self.engine(&spec).await?),
            base: None,
            branch: Some(branch),
            head: None,
            gates: Vec::new(),
            baseline: Vec::new(),
            stories: prd.stories.iter().map(story).collect(),
            iterations: 0,
            infrastructure_failures: 0,
            usage: Usage::default(),
            worked_millis: 0,
            ending: None,
            created_at: now,
            updated_at: now,
            spec,
        };
        self.shared.commit(&mut record, facts).await?;
        self.launch(record.clone())?;
        Ok(record)
    }

    async fn check(&self, spec: &RunSpec) -> Result<Prd> {
        let prd = check_request(spec)?;
        let agent = (self.shared.deps.agents)(&spec.agent)?;
        let request = AgentRequest {
            model: spec.agent.model.clone(),
            max_turns: spec.bounds.turns.filter(|turns| *turns > 0),
            program: spec.agent.command.clone(),
            extra_args: spec.agent.args.clone(),
            env: spec.agent.env.clone(),
            home: HOME.into(),
            prompt: String::new(),
        };
        agent.command(&request)?;
        let hosts = agent.hosts(&request).into_iter().map(HostRule);
        for allow in [hosts.chain(spec.allow_hosts.iter().cloned()).collect(), spec.gate_hosts.clone()] {
            // A door that opens has rules that can be read.
            let policy = EgressPolicy { allow, block: spec.block_hosts.clone(), allow_private: true };
            self.shared.deps.door.open("check", &policy).await?.close().await;
        }
        self.engine(spec).await?;
        check_repository(self, spec).await?;
        Ok(prd)
    }

    /// The engine that serves agents and gates of this run.
    async fn engine(&self, spec: &RunSpec) -> Result<String> {
        let place = Place::new(&self.shared.deps.data_dir, &RunId::new());
        let mut wanted = blueprint(spec, Network::Door { socket: place.root().join("door.sock") });
        wanted.mounts = vec![cove_core::Mount {
            source: place.root().to_owned(),
            target: crate::run::WORKSPACE.into(),
            read_only: false,
            give: true,
        }];
        wanted.validate()?;
        let sandboxes = &self.shared.deps.sandboxes;
        sandboxes.prove(&spec.engine, &wanted).await?;
        let engine = sandboxes.choose(&spec.engine, spec.accept_no_sandbox, &wanted)?;
        if spec.gate_hosts.is_empty() {
            wanted.network = Network::None;
            sandboxes.choose(&spec.engine, spec.accept_no_sandbox, &wanted)?;
        }
        Ok(engine.kind().to_string())
    }
}

/// What can be known to be wrong with a request by looking at it alone; the PRD as it was understood.
///
/// # Errors
/// `Invalid` for what cannot be meant.
pub fn check_request(spec: &RunSpec) -> Result<Prd> {
    let prd = Prd::parse(&spec.prd.text, spec.prd.path.as_deref())?;
    prd.validate()?;
    if prd.stories.is_empty() {
        return Err(Error::invalid("The PRD has no stories").next("Add a story, then try again"));
    }
    let branch = spec.branch.clone().unwrap_or_else(|| prd.branch());
    prd::check_branch(&branch).map_err(|why| {
        Error::invalid(format!("{branch:?} cannot be a branch: {why}")).next("Choose another branch with --branch")
    })?;
    check_bounds(&spec.bounds)?;
    if !(1..=16).contains(&spec.parallel) {
        return Err(Error::invalid(format!("parallel is {}, outside 1 to 16", spec.parallel)));
    }
    if let Some(template) = &spec.prompt_template {
        crate::prompt::check_template(template)?;
    }
    Ok(prd)
}

/// A repository on this machine is looked at now; one at a URL when it is cloned.
async fn check_repository(runner: &Runner, spec: &RunSpec) -> Result<()> {
    let path = Path::new(&spec.repository);
    if !path.exists() {
        let remote = spec.repository.contains("://") || spec.repository.contains(':');
        if remote && !path.is_absolute() {
            return Ok(());
        }
        return Err(Error::not_found(format!("There is no repository {}", spec.repository))
            .next("Name a directory with a Git repository, or a URL"));
    }
    let git = &runner.shared.deps.git;
    git.resolve(path, spec.base.as_deref().unwrap_or("HEAD")).await.map(drop)
}

fn check_bounds(bounds: &Bounds) -> Result<()> {
    if bounds.cost_usd.is_some_and(|cost| !cost.is_finite() || cost < 0.0) {
        return Err(Error::invalid("bounds.costUsd is not an amount of money"));
    }
    if bounds.output_bytes < 1024 {
        return Err(Error::invalid("bounds.outputBytes lies below 1024"));
    }
    let day = 24 * 3600;
    for (name, seconds) in [("attemptSeconds", bounds.attempt_seconds), ("idleSeconds", bounds.idle_seconds)] {
        if seconds > day {
            return Err(Error::invalid(format!("bounds.{name} is {seconds}, more than a day")));
        }
    }
    Ok(())
}

fn story(story: &prd::Story) -> StoryState {
    StoryState {
        id: story.id.clone(),
        title: story.title.clone(),
        depends_on: story.depends_on.clone(),
        status: if story.passes { StoryStatus::Passed } else { StoryStatus::Open },
        attempts: 0,
        current: None,
        feedback: None,
        failures: Vec::new(),
        commit: None,
    }
}

/// The name asked for, or one made from the branch that no run has.
fn name(asked: &str, branch: &str, known: &[RunRecord]) -> Result<String> {
    let taken = |name: &str| known.iter().any(|run| run.name == name);
    if !asked.is_empty() {
        let slug = prd::slug(asked, NAME);
        if slug.is_empty() || slug.starts_with("run-") && slug.len() > 29 {
            return Err(
                Error::invalid(format!("{asked:?} cannot be a run's name")).next("Use letters, digits and dashes")
            );
        }
        if known.iter().any(|run| run.name == slug && !run.phase.is_final()) {
            return Err(Error::new(ErrorKind::Conflict, format!("A living run has the name {slug:?} already"))
                .next("Choose another name, or stop that run"));
        }
        return Ok(slug);
    }
    let own = branch.rsplit('/').next().unwrap_or(branch);
    let slug = prd::slug(own, NAME);
    let slug = if slug.is_empty() { "run".to_owned() } else { slug };
    if !taken(&slug) {
        return Ok(slug);
    }
    let free = (2..=RUNS + 2).map(|nth| format!("{slug}-{nth}")).find(|name| !taken(name));
    free.ok_or_else(|| Error::new(ErrorKind::Exhausted, "Every name made from the branch is taken"))
}
