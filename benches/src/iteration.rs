//! What one attempt costs beside the agent and the checks, on a repository of 10,000 files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use cove_core::error::Context as _;
use cove_core::{Control, Engine, ErrorKind, ExecSpec, InstanceId, Layer, Mount, Result, Root, SandboxId, SandboxSpec};
use cove_engines::HelperProgram;
use cove_git::{CommitMessage, Git, Layered, Prepared};

use crate::series::Series;

const FILES: usize = 10_000;
const ROUNDS: usize = 8;

/// How the workspaces are made.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// As a checkout of their own each.
    Plain,
    /// Laid over one that is shared.
    Layered,
}

const PARTS: [&str; 6] = [
    "workspace for the agent",
    "sandbox of the agent",
    "work taken out",
    "workspace for the checks",
    "sandbox of the checks",
    "both removed",
];

pub async fn run() -> Result<()> {
    println!("\n## Iteration: everything but agent and checks, {FILES} files");
    let dir = tempfile::tempdir().context(ErrorKind::Internal, "No temporary directory")?;
    let source = dir.path().join("source");
    repository(&source)?;
    let git = Git::new()?;
    let bare = dir.path().join("bare.git");
    let begun = Instant::now();
    git.clone_source(&source.display().to_string(), &bare).await?;
    println!("{:<44} {:>12.1} ms", "clone of the source, once per run", begun.elapsed().as_secs_f64() * 1000.0);
    let base = git.resolve(&bare, "HEAD").await?;
    let engine = cove_engines::native::engine(&dir.path().join("state"), InstanceId::new(), HelperProgram::current()?)?;
    let begun = Instant::now();
    let prepared = Arc::new(git.prepare(&bare, &base, "cove/bench", &dir.path().join("prepared")).await?);
    println!("{:<44} {:>12.1} ms", "shared checkout, once per run", begun.elapsed().as_secs_f64() * 1000.0);
    let mut ways = vec![Way::Plain];
    match engine.capabilities().why_missing(Control::Layers) {
        None => ways.push(Way::Layered),
        Some(why) => println!("not measured: layered workspaces ({why})"),
    }
    let bench = Bench { dir: dir.path(), git, bare, base, engine: &engine, prepared };
    let mut measured: Vec<(Vec<Series>, Series)> =
        ways.iter().map(|_| (PARTS.iter().map(|_| Series::default()).collect(), Series::default())).collect();
    // Not in turns: what removing tens of thousands of files leaves to the disk would be counted as the
    // other's.
    for (way, (series, whole)) in ways.iter().zip(&mut measured).rev() {
        for round in 0..ROUNDS {
            let begun = Instant::now();
            bench.iteration(*way, round, series).await?;
            whole.add(begun.elapsed());
        }
    }
    for (way, (series, whole)) in ways.iter().zip(&measured) {
        let name = if *way == Way::Plain { "own checkouts" } else { "layered" };
        for (part, series) in PARTS.iter().zip(series) {
            println!("{}", series.line(&format!("{name}: {part}")));
        }
        println!("{}", whole.line(&format!("{name}: own overhead of an iteration")));
    }
    Ok(())
}

struct Bench<'a> {
    dir: &'a Path,
    git: Git,
    bare: PathBuf,
    base: String,
    engine: &'a dyn Engine,
    prepared: Arc<Prepared>,
}

/// A workspace of either way.
enum Ground {
    Plain(PathBuf),
    Layered(Layered),
}

impl Bench<'_> {
    async fn iteration(&self, way: Way, round: usize, series: &mut [Series]) -> Result<()> {
        let mut last = Instant::now();
        let mut lap = |number: usize| {
            series[number].add(last.elapsed());
            last = Instant::now();
        };
        let name = if way == Way::Plain { "plain" } else { "layered" };
        let (first, second) =
            (self.dir.join(format!("agent-{name}-{round}")), self.dir.join(format!("gate-{name}-{round}")));
        let ground = self.ground(way, &self.base, &first).await?;
        lap(0);
        let edit = format!("echo {name} {round} > /workspace/dir-1/file-1.txt");
        sandboxed(self.engine, &ground, &edit).await?;
        lap(1);
        let message = CommitMessage { subject: "feat: one line".to_owned(), ..CommitMessage::default() };
        let keep = format!("refs/cove/attempts/{name}/{round}");
        let work = match &ground {
            Ground::Plain(at) => self.git.collect(at, &self.bare, &self.base, &keep, &message).await?,
            Ground::Layered(at) => self.git.collect_layered(at, &self.bare, &self.base, &keep, &message).await?,
        };
        let work = work.ok_or_else(|| cove_core::Error::internal("The change was not found"))?;
        lap(2);
        let checked = self.ground(way, &work.commit, &second).await?;
        lap(3);
        sandboxed(self.engine, &checked, "grep -q . /workspace/dir-1/file-1.txt").await?;
        lap(4);
        for path in [first, second] {
            // Overlayfs leaves a directory that only root may enter.
            let _ = std::fs::remove_dir(path.join("work/work"));
            std::fs::remove_dir_all(path).context(ErrorKind::Internal, "A workspace cannot be removed")?;
        }
        lap(5);
        Ok(())
    }

    async fn ground(&self, way: Way, commit: &str, at: &Path) -> Result<Ground> {
        match way {
            Way::Plain => {
                self.git.checkout(&self.bare, commit, "cove/bench", at).await?;
                Ok(Ground::Plain(at.to_owned()))
            }
            Way::Layered => {
                Ok(Ground::Layered(self.git.layer(&self.bare, &self.prepared, commit, "cove/bench", at).await?))
            }
        }
    }
}

async fn sandboxed(engine: &dyn Engine, ground: &Ground, script: &str) -> Result<()> {
    let mut spec = SandboxSpec::new(Root::Host);
    spec.hardening.accept_missing = [Control::LimitCpu, Control::LimitMemory, Control::LimitPids].into();
    let target = "/workspace".into();
    match ground {
        Ground::Plain(at) => spec.mounts.push(Mount { source: at.clone(), target, read_only: false, give: true }),
        Ground::Layered(at) => {
            spec.layers.push(Layer { lower: at.lower().to_owned(), changes: at.changes().to_owned(), target })
        }
    }
    let id = SandboxId::new();
    engine.create(&id, &spec).await?;
    let exec = engine.exec(&id, &ExecSpec::new(["/bin/sh", "-c", script])).await?;
    let collected = cove_core::engine::collect(exec, &[], 4096).await?;
    engine.remove(&id).await?;
    if collected.exit.success() { Ok(()) } else { Err(cove_core::Error::internal(format!("{collected:?}"))) }
}

fn repository(at: &Path) -> Result<()> {
    let failed = "The repository cannot be made";
    for number in 0..FILES {
        let dir = at.join(format!("dir-{}", number % 100));
        if number < 100 {
            std::fs::create_dir_all(&dir).context(ErrorKind::Internal, failed)?;
        }
        let text = format!("line of file {number}\n").repeat(20);
        std::fs::write(dir.join(format!("file-{number}.txt")), text).context(ErrorKind::Internal, failed)?;
    }
    let identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.com"];
    for arguments in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message", "chore: begin"]]
    {
        let mut git = Command::new("git");
        git.current_dir(at).args(identity).args(arguments).stdout(Stdio::null());
        let status = git.status().context(ErrorKind::Internal, failed)?;
        if !status.success() {
            return Err(cove_core::Error::internal(failed));
        }
    }
    Ok(())
}
