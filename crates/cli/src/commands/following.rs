//! Stays with a run and shows what it does, until it ends, waits, or the person leaves.

use std::collections::VecDeque;
use std::time::Duration;

use cove_api::Client;
use cove_core::{Entry, Error, Fact, Phase, Result, RunRecord};
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::follow::{Lines, Screen, View, render};
use crate::output::{Format, json};

/// How a run is followed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Following {
    /// Draw the live view where there is a terminal.
    pub live: bool,
    /// Put the time before plain lines.
    pub timestamps: bool,
    /// Skip what lies up to this position.
    pub after: u64,
    /// Leave after this time.
    pub timeout: Option<Duration>,
    /// The run lives in this process: leaving interrupts it, and a pause is waited for.
    pub foreground: bool,
}

/// Why following ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Left {
    /// The run is over.
    Over(Box<RunRecord>),
    /// It waits for a person or a provider.
    Waiting(Box<RunRecord>),
    /// The person left, by this signal's number.
    Signal(u8),
    /// The time was up.
    Timeout,
}

impl Left {
    /// The exit code that tells it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Over(record) => record.ending.as_ref().map_or(1, cove_core::Ending::exit_code),
            Self::Waiting(_) => 12,
            Self::Signal(number) => 128 + number,
            Self::Timeout => 124,
        }
    }
}

/// Follows a run.
///
/// # Errors
/// Those of the server when it stays away, and of stdout.
pub async fn follow(context: &Context, client: &Client, record: &RunRecord, how: Following) -> Result<Left> {
    let mut shown = Shown::new(context, record, how);
    let left = watch(context, client, record, how, &mut shown).await;
    shown.finish()?;
    left
}

async fn watch(
    context: &Context,
    client: &Client,
    record: &RunRecord,
    how: Following,
    shown: &mut Shown,
) -> Result<Left> {
    let id = record.id.as_str();
    let mut entries = client.follow(id, 0);
    let mut signals = Signals::new()?;
    let mut frame = tokio::time::interval(Duration::from_millis(125));
    frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let deadline = async {
        match how.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut look = tokio::time::interval(Duration::from_secs(2));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ours = !how.foreground && !context.variables.contains_key("COVE_SERVER");
    loop {
        tokio::select! {
            // Whoever wants to leave comes first.
            biased;
            number = signals.next() => return Ok(Left::Signal(number)),
            () = &mut deadline => return Ok(Left::Timeout),
            _ = frame.tick(), if shown.screen.is_some() => shown.draw()?,
            _ = look.tick(), if ours => revive(context, client).await,
            entry = entries.next() => match entry? {
                Some(entry) => {
                    shown.take(context, &entry)?;
                    if let Fact::PhaseChanged { phase: Phase::Paused | Phase::WaitingInput, .. } = entry.fact
                        && !how.foreground
                    {
                        // An old pause may be over by now.
                        let now = client.run(id).await?;
                        if matches!(now.phase, Phase::Paused | Phase::WaitingInput) {
                            return Ok(Left::Waiting(Box::new(now)));
                        }
                    }
                }
                None => return Ok(Left::Over(Box::new(client.run(id).await?))),
            },
        }
    }
}

/// Starts the daemon again when it died: then its socket is there and nobody answers. One that was
/// ended on purpose took its socket away, and stays ended.
async fn revive(context: &Context, client: &Client) {
    let refused = client.live().await.is_err_and(|error| error.kind() == cove_core::ErrorKind::Unavailable);
    if refused && context.paths.socket.exists() {
        context.printer.say("The daemon has died; it is started again, and the run goes on");
        // A failure shows as the stream's own soon enough.
        if let Err(error) = crate::daemon::start(context).await {
            context.printer.warn(error.message());
        }
    }
}

/// What is on the screen, or the lines that go out.
struct Shown {
    view: View,
    lines: Lines,
    after: u64,
    format: Format,
    screen: Option<Screen<std::io::Stdout>>,
    above: VecDeque<String>,
}

impl Shown {
    fn new(context: &Context, record: &RunRecord, how: Following) -> Self {
        let printer = &context.printer;
        let live = how.live && context.interactive && printer.format == Format::Table && !printer.quiet;
        let lines = Lines { style: printer.style, timestamps: how.timestamps, utc: printer.utc, agent: !live };
        Self {
            view: View::new(record),
            lines,
            after: how.after,
            format: printer.format,
            screen: live.then(|| Screen::new(std::io::stdout())),
            above: VecDeque::new(),
        }
    }

    fn take(&mut self, context: &Context, entry: &Entry) -> Result<()> {
        self.view.apply(entry);
        if entry.seq <= self.after {
            return Ok(());
        }
        match (&self.screen, self.format) {
            (Some(_), _) => {
                if stays(&entry.fact)
                    && let Some(line) = self.lines.line(entry, &self.view)
                {
                    self.above.push_back(line);
                }
                Ok(())
            }
            (None, Format::Ndjson) => context.printer.write(&format!("{}\n", json(entry))),
            (None, Format::Table | Format::Wide) => match self.lines.line(entry, &self.view) {
                Some(line) => context.printer.write(&format!("{line}\n")),
                None => Ok(()),
            },
            // One document at the end, or the name alone.
            (None, Format::Json | Format::Yaml | Format::Name) => Ok(()),
        }
    }

    fn draw(&mut self) -> Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        let (columns, rows) = Screen::<std::io::Stdout>::size();
        let lines = render(&self.view, Timestamp::now(), columns, rows.saturating_sub(1), &self.lines.style);
        let above: Vec<String> = self.above.drain(..).collect();
        screen.draw(&above, &lines, columns).map_err(broken)
    }

    fn finish(&mut self) -> Result<()> {
        if self.screen.is_some() {
            self.draw()?;
        }
        match &mut self.screen {
            Some(screen) => screen.finish().map_err(broken),
            None => Ok(()),
        }
    }
}

