//! From settings to the parts of a run's specification.

use std::path::PathBuf;

use cove_core::run::{AgentChoice, Bounds, GateSpec, RunSpec, TokenMeaning};
use cove_core::{Control, Error, HostRule, Limits, Result, Root};

use crate::model::{EngineName, Settings};
use crate::resolve::Resolved;

/// What settings say about a run; repository, PRD and consent come from the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct RunParts {
    /// Engine name as the specification has it.
    pub engine: String,
    /// Root of sandboxes.
    pub root: Root,
    /// Limits of each sandbox.
    pub limits: Limits,
    /// Limits to go without.
    pub accept_missing: Vec<Control>,
    /// Bounds of the run.
    pub bounds: Bounds,
    /// Stories at once.
    pub parallel: u32,
    /// Agent; `env` holds only `NAME=VALUE` pairs, bare names are in [`pass_env`](Self::pass_env).
    pub agent: AgentChoice,
    /// Names whose values come from the caller's environment.
    pub pass_env: Vec<String>,
    /// Checks.
    pub gates: Option<Vec<GateSpec>>,
    /// Hosts for the agent.
    pub allow_hosts: Vec<HostRule>,
    /// Hosts refused.
    pub block_hosts: Vec<HostRule>,
    /// Hosts for gates.
    pub gate_hosts: Vec<HostRule>,
    /// See [`RunSpec::token_means`].
    pub token_means: TokenMeaning,
    /// See [`RunSpec::allow_empty`].
    pub allow_empty: bool,
    /// See [`RunSpec::trust_test_changes`].
    pub trust_test_changes: bool,
    /// File with the prompt template, as written.
    pub prompt: Option<PathBuf>,
}

impl RunParts {
    /// Writes the parts into a specification.
    pub fn apply(self, spec: &mut RunSpec) {
        spec.engine = self.engine;
        spec.root = self.root;
        spec.limits = self.limits;
        spec.accept_missing = self.accept_missing;
        spec.bounds = self.bounds;
        spec.parallel = self.parallel;
        spec.agent = self.agent;
        spec.gates = self.gates;
        spec.allow_hosts = self.allow_hosts;
        spec.block_hosts = self.block_hosts;
        spec.gate_hosts = self.gate_hosts;
        spec.token_means = self.token_means;
        spec.allow_empty = self.allow_empty;
        spec.trust_test_changes = self.trust_test_changes;
    }
}

impl Settings {
    /// Checks what types alone cannot.
    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=16).contains(&self.loops.parallel) {
            return Err(Error::invalid("ralph.loop.parallel lies outside 1 to 16"));
        }
        if self.loops.max_cost_usd.is_some_and(|cost| !cost.is_finite() || cost < 0.0) {
            return Err(Error::invalid("ralph.loop.maxCostUsd is not an amount of money"));
        }
        for name in &self.security.accept_missing {
            control(name)?;
        }
        if let Some(image) = &self.container.image
            && (image.trim().is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control()))
        {
            return Err(Error::invalid(format!("ralph.container.image {image:?} is not an image reference")));
        }
        if self.container.resources.memory.0 < 4 << 20 {
            return Err(Error::invalid("ralph.container.resources.memory lies below 4 MiB"));
        }
        if self.container.resources.storage.0 < 1 << 20 {
            return Err(Error::invalid("ralph.container.resources.storage lies below 1 MiB"));
        }
        if self.container.resources.pids < 2 || self.container.resources.open_files < 16 {
            return Err(Error::invalid("ralph.container.resources.pids lies below 2, or openFiles below 16"));
        }
        Ok(())
    }

    /// Limits of each sandbox.
    pub fn limits(&self) -> Limits {
        let resources = &self.container.resources;
        Limits {
            cpus: Some(resources.cpu.0),
            memory_bytes: Some(resources.memory.0),
            pids: Some(resources.pids),
            disk_bytes: Some(resources.storage.0),
            open_files: Some(resources.open_files),
            wall_seconds: None,
        }
    }

    /// Bounds of a run. Fractions of a second count as a whole one.
    pub fn bounds(&self) -> Bounds {
        let seconds = |duration: std::time::Duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        let some = |value: u64| Some(value).filter(|v| *v > 0);
        let loops = &self.loops;
        Bounds {
            iterations: loops.max_iterations,
            attempts_per_story: loops.max_attempts,
            wall_seconds: loops.max_time.and_then(|span| some(seconds(span.0))),
            tokens: loops.max_tokens.and_then(some),
            cost_usd: loops.max_cost_usd.filter(|cost| *cost > 0.0),
            attempt_seconds: seconds(self.container.timeout.0),
            idle_seconds: seconds(loops.idle_timeout.0),
            turns: loops.max_turns.filter(|turns| *turns > 0),
            infrastructure_failures: loops.infrastructure_failures,
            stuck_after: loops.stuck_after,
            wait_for_provider: loops.wait_for_provider,
            output_bytes: loops.output_limit.0,
        }
    }

    /// Root of sandboxes.
    ///
    /// # Errors
    /// `Invalid` when more than one of image, directory and archive is set.
    pub fn root(&self) -> Result<Root> {
        let container = &self.container;
        match (&container.image, &container.root_dir, &container.root_archive) {
            (None, None, None) => Ok(Root::Host),
            (Some(image), None, None) => Ok(Root::Image(image.clone())),
            (None, Some(dir), None) => Ok(Root::Directory(dir.clone())),
            (None, None, Some(file)) => Ok(Root::Archive(file.clone())),
            _ => Err(Error::invalid("More than one of container.image, rootDir and rootArchive is set")
                .next("Keep one; an empty flag such as --image '' takes one back")),
        }
    }
}

