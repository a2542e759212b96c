//! What tests of several crates share: builders, waiting with a deadline, conformance suites.

pub mod conformance;
mod engine;
pub mod remains;

use std::time::{Duration, Instant};

pub use engine::FakeEngine;

/// Waits until `condition` holds, looking every 10 ms.
///
/// # Panics
/// When it does not hold within `deadline`; names `what`.
pub async fn eventually(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < deadline, "{what} did not happen within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
