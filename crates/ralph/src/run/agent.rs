//! Drives one agent process: feeds the prompt, reads the stream, and ends it at a bound.

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use cove_core::agent::{AgentCommand, StreamParser};
use cove_core::run::Bounds;
use cove_core::{
    AgentEvent, AgentOutcome, Error, ErrorKind, ExecSpec, ExitReason, ExitStatus, Output, Result, SandboxId, Usage,
};
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::Site;
use super::budget::Bound;
use super::crew::Crew;
use super::events::Events;
use crate::reason::Reason;

/// No attempt runs longer, whatever the settings say.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Output beyond this many times what is kept ends the attempt as a flood.
const FLOOD: u64 = 4;
/// How often facts are told while there are any.
const TELL: Duration = Duration::from_millis(500);

/// Why we ended an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Time,
    Idle,
    Turns,
    Flood,
    Bound(Bound),
}

impl Stopped {
    /// As a reason against the work.
    pub(crate) fn why(self) -> Reason {
        match self {
            Self::Time => Reason::AgentTimedOut,
            Self::Idle => Reason::AgentIdle,
            Self::Turns => Reason::AgentTurns,
            Self::Flood => Reason::AgentFlood,
            Self::Bound(_) => Reason::AgentFailed,
        }
    }

    /// One sentence.
    pub(crate) fn reason(self, bounds: &Bounds) -> String {
        match self {
            Self::Time => format!("The agent was stopped after {} s, the bound of one attempt", bounds.attempt_seconds),
            Self::Idle => format!("The agent was stopped after {} s without any output", bounds.idle_seconds),
            Self::Turns => format!("The agent was stopped at the bound of {} turns", bounds.turns.unwrap_or(0)),
            Self::Flood => format!(
                "The agent was stopped: it wrote more than {}",
                cove_core::quantity::format_size(bounds.output_bytes.saturating_mul(FLOOD))
            ),
            Self::Bound(bound) => bound.reason(bounds),
        }
    }
}

/// What came of an agent's process.
#[derive(Debug)]
pub(crate) struct Driven {
    /// What its output and end mean.
    pub(crate) outcome: AgentOutcome,
    /// Why we ended it before its time.
    pub(crate) stopped: Option<Stopped>,
    /// Last words.
    pub(crate) message: String,
    /// Whether the program could not be found or run.
    pub(crate) absent: bool,
}

/// Starts the agent in its sandbox and stays with it until it ends or is ended.
pub(crate) async fn drive(
    site: &Site,
    crew: &Crew,
    sandbox: &SandboxId,
    command: AgentCommand,
    parser: Box<dyn StreamParser>,
    log: &Path,
    door: Option<&dyn cove_core::DoorHandle>,
) -> Result<Driven> {
    let spec = ExecSpec { argv: command.argv, env: command.env, ..ExecSpec::default() };
    let mut exec = crew.exec(sandbox, &spec).await?;
    let mut input = exec.input;
    let stdin = command.stdin;
    let feed = async move {
        // A program that does not read its stdin is no failure.
        for chunk in stdin.chunks(32 << 10) {
            if input.write(chunk).await.is_err() {
                break;
            }
        }
        let _ = input.close().await;
        input
    };
    let mut watch = Watch::new(site, crew, parser, log, door)?;
    let reading = watch.read(&mut *exec.output);
    let exit = alongside(reading, feed).await?;
    watch.finish(exit).await
}

/// Runs `main` to its end and `side` beside it; what `side` yields lives until `main` is done.
async fn alongside<T>(main: impl Future<Output = T>, side: impl Future) -> T {
    let side = async {
        let _kept = side.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        out = main => out,
        () = side => unreachable!("it never ends"),
    }
}

struct Watch<'a> {
    site: &'a Site,
    crew: &'a Crew,
    parser: Box<dyn StreamParser>,
    events: Events,
    door: Option<&'a dyn cove_core::DoorHandle>,
    log: std::io::BufWriter<std::fs::File>,
    written: u64,
    usage: Usage,
    turns: u32,
    message: String,
    /// Whether the last words have been said.
    over: bool,
    /// Whether anything came on stdout.
    spoke: bool,
    /// The provider's refusal, while nothing else has happened since.
    refused: Option<(Option<Timestamp>, String)>,
    stopped: Option<Stopped>,
}

impl<'a> Watch<'a> {
    fn new(
        site: &'a Site,
        crew: &'a Crew,
        parser: Box<dyn StreamParser>,
        log: &Path,
        door: Option<&'a dyn cove_core::DoorHandle>,
    ) -> Result<Self> {
        let file = std::fs::File::create(log)
            .map_err(|e| Error::internal(format!("The log {} could not be made", log.display())).because(e))?;
        Ok(Self {
            site,
            crew,
            parser,
            events: Events::new(crew.attempt().cloned()),
            door,
            log: std::io::BufWriter::new(file),
            written: 0,
            usage: Usage::default(),
            turns: 0,
            message: String::new(),
            over: false,
            spoke: false,
            refused: None,
            stopped: None,
        })
    }

