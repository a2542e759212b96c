//! One line per fact, each with its story: for logs, pipes and CI.

use cove_core::agent::AgentEvent;
use cove_core::ledger::{GateResult, GateStatus};
use cove_core::quantity::format_duration;
use cove_core::{AttemptId, Entry, Fact};
use jiff::tz::TimeZone;

use super::view::{View, verdict_text};
use crate::output::{Paint, Style, clean_line, fit};

/// Longest line of an agent's text.
const BOUND: usize = 500;

/// How lines are written.
#[derive(Debug, Clone, Copy)]
pub struct Lines {
    /// Colour and symbols.
    pub style: Style,
    /// Whether the time stands before each line.
    pub timestamps: bool,
    /// Whether times are in UTC.
    pub utc: bool,
    /// Whether what the agent does shows too.
    pub agent: bool,
}

impl Lines {
    /// The line of a fact; `None` when it says nothing to people. Call it before `view` takes the
    /// fact in, except that attempts must be known: it reads stories from `view`.
    pub fn line(&self, entry: &Entry, view: &View) -> Option<String> {
        let (paint, story, text) = describe(entry, view)?;
        if !self.agent && matches!(entry.fact, Fact::Agent { .. }) {
            return None;
        }
        let mut out = String::new();
        if self.timestamps {
            let zone = if self.utc { TimeZone::UTC } else { TimeZone::system() };
            let at = entry.at.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            out.push_str(&self.style.paint(Paint::Faint, &at));
            out.push(' ');
        }
        if let Some(story) = story {
            out.push_str(&self.style.paint(Paint::Strong, &story));
            out.push(' ');
        }
        out.push_str(&paint.map_or_else(|| text.clone(), |paint| self.style.paint(paint, &text)));
        Some(out)
    }
}

/// What a fact says: how to paint it, its story, its text.
pub fn describe(entry: &Entry, view: &View) -> Option<(Option<Paint>, Option<String>, String)> {
    let story = |attempt: &AttemptId| view.attempt(attempt).map(|(story, _)| story.to_owned());
    let (paint, story, text) = match &entry.fact {
        Fact::Created => (None, None, format!("Run {} created", view.name)),
        // The last fact says it with the reason.
        Fact::PhaseChanged { phase, .. } if phase.is_final() => return None,
        Fact::PhaseChanged { phase, reason } => {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            (Some(Paint::Faint), None, format!("Run {}{why}", phase.name().replace('_', " ")))
        }
        Fact::Prepared { base, branch } => (None, None, format!("Branch {branch} begins at {}", short(base))),
        Fact::Baseline { gates } => {
            let results: Vec<String> =
                gates.iter().map(|gate| format!("{} {}", gate.name, status(gate.status))).collect();
            let all = if results.is_empty() { "no gates".to_owned() } else { results.join(", ") };
            (None, None, format!("Before the first change: {all}"))
        }
        Fact::AttemptStarted { story, number, base, .. } => {
            (Some(Paint::Active), Some(story.clone()), format!("attempt {number} begins at {}", short(base)))
        }
        Fact::SandboxStarted { attempt, sandbox, role, engine } => (
            Some(Paint::Faint),
            attempt.as_ref().and_then(story),
            format!("sandbox {} for the {role} by {engine}", sandbox.short()),
        ),
        Fact::Agent { attempt, event } => {
            let (paint, text) = agent(event)?;
            (paint, story(attempt), fit(&text, BOUND))
        }
        Fact::Egress { attempt, event } => {
            let story = attempt.as_ref().and_then(story);
            let place = format!("{}:{}", event.host, event.port);
            if event.allowed {
                (Some(Paint::Faint), story, format!("reached {place}"))
            } else {
                (Some(Paint::Warn), story, format!("blocked {place}: {}", event.reason))
            }
        }
        Fact::Collected { attempt, commit, files, flags } => {
            let mut text = match commit {
                Some(commit) => {
                    format!("changed {files} {} in {}", if *files == 1 { "file" } else { "files" }, short(commit))
                }
                None => "changed nothing".to_owned(),
            };
            if !flags.is_empty() {
                text.push_str(&format!("; look at: {}", flags.join("; ")));
            }
            ((!flags.is_empty()).then_some(Paint::Warn), story(attempt), text)
        }
        Fact::GateFinished { attempt, gate } => (Some(gate_paint(gate.status)), story(attempt), gate_text(gate)),
        Fact::Refusal { attempt, code, text } => {
            (Some(Paint::Bad), story(attempt), format!("not accepted ({code}): {text}"))
        }
        Fact::AttemptFinished { story, verdict, usage, .. } => {
            let accepted = *verdict == cove_core::ledger::Verdict::Accepted;
            let spent = usage.cost_usd().map(|cost| format!(", ${cost:.2}")).unwrap_or_default();
            let tokens =
                if usage.tokens() > 0 { format!(" ({} tokens{spent})", usage.tokens()) } else { String::new() };
            let paint = if accepted { Paint::Good } else { Paint::Bad };
            (Some(paint), Some(story.clone()), format!("attempt {}{tokens}", verdict_text(verdict)))
        }
        Fact::StoryPassed { story, commit, .. } => {
            (Some(Paint::Good), Some(story.clone()), format!("passed with {}", short(commit)))
        }
        Fact::Note { text } => (Some(Paint::Warn), None, format!("Note: {text}")),
        Fact::Finished { ending } => {
            let good = ending.exit_code() == 0;
            let paint = if good { Paint::Good } else { Paint::Bad };
            let phase = ending.phase().name().replace('_', " ");
            (Some(paint), None, format!("Run {phase}: {}", ending.reason()))
        }
    };
    Some((paint, story.map(|s| clean_line(&s)), clean_line(&text)))
}

