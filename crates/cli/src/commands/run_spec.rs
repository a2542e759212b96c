//! From arguments, settings and files to the specification of a run.

use std::path::{Path, PathBuf};

use cove_core::run::{PrdSource, RunSpec};
use cove_core::{EgressPolicy, Error, ErrorKind, HostRule, Result, Root};
use cove_git::Git;
use cove_ralph::prd::Prd;
use cove_settings::{Origin, Resolved};

use crate::agent_program;
use crate::args::RunArgs;
use crate::context::{Context, read_bounded};
use crate::words;

/// Largest PRD, progress file and template.
const BOUND: u64 = 4 << 20;

/// Everything that is known before a run is asked for.
pub struct Prepared {
    /// The run.
    pub spec: RunSpec,
    /// Its PRD.
    pub prd: Prd,
    /// The local repository, where it is one.
    pub local: Option<PathBuf>,
    /// The commit to start from, where it is known.
    pub base: Option<String>,
    /// Why a real run would not begin: its agent has no key. Only a dry run gets here without one.
    pub keyless: Option<Error>,
}

/// Puts a run's specification together.
///
/// # Errors
/// Whatever is missing or wrong, before anything was started.
pub async fn prepare(context: &Context, args: &RunArgs, git: &Git) -> Result<Prepared> {
    let (repository, local) = repository(context, args)?;
    let base = match &local {
        Some(root) => Some(base_commit(git, root, args.base.as_deref()).await?),
        None => None,
    };
    let project = match (&local, &base) {
        (Some(root), Some(base)) => project_file(git, root, base).await?,
        _ => None,
    };
    let resolved = context.resolve(args.flags(), project)?;
    resolved.warnings.iter().for_each(|warning| context.printer.warn(warning));
    if args.strict && !resolved.ignored.is_empty() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("The repository sets what it may not decide: {}", resolved.ignored.join(", ")),
        )
        .next("Move these settings to your own file, or leave --strict out"));
    }
    let mut parts = resolved.run_parts()?;
    let (prd_file, from_repository) = prd_file(context, args, &resolved, local.as_deref())?;
    let text = read_bounded(&prd_file, BOUND)?.ok_or_else(|| {
        Error::not_found(format!("There is no PRD at {}", prd_file.display()))
            .next("Write one with cove prd init, or name it: cove run FILE")
    })?;
    let prd = Prd::parse(&text, Some(&prd_file))?;
    let progress_path = match (&local, from_repository) {
        (Some(root), true) => inside(root, &resolved.settings.prd.progress, "prd.progress")?,
        _ => prd_file.with_file_name("progress.txt"),
    };
    let progress = read_bounded(&progress_path, BOUND)?.unwrap_or_default();
    let prompt_template = match (&args.prompt, &parts.prompt) {
        (Some(file), _) => Some(template(&context.absolute(file))?),
        (None, Some(file)) => {
            let root = local.as_deref().unwrap_or(&context.directory);
            let from_project = matches!(resolved.values["loop.prompt"].origin, Origin::Project { .. });
            Some(template(&if from_project { inside(root, file, "loop.prompt")? } else { root.join(file) })?)
        }
        (None, None) => None,
    };
    if let Some(command) = &args.agent_command {
        parts.agent.command = Some(words::split(command)?);
    }
    parts.agent.args.extend(args.agent_arg.iter().cloned());
    parts.agent.mounts.extend(args.agent_mount.iter().map(|dir| context.absolute(dir)));
    let bare = std::mem::take(&mut parts.pass_env);
    for entry in bare.iter().chain(&args.agent_env) {
        let (name, value) = variable(context, entry)?;
        parts.agent.env.insert(name, value);
    }
    let hosts = |hosts: &[String]| hosts.iter().map(|host| HostRule(host.clone())).collect::<Vec<_>>();
    parts.allow_hosts.extend(hosts(&args.allow_host));
    parts.block_hosts.extend(hosts(&args.block_host));
    parts.gate_hosts.extend(hosts(&args.gate_host));
    for name in &args.accept_missing {
        let control = acceptable(name)?;
        if !parts.accept_missing.contains(&control) {
            parts.accept_missing.push(control);
        }
    }
    absolute_root(context, local.as_deref(), &mut parts.root)?;
    let prd_source = PrdSource { path: Some(prd_file), text, progress_path: Some(progress_path), progress };
    let mut spec = RunSpec {
        name: args.name.clone().unwrap_or_default(),
        base: args.base.clone(),
        branch: args.branch.clone(),
        accept_no_sandbox: args.i_accept_no_sandbox,
        prompt_template,
        warnings: resolved.warnings.clone(),
        ..RunSpec::new(repository, prd_source)
    };
    parts.apply(&mut spec);
    // A dry run needs no key; it says that the run will.
    let keyless = match credentials(context, &spec) {
        Err(error) if args.dry_run => Some(error),
        other => other.map(|()| None)?,
    };
    place_agent(context, local.as_deref(), &mut spec)?;
    cove_ralph::check_request(&spec)?;
    check_hosts(&spec)?;
    if spec.engine == "direct" && !spec.accept_no_sandbox {
        return Err(Error::new(ErrorKind::Refused, "The engine none gives no isolation at all")
            .next("Choose another with --engine, or add --i-accept-no-sandbox"));
    }
    Ok(Prepared { spec, prd, local, base, keyless })
}