    /// Reads until the process ends or a bound is reached.
    async fn read(&mut self, output: &mut dyn cove_core::ExecOutput) -> Result<ExitStatus> {
        let bounds = &self.site.spec.bounds;
        let begun = Instant::now();
        let seconds = |seconds: u64| if seconds == 0 { LONGEST } else { Duration::from_secs(seconds).min(LONGEST) };
        let (last, idle) = (begun + seconds(bounds.attempt_seconds), seconds(bounds.idle_seconds));
        let mut heard = begun;
        let mut tell = Instant::now() + TELL;
        let killed = ExitStatus { code: 137, reason: ExitReason::Killed };
        loop {
            let gone_quiet = heard + self.site.shared.pace.final_grace;
            let piece = tokio::select! {
                biased;
                () = sleep_until(last) => { self.stopped = Some(Stopped::Time); return Ok(killed) }
                piece = output.next() => piece?,
                // It has said its last words and does not go: its work counts as it is.
                () = sleep_until(gone_quiet), if self.over => return Ok(ExitStatus::exited(0)),
                () = sleep_until(heard + idle) => { self.stopped = Some(Stopped::Idle); return Ok(killed) }
                () = sleep_until(tell) => { self.tell().await?; tell = Instant::now() + TELL; continue }
            };
            heard = Instant::now();
            let (events, bytes) = match piece {
                Some(Output::Stdout(bytes)) => {
                    self.spoke = true;
                    (self.parser.stdout(&bytes), bytes)
                }
                Some(Output::Stderr(bytes)) => (self.parser.stderr(&bytes), bytes),
                Some(Output::Exit(exit)) => return Ok(exit),
                None => {
                    return Err(Error::new(ErrorKind::Interrupted, "The agent's output ended before the agent did"));
                }
            };
            self.keep(&bytes);
            self.take(events);
            if self.written > bounds.output_bytes.max(1).saturating_mul(FLOOD) {
                self.stopped = Some(Stopped::Flood);
            }
            if self.stopped.is_some() {
                return Ok(killed);
            }
            if self.events.full() {
                self.tell().await?;
                tell = Instant::now() + TELL;
            }
        }
    }

    /// Raw output goes to the log up to its bound.
    fn keep(&mut self, bytes: &[u8]) {
        let room = self.site.spec.bounds.output_bytes.saturating_sub(self.written);
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        // A full disk shows elsewhere; the log is not what the run stands on.
        let _ = self.log.write_all(&bytes[..kept]);
        self.written = self.written.saturating_add(bytes.len() as u64);
    }

    fn take(&mut self, events: Vec<AgentEvent>) {
        for event in events {
            match &event {
                AgentEvent::RateLimit { resets_at, message } => self.refused = Some((*resets_at, message.clone())),
                AgentEvent::Text { .. } | AgentEvent::ToolUse { .. } | AgentEvent::ToolResult { .. } => {
                    self.refused = None;
                }
                _ => {}
            }
            match &event {
                AgentEvent::Usage { usage } => {
                    self.usage = usage.clone();
                    self.spend();
                }
                AgentEvent::Turn => {
                    self.turns += 1;
                    let most = self.site.spec.bounds.turns.filter(|turns| *turns > 0);
                    if most.is_some_and(|most| self.turns.max(self.usage.turns) > most) {
                        self.stopped.get_or_insert(Stopped::Turns);
                    }
                }
                AgentEvent::Final { text } => {
                    self.message.clone_from(text);
                    self.over = true;
                }
                _ => {}
            }
            self.events.push(event);
        }
    }

    fn spend(&mut self) {
        let mut usage = self.usage.clone();
        usage.turns = usage.turns.max(self.turns);
        if let Some(attempt) = self.crew.attempt()
            && let Some(bound) = self.site.budget.update(attempt, &usage)
        {
            self.stopped.get_or_insert(Stopped::Bound(bound));
        }
    }

    async fn tell(&mut self) -> Result<()> {
        let _ = self.log.flush();
        self.events.door(self.door);
        self.crew.tell(self.events.take()).await
    }

    async fn finish(mut self, exit: ExitStatus) -> Result<Driven> {
        let absent = matches!(exit.code, 126 | 127) && !self.spoke;
        let lost = exit.reason == ExitReason::Lost || (exit.reason == ExitReason::Killed && self.stopped.is_none());
        // A last line without a newline gives its events too.
        let events = self.parser.stdout(b"\n");
        self.take(events);
        let outcome = self.parser.finish(&exit);
        if let AgentOutcome::Done { message } = &outcome
            && !message.is_empty()
        {
            self.message.clone_from(message);
        }
        self.spend();
        self.events.close();
        self.tell().await?;
        if lost {
            return Err(Error::new(ErrorKind::Interrupted, "The agent's sandbox was taken away while it worked"));
        }
        // An agent that waits out a provider's limit in silence is not idle of its own accord.
        if let (Some(Stopped::Idle | Stopped::Time), Some((resets_at, reason))) = (self.stopped, self.refused.take()) {
            let outcome = AgentOutcome::Limited { resets_at, reason };
            return Ok(Driven { outcome, stopped: None, message: self.message, absent: false });
        }
        let outcome = match exit.reason {
            ExitReason::OutOfMemory => failed("The agent ran into the memory limit of its sandbox"),
            ExitReason::DiskFull => failed("The agent ran into the disk limit of its sandbox"),
            ExitReason::Timeout => failed("The agent ran into the time limit of its sandbox"),
            _ => outcome,
        };
        Ok(Driven { outcome, stopped: self.stopped, message: self.message, absent })
    }
}

fn failed(reason: &str) -> AgentOutcome {
    AgentOutcome::Failed { reason: reason.to_owned() }
}
