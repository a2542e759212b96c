//! What an attempt has come to so far.

use std::collections::VecDeque;
use std::sync::Arc;

use cove_core::{AgentEvent, Usage};
use jiff::Timestamp;

use super::StreamCounts;
use super::refusal::{self, Trouble};
use crate::prices::PriceTable;

/// Bytes of a text event.
const MAX_TEXT: usize = 8 << 10;
/// Bytes of the final message.
const MAX_FINAL: usize = 256 << 10;
/// Bytes of one-line summaries, reasons and remarks.
const MAX_LINE: usize = 400;
/// Remarks kept for the reason of a failure.
const MAX_REMARKS: usize = 8;

/// The agent's own word on its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Terminal {
    /// It reports success.
    Good,
    /// It reports a failure, in its words.
    Bad(String),
}

/// Collects events for the runner, and what the verdict needs.
pub(crate) struct Reading {
    events: Vec<AgentEvent>,
    usage: Usage,
    usage_told: Usage,
    prices: Arc<PriceTable>,
    now: Option<Timestamp>,
    remarks: VecDeque<String>,
    pub(crate) counts: StreamCounts,
    /// Last words.
    pub(crate) message: String,
    pub(crate) terminal: Option<Terminal>,
    /// What stands in the way since the last sign of progress.
    pub(crate) trouble: Option<Trouble>,
}

impl Reading {
    pub(crate) fn new(prices: Arc<PriceTable>, model: Option<String>, now: Option<Timestamp>) -> Self {
        Self {
            events: Vec::new(),
            usage: Usage { model, ..Usage::default() },
            usage_told: Usage::default(),
            prices,
            now,
            remarks: VecDeque::new(),
            counts: StreamCounts::default(),
            message: String::new(),
            terminal: None,
            trouble: None,
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<AgentEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(Timestamp::now)
    }

    /// The agent says something; it also becomes its last words until more come.
    pub(crate) fn say(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        self.message = cut(text, MAX_FINAL).to_owned();
        self.events.push(AgentEvent::Text { text: cut(text, MAX_TEXT).to_owned() });
    }

    /// The agent's last words, as it marks them itself.
    pub(crate) fn conclude(&mut self, text: &str) {
        let text = cut(text, MAX_FINAL);
        text.clone_into(&mut self.message);
        self.events.push(AgentEvent::Final { text: text.to_owned() });
    }

    /// The model answered: earlier refusals are over.
    pub(crate) fn progress(&mut self) {
        self.trouble = None;
    }

    pub(crate) fn turn(&mut self) {
        self.usage.turns = self.usage.turns.saturating_add(1);
        self.events.push(AgentEvent::Turn);
    }

    pub(crate) fn tool(&mut self, tool: &str, summary: &str) {
        let tool = cut(tool, 120).to_owned();
        self.events.push(AgentEvent::ToolUse { tool, summary: one_line(summary) });
    }

    pub(crate) fn tool_result(&mut self, error: bool, summary: &str) {
        self.events.push(AgentEvent::ToolResult { error, summary: one_line(summary) });
    }

    pub(crate) fn denied(&mut self, message: &str) {
        self.events.push(AgentEvent::PermissionDenied { message: one_line(message) });
    }

    /// Changes the attempt's usage; [`Self::tell_usage`] makes an event of it.
    pub(crate) fn usage(&mut self) -> &mut Usage {
        &mut self.usage
    }

    /// Tells the usage when it changed since the last time.
    pub(crate) fn tell_usage(&mut self) {
        self.usage.estimated_cost_usd = self.prices.estimate(&self.usage);
        if self.usage != self.usage_told {
            self.usage_told.clone_from(&self.usage);
            self.events.push(AgentEvent::Usage { usage: self.usage.clone() });
        }
    }

    /// The program or its provider reports an error in so many words; it may go on by itself.
    pub(crate) fn error(&mut self, message: &str) {
        let trouble = refusal::read(message, self.now());
        self.note(trouble, message);
    }

    /// The same with an HTTP status that is told apart from the words.
    pub(crate) fn error_with_status(&mut self, message: &str, status: u64) {
        let trouble = refusal::read_with_status(message, status, self.now());
        self.note(trouble, message);
    }

    fn note(&mut self, trouble: Trouble, message: &str) {
        // Programs repeat themselves: with the message, with the result, on stderr.
        if self.trouble.as_ref().is_some_and(|known| known.reason() == one_line(message)) {
            return;
        }
        match trouble {
            Trouble::Limit { resets_at, .. } => self.limit(resets_at, message),
            other => {
                self.events.push(AgentEvent::Error { message: one_line(message) });
                self.trouble = Some(other.shortened());
            }
        }
    }

    /// The provider refuses for now. A reset time that was told once is not forgotten for a vaguer
    /// message.
    pub(crate) fn limit(&mut self, resets_at: Option<Timestamp>, message: &str) {
        let known = match &self.trouble {
            Some(Trouble::Limit { resets_at, .. }) => *resets_at,
            _ => None,
        };
        let (resets_at, message) = (resets_at.or(known), one_line(message));
        self.trouble = Some(Trouble::Limit { resets_at, reason: message.clone() });
        self.events.push(AgentEvent::RateLimit { resets_at, message });
    }

    /// Something printed beside the events; only looked at when the attempt ends badly.
    pub(crate) fn remark(&mut self, line: &str) {
        if self.remarks.len() == MAX_REMARKS {
            self.remarks.pop_front();
        }
        self.remarks.push_back(one_line(line));
    }

    pub(crate) fn remarks(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.remarks.iter().map(String::as_str)
    }
}

/// The first line with anything on it, cut to [`MAX_LINE`], without control characters.
pub(crate) fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    cut(line, MAX_LINE).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most `bytes` bytes, cut between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    &text[..end]
}
