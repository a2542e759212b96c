//! `cove run`.

use std::collections::HashMap;
use std::path::Path;

use cove_core::quantity::{format_duration, format_size};
use cove_core::run::RunSpec;
use cove_core::{Error, Result, RunRecord};
use cove_git::Git;
use cove_ralph::gates::{self, Tree};
use cove_ralph::prd::Prd;
use cove_settings::{Policy, clamp};
use serde_json::{Value, json};

use super::following::{Following, follow, report};
use super::run_spec::{Prepared, prepare};
use crate::args::RunArgs;
use crate::context::Context;
use crate::output::{Format, clean_line, json};
use crate::{daemon, kinds};

pub async fn run(context: &Context, args: &RunArgs) -> Result<u8> {
    let git = Git::new()?;
    let prepared = prepare(context, args, &git).await?;
    if args.dry_run {
        return dry_run(context, &git, prepared).await;
    }
    if prepared.local.is_some() && prepared.spec.gates.is_none() {
        // The daemon would find out as well, but only after the clone.
        resolve_gates(&git, &prepared).await?;
    }
    let following = Following {
        live: !args.plain,
        timestamps: args.timestamps,
        after: 0,
        timeout: args.timeout,
        foreground: args.foreground,
    };
    if args.foreground {
        return super::serve::in_this_process(context, &prepared.spec, following).await;
    }
    let client = daemon::connect(context).await?;
    // A repeated request after a lost answer must not make a second run.
    let key = cove_core::RunId::new();
    let record = client.submit(&prepared.spec, Some(key.as_str())).await?;
    for warning in record.spec.warnings.iter().filter(|warning| !prepared.spec.warnings.contains(warning)) {
        context.printer.warn(warning);
    }
    if args.detach {
        announce(context, &record)?;
        context.printer.say(&format!("  follow it: cove logs -f {0}\n  end it:    cove runs stop {0}", record.name));
        return Ok(0);
    }
    if context.printer.format == Format::Name {
        announce(context, &record)?;
    } else {
        context.printer.say(&format!("Run {} begins", record.name));
    }
    let left = follow(context, &client, &record, following).await?;
    finish(context, &record, &left, false)
}

/// Prints what a followed run came to, and returns its exit code.
pub fn finish(context: &Context, record: &RunRecord, left: &super::following::Left, foreground: bool) -> Result<u8> {
    use super::following::Left;
    if let (Left::Over(now) | Left::Waiting(now), Format::Json | Format::Yaml) = (left, context.printer.format) {
        context.printer.one(&kinds::runs(), &masked(now), |_| String::new())?;
    }
    report(context, &record.name, left, foreground);
    Ok(left.exit_code())
}

fn announce(context: &Context, record: &RunRecord) -> Result<()> {
    context.printer.one(&kinds::runs(), &masked(record), |_| format!("{}\n", clean_line(&record.name)))
}

/// A record as JSON, without the values of the agent's variables.
pub fn masked(record: &RunRecord) -> Value {
    let mut out = json(record);
    mask(&mut out["spec"]["agent"]["env"]);
    out
}

fn mask(env: &mut Value) {
    if let Some(map) = env.as_object_mut() {
        map.values_mut().for_each(|value| *value = Value::String("***".to_owned()));
    }
}

/// A commit's files for the detection of gates.
struct Commit {
    files: Vec<String>,
    texts: HashMap<String, Vec<u8>>,
}

impl Tree for Commit {
    fn files(&self) -> &[String] {
        &self.files
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.texts.get(path).cloned()
    }
}

async fn resolve_gates(git: &Git, prepared: &Prepared) -> Result<Vec<cove_core::run::GateSpec>> {
    let (Some(root), Some(base)) = (&prepared.local, &prepared.base) else {
        let nothing = Commit { files: Vec::new(), texts: HashMap::new() };
        if prepared.spec.gates.is_none() && prepared.prd.gates.is_empty() {
            // They are detected once the repository is cloned.
            return Ok(Vec::new());
        }
        return gates::resolve(prepared.spec.gates.as_deref(), &prepared.prd, &nothing);
    };
    let files = git.files(root, base).await?;
    let mut texts = HashMap::new();
    for path in gates::wanted(&files) {
        if let Ok(Some(bytes)) = git.read(root, base, &path, gates::READ_BOUND).await {
            texts.insert(path, bytes);
        }
    }
    gates::resolve(prepared.spec.gates.as_deref(), &prepared.prd, &Commit { files, texts })
}

