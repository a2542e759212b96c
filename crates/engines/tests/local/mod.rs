//! Runs the engine conformance suite over a local engine.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use cove_core::{Engine, InstanceId, SandboxId, SandboxSpec};
use cove_engines::local::{Kind, LocalEngine};
use cove_engines::supervisor::plan::Directory;
use cove_engines::supervisor::{HelperProgram, SUBCOMMAND};
use cove_testkit::conformance::engine::{Setup, trials};
use libtest_mimic::{Arguments, Failed, Trial};

/// Tries an engine kind; each trial has a state directory and an adapter of its own. An `Err` of
/// `kind` says why this host cannot run it.
pub fn run<K: Kind>(name: &'static str, kind: fn() -> Result<K, String>, spec: fn() -> SandboxSpec) -> ExitCode {
    let arguments = Arguments::from_args();
    let probed = kind();
    let tests = trials()
        .into_iter()
        .map(|trial| {
            let skipped = match &probed {
                Ok(kind) => trial.skipped(kind.capabilities(), true),
                Err(why) => Some(why.clone()),
            };
            let test = Trial::test(format!("{name}::{}", trial.name), move || {
                let place = tempfile::tempdir().map_err(|error| error.to_string())?;
                let setup = setup(kind()?, kind, spec(), place.path())?;
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                runtime.map_err(|error| error.to_string())?.block_on((trial.run)(&setup));
                Ok::<(), Failed>(())
            });
            match skipped {
                Some(why) => test.with_kind(why).with_ignored_flag(true),
                None => test,
            }
        })
        .collect();
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn setup<K: Kind>(first: K, kind: fn() -> Result<K, String>, spec: SandboxSpec, place: &Path) -> Result<Setup, String> {
    let (state, scratch) = (place.join("state"), place.join("scratch"));
    std::fs::create_dir_all(&scratch).map_err(|error| error.to_string())?;
    let instance = InstanceId::new();
    let helper = HelperProgram(vec![env!("CARGO_BIN_EXE_cove-engine-helper").to_owned(), SUBCOMMAND.to_owned()]);
    let adapter = {
        let state = state.clone();
        move |kind: K| -> Result<Arc<dyn Engine>, String> {
            let engine = LocalEngine::new(kind, &state, instance.clone(), helper.clone());
            engine.map(|engine| Arc::new(engine) as Arc<dyn Engine>).map_err(|error| error.chain().join(": "))
        }
    };
    let engine = adapter(first)?;
    let lose = move |id: &SandboxId| {
        let dir = Directory(state.join("sandboxes").join(id.as_str()));
        let pid = i32::try_from(dir.supervisor().expect("it is supervised")).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it lives");
    };
    Ok(Setup {
        engine,
        spec,
        scratch,
        another: Box::new(move || kind().and_then(&adapter).expect("a second adapter")),
        lose: Some(Box::new(lose)),
    })
}
