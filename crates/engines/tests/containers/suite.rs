//! The engine conformance suite over a container engine.

use std::path::Path;
use std::sync::Arc;

use cove_core::{Engine, InstanceId, Limits, Root, SandboxId, SandboxSpec};
use cove_engines::supervisor::plan::Directory;
use cove_testkit::conformance::engine::{Setup as Bench, trials as suite};
use libtest_mimic::Trial;

use super::setup::Setup;

/// Everything that is tried in this set-up; what cannot be is named with the reason.
pub fn trials(setup: &Setup) -> Vec<Trial> {
    let probed = setup.kind();
    suite()
        .into_iter()
        .map(|trial| {
            let skipped = match &probed {
                Ok(kind) => trial.skipped(cove_engines::local::Kind::capabilities(kind), true),
                // The engine was named, so it has to be there.
                Err(_) => None,
            };
            let name = format!("{}::{}", setup.name, trial.name);
            if let Some(why) = &skipped {
                println!("SKIP {name}: {why}");
            }
            let setup = setup.clone();
            let test = Trial::test(name, move || {
                let place = tempfile::tempdir()?;
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                let bench = bench(&setup, place.path()).map_err(|error| error.chain().join(": "))?;
                runtime.block_on((trial.run)(&bench));
                Ok(())
            });
            match skipped {
                Some(why) => test.with_kind(why).with_ignored_flag(true),
                None => test,
            }
        })
        .collect()
}

fn bench(setup: &Setup, place: &Path) -> cove_core::Result<Bench> {
    let (state, scratch) = (place.join("state"), place.join("scratch"));
    std::fs::create_dir_all(&scratch).map_err(|error| cove_core::Error::internal("No scratch").because(error))?;
    let instance = InstanceId::new();
    let mut spec = SandboxSpec::new(Root::Host);
    spec.limits = Limits::NONE;
    let engine: Arc<dyn Engine> = Arc::new(setup.engine(&state, &instance)?);
    let of_supervisor = state.clone();
    let lose = move |id: &SandboxId| {
        let directory = Directory(of_supervisor.join("sandboxes").join(id.as_str()));
        let pid = i32::try_from(directory.supervisor().expect("it is supervised")).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it lives");
    };
    let setup = setup.clone();
    Ok(Bench {
        engine,
        spec,
        scratch,
        another: Box::new(move || Arc::new(setup.engine(&state, &instance).expect("a second adapter"))),
        lose: Some(Box::new(lose)),
    })
}
