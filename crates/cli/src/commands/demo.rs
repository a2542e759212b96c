//! `cove demo`: a small repository, a scripted agent that also cheats, a real sandbox. Everything
//! lives in a directory of its own and is gone afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use cove_api::Client;
use cove_core::ledger::Verdict;
use cove_core::quantity::format_duration;
use cove_core::run::{AgentChoice, PrdSource, RunSpec};
use cove_core::{Ending, Entry, Error, ErrorKind, Fact, Result, RunRecord};
use cove_server::{Daemon, Options};
use cove_settings::{Policy, clamp};

use super::following::{Following, Left, follow};
use super::run_spec::acceptable;
use crate::args::DemoArgs;
use crate::context::Context;
use crate::demo::bundle;
use crate::output::{Paint, clean_block, clean_line};

/// Longest a demonstration may take.
const BOUND: Duration = Duration::from_secs(300);
/// A host that the agent knocks at, and must not reach.
const KNOCKED_AT: &str = "collector.example";

pub async fn run(context: &Context, args: &DemoArgs) -> Result<u8> {
    let begun = Instant::now();
    let place = tempfile::Builder::new()
        .prefix("cove-demo-")
        .tempdir()
        .map_err(|e| Error::internal("There is no room for the demonstration").because(e).next("Set TMPDIR"))?;
    let root = place.path().canonicalize().unwrap_or_else(|_| place.path().to_owned());
    let files = bundle::write(&root)?;
    files.begin().await?;
    let say = |text: &str| context.printer.say(text);
    say("A spending log in shell and awk, three stories, and an agent that is a script: it does the work,");
    say("and once it breaks something, knocks at a foreign host, disables the check and claims to be done.\n");
    let mut spec = spec(&root, &files, args)?;
    clamp(&Policy::load(&context.paths)?, &mut spec)?;
    let daemon = Daemon::start(Options::new(root.join("data"), root.join("s"), root.join("cache"))).await?;
    let client = Client::unix(daemon.socket());
    let outcome = story(context, &client, &spec).await;
    daemon.stop().await;
    let (left, entries, diff) = outcome?;
    let code = match &left {
        Left::Over(record) => judge(context, record, &entries, &diff, begun.elapsed())?,
        other => other.exit_code(),
    };
    if args.keep {
        say(&format!("Its directory is {}", place.keep().display()));
    }
    Ok(code)
}

fn spec(root: &Path, files: &bundle::DemoFiles, args: &DemoArgs) -> Result<RunSpec> {
    let text = std::fs::read_to_string(&files.prd)
        .map_err(|e| Error::internal("The demonstration's PRD cannot be read").because(e))?;
    let engine = if args.engine == "none" { "direct" } else { &args.engine };
    Ok(RunSpec {
        name: "demo".to_owned(),
        repository: files.repository.display().to_string(),
        base: None,
        branch: None,
        prd: PrdSource {
            path: Some(files.prd.clone()),
            text,
            progress_path: Some(root.join("progress.txt")),
            progress: String::new(),
        },
        agent: AgentChoice {
            name: "command".to_owned(),
            command: Some(["sh", "-c", bundle::AGENT].map(str::to_owned).to_vec()),
            ..AgentChoice::default()
        },
        engine: engine.to_owned(),
        accept_no_sandbox: args.i_accept_no_sandbox,
        root: cove_core::Root::Host,
        limits: cove_core::Limits::default(),
        accept_missing: args.accept_missing.iter().map(|name| acceptable(name)).collect::<Result<_>>()?,
        allow_hosts: Vec::new(),
        block_hosts: Vec::new(),
        gate_hosts: Vec::new(),
        gates: None,
        bounds: cove_core::run::Bounds { wall_seconds: Some(BOUND.as_secs()), ..Default::default() },
        parallel: 1,
        token_means: cove_core::run::TokenMeaning::Story,
        allow_empty: false,
        trust_test_changes: false,
        prompt_template: None,
        warnings: Vec::new(),
    })
}

