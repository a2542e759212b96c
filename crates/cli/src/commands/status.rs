//! `cove status`: never starts a daemon.

use cove_core::{Error, ErrorKind, Phase, Result, RunRecord};
use serde_json::json;

use super::run::masked;
use crate::args::StatusArgs;
use crate::context::Context;
use crate::output::{Kind, clean_line};
use crate::{daemon, kinds};

pub async fn run(context: &Context, args: &StatusArgs) -> Result<u8> {
    let running = daemon::running(context).await?;
    if let Some(run) = &args.run {
        let client = match running {
            Some((client, _)) => client,
            // Its records say how the run stands even when nothing works on it now.
            None if !args.exit_status => daemon::start(context).await?,
            None => {
                return Err(Error::new(ErrorKind::Unavailable, "No daemon runs").next("Start it: cove daemon start"));
            }
        };
        let record = client.run(run).await?;
        context.printer.list(&kinds::runs(), &[masked(&record)])?;
        return Ok(if args.exit_status { exit_code(&record) } else { 0 });
    }
    let kind = Kind {
        columns: &[],
        id: "pid",
        fields: [
            "running",
            "version",
            "pid",
            "startedAt",
            "livingRuns",
            "livingSandboxes",
            "engines",
            "dataDir",
            "stateDir",
            "instance",
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    let Some((client, status)) = running else {
        context
            .printer
            .one(&kind, &json!({"running": false}), |_| "No daemon runs; cove run starts one\n".to_owned())?;
        return Ok(0);
    };
    let mut value = crate::output::json(&status);
    value["running"] = true.into();
    let engines: Vec<String> = status.engines.iter().map(ToString::to_string).collect();
    context.printer.one(&kind, &value, |_| {
        format!(
            "The daemon runs (version {}, process {}), engines: {}\n",
            clean_line(&status.version),
            status.pid,
            if engines.is_empty() { "none".to_owned() } else { engines.join(", ") }
        )
    })?;
    if !context.printer.is_machine() && !context.printer.quiet {
        let living: Vec<_> =
            client.runs(200).await?.iter().filter(|record| !record.phase.is_final()).map(masked).collect();
        if !living.is_empty() {
            context.printer.list(&kinds::runs(), &living)?;
        }
    }
    Ok(0)
}

/// The exit code that tells a run's state.
pub fn exit_code(record: &RunRecord) -> u8 {
    match (&record.ending, record.phase) {
        (Some(ending), phase) if phase.is_final() => ending.exit_code(),
        (_, Phase::Paused | Phase::WaitingInput) => 12,
        (None, phase) if phase.is_final() => 1,
        _ => 8,
    }
}
