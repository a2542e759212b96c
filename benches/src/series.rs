//! Times of repeated work.

use std::time::Duration;

/// Times of one kind of work.
#[derive(Debug, Default)]
pub struct Series(Vec<Duration>);

impl Series {
    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time below which this share of all lies; zero without any.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }

    /// A line with median and 95th percentile in milliseconds.
    pub fn line(&self, name: &str) -> String {
        let millis = |share| self.quantile(share).as_secs_f64() * 1000.0;
        format!("{name:<44} p50 {:>8.1} ms   p95 {:>8.1} ms   n={}", millis(0.5), millis(0.95), self.0.len())
    }

    /// This median over the other's.
    pub fn ratio(&self, other: &Self) -> f64 {
        self.quantile(0.5).as_secs_f64() / other.quantile(0.5).as_secs_f64().max(1e-9)
    }
}
