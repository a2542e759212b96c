//! `cove sandbox`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cove_api::NewSandbox;
use cove_core::{Error, Mount, Result, Root, SandboxInfo, SandboxSpec, SandboxState};
use serde_json::Value;

use super::run_spec::{acceptable, variable};
use super::runs::each;
use crate::args::{ExecArgs, RootArgs, SandboxCommand, SandboxCreate};
use crate::context::Context;
use crate::output::{Paint, Style, clean_block, clean_line, json};
use crate::{daemon, kinds, proof};

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(5);

pub async fn run(context: &Context, command: SandboxCommand) -> Result<u8> {
    let client = daemon::connect(context).await?;
    match command {
        SandboxCommand::Create(args) => {
            let sandbox = client.create_sandbox(&wanted(context, &args)?).await?;
            context
                .printer
                .one(&kinds::sandboxes(), &masked(&sandbox), |_| format!("{}\n", clean_line(&sandbox.name)))?;
            context.printer.say(&format!(
                "  look inside: cove sandbox shell {0}\n  remove it:   cove sandbox rm {0}",
                sandbox.name
            ));
            Ok(0)
        }
        SandboxCommand::List(page) => {
            let limit = usize::from(page.limit);
            let infos = client.sandboxes_before(page.cursor.as_deref(), limit).await?;
            let items: Vec<Value> = infos.iter().map(masked).collect();
            context.printer.list(&kinds::sandboxes(), &items)?;
            if let Some(last) = infos.last().filter(|_| infos.len() == limit) {
                context.printer.say(&format!(
                    "{limit} are shown; those before: cove sandbox list --limit {limit} --cursor {}",
                    last.id
                ));
            }
            Ok(0)
        }
        SandboxCommand::Show { sandbox } => {
            let info = client.sandbox(&sandbox).await?;
            context
                .printer
                .one(&kinds::sandboxes(), &masked(&info), |style| show(&info, style, context.printer.utc))?;
            Ok(0)
        }
        SandboxCommand::Exec(args) => super::sandbox_exec::exec(context, &client, &args).await,
        SandboxCommand::Shell { sandbox } => {
            let argv = ["/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"];
            let args = ExecArgs {
                sandbox,
                tty: context.interactive,
                no_tty: false,
                no_stdin: false,
                env: Vec::new(),
                workdir: None,
                timeout: None,
                argv: argv.map(str::to_owned).to_vec(),
            };
            super::sandbox_exec::exec(context, &client, &args).await
        }
        SandboxCommand::Logs { sandbox } => {
            let bytes = client.sandbox_log(&sandbox).await?;
            context.printer.write(&clean_block(&String::from_utf8_lossy(&bytes)))?;
            Ok(0)
        }
        SandboxCommand::Stop { sandbox } => {
            each(context, &sandbox, async |name| {
                let info = client.stop_sandbox(name, GRACE).await?;
                Ok(format!("Sandbox {} has stopped", info.name))
            })
            .await
        }
        SandboxCommand::Rm { sandbox, yes, dry_run } => {
            if dry_run {
                for name in &sandbox {
                    let info = client.sandbox(name).await?;
                    context.printer.write(&format!("{}\n", clean_line(&info.name)))?;
                }
                return Ok(0);
            }
            let question = match sandbox.as_slice() {
                [one] => format!("Remove sandbox {one} with everything in it?"),
                many => format!("Remove {} sandboxes with everything in them?", many.len()),
            };
            if !context.confirm(&question, yes)? {
                context.printer.say("Nothing was removed");
                return Ok(0);
            }
            each(context, &sandbox, async |name| {
                let info = client.sandbox(name).await?;
                client.remove_sandbox(info.id.as_str()).await?;
                Ok(format!("Sandbox {} is removed", info.name))
            })
            .await
        }
    }
}

/// What the arguments ask for, over the settings.
fn wanted(context: &Context, args: &SandboxCreate) -> Result<NewSandbox> {
    let resolved = context.settings()?;
    resolved.warnings.iter().for_each(|warning| context.printer.warn(warning));
    let parts = resolved.run_parts()?;
    let root = root(context, &args.root)?.unwrap_or(parts.root);
    let mut spec = SandboxSpec::new(root);
    spec.name = args.name.clone().unwrap_or_default();
    spec.limits = parts.limits;
    let limits = &mut spec.limits;
    limits.cpus = args.cpus.or(limits.cpus);
    limits.memory_bytes = args.memory.or(limits.memory_bytes);
    limits.disk_bytes = args.disk.or(limits.disk_bytes);
    limits.pids = args.pids.or(limits.pids);
    limits.wall_seconds = args.max_time.map(|time| time.as_secs().max(1));
    spec.hardening.accept_missing = parts.accept_missing.into_iter().collect();
    for name in &args.accept_missing {
        spec.hardening.accept_missing.insert(acceptable(name)?);
    }
    for entry in &args.env {
        let (name, value) = variable(context, entry)?;
        spec.env.insert(name, value);
    }
    for entry in &args.mount {
        spec.mounts.push(mount(context, entry)?);
    }
    for entry in &args.label {
        let (key, value) = entry
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Error::invalid(format!("{entry:?} is no label")).next("Write KEY=VALUE"))?;
        // By these Cove finds what belongs to a run, and removes it.
        if key.starts_with("run.cove.") {
            return Err(Error::invalid(format!("The label {key} is Cove's own")).next("Choose another name for it"));
        }
        spec.labels.insert(key.to_owned(), value.to_owned());
    }
    let engine = match &args.engine {
        Some(name) => engine_name(name)?,
        None => parts.engine,
    };
    if engine == "direct" {
        // Without isolation nothing of this can be in force.
        spec.isolation = cove_core::Isolation::Process;
        spec.network = cove_core::Network::Host;
    }
    spec.validate()?;
    Ok(NewSandbox { engine, accept_no_sandbox: args.i_accept_no_sandbox, spec })
}

