//! What is known of a run, folded from its record and its facts. Pure.

use std::collections::BTreeMap;

use cove_core::agent::AgentEvent;
use cove_core::ledger::{GateResult, Verdict};
use cove_core::run::{RunRecord, StoryStatus};
use cove_core::{AttemptId, Ending, Entry, Fact, Phase, Usage};
use jiff::Timestamp;

use crate::output::clean_line;

/// One story as shown.
#[derive(Debug, Clone, PartialEq)]
pub struct StoryLine {
    /// Story id.
    pub id: String,
    /// Title.
    pub title: String,
    /// State.
    pub status: StoryStatus,
    /// Attempts begun.
    pub attempts: u32,
    /// What happens at it right now.
    pub activity: Option<String>,
    /// Gates of the attempt under way, or of the last one.
    pub gates: Vec<GateResult>,
}

/// A run as shown.
#[derive(Debug, Clone)]
pub struct View {
    /// Name of the run.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Why, where there is more to say.
    pub reason: Option<String>,
    /// Engine.
    pub engine: Option<String>,
    /// Agent.
    pub agent: String,
    /// Branch.
    pub branch: Option<String>,
    /// Stories in the order of the PRD.
    pub stories: Vec<StoryLine>,
    /// Refused hosts with how often.
    pub refused: BTreeMap<String, u64>,
    /// Begin, for the clock.
    pub started: Timestamp,
    /// The end, once there is one.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// Position of the last fact.
    pub seq: u64,
    finished: Usage,
    attempts: BTreeMap<AttemptId, Attempt>,
}

#[derive(Debug, Clone)]
struct Attempt {
    story: String,
    number: u32,
    usage: Usage,
}

impl View {
    /// The run before its first fact: stories as the PRD had them. Facts from the beginning follow.
    pub fn new(record: &RunRecord) -> Self {
        Self {
            name: clean_line(&record.name),
            phase: Phase::Queued,
            reason: None,
            engine: record.engine.clone(),
            agent: clean_line(&record.spec.agent.name),
            branch: record.branch.as_deref().map(clean_line),
            stories: record
                .stories
                .iter()
                .map(|story| StoryLine {
                    id: clean_line(&story.id),
                    title: clean_line(&story.title),
                    // What passed in this run passes again with its fact.
                    status: match story.status {
                        StoryStatus::Passed if story.commit.is_none() => StoryStatus::Passed,
                        _ => StoryStatus::Open,
                    },
                    attempts: 0,
                    activity: None,
                    gates: Vec::new(),
                })
                .collect(),
            refused: BTreeMap::new(),
            started: record.created_at,
            ended: None,
            ending: None,
            seq: 0,
            finished: Usage::default(),
            attempts: BTreeMap::new(),
        }
    }

    /// Story and number of an attempt.
    pub fn attempt(&self, id: &AttemptId) -> Option<(&str, u32)> {
        self.attempts.get(id).map(|attempt| (attempt.story.as_str(), attempt.number))
    }

    /// What all attempts used so far.
    pub fn usage(&self) -> Usage {
        let mut out = self.finished.clone();
        self.attempts.values().for_each(|attempt| out.add(&attempt.usage));
        out
    }

    /// Passed stories.
    pub fn passed(&self) -> usize {
        self.stories.iter().filter(|story| story.status == StoryStatus::Passed).count()
    }

