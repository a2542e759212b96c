//! `cove logs`.

use cove_core::{Error, Result, RunRecord};

use super::following::{Following, follow, report};
use super::run::finish;
use crate::args::LogsArgs;
use crate::context::Context;
use crate::daemon;
use crate::follow::{Lines, View};
use crate::output::{Format, Kind, fields_of, json};

/// Entries asked for at once.
const PAGE: usize = 500;

pub async fn run(context: &Context, args: &LogsArgs) -> Result<u8> {
    let client = daemon::connect(context).await?;
    let record = match &args.run {
        Some(run) => client.run(run).await?,
        None => newest(client.runs(1).await?)?,
    };
    if args.raw {
        let attempt = args.attempt.as_deref().map(str::parse).transpose()?;
        let bytes = client.log(record.id.as_str(), attempt.as_ref()).await?;
        if context.interactive {
            // On a terminal the agent's own control sequences would be acted on.
            context.printer.write(&crate::output::clean_block(&String::from_utf8_lossy(&bytes)))?;
        } else {
            context.printer.bytes(&bytes)?;
        }
        return Ok(0);
    }
    if args.follow {
        let how = Following {
            live: args.live,
            timestamps: args.timestamps,
            after: args.after,
            timeout: args.timeout,
            foreground: false,
        };
        let left = follow(context, &client, &record, how).await?;
        if context.printer.is_machine() {
            return finish(context, &record, &left, false);
        }
        report(context, &record.name, &left, false);
        return Ok(left.exit_code());
    }
    let mut view = View::new(&record);
    let printer = &context.printer;
    let lines = Lines { style: printer.style, timestamps: args.timestamps, utc: printer.utc, agent: true };
    let whole = matches!(printer.format, Format::Json | Format::Yaml);
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = client.entries(record.id.as_str(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for entry in page {
            view.apply(&entry);
            if entry.seq <= args.after {
                continue;
            }
            if whole {
                all.push(json(&entry));
            } else if printer.format == Format::Ndjson {
                printer.write(&format!("{}\n", json(&entry)))?;
            } else if let Some(line) = lines.line(&entry, &view) {
                printer.write(&format!("{line}\n"))?;
            }
        }
    }
    if whole {
        let kind = Kind { columns: &[], id: "seq", fields: fields_of::<cove_core::Entry>() };
        printer.list(&kind, &all)?;
    }
    Ok(0)
}

fn newest(runs: Vec<RunRecord>) -> Result<RunRecord> {
    runs.into_iter().next().ok_or_else(|| Error::not_found("There are no runs").next("Begin one with cove run"))
}
