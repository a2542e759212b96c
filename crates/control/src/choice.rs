//! Which engine serves a specification.

use std::sync::Arc;

use cove_core::{
    Capabilities, Control, Engine, EngineKind, Error, ErrorKind, Isolation, Limits, Network, Result, SandboxSpec,
};
use cove_layers::refuse_lacking;

/// What `auto` tries, in this order. The engine without isolation is never among them.
const AUTO: [EngineKind; 3] = [EngineKind::Native, EngineKind::Docker, EngineKind::Podman];

/// Has the engines proven that [`choose`] may take: the one that is named, or of those that `auto` tries as many
/// as it takes until one lacks nothing.
///
/// # Errors
/// Why the named engine is not there. Of those that `auto` passes over none.
pub(crate) async fn prove(engines: &[Arc<dyn Engine>], wanted: &str, spec: &SandboxSpec) -> Result<()> {
    let automatic = wanted == "auto" || wanted.is_empty();
    let kinds = if automatic { AUTO.to_vec() } else { vec![kind_of(wanted)?] };
    for engine in kinds.into_iter().filter_map(|kind| engines.iter().find(|e| e.kind() == kind)) {
        match engine.prove().await {
            Err(error) if !automatic => return Err(error),
            Err(error) => tracing::debug!(engine = %engine.kind(), %error, "passed over"),
            Ok(()) if engine.capabilities().lacking(spec).is_empty() => break,
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The engine for `spec`, and the specification as it will be asked for: unchanged, except for the
/// engine without isolation (see [`without_isolation`]).
pub(crate) fn choose(
    engines: &[Arc<dyn Engine>],
    wanted: &str,
    accept_no_sandbox: bool,
    spec: &SandboxSpec,
) -> Result<(Arc<dyn Engine>, SandboxSpec)> {
    if wanted == "auto" || wanted.is_empty() {
        return automatic(engines, spec).map(|engine| (engine, spec.clone()));
    }
    let kind = kind_of(wanted)?;
    if kind == EngineKind::Direct && !accept_no_sandbox {
        return Err(Error::new(ErrorKind::Refused, "The engine direct runs agents without any isolation")
            .next("Choose another engine, or add --i-accept-no-sandbox when that is what you want"));
    }
    let engine = engines.iter().find(|e| e.kind() == kind).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, format!("The engine {kind} is not there"))
            .next("`cove doctor` shows the engines of this host")
    })?;
    let spec = if kind == EngineKind::Direct { without_isolation(spec, engine.capabilities()) } else { spec.clone() };
    refuse_lacking(kind, engine.capabilities(), &spec)?;
    Ok((engine.clone(), spec))
}

fn kind_of(name: &str) -> Result<EngineKind> {
    let name = if name == "none" { "direct" } else { name };
    serde_json::from_value(serde_json::Value::String(name.to_owned())).map_err(|_| {
        Error::invalid(format!("{name:?} is not an engine"))
            .next("Choose auto, native, docker, podman or, without isolation, direct")
    })
}

fn automatic(engines: &[Arc<dyn Engine>], spec: &SandboxSpec) -> Result<Arc<dyn Engine>> {
    let there = || AUTO.into_iter().filter_map(|kind| engines.iter().find(|e| e.kind() == kind));
    let lacks = |engine: &&Arc<dyn Engine>| engine.capabilities().lacking(spec).len();
    // The first of those that lack least, which is the first that lacks nothing where there is one.
    let best = there().min_by_key(lacks).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "No engine that isolates is there")
            .next("`cove doctor` shows what this host lacks")
    })?;
    refuse_lacking(best.kind(), best.capabilities(), spec)?;
    Ok(best.clone())
}

/// The specification once a person accepted to go without a sandbox: a process of the host, with the
/// limits that can be had, and the host's network where there is neither none nor a door to be had.
/// The record shows it as such.
fn without_isolation(spec: &SandboxSpec, has: &Capabilities) -> SandboxSpec {
    let mut spec = spec.clone();
    spec.isolation = Isolation::Process;
    let network = match spec.network {
        Network::None => Control::NetworkNone,
        Network::Door { .. } => Control::NetworkDoor,
        Network::Host => Control::NetworkHost,
    };
    if !has.has(network) {
        spec.network = Network::Host;
    }
    let asked = spec.limits;
    spec.limits = Limits {
        cpus: asked.cpus.filter(|_| has.has(Control::LimitCpu)),
        memory_bytes: asked.memory_bytes.filter(|_| has.has(Control::LimitMemory)),
        pids: asked.pids.filter(|_| has.has(Control::LimitPids)),
        disk_bytes: asked.disk_bytes.filter(|_| has.has(Control::LimitDisk)),
        open_files: asked.open_files.filter(|_| has.has(Control::LimitOpenFiles)),
        wall_seconds: asked.wall_seconds.filter(|_| has.has(Control::LimitWall)),
    };
    spec
}