async fn story(context: &Context, client: &Client, spec: &RunSpec) -> Result<(Left, Vec<Entry>, Vec<u8>)> {
    let record = client.submit(spec, None).await.map_err(|error| match error.kind() {
        ErrorKind::Unsupported | ErrorKind::Unavailable | ErrorKind::NotStarted => {
            let why = error.chain().join(": ");
            let next = error.next_step().unwrap_or("cove doctor shows what is missing and how to get it").to_owned();
            Error::new(error.kind(), "The demonstration needs a sandbox that this machine cannot give")
                .because(why)
                .next(next)
        }
        _ => error,
    })?;
    let how = Following { live: true, timeout: Some(BOUND), foreground: true, ..Following::default() };
    let left = follow(context, client, &record, how).await?;
    let id = record.id.as_str();
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().map_or(0, |entry| entry.seq);
        let page = client.entries(id, after, 500).await?;
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    let diff = if matches!(left, Left::Over(_)) { client.diff(id, None).await? } else { Vec::new() };
    Ok((left, entries, diff))
}

/// One thing that the demonstration has to show.
struct Shown {
    what: &'static str,
    how: Option<String>,
}

fn judge(context: &Context, record: &RunRecord, entries: &[Entry], diff: &[u8], took: Duration) -> Result<u8> {
    let printer = &context.printer;
    let style = &printer.style;
    let shown = expectations(record, entries);
    let mut out = String::from("\nThe branch that came of it:\n\n");
    out.push_str(&clean_block(&String::from_utf8_lossy(diff)));
    out.push_str("\nWhat was to be seen:\n");
    for Shown { what, how } in &shown {
        let (mark, paint, text) = match how {
            Some(text) => (style.symbol("✓", "+"), Paint::Good, text.as_str()),
            None => (style.symbol("✗", "x"), Paint::Bad, "not seen"),
        };
        out.push_str(&format!("  {} {what}: {}\n", style.paint(paint, mark), clean_line(text)));
    }
    let reason = record.ending.as_ref().map(Ending::reason).unwrap_or_default();
    out.push_str(&format!("\n{} after {}\n", clean_line(&reason), format_duration(took)));
    printer.write(&out)?;
    if shown.iter().all(|shown| shown.how.is_some()) {
        printer.say("Next: cd into a repository of yours, cove prd init, cove run");
        return Ok(0);
    }
    Err(Error::internal("The demonstration did not show all it should")
        .next("Run cove doctor, and report it with cove demo -o ndjson"))
}

fn expectations(record: &RunRecord, entries: &[Entry]) -> Vec<Shown> {
    let find = |pick: &dyn Fn(&Fact) -> Option<String>| entries.iter().find_map(|entry| pick(&entry.fact));
    let refused = |host: &'static str| {
        move |fact: &Fact| match fact {
            Fact::Egress { event, .. } if !event.allowed && event.host == host => Some(event.reason.clone()),
            _ => None,
        }
    };
    let passed = record.stories.iter().filter(|story| story.commit.is_some()).count();
    let succeeded = record.ending == Some(Ending::Succeeded) && passed == record.stories.len();
    vec![
        Shown { what: "all stories passed their gates", how: succeeded.then(|| format!("{passed} of {passed}")) },
        Shown { what: "the foreign host was not reached", how: find(&refused(KNOCKED_AT)) },
        Shown { what: "the cloud's metadata was not reached", how: find(&refused("169.254.169.254")) },
        Shown {
            what: "the disabled check was noticed",
            how: find(&|fact| match fact {
                Fact::Collected { flags, .. } if !flags.is_empty() => Some(flags.join("; ")),
                _ => None,
            }),
        },
        Shown {
            what: "the claim to be done did not count",
            how: find(&|fact| match fact {
                Fact::AttemptFinished { verdict: Verdict::GatesFailed { gates }, .. } => {
                    Some(format!("{} failed with the original check", gates.join(", ")))
                }
                Fact::AttemptFinished { verdict: Verdict::Refused { reason }, .. } => Some(reason.clone()),
                _ => None,
            }),
        },
    ]
}
