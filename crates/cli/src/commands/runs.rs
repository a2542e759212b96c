//! `cove runs`.

use std::time::{Duration, Instant};

use cove_api::{Apply, Client, Export};
use cove_core::ledger::GateStatus;
use cove_core::run::StoryStatus;
use cove_core::{Error, ErrorKind, Result, RunRecord};

use super::run::{existing_directory, masked};
use crate::args::RunsCommand;
use crate::context::Context;
use crate::daemon;
use crate::follow::gate_status;
use crate::kinds;
use crate::output::{Format, Kind, Style, clean_block, clean_line, json, text};

pub async fn run(context: &Context, command: RunsCommand) -> Result<u8> {
    let client = daemon::connect(context).await?;
    let say = |text: String| context.printer.say(&text);
    match command {
        RunsCommand::List(page) => {
            let limit = usize::from(page.limit);
            let records = client.runs_before(page.cursor.as_deref(), limit).await?;
            let items: Vec<_> = records.iter().map(masked).collect();
            context.printer.list(&kinds::runs(), &items)?;
            if let Some(last) = records.last().filter(|_| records.len() == limit) {
                say(format!("{limit} are shown; those before: cove runs list --limit {limit} --cursor {}", last.id));
            }
            if items.is_empty() && context.printer.format == Format::Table {
                say("There are no runs; begin one with cove run".to_owned());
            }
        }
        RunsCommand::Show { run } => {
            let record = client.run(&run).await?;
            context.printer.one(&kinds::runs(), &masked(&record), |style| show(&record, style, context.printer.utc))?;
        }
        RunsCommand::Stop { run } => {
            return each(context, &run, async |name| {
                let record = client.stop_run(name).await?;
                Ok(format!("Run {} is being stopped", record.name))
            })
            .await;
        }
        RunsCommand::Pause { run } => {
            let record = client.pause_run(&run).await?;
            say(format!("Run {} pauses; go on with cove runs resume {0}", record.name));
        }
        RunsCommand::Resume { run } => {
            let record = client.resume_run(&run).await?;
            say(format!("Run {} goes on; follow it with cove logs -f {0}", record.name));
        }
        RunsCommand::Retry { run } => {
            let record = client.retry_run(&run).await?;
            say(format!("Run {} tries again; follow it with cove logs -f {0}", record.name));
        }
        RunsCommand::Diff { run, story } => diff(context, &client, &run, story.as_deref()).await?,
        RunsCommand::Apply { run, into, switch } => apply(context, &client, &run, into.as_deref(), switch).await?,
        RunsCommand::Export { run, to } => {
            let directory = context.absolute(&to);
            std::fs::create_dir_all(&directory)
                .map_err(|e| Error::invalid(format!("{} cannot be made", directory.display())).because(e))?;
            let directory = existing_directory(context, &directory)?;
            let done = client.export(&run, &Export { directory }).await?;
            let kind = Kind { columns: &[], id: "files", fields: vec!["files".to_owned()] };
            context.printer.one(&kind, &json(&done), |_| {
                done.files.iter().map(|file| format!("{}\n", clean_line(&file.display().to_string()))).collect()
            })?;
        }
        RunsCommand::Rm { run, yes, force, dry_run } => {
            if dry_run {
                for name in &run {
                    let record = client.run(name).await?;
                    context.printer.write(&format!("{}\n", clean_line(&record.name)))?;
                }
                return Ok(0);
            }
            let question = match run.as_slice() {
                [one] => format!("Forget run {one} with its ledger and files?"),
                many => format!("Forget {} runs with their ledgers and files?", many.len()),
            };
            if !context.confirm(&question, yes)? {
                say("Nothing was removed".to_owned());
                return Ok(0);
            }
            return each(context, &run, async |name| {
                let record = client.run(name).await?;
                if force && !record.phase.is_final() {
                    end(&client, &record).await?;
                }
                client.remove_run(record.id.as_str()).await?;
                Ok(format!("Run {} is forgotten", record.name))
            })
            .await;
        }
    }
    Ok(0)
}

/// Does the same to several things and goes on after a failure: 3 when some failed, the error's own
/// code when there was only one.
pub async fn each(context: &Context, names: &[String], act: impl AsyncFn(&str) -> Result<String>) -> Result<u8> {
    let mut failed = 0;
    for name in names {
        match act(name).await {
            Ok(text) => context.printer.say(&clean_line(&text)),
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                failed += 1;
                crate::output::print_error(&context.printer, &error);
            }
        }
    }
    Ok(if failed == 0 { 0 } else { 3 })
}

/// Stops a run and waits until it is over.
async fn end(client: &Client, record: &RunRecord) -> Result<()> {
    client.stop_run(record.id.as_str()).await?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if client.run(record.id.as_str()).await?.phase.is_final() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Error::new(ErrorKind::Timeout, format!("Run {} has not ended yet", record.name)).next("Try again in a moment"))
}

