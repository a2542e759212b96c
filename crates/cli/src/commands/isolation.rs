//! `cove doctor --isolation`: real sandboxes, attacked.

use std::time::Duration;

use async_trait::async_trait;
use cove_api::{Client, EngineReport, NewSandbox};
use cove_containment::catalogue::Probe;
use cove_containment::{Ground, Group, Report, Selection, attack, empty_root};
use cove_core::capability::{Finding, acceptable};
use cove_core::{
    Control, EngineKind, Error, ErrorKind, Exec, ExecSpec, Isolation, Result, Root, SandboxId, SandboxInfo,
    SandboxSpec, User,
};
use serde_json::{Value, json};

use super::isolation_text;
use crate::args::DoctorArgs;
use crate::context::Context;
use crate::output::Format;
use crate::{daemon, kinds, output};

/// Sandboxes of a check that was cut off end by themselves after this time.
const WALL_SECONDS: u64 = 900;

/// Label by which the sandboxes of one check are found again.
const CHECK: &str = "run.cove.check";

pub async fn run(context: &Context, args: &DoctorArgs) -> Result<u8> {
    let client = daemon::connect(context).await?;
    let engines = chosen(&client.engines().await?, args.engine.as_deref())?;
    let check = format!("doctor-{}", std::process::id());
    let selection = if args.full { Selection::All } else { Selection::Probes };
    let work = async {
        let mut reports = Vec::new();
        for engine in &engines {
            context.printer.say(&format!("Attacking sandboxes of the engine {}", engine.kind));
            reports.push(one(&client, engine, &check, selection).await?);
        }
        Ok::<_, Error>(reports)
    };
    let reports = tokio::select! {
        reports = work => reports,
        _ = tokio::signal::ctrl_c() => {
            Err(Error::new(ErrorKind::Interrupted, "The check was cut off; its sandboxes are removed"))
        }
    };
    if reports.is_err() {
        remove_all(&client, &check).await;
    }
    let reports = reports?;
    if context.printer.format == Format::Table {
        let style = &context.printer.style;
        let text =
            if args.full { isolation_text::full(&reports, style) } else { isolation_text::matrix(&reports, style) };
        context.printer.write(&text)?;
    } else {
        let items: Vec<Value> = reports.iter().map(document).collect();
        context.printer.list(&kinds::isolation(), &items)?;
    }
    Ok(u8::from(!reports.iter().all(Report::holds)))
}

/// The engines that isolate here, or the one that was named.
fn chosen(reports: &[EngineReport], name: Option<&str>) -> Result<Vec<EngineReport>> {
    let isolates =
        |report: &&EngineReport| report.available && report.isolation.iter().any(|l| *l > Isolation::Process);
    match name {
        None => {
            let found: Vec<EngineReport> = reports.iter().filter(isolates).cloned().collect();
            if found.is_empty() {
                return Err(Error::new(ErrorKind::Unavailable, "No engine can isolate an agent on this machine")
                    .next("cove doctor shows what is missing and how to get it"));
            }
            Ok(found)
        }
        Some(name) => {
            let found = reports.iter().find(|report| report.kind.to_string() == name);
            let found = found.ok_or_else(|| {
                let known: Vec<String> = reports.iter().map(|report| report.kind.to_string()).collect();
                Error::not_found(format!("There is no engine {name}"))
                    .next(format!("The engines are {}", known.join(", ")))
            })?;
            if !isolates(&found) {
                return Err(Error::new(ErrorKind::Unavailable, format!("The engine {name} does not isolate here"))
                    .because(found.why.clone().unwrap_or_else(|| "it has no isolation to try".to_owned()))
                    .next("cove engine test shows each control"));
            }
            Ok(vec![found.clone()])
        }
    }
}

async fn one(client: &Client, engine: &EngineReport, check: &str, selection: Selection) -> Result<Report> {
    let proven = |control: Control| {
        engine.controls.iter().any(|report| report.control == control && report.finding == Finding::Proven)
    };
    // Engines that cannot show the host's programs get a root without any: the attacks bring their own.
    let place = tempfile::tempdir().map_err(|e| Error::internal("No temporary directory could be made").because(e))?;
    let root = if proven(Control::RootHost) { Root::Host } else { Root::Archive(empty_root(place.path())?) };
    let mut spec = SandboxSpec::new(root);
    // A container engine of a user has that user's files to give, and nobody else to give them to.
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if uid != 0 && matches!(engine.kind, EngineKind::Docker | EngineKind::Podman) {
        spec.user = User { uid, gid };
    }
    spec.labels.insert("run.cove.role".to_owned(), "isolation-check".to_owned());
    spec.labels.insert(CHECK.to_owned(), check.to_owned());
    spec.limits.wall_seconds = proven(Control::LimitWall).then_some(WALL_SECONDS);
    spec.hardening.accept_missing =
        Control::ALL.into_iter().filter(|control| acceptable(*control) && !proven(*control)).collect();
    attack(&Daemon { client, engine: engine.kind.to_string() }, &spec, selection).await
}

async fn remove_all(client: &Client, check: &str) {
    for sandbox in client.sandboxes().await.unwrap_or_default() {
        if sandbox.spec.labels.get(CHECK).is_some_and(|label| label == check) {
            let _ = client.remove_sandbox(sandbox.id.as_str()).await;
        }
    }
}

/// The report as a document.
fn document(report: &Report) -> Value {
    let score = |score: cove_containment::Score| {
        let mut value = output::json(&score);
        value["percent"] = json!(score.percent());
        value
    };
    let groups = Group::ALL
        .map(|group| (output::json(&group).as_str().unwrap_or_default().to_owned(), score(report.score(Some(group)))));
    let probes = Probe::ALL
        .map(|probe| (output::json(&probe).as_str().unwrap_or_default().to_owned(), score(report.probe(probe))));
    json!({
        "engine": report.engine,
        "holds": report.holds(),
        "score": score(report.score(None)),
        "groups": Value::Object(groups.into_iter().collect()),
        "probes": Value::Object(probes.into_iter().collect()),
        "reachableCalls": report.reachable_calls(),
        "families": report.reachable_families(),
        "changed": report.changed,
        "missing": report.missing,
        "seconds": report.seconds,
        "lines": report.lines,
    })
}

/// Sandboxes of one engine, through the daemon.
struct Daemon<'a> {
    client: &'a Client,
    engine: String,
}

#[async_trait]
impl Ground for Daemon<'_> {
    fn name(&self) -> String {
        self.engine.clone()
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<SandboxInfo> {
        let wanted = NewSandbox { engine: self.engine.clone(), accept_no_sandbox: false, spec: spec.clone() };
        self.client.create_sandbox(&wanted).await
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        self.client.exec(id.as_str(), spec).await
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.client.sandbox(id.as_str()).await
    }

    async fn stop(&self, id: &SandboxId) -> Result<()> {
        self.client.stop_sandbox(id.as_str(), Duration::ZERO).await.map(drop)
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        self.client.remove_sandbox(id.as_str()).await
    }
}
