//! Native create, exec `true`, remove, beside what others need for the same.

use std::time::Instant;

use cove_core::engine::collect;
use cove_core::error::Context as _;
use cove_core::{Engine, ErrorKind, ExecSpec, InstanceId, Result, Root, SandboxId, SandboxSpec};
use cove_engines::HelperProgram;

use crate::peers;
use crate::series::Series;

const ROUNDS: usize = 40;

/// One sandbox from nothing to nothing.
pub async fn once(engine: &dyn Engine, spec: &SandboxSpec) -> Result<()> {
    let id = SandboxId::new();
    engine.create(&id, spec).await?;
    let exec = engine.exec(&id, &ExecSpec::new(["/bin/true"])).await?;
    let collected = collect(exec, &[], 4096).await?;
    engine.remove(&id).await?;
    if collected.exit.success() { Ok(()) } else { Err(cove_core::Error::internal(format!("{:?}", collected.exit))) }
}

pub async fn run() -> Result<()> {
    println!("\n## Sandbox: create, exec true, remove");
    let dir = tempfile::tempdir().context(ErrorKind::Internal, "No temporary directory")?;
    let root = peers::root(dir.path())?;
    let engine = cove_engines::native::engine(&dir.path().join("state"), InstanceId::new(), HelperProgram::current()?)?;
    let spec = SandboxSpec::new(Root::Directory(root.clone()));
    let host = SandboxSpec::new(Root::Host);
    let peers = peers::available(dir.path(), &root)?;
    let (mut ours, mut ours_host) = (Series::default(), Series::default());
    let mut theirs: Vec<Series> = peers.iter().map(|_| Series::default()).collect();
    once(&engine, &spec).await?;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        once(&engine, &spec).await?;
        ours.add(begun.elapsed());
        let begun = Instant::now();
        once(&engine, &host).await?;
        ours_host.add(begun.elapsed());
        for (peer, series) in peers.iter().zip(&mut theirs) {
            let begun = Instant::now();
            if peer.run() {
                series.add(begun.elapsed());
            }
        }
    }
    println!("{}", ours.line("cove native, root directory"));
    println!("{}", ours_host.line("cove native, root host"));
    for (peer, series) in peers.iter().zip(&theirs) {
        println!("{}", series.line(peer.name));
        println!("{:<44} {:>12.3}", format!("ratio cove / {}", peer.name), ours.ratio(series));
    }
    let id = SandboxId::new();
    engine.create(&id, &spec).await?;
    let mut exec = Series::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let process = engine.exec(&id, &ExecSpec::new(["/bin/true"])).await?;
        collect(process, &[], 4096).await?;
        exec.add(begun.elapsed());
    }
    engine.remove(&id).await?;
    println!("{}", exec.line("cove native, exec true in a running sandbox"));
    Ok(())
}
