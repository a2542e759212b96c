//! What stands at the end.

use cove_core::Control;
use serde::{Deserialize, Serialize};

use crate::catalogue::{FAMILIES, FAMILIES_ALLOWED, Group, Probe, SENSITIVE};

/// How one attempt fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No effect, and the control had one.
    Held,
    /// It had an effect, or was not refused by what should refuse it.
    Broken,
    /// No effect, but no control shows that there would have been one.
    Unproven,
    /// There is nothing here to try it on; the reason says what.
    NotApplicable,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its id in the catalogue.
    pub id: String,
    /// Its group.
    pub group: Group,
    /// What was attempted.
    pub what: String,
    /// What holds it.
    pub control: Control,
    /// How bad an effect is, 1 to 5.
    pub weight: u8,
    /// The question it belongs to.
    pub probe: Option<Probe>,
    /// How it fared.
    pub verdict: Verdict,
    /// What was answered, or why it does not apply.
    pub found: String,
}

/// Counts and weights of some lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Attempts that were held.
    pub held: u32,
    /// Those that were not.
    pub broken: u32,
    /// Those without a control that had an effect.
    pub unproven: u32,
    /// Those that do not apply.
    pub not_applicable: u32,
    /// Weight of what was held.
    pub weight_held: u32,
    /// Weight of what applies.
    pub weight: u32,
}

impl Score {
    fn add(&mut self, line: &Line) {
        let weight = u32::from(line.weight);
        match line.verdict {
            Verdict::Held => {
                self.held += 1;
                self.weight_held += weight;
            }
            Verdict::Broken => self.broken += 1,
            Verdict::Unproven => self.unproven += 1,
            Verdict::NotApplicable => {
                self.not_applicable += 1;
                return;
            }
        }
        self.weight += weight;
    }

    /// Attempts that apply.
    pub fn applied(&self) -> u32 {
        self.held + self.broken + self.unproven
    }

    /// Weight held in percent; never rounded up to 100.
    pub fn percent(&self) -> u32 {
        if self.weight == 0 { 100 } else { self.weight_held * 100 / self.weight }
    }
}

/// All attempts on one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The engine.
    pub engine: String,
    /// Every attempt, in the catalogue's order.
    pub lines: Vec<Line>,
    /// Files of the host that changed; empty when the sandboxes held.
    pub changed: Vec<String>,
    /// Limits that the host cannot give and that were gone without.
    pub missing: Vec<Control>,
    /// Seconds that it took.
    pub seconds: u64,
}

impl Report {
    /// The score of a group, or of everything.
    pub fn score(&self, group: Option<Group>) -> Score {
        let mut score = Score::default();
        self.lines.iter().filter(|line| group.is_none_or(|group| line.group == group)).for_each(|line| score.add(line));
        score
    }

    /// The score of a question.
    pub fn probe(&self, probe: Probe) -> Score {
        let mut score = Score::default();
        self.lines.iter().filter(|line| line.probe == Some(probe)).for_each(|line| score.add(line));
        score
    }

    /// Whether everything that applies was held, with its control, and nothing outside changed.
    pub fn holds(&self) -> bool {
        self.changed.is_empty()
            && self.lines.iter().all(|l| matches!(l.verdict, Verdict::Held | Verdict::NotApplicable))
    }

    /// Lines with a verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.verdict == verdict)
    }

    /// Names of the sensitive calls that reach the kernel.
    pub fn reachable_calls(&self) -> Vec<&'static str> {
        SENSITIVE.into_iter().filter(|name| self.broken(&format!("E13-call-{name}"))).collect()
    }

    /// Names of the families of sockets that can be had, the allowed ones included.
    pub fn reachable_families(&self) -> Vec<&'static str> {
        let open = |name: &&str| FAMILIES_ALLOWED.contains(name) || self.broken(&format!("E13-family-{name}"));
        FAMILIES.into_iter().map(|(_, name)| name).filter(open).collect()
    }

    fn broken(&self, id: &str) -> bool {
        self.lines.iter().any(|line| line.id == id && line.verdict == Verdict::Broken)
    }
}
