//! A run's ledger as server-sent events.
//!
//! The entries come from the records, in pages after the last one sent; a change only wakes. So a slow
//! reader misses nothing, and a resumed stream goes on at the entry after `Last-Event-ID`.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::IntoResponse;
use cove_api::HEARTBEAT_SECONDS;
use cove_core::{Entry, Error, ErrorKind, Records, Result, RunId};
use futures_util::stream::unfold;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::answer::{Answer, Named, Params};
use crate::app::Shared;

/// Entries sent in one piece.
const PAGE: usize = 100;

const HEARTBEAT: Duration = Duration::from_secs(HEARTBEAT_SECONDS);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    after: Option<u64>,
}

pub(super) async fn follow(
    State(app): State<Shared>,
    Named(name): Named,
    Params(After { after }): Params<After>,
    headers: HeaderMap,
) -> Answer<impl IntoResponse> {
    let run = app.find_run(&name).await?.id;
    let resumed = match headers.get("last-event-id") {
        Some(value) => Some(
            value
                .to_str()
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| Error::invalid("Last-Event-ID is not the number of an entry"))?,
        ),
        None => None,
    };
    let follower = Follower {
        changes: app.runs.changes(),
        app,
        run,
        after: resumed.or(after).unwrap_or(0),
        over: false,
        greeted: false,
    };
    let body = Body::from_stream(unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((piece.map_err(|e| std::io::Error::other(e.to_string())), follower))
    }));
    Ok(([(CONTENT_TYPE, "text/event-stream")], body))
}

struct Follower {
    app: Shared,
    run: RunId,
    /// Subscribed before the first look, so that no change falls between.
    changes: broadcast::Receiver<(RunId, u64)>,
    after: u64,
    over: bool,
    greeted: bool,
}

impl Follower {
    /// The next bytes; `None` at the end, and when the daemon stops (the client comes again then).
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.over {
            return None;
        }
        if !self.greeted {
            // Lets the client see the head of the answer at once.
            self.greeted = true;
            return Some(Ok(Bytes::from_static(b": follows\n\n")));
        }
        loop {
            match self.page().await {
                Ok(Some(piece)) => return Some(Ok(piece)),
                Ok(None) => {}
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
            tokio::select! {
                () = woken(&mut self.changes, &self.run) => {}
                () = tokio::time::sleep(HEARTBEAT) => return Some(Ok(Bytes::from_static(b": alive\n\n"))),
                () = self.app.stop.cancelled() => return None,
            }
        }
    }

    async fn page(&mut self) -> Result<Option<Bytes>> {
        // The state is read before the entries: an ended run has no entries after those.
        let ended = match self.app.records.run(&self.run).await {
            Ok(run) => run.phase.is_final(),
            Err(e) if e.kind() == ErrorKind::NotFound => true,
            Err(e) => return Err(e),
        };
        let entries = self.app.records.entries(&self.run, self.after, PAGE).await?;
        if let Some(last) = entries.last() {
            self.after = last.seq;
            return written(&entries).map(Some);
        }
        if ended {
            self.over = true;
            return Ok(Some(Bytes::from_static(b"event: end\ndata: {}\n\n")));
        }
        Ok(None)
    }
}

/// Waits for a change of this run, or for reason to look whether there was one.
async fn woken(changes: &mut broadcast::Receiver<(RunId, u64)>, run: &RunId) {
    loop {
        match changes.recv().await {
            Ok((changed, _)) if changed != *run => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            // Nothing will wake any more; the heartbeat looks.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn written(entries: &[Entry]) -> Result<Bytes> {
    let mut out = String::new();
    for entry in entries {
        let data =
            serde_json::to_string(entry).map_err(|e| Error::internal("An entry cannot be written").because(e))?;
        out.push_str(&format!("id: {}\nevent: entry\ndata: {data}\n\n", entry.seq));
    }
    Ok(out.into())
}
