//! Time as a port, so that tests need not wait.

use jiff::Timestamp;

/// Tells the time. Wall-clock time may be stepped; budgets of time are counted by monotonic
/// instants by whoever enforces them.
pub trait Clock: Send + Sync {
    /// The present moment in UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