impl Resolved {
    /// The parts of a run's specification.
    ///
    /// # Errors
    /// `Invalid` for values that do not go together, `Unavailable` for `kubernetes` without a cluster.
    pub fn run_parts(&self) -> Result<RunParts> {
        let settings = &self.settings;
        if !settings.enabled {
            return Err(Error::new(cove_core::ErrorKind::Refused, "ralph.enabled is false: runs are switched off")
                .next("cove config explain enabled shows who decided it"));
        }
        if settings.container.engine == EngineName::Kubernetes {
            self.cluster()?;
        }
        let rules = |hosts: &[String]| hosts.iter().map(|host| HostRule(host.clone())).collect();
        let (mut env, mut pass_env) = (std::collections::BTreeMap::new(), Vec::new());
        for entry in &settings.agent.env {
            match entry.split_once('=') {
                Some((name, value)) => drop(env.insert(name.to_owned(), value.to_owned())),
                None => pass_env.push(entry.clone()),
            }
        }
        Ok(RunParts {
            engine: settings.container.engine.engine().to_owned(),
            root: settings.root()?,
            limits: settings.limits(),
            accept_missing: settings.security.accept_missing.iter().map(|name| control(name)).collect::<Result<_>>()?,
            bounds: settings.bounds(),
            parallel: settings.loops.parallel,
            agent: AgentChoice {
                name: settings.agent.name.clone(),
                model: settings.agent.model.clone(),
                command: settings.agent.command.clone(),
                args: settings.agent.args.clone(),
                env,
                mounts: settings.agent.mounts.clone(),
                definition: settings.agents.get(&settings.agent.name).cloned(),
            },
            pass_env,
            gates: settings.gates.clone(),
            allow_hosts: rules(&settings.security.allowed_hosts),
            block_hosts: rules(&settings.security.blocked_hosts),
            gate_hosts: rules(&settings.security.gate_hosts),
            token_means: settings.loops.token_means,
            allow_empty: settings.loops.allow_empty,
            trust_test_changes: settings.loops.trust_test_changes,
            prompt: settings.loops.prompt.clone(),
        })
    }
}

/// A control that a person may accept to go without, by name.
fn control(name: &str) -> Result<Control> {
    let known = Control::ALL.into_iter().find(|control| control.name() == name);
    let may: Vec<String> =
        Control::ALL.into_iter().filter(|c| cove_core::capability::acceptable(*c)).map(Control::name).collect();
    match known {
        Some(control) if cove_core::capability::acceptable(control) => Ok(control),
        Some(_) => Err(Error::invalid(format!(
            "The control {name} separates the sandbox from the host and cannot be left out"
        ))
        .next(format!("These can: {}", may.join(", ")))),
        None => {
            Err(Error::invalid(format!("There is no control {name}")).next(format!("Choose among {}", may.join(", "))))
        }
    }
}
