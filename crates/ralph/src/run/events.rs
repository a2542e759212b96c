//! Agent and door events on their way to the ledger: joined, thinned and counted.

use cove_core::{AgentEvent, AttemptId, DoorHandle, Fact};

use super::text::cut;

/// Events of one attempt in the ledger; ordinary ones beyond are counted only.
const EVENTS: usize = 2000;
/// Egress decisions of one attempt in the ledger.
const DECISIONS: usize = 500;
/// Events that wait before they are told at once.
const BATCH: usize = 64;
/// Bytes of one text event.
const TEXT: usize = 8 << 10;
/// Bytes of a final message in the ledger.
const FINAL: usize = 64 << 10;

/// Collects the facts of one attempt's agent.
pub(crate) struct Events {
    attempt: Option<AttemptId>,
    waiting: Vec<AgentEvent>,
    egress: Vec<Fact>,
    told: usize,
    decisions: usize,
    dropped: u64,
}

impl Events {
    pub(crate) fn new(attempt: Option<AttemptId>) -> Self {
        Self { attempt, waiting: Vec::new(), egress: Vec::new(), told: 0, decisions: 0, dropped: 0 }
    }

    /// Whether it is time to tell.
    pub(crate) fn full(&self) -> bool {
        self.waiting.len() >= BATCH
    }

    /// Adds an event. Consecutive texts become one, each on lines of its own, as parsers give whole lines
    /// and blocks, never pieces of them. Of usages only the last counts; turns are told by the usage.
    pub(crate) fn push(&mut self, mut event: AgentEvent) {
        match &mut event {
            AgentEvent::Turn => return,
            AgentEvent::Usage { .. } => self.waiting.retain(|old| !matches!(old, AgentEvent::Usage { .. })),
            AgentEvent::Text { text } => {
                if let Some(AgentEvent::Text { text: last }) = self.waiting.last_mut()
                    && last.len() + text.len() < TEXT
                {
                    if !last.ends_with('\n') {
                        last.push('\n');
                    }
                    last.push_str(text);
                    return;
                }
                cut(text, TEXT);
            }
            AgentEvent::Final { text } => cut(text, FINAL),
            AgentEvent::ToolUse { tool, summary } => {
                cut(tool, 256);
                cut(summary, 1 << 10);
            }
            AgentEvent::ToolResult { summary, .. } => cut(summary, 1 << 10),
            AgentEvent::RateLimit { message, .. }
            | AgentEvent::PermissionDenied { message }
            | AgentEvent::Error { message } => cut(message, 4 << 10),
        }
        let weighty =
            matches!(event, AgentEvent::Usage { .. } | AgentEvent::Final { .. } | AgentEvent::RateLimit { .. });
        // A share is kept free for what must not be lost, and that share is bounded too.
        let most = if weighty { EVENTS + EVENTS / 4 } else { EVENTS };
        if self.told + self.waiting.len() < most {
            self.waiting.push(event);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds what the door decided since the last call.
    pub(crate) fn door(&mut self, door: Option<&dyn DoorHandle>) {
        for event in door.map(DoorHandle::take_events).unwrap_or_default() {
            if self.decisions < DECISIONS {
                self.decisions += 1;
                self.egress.push(Fact::Egress { attempt: self.attempt.clone(), event });
            }
        }
    }

    /// The facts to tell now.
    pub(crate) fn take(&mut self) -> Vec<Fact> {
        self.told += self.waiting.len();
        let attempt = self.attempt.clone();
        let agent =
            self.waiting.drain(..).filter_map(|event| attempt.clone().map(|attempt| Fact::Agent { attempt, event }));
        agent.chain(self.egress.drain(..)).collect()
    }

    /// Adds the count of what was left out.
    pub(crate) fn close(&mut self) {
        if self.dropped > 0 {
            let text = format!("{} more events of the agent are in its log only", self.dropped);
            self.egress.push(Fact::Note { text });
            self.dropped = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_join_and_numbers_are_bounded() {
        let mut events = Events::new(Some(AttemptId::new()));
        events.push(AgentEvent::Text { text: "a".to_owned() });
        events.push(AgentEvent::Text { text: "b".to_owned() });
        events.push(AgentEvent::Text { text: "c\n".to_owned() });
        events.push(AgentEvent::Text { text: "d".to_owned() });
        let joined = events.take();
        assert!(
            matches!(&joined[..], [Fact::Agent { event: AgentEvent::Text { text }, .. }] if text == "a\nb\nc\nd"),
            "{joined:?}"
        );
        for nth in 0..10_000 {
            events.push(AgentEvent::ToolUse { tool: "Bash".to_owned(), summary: nth.to_string() });
        }
        events.push(AgentEvent::Final { text: "x".repeat(1 << 20) });
        events.close();
        let facts = events.take();
        assert!(facts.len() <= EVENTS + 2, "{}", facts.len());
        assert!(
            matches!(&facts[facts.len() - 2], Fact::Agent { event: AgentEvent::Final { text }, .. } if text.len() < FINAL + 8)
        );
        assert!(matches!(&facts[facts.len() - 1], Fact::Note { text } if text.starts_with("8001 more")));
    }
}