/// Rules that a door would not understand are refused before anything starts.
fn check_hosts(spec: &RunSpec) -> Result<()> {
    let policy = EgressPolicy {
        allow: spec.allow_hosts.iter().chain(&spec.gate_hosts).cloned().collect(),
        block: spec.block_hosts.clone(),
        allow_private: true,
    };
    cove_egress::verdict::Policy::compile(&policy).map(drop)
}

/// The repository as the daemon gets it, and its root where it is local.
fn repository(context: &Context, args: &RunArgs) -> Result<(String, Option<PathBuf>)> {
    let local = match &args.repo {
        Some(text) if is_address(text) => return Ok((text.clone(), None)),
        Some(text) => {
            let path = context.absolute(Path::new(text));
            let path = path.canonicalize().map_err(|e| {
                Error::not_found(format!("There is no repository at {}", path.display()))
                    .because(e)
                    .next("Name one that exists with --repo, or an address such as https://…")
            })?;
            crate::context::repository_around(&path).ok_or(path)
        }
        None => context.repository().ok_or_else(|| context.directory.clone()),
    };
    let root = local.map_err(|path| {
        Error::invalid(format!("{} is not in a Git repository", path.display()))
            .next("Change into one, name one with --repo, or make one: git init && git add -A && git commit")
    })?;
    Ok((root.display().to_string(), Some(root)))
}

fn is_address(text: &str) -> bool {
    text.contains("://") || text.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'))
}

async fn base_commit(git: &Git, root: &Path, base: Option<&str>) -> Result<String> {
    match (git.resolve(root, base.unwrap_or("HEAD")).await, base) {
        (Err(e), None) if e.kind() == ErrorKind::NotFound => {
            Err(Error::invalid(format!("The repository {} has no commits", root.display()))
                .next("Make one: git add -A && git commit -m 'chore: begin'"))
        }
        (other, _) => other,
    }
}

/// The repository's own settings as they are in the commit to start from.
async fn project_file(git: &Git, root: &Path, base: &str) -> Result<Option<(PathBuf, String)>> {
    const PATH: &str = ".cove/config.json";
    let Some(bytes) = git.read(root, base, PATH, 1 << 20).await? else { return Ok(None) };
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::invalid(format!("{PATH} of the repository is not text")).because(e))?;
    Ok(Some((PathBuf::from(PATH), text)))
}

/// The PRD file, and whether it is the repository's own.
fn prd_file(context: &Context, args: &RunArgs, resolved: &Resolved, local: Option<&Path>) -> Result<(PathBuf, bool)> {
    if let Some(file) = args.prd_file() {
        return Ok((context.absolute(file), false));
    }
    match local {
        Some(root) => Ok((inside(root, &resolved.settings.prd.path, "prd.path")?, true)),
        None => Ok((context.directory.join(&resolved.settings.prd.path), false)),
    }
}

/// A path that settings name relative to the repository; it must not lead out of it.
fn inside(root: &Path, path: &Path, key: &str) -> Result<PathBuf> {
    let out = || {
        Error::new(ErrorKind::Refused, format!("ralph.{key} is {}, which leads out of the repository", path.display()))
            .next("Name a file in the repository, or give the file on the command line")
    };
    if path.is_absolute() || path.components().any(|c| matches!(c, std::path::Component::ParentDir)) {
        return Err(out());
    }
    let whole = root.join(path);
    // A symbolic link may lead out as well. What does not exist yet leads nowhere.
    match whole.canonicalize() {
        Ok(real) if !real.starts_with(root.canonicalize().unwrap_or_else(|_| root.to_owned())) => Err(out()),
        _ => Ok(whole),
    }
}

fn template(file: &Path) -> Result<String> {
    let text = read_bounded(file, BOUND)?.ok_or_else(|| {
        Error::not_found(format!("There is no prompt template at {}", file.display()))
            .next("Name one with --prompt, or leave it out for the built-in one")
    })?;
    cove_ralph::prompt::check_template(&text)?;
    Ok(text)
}

/// `NAME` with the value it has here, or `NAME=VALUE`.
pub fn variable(context: &Context, entry: &str) -> Result<(String, String)> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = context.variables.get(entry).ok_or_else(|| {
                Error::invalid(format!("The variable {entry} is not set here"))
                    .next(format!("Set it, or write {entry}=VALUE"))
            })?;
            (entry, value.clone())
        }
    };
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return Err(Error::invalid(format!("{entry:?} is no variable")).next("Write NAME or NAME=VALUE"));
    }
    Ok((name.to_owned(), value))
}