/// The root that arguments name.
///
/// # Errors
/// `NotFound` when it is not there.
pub fn root(context: &Context, args: &RootArgs) -> Result<Option<Root>> {
    Ok(match (&args.image, &args.root_dir, &args.root_archive) {
        (Some(image), ..) => Some(Root::Image(image.clone())),
        (_, Some(dir), _) => Some(Root::Directory(real(context, dir)?)),
        (.., Some(file)) => Some(Root::Archive(real(context, file)?)),
        _ => None,
    })
}

/// An engine by any of its names.
fn engine_name(name: &str) -> Result<String> {
    serde_json::from_value::<cove_settings::EngineName>(Value::String(name.to_owned()))
        .map(|engine| engine.engine().to_owned())
        .map_err(|_| {
            Error::invalid(format!("There is no engine {name}"))
                .next("Choose among auto, native, docker, podman and none")
        })
}

fn real(context: &Context, path: &Path) -> Result<PathBuf> {
    let path = context.absolute(path);
    path.canonicalize().map_err(|e| {
        Error::not_found(format!("There is no root at {}", path.display()))
            .because(e)
            .next("Name a directory or an archive that holds a root file system")
    })
}

fn mount(context: &Context, entry: &str) -> Result<Mount> {
    let bad = || {
        Error::invalid(format!("{entry:?} is no mount"))
            .next("Write SOURCE:TARGET, or SOURCE:TARGET:rw to allow writing")
    };
    let (pair, read_only) = match entry.strip_suffix(":rw") {
        Some(pair) => (pair, false),
        None => (entry.strip_suffix(":ro").unwrap_or(entry), true),
    };
    let (source, target) = pair.split_once(':').filter(|(s, t)| !s.is_empty() && t.starts_with('/')).ok_or_else(bad)?;
    let source = context.absolute(Path::new(source));
    let source = source.canonicalize().map_err(|e| {
        Error::not_found(format!("There is nothing at {} to show", source.display()))
            .because(e)
            .next("Name a directory or file that exists")
    })?;
    Ok(Mount { source, target: PathBuf::from(target), read_only, give: false })
}

/// A sandbox as JSON, without the values of its variables.
fn masked(info: &SandboxInfo) -> Value {
    let mut out = json(info);
    if let Some(env) = out["spec"]["env"].as_object_mut() {
        env.values_mut().for_each(|value| *value = Value::String("***".to_owned()));
    }
    out
}

fn show(info: &SandboxInfo, style: &Style, utc: bool) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| out.push_str(&format!("{name:<10} {text}\n"));
    line("name", style.paint(Paint::Strong, &clean_line(&info.name)));
    line("id", info.id.to_string());
    line("engine", info.engine.to_string());
    line(
        "state",
        match &info.state {
            SandboxState::Creating => "creating".to_owned(),
            SandboxState::Running => "running".to_owned(),
            SandboxState::Stopped { exit } => format!("stopped with exit code {}", exit.code),
            SandboxState::Failed { reason } => clean_line(&format!("failed: {reason}")),
        },
    );
    line("begun", crate::kinds::moment(info.created_at, utc));
    for mount in &info.spec.mounts {
        let mode = if mount.read_only { "read-only" } else { "writable" };
        line("mount", clean_line(&format!("{} at {} ({mode})", mount.source.display(), mount.target.display())));
    }
    match &info.attestation {
        None => line("proof", style.paint(Paint::Warn, "none yet")),
        Some(_) => {
            for fact in proof::facts(info) {
                let paint = match fact.result {
                    "waived" => Paint::Warn,
                    "deviates" => Paint::Bad,
                    _ => Paint::Good,
                };
                let word = if fact.result == "extra" { "proven" } else { fact.result };
                let text = clean_line(&format!("asked for {}, found {}", fact.expected, fact.found));
                line(word, format!("{:<20} {text}", style.paint(paint, &fact.control.name())));
            }
        }
    }
    out
}
