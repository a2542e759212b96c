//! Whether anybody is there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts what is open, and knows since when nothing is.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    open: usize,
    since: Instant,
}

/// Something open; until dropped.
#[derive(Debug)]
pub(crate) struct Open(Activity);

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { open: 0, since: Instant::now() })))
    }

    pub(crate) fn open(&self) -> Open {
        self.change(|state| state.open += 1);
        Open(self.clone())
    }

    /// Begins the count of idle time anew.
    pub(crate) fn touch(&self) {
        self.change(|_| ());
    }

    /// How long nothing has been open; `None` while something is.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.open == 0).then(|| state.since.elapsed())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        state.since = Instant::now();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.change(|state| state.open -= 1);
    }
}