/// A control that may be left out.
pub fn acceptable(name: &str) -> Result<cove_core::Control> {
    use cove_core::capability::acceptable;
    let may: Vec<cove_core::Control> = cove_core::Control::ALL.into_iter().filter(|c| acceptable(*c)).collect();
    may.iter().copied().find(|control| control.name() == name).ok_or_else(|| {
        let names: Vec<String> = may.iter().map(|control| control.name()).collect();
        Error::invalid(format!("The control {name} cannot be left out"))
            .next(format!("These can: {}", names.join(", ")))
    })
}

/// Paths of a root are seen from the repository, or from here.
fn absolute_root(context: &Context, local: Option<&Path>, root: &mut Root) -> Result<()> {
    if let Root::Directory(path) | Root::Archive(path) = root {
        let from_here = context.absolute(path);
        let chosen = match local {
            Some(repository) if !from_here.exists() => repository.join(&*path),
            _ => from_here,
        };
        *path = chosen.canonicalize().map_err(|e| {
            Error::not_found(format!("There is no root at {}", chosen.display()))
                .because(e)
                .next("Name a directory or an archive that holds a root file system")
        })?;
    }
    Ok(())
}

/// Checks the agent, and shows the sandbox what it needs when it is installed outside the system.
fn place_agent(context: &Context, local: Option<&Path>, spec: &mut RunSpec) -> Result<()> {
    let agent = cove_agents::catalog(&spec.agent)?;
    if spec.root != Root::Host || spec.engine == "fake" {
        return Ok(());
    }
    let program = match &mut spec.agent.command {
        Some(command) => {
            // A relative path on the command line is seen from here; the sandbox sees the checkout.
            let first = Path::new(&command[0]);
            let here = context.absolute(first);
            let in_repository = local.is_some_and(|root| here.starts_with(root));
            // A virtual environment in the repository is hardly ever committed: the one here is meant.
            let meant = !in_repository || agent_program::environment(&here).is_some();
            if command[0].contains('/') && first.is_relative() && here.is_file() && meant {
                command[0] = here.display().to_string();
            }
            command[0].clone()
        }
        None => agent.program().to_owned(),
    };
    let path = context.variables.get("PATH").cloned().unwrap_or_default();
    let home = context.variables.get("HOME").map(Path::new);
    let Some(place) = agent_program::find(&program, &path, home)? else {
        let missing = !program.contains('/') && agent_program::look_up(&program, &path).is_none();
        if missing && spec.agent.command.is_none() {
            return Err(Error::not_found(format!(
                "The agent {} needs the program {program}, which is not installed",
                spec.agent.name
            ))
            .next("Install it, use an image that has it (--image), or choose another agent (--agent)"));
        }
        return Ok(());
    };
    let real = place.program.display().to_string();
    match &mut spec.agent.command {
        Some(command) => command[0] = real,
        None => spec.agent.command = Some(vec![real]),
    }
    for mount in place.mounts {
        if !spec.agent.mounts.contains(&mount) {
            spec.agent.mounts.push(mount);
        }
    }
    if !place.path.is_empty() && !spec.agent.env.contains_key("PATH") {
        let dirs: Vec<String> = place.path.iter().map(|dir| dir.display().to_string()).collect();
        let base = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        spec.agent.env.insert("PATH".to_owned(), format!("{}:{base}", dirs.join(":")));
    }
    Ok(())
}

/// Variables of which a built-in agent needs one to reach its model.
pub const CREDENTIALS: [(&str, &[&str]); 3] = [
    ("claude", &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_BASE_URL"]),
    ("codex", &["OPENAI_API_KEY", "CODEX_API_KEY", "OPENAI_BASE_URL"]),
    ("gemini", &["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"]),
];

/// Stops before anything is started when an agent surely cannot sign in.
fn credentials(context: &Context, spec: &RunSpec) -> Result<()> {
    if spec.agent.command.is_some() || spec.agent.definition.is_some() || spec.engine == "fake" {
        return Ok(());
    }
    let Some((_, names)) = CREDENTIALS.iter().find(|(agent, _)| *agent == spec.agent.name) else { return Ok(()) };
    if names.iter().any(|name| spec.agent.env.contains_key(*name)) {
        return Ok(());
    }
    let here = names.iter().find(|name| context.variables.get(**name).is_some_and(|value| !value.is_empty()));
    let error = Error::new(ErrorKind::Denied, format!("The agent {} has no key for its model", spec.agent.name));
    Err(match here {
        Some(name) => error.next(format!("{name} is set here; pass it on with --agent-env {name}")),
        None => error.next(format!(
            "Set {} and pass it on with --agent-env {}; or set ralph.agent.env in your own settings",
            names[0], names[0]
        )),
    })
}
