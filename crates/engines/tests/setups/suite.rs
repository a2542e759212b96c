//! The engine conformance suite over the native engine.

use std::path::Path;
use std::sync::Arc;

use cove_core::{Engine, InstanceId, Limits, Root, SandboxId, SandboxSpec};
use cove_engines::supervisor::plan::Directory;
use cove_testkit::conformance::engine::{Setup as Bench, trials};
use libtest_mimic::Trial;

use super::Setup;

/// The suite's trials in this set-up; those that cannot be tried are named with the reason.
pub fn suite(setup: Setup) -> Vec<Trial> {
    let scratch = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(error) => panic!("no temporary directory: {error}"),
    };
    let probed = setup.engine(scratch.path(), &InstanceId::new());
    let capabilities = probed.as_ref().map(|engine| engine.capabilities().clone());
    trials()
        .into_iter()
        .map(|trial| {
            let skipped = match &capabilities {
                Ok(capabilities) => trial.skipped(capabilities, true),
                Err(error) => Some(error.to_string()),
            };
            let test = Trial::test(format!("{}::suite::{}", setup.name(), trial.name), move || {
                let place = tempfile::tempdir()?;
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                let bench = bench(setup, place.path()).map_err(|error| error.chain().join(": "))?;
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

fn bench(setup: Setup, place: &Path) -> cove_core::Result<Bench> {
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
    Ok(Bench {
        engine,
        spec,
        scratch,
        another: Box::new(move || Arc::new(setup.engine(&state, &instance).expect("a second adapter"))),
        lose: Some(Box::new(lose)),
    })
}
