//! `cove engine`.

use cove_api::EngineReport;
use cove_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::args::EngineCommand;
use crate::context::Context;
use crate::{daemon, kinds, output};

pub async fn run(context: &Context, command: EngineCommand) -> Result<u8> {
    let reports = daemon::connect(context).await?.engines().await?;
    match command {
        EngineCommand::List => {
            let items: Vec<Value> = reports.iter().map(output::json).collect();
            context.printer.list(&kinds::engines(), &items)?;
            Ok(0)
        }
        EngineCommand::Test { engine } => {
            let chosen: Vec<&EngineReport> = match &engine {
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
            let items: Vec<Value> = chosen.iter().flat_map(|report| rows(report)).collect();
            context.printer.list(&kinds::controls(), &items)?;
            match (&engine, chosen.first()) {
                (Some(_), Some(report)) if !report.available => {
                    Err(Error::new(ErrorKind::Unavailable, format!("The engine {} does not work here", report.kind))
                        .because(report.why.clone().unwrap_or_default())
                        .next("cove doctor shows what is missing and how to get it"))
                }
                _ => Ok(0),
            }
        }
    }
}

fn rows(report: &EngineReport) -> Vec<Value> {
    report
        .controls
        .iter()
        .map(|control| {
            let finding = output::json(control);
            json!({
                "engine": report.kind,
                "control": control.control,
                "state": finding["state"],
                "reason": finding["reason"],
            })
        })
        .collect()
}
