//! `cove engine`: which engines work here, and what each really gives.

mod live;
mod profile;
mod table;

use cove_api::{Client, EngineReport};
use cove_core::{EngineKind, Error, ErrorKind, Result};
use serde_json::Value;

use crate::args::{EngineCommand, EngineTest};
use crate::context::Context;
use crate::output::{Format, json};
use crate::{daemon, kinds};

use live::Live;
use profile::Profile;

/// What `auto` tries, in this order.
const AUTO: [EngineKind; 3] = [EngineKind::Native, EngineKind::Docker, EngineKind::Podman];

pub async fn run(context: &Context, command: EngineCommand) -> Result<u8> {
    let client = daemon::connect(context).await?;
    let reports = client.engines().await?;
    match command {
        EngineCommand::List => {
            let items: Vec<Value> = reports.iter().map(json).collect();
            context.printer.list(&kinds::engines(), &items)?;
            Ok(0)
        }
        EngineCommand::Test(args) => test(context, &client, &reports, &args).await,
    }
}

/// One engine, judged by what a run of this user would ask for.
pub struct Tested<'a> {
    report: &'a EngineReport,
    profile: Profile,
    live: Live,
}

impl Tested<'_> {
    /// Why a run would not begin with it.
    fn failure(&self) -> Option<Error> {
        let kind = self.report.kind;
        if !self.report.available {
            let why = self.report.why.clone().unwrap_or_default();
            let (why, remedy) = table::split(&why);
            return Some(
                Error::new(ErrorKind::Unavailable, format!("The engine {kind} does not work here"))
                    .because(why.to_owned())
                    .next(remedy.unwrap_or("cove doctor shows what is missing and how to get it").to_owned()),
            );
        }
        let lacking = self.profile.lacking();
        if !lacking.is_empty() {
            let names: Vec<String> = lacking.iter().map(ToString::to_string).collect();
            let error = Error::new(
                ErrorKind::Unsupported,
                format!("The engine {kind} does not give all that a run asks for: {}", names.join(", ")),
            );
            return Some(if lacking.iter().all(|control| cove_core::capability::acceptable(*control)) {
                error.next(format!(
                    "Runs can go without: --accept-missing {}; or follow the remedies above",
                    names.join(",")
                ))
            } else {
                error.next("Follow the remedies above, or choose another engine")
            });
        }
        match &self.live {
            Live::Failed { error } => Some(
                Error::new(
                    ErrorKind::NotStarted,
                    format!("A sandbox of the engine {kind} could not be made or proven"),
                )
                .because(error.told().join(": "))
                .next(error.next_step().unwrap_or("cove doctor checks this machine").to_owned()),
            ),
            _ => None,
        }
    }
}

async fn test(context: &Context, client: &Client, reports: &[EngineReport], args: &EngineTest) -> Result<u8> {
    let asked = args.engine.as_deref().filter(|name| *name != "auto");
    let chosen: Vec<&EngineReport> = match asked {
        Some(name) => {
            let name = if name == "none" { "direct" } else { name };
            let found: Vec<_> = reports.iter().filter(|report| report.kind.to_string() == name).collect();
            if found.is_empty() {
                let known: Vec<String> = reports.iter().map(|report| report.kind.to_string()).collect();
                return Err(Error::not_found(format!("There is no engine {name}"))
                    .next(format!("The engines are {}", known.join(", "))));
            }
            found
        }
        None => reports.iter().collect(),
    };
    let asked_for = profile::Asked::new(context, args)?;
    let mut tested = Vec::new();
    for report in chosen {
        let profile = asked_for.of(report);
        let live = if args.no_live { Live::skipped("--no-live") } else { live::make(client, report, &profile).await };
        tested.push(Tested { report, profile, live });
    }
    // Of the engines `auto` tries, it takes the first of those that lack least.
    let auto = AUTO
        .into_iter()
        .filter_map(|kind| tested.iter().find(|one| one.report.kind == kind))
        .min_by_key(|one| (!one.report.available, one.profile.lacking().len()));
    let decisive = match asked {
        Some(_) => tested.first(),
        None => auto,
    };
    let name = decisive.map(|one| one.report.kind);
    if matches!(context.printer.format, Format::Table | Format::Wide) {
        context.printer.write(&table::text(&tested, name.filter(|_| asked.is_none()), &context.printer.style))?;
    } else {
        let items: Vec<Value> = tested.iter().map(|one| table::document(one, name)).collect();
        context.printer.list(&kinds::tested_engines(), &items)?;
    }
    match decisive.map(Tested::failure) {
        Some(None) => Ok(0),
        Some(Some(error)) => Err(error),
        None => Err(Error::new(ErrorKind::Unavailable, "No engine that isolates is there")
            .next("cove doctor shows what this machine lacks")),
    }
}