fn agent(event: &AgentEvent) -> Option<(Option<Paint>, String)> {
    Some(match event {
        AgentEvent::Text { text } if !text.trim().is_empty() => (None, format!("says: {}", text.trim())),
        AgentEvent::ToolUse { tool, summary } => (None, format!("uses {tool}: {summary}")),
        AgentEvent::ToolResult { error: true, summary } => (Some(Paint::Warn), format!("tool failed: {summary}")),
        AgentEvent::RateLimit { message, .. } => (Some(Paint::Warn), format!("the provider refuses: {message}")),
        AgentEvent::PermissionDenied { message } => (Some(Paint::Warn), format!("denied to the agent: {message}")),
        AgentEvent::Error { message } => (Some(Paint::Bad), format!("agent's error: {message}")),
        AgentEvent::Final { text } => (None, format!("ends with: {}", text.trim())),
        _ => return None,
    })
}

fn gate_text(gate: &GateResult) -> String {
    let time = format_duration(std::time::Duration::from_millis(gate.millis));
    let code = match (gate.status, gate.code) {
        (GateStatus::Failed | GateStatus::FailedBefore, Some(code)) => format!(" with exit code {code}"),
        _ => String::new(),
    };
    let tail = if gate.status.accepts() {
        String::new()
    } else {
        gate.tail
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(|line| format!(": {}", fit(line.trim(), 200)))
            .unwrap_or_default()
    };
    format!("gate {} {}{code} after {time}{tail}", gate.name, status(gate.status))
}

/// A gate's status in words.
pub fn status(status: GateStatus) -> &'static str {
    match status {
        GateStatus::Passed => "passed",
        GateStatus::Failed => "failed",
        GateStatus::FailedBefore => "failed as before the run",
        GateStatus::TimedOut => "ran out of time",
        GateStatus::Errored => "could not be run",
    }
}

/// How a gate's status is painted.
pub fn gate_paint(status: GateStatus) -> Paint {
    match status {
        GateStatus::Passed => Paint::Good,
        GateStatus::FailedBefore => Paint::Warn,
        _ => Paint::Bad,
    }
}

/// The first ten characters of a commit id.
pub fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
