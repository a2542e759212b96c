//! The containment catalogue against native sandboxes as root, as a user, and as a user without
//! control groups.
//!
//! One trial a set-up runs everything: a start costs more than an attempt.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program says what it skips")]

#[path = "../../../../crates/engines/tests/setups/mod.rs"]
mod setups;

mod protections;
mod tools;

use std::sync::Arc;

use cove_containment::{EngineGround, Report, Selection, attack};
use cove_containment_suite::{holds, tell};
use cove_core::{Control, InstanceId, Root, SandboxSpec};
use libtest_mimic::{Failed, Trial};
use setups::Setup;

fn main() {
    cove_engines::helper_main();
    setups::main(trials)
}

fn trials(setup: Setup) -> Vec<Trial> {
    let mut out = Vec::new();
    // Not steady yet as a user: attempts at `/proc` now and then end without an answer. COVE_TEST_OPEN=1 runs it.
    let open = setup != Setup::Root && std::env::var_os("COVE_TEST_OPEN").is_none();
    let mut add = |name: &str, trial: fn(Setup) -> Result<(), Failed>| {
        let trial = Trial::test(format!("{}::{name}", setup.name()), move || trial(setup));
        out.push(trial.with_ignored_flag(open));
    };
    add("catalogue", catalogue);
    add("protections", protections::each_is_missed);
    if setup == Setup::Root || std::env::var_os("COVE_TEST_SETUP").is_none() {
        add("tools", tools::work);
    }
    out
}

/// Attacks sandboxes made from a specification.
fn attacked(setup: Setup, selection: Selection, change: impl FnOnce(&mut SandboxSpec)) -> Result<Report, Failed> {
    let told = |error: cove_core::Error| error.chain().join(": ");
    let state = tempfile::Builder::new().prefix("cove-suite-").tempdir()?;
    let engine = setup.engine(&state.path().join("state"), &InstanceId::new()).map_err(told)?;
    let mut spec = SandboxSpec::new(Root::Host);
    spec.hardening.accept_missing = [Control::LimitCpu, Control::LimitMemory, Control::LimitPids].into();
    change(&mut spec);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ground = EngineGround(Arc::new(engine));
    Ok(runtime.block_on(attack(&ground, &spec, selection)).map_err(told)?)
}

fn catalogue(setup: Setup) -> Result<(), Failed> {
    let report = attacked(setup, Selection::All, |_| {})?;
    tell(setup.name(), &report);
    Ok(holds(&report)?)
}