fn broken(error: std::io::Error) -> Error {
    Error::internal("The terminal cannot be written").because(error)
}

/// Facts that stay readable above the live view.
fn stays(fact: &Fact) -> bool {
    match fact {
        Fact::StoryPassed { .. } | Fact::Note { .. } | Fact::Prepared { .. } => true,
        Fact::GateFinished { gate, .. } => !gate.status.accepts(),
        Fact::Baseline { gates } => gates.iter().any(|gate| !gate.status.accepts()),
        Fact::Egress { event, .. } => !event.allowed && event.count <= 1,
        Fact::Collected { flags, .. } => !flags.is_empty(),
        Fact::AttemptFinished { verdict, .. } => *verdict != cove_core::ledger::Verdict::Accepted,
        Fact::PhaseChanged { phase, .. } => matches!(phase, Phase::Paused | Phase::WaitingInput),
        _ => false,
    }
}

/// The signals by which a person leaves.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).map_err(|e| Error::internal("Signals cannot be received").because(e));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}

/// Says how a run ended, or how to come back to it.
pub fn report(context: &Context, name: &str, left: &Left, foreground: bool) {
    let say = |text: String| context.printer.say(&text);
    match left {
        Left::Over(record) => {
            let passed = record.stories.iter().filter(|s| s.status == cove_core::run::StoryStatus::Passed).count();
            let reason = record.ending.as_ref().map(|ending| format!(": {}", ending.reason())).unwrap_or_default();
            let phase = record.phase.name().replace('_', " ");
            say(format!("Run {name} {phase}, {passed} of {} stories passed{reason}", record.stories.len()));
            let red: Vec<&str> =
                record.baseline.iter().filter(|gate| !gate.status.accepts()).map(|gate| gate.name.as_str()).collect();
            if passed > 0 && !red.is_empty() {
                say(format!(
                    "  failing as before the run, so it proves nothing: {}",
                    crate::output::clean_line(&red.join(", "))
                ));
            }
            if record.head.is_some() && record.head != record.base && !foreground {
                say(format!("  look at it: cove runs diff {name}\n  take it:    cove runs apply {name}"));
            }
            if record.ending.as_ref().is_some_and(|ending| ending.exit_code() != 0) && !foreground {
                say(format!("  try again:  cove runs retry {name}"));
            }
        }
        Left::Waiting(record) => {
            let reason = record.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let until = record.resume_at.map(|at| format!(", until {at} at the latest")).unwrap_or_default();
            say(format!("Run {name} waits{reason}{until}\n  go on: cove runs resume {name}"));
        }
        Left::Signal(_) if foreground => {
            say(format!("Run {name} was interrupted; it goes on with the next daemon\n  go on: cove logs -f {name}"));
        }
        Left::Signal(_) | Left::Timeout => {
            say(format!(
                "Run {name} goes on in the background\n  come back: cove logs -f {name}\n  end it:    cove runs stop {name}"
            ));
        }
    }
}
