//! Waiting that listens to people: requests, pauses, backing off.

use std::future::Future;
use std::time::Duration;

use cove_core::run::{Phase, RunRequest};
use cove_core::{Ending, Error, ErrorKind, Fact, Result};
use jiff::{SignedDuration, Timestamp};

use super::owner::{Command, Halt, Owner};

/// A pause looks at the clock at least this often, so that a stepped clock is noticed.
const LOOK: Duration = Duration::from_millis(200);
/// Pauses where a provider names no time of its reset: the first, and the longest.
const UNTOLD: (i64, i64) = (5 * 60, 3600);
/// No reset lies further ahead than this; beyond, we ask again.
const FARTHEST: SignedDuration = SignedDuration::from_hours(8 * 24);

impl Owner {
    /// Runs `future` unless a request or the shutdown comes first; requests are put on record.
    pub(super) async fn unless_halted<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => return Err(Halt::Shutdown),
                Some(command) = self.commands.recv() => {
                    if self.hear(command).await {
                        return Err(Halt::Request);
                    }
                }
                out = &mut future => return Ok(out),
            }
        }
    }

    /// Puts a request on record and answers; whether there is something to obey now.
    pub(super) async fn hear(&mut self, command: Command) -> bool {
        match command {
            Command::Request(request, answer) => {
                let done = self.put_request(request).await;
                let accepted = done.is_ok();
                let _ = answer.send(done);
                accepted
            }
            Command::Resume(answer) => {
                let paused = self.record.phase == Phase::Paused;
                let done = if paused {
                    self.resume("Resumed on request").await
                } else {
                    Err(Error::new(ErrorKind::Conflict, format!("The run {} is not paused", self.record.name)))
                };
                let _ = answer.send(done);
                // The phase is another one now.
                paused
            }
        }
    }

    async fn put_request(&mut self, request: RunRequest) -> Result<()> {
        let ended = self.record.phase.is_final() || self.record.phase == Phase::Finishing;
        let paused = self.record.phase == Phase::Paused && self.record.resume_at.is_none();
        if ended || (paused && request == RunRequest::Pause) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("The run {} {}", self.record.name, self.record.phase.told()),
            ));
        }
        // Stopping outweighs pausing.
        if self.record.request == Some(RunRequest::Stop) || self.record.request == Some(request) {
            return Ok(());
        }
        self.record.request = Some(request);
        let word = match request {
            RunRequest::Stop => "stop",
            RunRequest::Pause => "pause",
        };
        self.commit(vec![Fact::Note { text: format!("Asked to {word}") }]).await
    }

    /// Does what was asked; nothing is under way any more.
    pub(super) async fn obey(&mut self) -> Result<()> {
        match self.record.request {
            Some(RunRequest::Stop) => self.end(Ending::Stopped).await,
            Some(RunRequest::Pause) => {
                self.record.request = None;
                self.record.resume_at = None;
                self.enter(Phase::Paused, Some("Paused on request".to_owned()), Vec::new()).await
            }
            None => Ok(()),
        }
    }

    async fn resume(&mut self, reason: &str) -> Result<()> {
        let phase = if self.prepared() { Phase::Running } else { Phase::Starting };
        self.enter(phase, Some(reason.to_owned()), Vec::new()).await
    }

    /// Waits for a person, or for the moment when a provider serves again.
    pub(super) async fn paused(&mut self) -> Result<()> {
        let resume_at = self.record.resume_at;
        let clock = std::sync::Arc::clone(&self.shared.deps.clock);
        let over = async move {
            let Some(at) = resume_at else { return std::future::pending().await };
            loop {
                let left = at.duration_since(clock.now());
                if left <= SignedDuration::ZERO {
                    return;
                }
                tokio::time::sleep(LOOK.min(left.unsigned_abs())).await;
            }
        };
        match self.unless_halted(over).await {
            Ok(()) => self.resume("The provider's limit should be over").await,
            Err(_) => Ok(()),
        }
    }

    /// Pauses for a provider's limit.
    pub(super) async fn wait_for_provider(&mut self, resets_at: Option<Timestamp>, reason: String) -> Result<()> {
        let now = self.shared.deps.clock.now();
        self.provider_pauses = self.provider_pauses.saturating_add(1);
        let doubled = |first: i64| first.saturating_mul(1 << (self.provider_pauses - 1).min(8));
        let later = |seconds: i64| now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
        let at = match resets_at {
            // A provider that promises too much is not asked in a tight circle.
            Some(at) if at > now && self.provider_pauses > 1 => at.max(later(doubled(15).min(UNTOLD.1))),
            Some(at) if at > now => at,
            _ => later(doubled(UNTOLD.0).min(UNTOLD.1)),
        };
        let at = at.min(now.saturating_add(FARTHEST).unwrap_or(at));
        self.record.resume_at = Some(at);
        self.enter(Phase::Paused, Some(format!("Waiting for the provider: {reason}")), Vec::new()).await
    }

    /// Counts a failure of ours and waits before the next try; ends the run when there were too many.
    pub(super) async fn back_off(&mut self, error: &Error) -> Result<()> {
        self.record.infrastructure_failures += 1;
        let failures = self.record.infrastructure_failures;
        let most = self.record.spec.bounds.infrastructure_failures.max(1);
        if failures >= most {
            return self.end(failed(error, failures)).await;
        }
        self.commit(vec![Fact::Note { text: format!("Trying again after a failure of the infrastructure: {error}") }])
            .await?;
        let pause =
            self.shared.pace.first_backoff.saturating_mul(1 << (failures - 1).min(6)).min(Duration::from_secs(60));
        // Halted or not, the caller looks at the record next.
        let _ = self.unless_halted(tokio::time::sleep(pause)).await;
        Ok(())
    }
}

fn failed(error: &Error, failures: u32) -> Ending {
    let mut reason = error.told().join(": ");
    if failures > 1 {
        reason = format!("{failures} failures of the infrastructure in a row; the last: {reason}");
    }
    if let Some(next) = error.next_step() {
        reason = format!("{reason}. {next}");
    }
    super::text::cut(&mut reason, 2000);
    Ending::Failed { reason }
}

/// The ending for what no repetition can change.
pub(super) fn hopeless(reason: &str, next: Option<&str>) -> Ending {
    let mut reason = next.map_or_else(|| reason.to_owned(), |next| format!("{reason}. {next}"));
    super::text::cut(&mut reason, 2000);
    Ending::Failed { reason }
}