    /// Takes in the next fact; one seen before changes nothing.
    pub fn apply(&mut self, entry: &Entry) {
        if entry.seq <= self.seq {
            return;
        }
        self.seq = entry.seq;
        match &entry.fact {
            Fact::Created | Fact::Note { .. } | Fact::Baseline { .. } => {}
            Fact::PhaseChanged { phase, reason } => {
                self.phase = *phase;
                self.reason = reason.as_deref().map(clean_line);
                if !phase.is_final() {
                    // A run that is retried or resumed is not over any more.
                    self.ended = None;
                    self.ending = None;
                }
            }
            Fact::Prepared { branch, .. } => self.branch = Some(clean_line(branch)),
            Fact::AttemptStarted { attempt, story, number, .. } => {
                let known = Attempt { story: clean_line(story), number: *number, usage: Usage::default() };
                self.attempts.insert(attempt.clone(), known);
                self.on(attempt, |line| {
                    line.status = StoryStatus::Working;
                    line.attempts = *number;
                    line.gates.clear();
                    line.activity = Some("starting".to_owned());
                });
            }
            Fact::SandboxStarted { attempt, role, engine, .. } => {
                self.engine = Some(clean_line(engine));
                if let (Some(attempt), "agent") = (attempt, role.as_str()) {
                    self.on(attempt, |line| line.activity = Some("agent begins".to_owned()));
                }
            }
            Fact::Agent { attempt, event } => self.agent_event(attempt, event),
            Fact::Egress { event, .. } if !event.allowed => {
                let host = self.refused.entry(clean_line(&event.host)).or_default();
                *host = (*host).max(event.count);
            }
            Fact::Egress { .. } => {}
            Fact::Collected { attempt, files, commit, .. } => {
                let text = match commit {
                    Some(_) => format!("{files} {} changed, gates begin", if *files == 1 { "file" } else { "files" }),
                    None => "nothing changed".to_owned(),
                };
                self.on(attempt, |line| line.activity = Some(text));
            }
            Fact::GateFinished { attempt, gate } => {
                let mut gate = gate.clone();
                gate.name = clean_line(&gate.name);
                self.on(attempt, |line| line.gates.push(gate));
            }
            Fact::Refusal { .. } => {}
            Fact::AttemptFinished { attempt, verdict, usage, .. } => {
                self.finished.add(usage);
                if let Some(known) = self.attempts.get_mut(attempt) {
                    known.usage = Usage::default();
                }
                let accepted = *verdict == Verdict::Accepted;
                let text = verdict_text(verdict);
                self.on(attempt, |line| {
                    if line.status == StoryStatus::Working {
                        line.status = StoryStatus::Open;
                    }
                    line.activity = (!accepted).then_some(text);
                });
            }
            Fact::StoryPassed { story, .. } => {
                let id = clean_line(story);
                if let Some(line) = self.stories.iter_mut().find(|line| line.id == id) {
                    line.status = StoryStatus::Passed;
                    line.activity = None;
                }
            }
            Fact::Finished { ending } => {
                self.phase = ending.phase();
                self.ending = Some(ending.clone());
                self.ended = Some(entry.at);
                for line in &mut self.stories {
                    if line.status == StoryStatus::Working {
                        line.status = StoryStatus::Open;
                    }
                }
            }
        }
    }

    fn on(&mut self, attempt: &AttemptId, change: impl FnOnce(&mut StoryLine)) {
        let Some(known) = self.attempts.get(attempt) else { return };
        if let Some(line) = self.stories.iter_mut().find(|line| line.id == known.story) {
            change(line);
        }
    }

    fn agent_event(&mut self, attempt: &AttemptId, event: &AgentEvent) {
        if let AgentEvent::Usage { usage } = event {
            if let Some(known) = self.attempts.get_mut(attempt) {
                known.usage = usage.clone();
            }
            return;
        }
        if let Some(text) = activity(event) {
            self.on(attempt, |line| line.activity = Some(text));
        }
    }
}

/// What an event of the agent tells about what it does now.
fn activity(event: &AgentEvent) -> Option<String> {
    let text = match event {
        AgentEvent::Text { text } => text.lines().rev().find(|line| !line.trim().is_empty())?.trim().to_owned(),
        AgentEvent::ToolUse { tool, summary } => format!("{tool} {summary}"),
        AgentEvent::RateLimit { message, .. } => format!("the provider refuses: {message}"),
        AgentEvent::PermissionDenied { message } => format!("denied to the agent: {message}"),
        AgentEvent::Error { message } => format!("error: {message}"),
        AgentEvent::Final { .. } => "agent has finished".to_owned(),
        AgentEvent::ToolResult { .. } | AgentEvent::Usage { .. } | AgentEvent::Turn => return None,
    };
    Some(clean_line(&text))
}

/// A verdict in words.
pub fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted => "accepted".to_owned(),
        Verdict::GatesFailed { gates } => format!("not accepted: {} failed", clean_line(&gates.join(", "))),
        Verdict::AgentFailed { reason } => format!("the agent failed: {}", clean_line(reason)),
        Verdict::NoChange => "not accepted: nothing was changed".to_owned(),
        Verdict::Refused { reason } => format!("refused: {}", clean_line(reason)),
        Verdict::ProviderLimit { reason } => format!("limit of the provider: {}", clean_line(reason)),
        Verdict::Infrastructure { reason } => format!("not the agent's fault: {}", clean_line(reason)),
        Verdict::Interrupted => "interrupted".to_owned(),
    }
}
