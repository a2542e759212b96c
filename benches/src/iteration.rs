//! What one attempt costs beside the agent and the checks, on a repository of 10,000 files.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use cove_core::error::Context as _;
use cove_core::{Engine, ErrorKind, ExecSpec, InstanceId, Mount, Result, Root, SandboxId, SandboxSpec};
use cove_engines::HelperProgram;
use cove_git::{CommitMessage, Git};

use crate::series::Series;

const FILES: usize = 10_000;
const ROUNDS: usize = 8;

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
    let parts = [
        "checkout for the agent",
        "sandbox of the agent",
        "work taken out",
        "checkout for the checks",
        "sandbox of the checks",
    ];
    let mut series: Vec<Series> = parts.iter().map(|_| Series::default()).collect();
    let mut whole = Series::default();
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let mut last = begun;
        let mut lap = |number: usize, series: &mut Vec<Series>| {
            series[number].add(last.elapsed());
            last = Instant::now();
        };
        let workspace = dir.path().join(format!("agent-{round}"));
        git.checkout(&bare, &base, "cove/bench", &workspace).await?;
        lap(0, &mut series);
        let edit = format!("echo {round} > /workspace/dir-1/file-1.txt");
        sandboxed(&engine, &workspace, &edit).await?;
        lap(1, &mut series);
        let message = CommitMessage { subject: "feat: one line".to_owned(), ..CommitMessage::default() };
        let keep = format!("refs/cove/attempts/bench/{round}");
        let work = git.collect(&workspace, &bare, &base, &keep, &message).await?;
        let work = work.ok_or_else(|| cove_core::Error::internal("The change was not found"))?;
        lap(2, &mut series);
        let checkout = dir.path().join(format!("gate-{round}"));
        git.checkout(&bare, &work.commit, "cove/bench", &checkout).await?;
        lap(3, &mut series);
        sandboxed(&engine, &checkout, "true").await?;
        lap(4, &mut series);
        whole.add(begun.elapsed());
    }
    for (part, series) in parts.iter().zip(&series) {
        println!("{}", series.line(part));
    }
    println!("{}", whole.line("own overhead of an iteration"));
    Ok(())
}

async fn sandboxed(engine: &dyn Engine, workspace: &Path, script: &str) -> Result<()> {
    let mut spec = SandboxSpec::new(Root::Host);
    spec.mounts.push(Mount {
        source: workspace.to_path_buf(),
        target: "/workspace".into(),
        read_only: false,
        give: true,
    });
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
