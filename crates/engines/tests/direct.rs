//! The engine without isolation, real processes.

#[cfg(target_os = "linux")]
mod local;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use cove_core::{Hardening, Isolation, Limits, Network, Root, SandboxSpec};

    let spec = || {
        let mut spec = SandboxSpec::new(Root::Host);
        spec.isolation = Isolation::Process;
        spec.network = Network::Host;
        spec.limits = Limits::NONE;
        spec.hardening = Hardening { non_root: false, ..Hardening::default() };
        spec
    };
    local::run("direct", || Ok(cove_engines::Direct::new()), spec)
}

#[cfg(not(target_os = "linux"))]
fn main() {}
