//! What a door decided, counted and bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cove_core::DoorEvent;

/// Distinct decisions that are kept apart; further ones are counted together.
const DISTINCT: usize = 1000;
/// Host of the two events that stand for all further ones.
const OTHERS: &str = "(others)";

#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    at: HashMap<(String, u16, bool), usize>,
    all: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    event: DoorEvent,
    /// Count when it was last taken.
    taken: u64,
}

impl Events {
    /// Counts one decision. The reason of the first of equal ones is kept.
    pub(crate) fn record(&self, host: &str, port: u16, allowed: bool, reason: &str) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (host.to_owned(), port, allowed);
        let mut reason = reason;
        if book.all.len() >= DISTINCT && !book.at.contains_key(&key) {
            key = (OTHERS.to_owned(), 0, allowed);
            reason = "Further hosts, counted together";
        }
        match book.at.get(&key).copied() {
            Some(at) => book.all[at].event.count += 1,
            None => {
                let (host, port, allowed) = key.clone();
                let event = DoorEvent { host, port, allowed, reason: reason.to_owned(), count: 1 };
                let at = book.all.len();
                book.at.insert(key, at);
                book.all.push(Line { event, taken: 0 });
            }
        }
    }

    /// Those that were counted since the last call, in order of first sight.
    pub(crate) fn take(&self) -> Vec<DoorEvent> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = book.all.iter_mut().filter(|line| line.event.count > line.taken);
        fresh
            .map(|line| {
                line.taken = line.event.count;
                line.event.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_decisions_are_one_event_and_the_number_is_bounded() {
        let events = Events::default();
        events.record("a", 443, true, "first");
        events.record("b", 443, false, "no rule");
        events.record("a", 443, true, "second");
        let taken = events.take();
        assert_eq!(taken.iter().map(|e| (e.host.as_str(), e.count)).collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
        assert_eq!(taken[0].reason, "first");
        assert_eq!(events.take(), []);
        events.record("a", 443, true, "");
        assert_eq!(events.take()[0].count, 3);
        for at in 0..5000 {
            events.record(&format!("h{at}"), 443, at % 2 == 0, "");
        }
        let taken = events.take();
        assert_eq!(taken.len(), DISTINCT - 2 + 2);
        assert_eq!(taken.iter().map(|e| e.count).sum::<u64>(), 5000);
        assert!(taken.iter().rev().take(2).all(|e| e.host == OTHERS));
    }
}