async fn diff(context: &Context, client: &Client, run: &str, story: Option<&str>) -> Result<()> {
    let bytes = client.diff(run, story).await?;
    if !context.interactive {
        if bytes.is_empty() {
            context.printer.say("Nothing has been changed so far");
        }
        // A patch for git apply must be kept as it is.
        return context.printer.bytes(&bytes);
    }
    let style = &context.printer.style;
    let mut out = String::new();
    for line in clean_block(&String::from_utf8_lossy(&bytes)).lines() {
        use crate::output::Paint;
        let paint = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'd', b'i', b'f', b'f', ..] => Some(Paint::Strong),
            [b'+', ..] => Some(Paint::Good),
            [b'-', ..] => Some(Paint::Bad),
            [b'@', b'@', ..] => Some(Paint::Active),
            _ => None,
        };
        out.push_str(&paint.map_or_else(|| line.to_owned(), |paint| style.paint(paint, line)));
        out.push('\n');
    }
    if out.is_empty() {
        context.printer.say("Nothing has been changed so far");
    }
    context.printer.write(&out)
}

async fn apply(
    context: &Context,
    client: &Client,
    run: &str,
    into: Option<&std::path::Path>,
    switch: bool,
) -> Result<()> {
    let repository = match into {
        Some(directory) => existing_directory(context, directory)?,
        None => {
            let source = client.run(run).await?.spec.repository;
            let path = std::path::PathBuf::from(&source);
            if !path.is_dir() {
                return Err(Error::invalid(format!("The run's source {source} is not a directory here"))
                    .next("Name the repository to bring the branch into: --into DIR"));
            }
            path
        }
    };
    let done = client.apply(run, &Apply { repository: repository.clone(), switch }).await?;
    let kind = Kind {
        columns: &[],
        id: "branch",
        fields: ["branch", "commit", "switched", "notes"].map(str::to_owned).to_vec(),
    };
    context.printer.one(&kind, &json(&done), |_| {
        format!("Branch {} is in {} at {}\n", clean_line(&done.branch), repository.display(), clean_line(&done.commit))
    })?;
    done.notes.iter().for_each(|note| context.printer.warn(note));
    if !done.switched {
        context
            .printer
            .say(&format!("  look at it: git log {0}\n  take it:    git merge {0}", clean_line(&done.branch)));
    }
    Ok(())
}

fn show(record: &RunRecord, style: &Style, utc: bool) -> String {
    use crate::output::Paint;
    let mut out = String::new();
    let value = masked(record);
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            out.push_str(&format!("{name:<10} {text}\n"));
        }
    };
    let (phase, paint) = kinds::phase(record.phase.name());
    line("name", style.paint(Paint::Strong, &clean_line(&record.name)));
    line("id", record.id.to_string());
    line("phase", paint.map_or_else(|| phase.clone(), |paint| style.paint(paint, &phase)));
    let why = record.ending.as_ref().map(cove_core::Ending::reason).or_else(|| record.reason.clone());
    line("reason", clean_line(&why.unwrap_or_default()));
    line("source", clean_line(&record.spec.repository));
    for (name, path) in
        [("base", "base"), ("branch", "branch"), ("head", "head"), ("engine", "engine"), ("agent", "spec.agent.name")]
    {
        line(name, clean_line(&text(&value, path)));
    }
    line("begun", kinds::moment(record.created_at, utc));
    line("attempts", format!("{} of at most {}", record.iterations, record.spec.bounds.iterations));
    let cost = record.usage.cost_usd().map(|cost| format!(", ${cost:.2}")).unwrap_or_default();
    line("spent", format!("{} tokens{cost}", record.usage.tokens()));
    for gate in &record.gates {
        let before = record.baseline.iter().find(|result| result.name == gate.name);
        // One that passed at some accepted commit has to pass ever after, whatever it did before the run.
        let before = match before.map(|result| result.status) {
            None => String::new(),
            Some(GateStatus::Passed) => " (has passed)".to_owned(),
            Some(other) => format!(" ({} before the run)", gate_status(other)),
        };
        line("gate", clean_line(&format!("{}: {}{before}", gate.name, gate.command)));
    }
    for story in &record.stories {
        let (mark, paint) = match story.status {
            StoryStatus::Passed => ("passed", Paint::Good),
            StoryStatus::Working => ("working", Paint::Active),
            StoryStatus::Open => ("open", Paint::Faint),
            StoryStatus::GivenUp => ("given up", Paint::Bad),
        };
        let attempts = match story.attempts {
            0 => String::new(),
            1 => " (1 attempt)".to_owned(),
            more => format!(" ({more} attempts)"),
        };
        let title = clean_line(&format!("{} {}{attempts}", story.id, story.title));
        line("story", format!("{} {title}", style.paint(paint, &format!("{mark:<8}"))));
        if let (Some(feedback), true) = (&story.feedback, story.status != StoryStatus::Passed) {
            let last = feedback.lines().find(|text| !text.trim().is_empty()).unwrap_or_default();
            line("", crate::output::fit(&clean_line(last), 160));
        }
    }
    out
}
