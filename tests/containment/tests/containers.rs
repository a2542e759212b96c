//! The containment catalogue against containers of Docker, and of Podman as root and as a user.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program says what it skips")]
#![allow(unsafe_code, reason = "a test changes its user")]

#[path = "../../../crates/engines/tests/containers/setup.rs"]
mod setup;

use std::sync::Arc;

use cove_containment::{EngineGround, Report, Selection, attack, empty_root};
use cove_containment_suite::{holds, tell};
use cove_core::capability::acceptable;
use cove_core::{Control, Engine, InstanceId, Root, SandboxSpec, User};
use libtest_mimic::{Failed, Trial};
use setup::Setup;

fn main() {
    cove_engines::helper_main();
    setup::main(|setup| {
        let setup = setup.clone();
        // Not green yet: what is open is listed in docs/isolation.md. COVE_TEST_OPEN=1 runs it.
        let open = std::env::var_os("COVE_TEST_OPEN").is_none();
        vec![Trial::test(format!("{}::catalogue", setup.name), move || catalogue(&setup)).with_ignored_flag(open)]
    })
}

fn catalogue(setup: &Setup) -> Result<(), Failed> {
    let report = attacked(setup)?;
    tell(setup.name, &report);
    Ok(holds(&report)?)
}

/// Attacks sandboxes with an empty root: the program brings all that it needs.
fn attacked(setup: &Setup) -> Result<Report, Failed> {
    let told = |error: cove_core::Error| error.chain().join(": ");
    let place = tempfile::Builder::new().prefix("cove-suite-").tempdir()?;
    let engine = setup.engine(&place.path().join("state"), &InstanceId::new()).map_err(told)?;
    let has = |control| engine.capabilities().has(control);
    let mut spec = SandboxSpec::new(Root::Archive(empty_root(place.path()).map_err(told)?));
    spec.hardening.accept_missing = Control::ALL.into_iter().filter(|c| acceptable(*c) && !has(*c)).collect();
    // An engine of a user has that user's files to give, and nobody else to give them to.
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if uid != 0 {
        spec.user = User { uid, gid };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ground = EngineGround(Arc::new(engine));
    Ok(runtime.block_on(attack(&ground, &spec, Selection::All)).map_err(told)?)
}