async fn dry_run(context: &Context, git: &Git, mut prepared: Prepared) -> Result<u8> {
    let notes = clamp(&Policy::load(&context.paths)?, &mut prepared.spec)?;
    let found = resolve_gates(git, &prepared).await;
    let order: Vec<&cove_ralph::prd::Story> = super::prd::order(&prepared.prd);
    let mut spec = json(&prepared.spec);
    mask(&mut spec["agent"]["env"]);
    for field in ["text", "progress"] {
        if let Some(prd) = spec["prd"].as_object_mut() {
            prd.remove(field);
        }
    }
    let keyless = prepared.keyless.as_ref().map(|error| {
        format!("{}, so a real run would be refused. {}", error.message(), error.next_step().unwrap_or_default())
    });
    let notes: Vec<String> = notes.into_iter().chain(keyless).collect();
    let document = json!({
        "spec": spec,
        "base": prepared.base,
        "branch": branch(&prepared.spec, &prepared.prd),
        "gates": found.as_ref().ok(),
        "stories": order.iter().map(|story| json!({"id": story.id, "title": story.title})).collect::<Vec<_>>(),
        "notes": notes,
    });
    let kind = crate::output::Kind {
        columns: &[],
        id: "branch",
        fields: ["spec", "base", "branch", "gates", "stories", "notes"].map(str::to_owned).to_vec(),
    };
    let gates = found?;
    notes.iter().for_each(|note| context.printer.warn(note));
    context.printer.one(&kind, &document, |_| text(&prepared, &gates, &order))?;
    Ok(0)
}

fn branch(spec: &RunSpec, prd: &Prd) -> String {
    spec.branch.clone().unwrap_or_else(|| prd.branch())
}

fn text(prepared: &Prepared, gates: &[cove_core::run::GateSpec], order: &[&cove_ralph::prd::Story]) -> String {
    let spec = &prepared.spec;
    let some = |value: Option<String>| value.unwrap_or_else(|| "no bound".to_owned());
    let seconds = |n: u64| format_duration(std::time::Duration::from_secs(n));
    let bounds = &spec.bounds;
    let root = match &spec.root {
        cove_core::Root::Host => "the host's system directories, read-only".to_owned(),
        cove_core::Root::Image(image) => format!("image {image}"),
        cove_core::Root::Directory(path) | cove_core::Root::Archive(path) => path.display().to_string(),
    };
    let rules = |hosts: &[cove_core::HostRule]| {
        let names: Vec<&str> = hosts.iter().map(|host| host.0.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let agent_hosts = cove_agents::catalog(&spec.agent)
        .map(|agent| {
            let request = cove_core::agent::AgentRequest {
                model: spec.agent.model.clone(),
                env: spec.agent.env.clone(),
                ..Default::default()
            };
            agent.hosts(&request).join(", ")
        })
        .ok()
        .filter(|hosts| !hosts.is_empty())
        .unwrap_or_else(|| "none of its own".to_owned());
    let limits = &spec.limits;
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<12} {}\n", clean_line(&value)));
    line("repository", spec.repository.clone());
    line("base", prepared.base.clone().or_else(|| spec.base.clone()).unwrap_or_else(|| "HEAD".to_owned()));
    line("branch", branch(spec, &prepared.prd));
    line(
        "agent",
        [Some(spec.agent.name.clone()), spec.agent.model.clone()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", model "),
    );
    if let Some(command) = &spec.agent.command {
        line("command", command.join(" "));
    }
    if !spec.agent.env.is_empty() {
        line("variables", spec.agent.env.keys().cloned().collect::<Vec<_>>().join(", "));
    }
    for mount in &spec.agent.mounts {
        line("shown", format!("{} (read-only)", mount.display()));
    }
    line("engine", spec.engine.clone());
    line("root", root);
    line(
        "limits",
        format!(
            "{} CPUs, {} memory, {} disk, {} processes",
            limits.cpus.unwrap_or_default(),
            format_size(limits.memory_bytes.unwrap_or_default()),
            format_size(limits.disk_bytes.unwrap_or_default()),
            limits.pids.unwrap_or_default()
        ),
    );
    line(
        "hosts",
        format!(
            "agent {agent_hosts}; allowed {}; blocked {}; gates {}",
            rules(&spec.allow_hosts),
            rules(&spec.block_hosts),
            rules(&spec.gate_hosts)
        ),
    );
    line(
        "bounds",
        format!(
            "{} attempts, {} a story, {} each; time {}, tokens {}, cost {}",
            if bounds.iterations == 0 { "any number of".to_owned() } else { bounds.iterations.to_string() },
            bounds.attempts_per_story,
            seconds(bounds.attempt_seconds),
            some(bounds.wall_seconds.map(seconds)),
            some(bounds.tokens.map(|n| n.to_string())),
            some(bounds.cost_usd.map(|n| format!("${n}")))
        ),
    );
    for gate in gates {
        line("gate", format!("{}: {}", gate.name, gate.command));
    }
    for (at, story) in order.iter().enumerate() {
        line(if at == 0 { "stories" } else { "" }, format!("{} {}", story.id, story.title));
    }
    if order.is_empty() {
        line("stories", "all have passed".to_owned());
    }
    out
}

/// The directory that a command's path argument means, absolute.
///
/// # Errors
/// `NotFound` when it does not exist.
pub fn existing_directory(context: &Context, path: &Path) -> Result<std::path::PathBuf> {
    let path = context.absolute(path);
    path.canonicalize().map_err(|e| Error::not_found(format!("There is no directory {}", path.display())).because(e))
}
