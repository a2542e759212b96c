//! How long an engine may take.

use std::time::Duration;

use cove_core::{Engine, Error, ErrorKind, Result};

/// Building may include fetching an image.
pub(crate) const CREATE: Duration = Duration::from_secs(900);
/// Starting a process.
pub(crate) const EXEC: Duration = Duration::from_secs(60);
/// Stopping, beyond the grace asked for.
pub(crate) const STOP: Duration = Duration::from_secs(60);
/// Removing and sweeping.
pub(crate) const REMOVE: Duration = Duration::from_secs(180);
/// Looking.
pub(crate) const LOOK: Duration = Duration::from_secs(30);

/// Waits for an engine's answer.
///
/// # Errors
/// The engine's; `Timeout` naming engine and operation.
pub(crate) async fn within<T>(
    limit: Duration,
    engine: &dyn Engine,
    operation: &str,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, format!("The engine {} did not {operation} in time", engine.kind()))
            .with("seconds", limit.as_secs())
            .next("`cove doctor` examines the engines"))
    })
}
