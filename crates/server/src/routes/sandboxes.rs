//! Sandboxes that are asked for by themselves.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cove_api::{MAX_PAGE, NewSandbox, Operation};
use cove_core::error::Context;
use cove_core::{ErrorKind, SandboxId, SandboxInfo};
use http::StatusCode;
use http::header::{CONTENT_TYPE, LOCATION};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::answer::{Answer, Body, Cursor, Named, Params, paged};
use crate::app::Shared;

/// Bytes of a supervisor's log that are sent, its end.
const MAX_LOG: u64 = 1 << 20;

pub(super) async fn create(State(app): State<Shared>, Body(mut new): Body<NewSandbox>) -> Answer<Response> {
    if let Some(clamp) = &app.options.clamp_sandbox {
        clamp(&mut new)?;
    }
    let NewSandbox { engine, accept_no_sandbox, spec } = new;
    let info = app.sandboxes.create(&engine, accept_no_sandbox, spec, "shell", BTreeMap::new()).await?;
    let location = format!("/api/v1/sandboxes/{}", info.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(info)).into_response())
}

pub(super) async fn list(State(app): State<Shared>, Params(page): Params<Cursor<SandboxId>>) -> Answer<Response> {
    let limit = page.limit(MAX_PAGE)?;
    let mut all = app.sandboxes.list().await?;
    all.retain(|info| page.cursor.as_ref().is_none_or(|cursor| info.id < *cursor));
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(|info| info.id.to_string());
    Ok(paged(Operation::ListSandboxes, limit, next, all))
}

pub(super) async fn one(State(app): State<Shared>, Named(name): Named) -> Answer<Json<SandboxInfo>> {
    let found = app.sandboxes.find(&name).await?;
    Ok(Json(app.sandboxes.inspect(&found.id).await?))
}

pub(super) async fn remove(State(app): State<Shared>, Named(name): Named) -> Answer<StatusCode> {
    let (work, id) = (app.clone(), app.sandboxes.find(&name).await?.id);
    app.to_the_end(async move { work.sandboxes.remove(&id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Grace {
    grace_seconds: Option<u64>,
}

pub(super) async fn stop(
    State(app): State<Shared>,
    Named(name): Named,
    Params(Grace { grace_seconds }): Params<Grace>,
) -> Answer<Json<SandboxInfo>> {
    let grace = Duration::from_secs(grace_seconds.unwrap_or(5).min(60));
    let (work, id) = (app.clone(), app.sandboxes.find(&name).await?.id);
    let info = app
        .to_the_end(async move {
            work.sandboxes.stop(&id, grace).await?;
            work.sandboxes.inspect(&id).await
        })
        .await?;
    Ok(Json(info))
}

pub(super) async fn log(State(app): State<Shared>, Named(name): Named) -> Answer<impl IntoResponse> {
    let id = app.sandboxes.find(&name).await?.id;
    let path = app.options.state_dir.join("sandboxes").join(id.as_str()).join("supervisor.log");
    let mut bytes = Vec::new();
    // Engines without supervisors of ours write none.
    if let Ok(mut file) = tokio::fs::File::open(&path).await {
        let failed = "The log cannot be read";
        let length = file.metadata().await.context(ErrorKind::Internal, failed)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG))).await.context(ErrorKind::Internal, failed)?;
        file.take(MAX_LOG).read_to_end(&mut bytes).await.context(ErrorKind::Internal, failed)?;
    }
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], bytes))
}
