//! What the run may still use, known to all who use it at the same moment.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cove_core::run::Bounds;
use cove_core::{AttemptId, Usage};

/// Float sums of ten dimes fall just below a dollar.
const CENT_DUST: f64 = 1e-9;

/// A bound of the whole run, by the name it has in [`cove_core::Ending::LimitReached`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Iterations,
    Wall,
    Tokens,
    Cost,
    Provider,
}

impl Bound {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Iterations => "iterations",
            Self::Wall => "wall",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Provider => "provider",
        }
    }

    /// One sentence for the ending.
    pub(crate) fn reason(self, bounds: &Bounds) -> String {
        match self {
            Self::Iterations => format!("The bound of {} iterations is reached", bounds.iterations),
            Self::Wall => format!(
                "The bound of {} of work is reached",
                cove_core::quantity::format_duration(std::time::Duration::from_secs(bounds.wall_seconds.unwrap_or(0)))
            ),
            Self::Tokens => format!("The bound of {} tokens is reached", bounds.tokens.unwrap_or(0)),
            Self::Cost => format!("The bound of {:.2} US dollars is reached", bounds.cost_usd.unwrap_or(0.0)),
            Self::Provider => "The provider's limit is reached and waiting for it is switched off".to_owned(),
        }
    }
}

/// Usage of the whole run, attempts under way included.
pub(crate) struct Budget {
    tokens: Option<u64>,
    cost_usd: Option<f64>,
    spent: Mutex<Spent>,
}

struct Spent {
    before: Usage,
    now: BTreeMap<AttemptId, Usage>,
}

impl Budget {
    pub(crate) fn new(bounds: &Bounds, before: Usage) -> Self {
        Self {
            tokens: bounds.tokens.filter(|tokens| *tokens > 0),
            cost_usd: bounds.cost_usd.filter(|cost| *cost > 0.0),
            spent: Mutex::new(Spent { before, now: BTreeMap::new() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what an attempt has used so far; the bound that is reached by it, if any.
    pub(crate) fn update(&self, attempt: &AttemptId, usage: &Usage) -> Option<Bound> {
        self.lock().now.insert(attempt.clone(), usage.clone());
        self.reached()
    }

    /// The bound that is reached, if any.
    pub(crate) fn reached(&self) -> Option<Bound> {
        let spent = self.lock();
        let all = || std::iter::once(&spent.before).chain(spent.now.values());
        let tokens: u64 = all().map(Usage::tokens).fold(0, u64::saturating_add);
        let cost: f64 = all().filter_map(Usage::cost_usd).sum();
        if self.tokens.is_some_and(|bound| tokens >= bound) {
            Some(Bound::Tokens)
        } else if self.cost_usd.is_some_and(|bound| cost >= bound - CENT_DUST) {
            Some(Bound::Cost)
        } else {
            None
        }
    }

    /// An attempt is over: its last word on usage becomes part of the past.
    pub(crate) fn settle(&self, attempt: &AttemptId) {
        let mut spent = self.lock();
        if let Some(usage) = spent.now.remove(attempt) {
            spent.before.add(&usage);
        }
    }

    /// What one attempt has used so far.
    pub(crate) fn of(&self, attempt: &AttemptId) -> Usage {
        self.lock().now.get(attempt).cloned().unwrap_or_default()
    }

    /// Everything so far.
    pub(crate) fn total(&self) -> Usage {
        let spent = self.lock();
        let mut total = spent.before.clone();
        spent.now.values().for_each(|usage| total.add(usage));
        total
    }
}
