//! Runs.

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cove_api::{Apply, Delivered, Export, Exported, MAX_PAGE, Operation};
use cove_core::error::Context;
use cove_core::run::RunRequest;
use cove_core::{AttemptId, Entry, Error, ErrorKind, Records, Result, RunId, RunRecord, RunSpec};
use cove_stores::Claim;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::answer::{Answer, Body, Cursor, Named, Params, paged};
use crate::app::Shared;
use crate::idempotency::Turn;

/// Bytes of a raw log that are sent.
const MAX_LOG: u64 = 256 << 20;

pub(super) async fn submit(
    State(app): State<Shared>,
    headers: HeaderMap,
    Body(spec): Body<RunSpec>,
) -> Answer<Response> {
    let turn = app.keys.turn(&headers)?;
    let work = app.clone();
    let run = app.to_the_end(async move { submitted(&work, spec, turn).await }).await?;
    let location = format!("/api/v1/runs/{}", run.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(run)).into_response())
}

async fn submitted(app: &Shared, mut spec: RunSpec, turn: Option<Turn>) -> Result<RunRecord> {
    let Some(Turn { key, .. }) = &turn else {
        clamp(app, &mut spec)?;
        return app.runs.submit(spec).await;
    };
    let bytes = serde_json::to_vec(&spec).context(ErrorKind::Internal, "The request cannot be written")?;
    let digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    let cut_off = match app.records.claim_request(key, &digest).await? {
        Claim::Made(run) => return app.records.run(&run).await,
        Claim::Unfinished { since } => Some(since),
        Claim::New => None,
    };
    let made = async {
        clamp(app, &mut spec)?;
        if let Some(since) = cut_off {
            // The daemon died between making the run and noting that it did.
            let runs = app.records.runs(MAX_PAGE).await?;
            let mut later = runs.into_iter().take_while(|run| run.created_at.as_second() >= since);
            if let Some(run) = later.find(|run| run.spec == spec) {
                return Ok(run);
            }
        }
        app.runs.submit(spec).await
    };
    let made = made.await;
    match &made {
        Ok(run) => app.records.fulfil_request(key, &run.id).await?,
        Err(_) => app.records.release_request(key).await?,
    }
    made
}

fn clamp(app: &Shared, spec: &mut RunSpec) -> Result<()> {
    if let Some(clamp) = &app.options.clamp {
        let warnings = clamp(spec)?;
        spec.warnings.extend(warnings);
    }
    Ok(())
}

/// Runs of one page when no limit is asked for.
const PAGE: usize = 100;

pub(super) async fn list(State(app): State<Shared>, Params(page): Params<Cursor<RunId>>) -> Answer<Response> {
    let limit = page.limit(PAGE)?;
    // One more than asked for tells whether there is a next page.
    let mut runs = app.records.runs_before(page.cursor.as_ref(), limit + 1).await?;
    let more = runs.len() > limit;
    runs.truncate(limit);
    for run in &mut runs {
        run.spec.prd.text = String::new();
        run.spec.prd.progress = String::new();
        run.spec.prompt_template = None;
    }
    let next = runs.last().filter(|_| more).map(|run| run.id.to_string());
    Ok(paged(Operation::ListRuns, limit, next, runs))
}

pub(super) async fn one(State(app): State<Shared>, Named(name): Named) -> Answer<Json<RunRecord>> {
    Ok(Json(app.find_run(&name).await?))
}

pub(super) async fn remove(State(app): State<Shared>, Named(name): Named) -> Answer<StatusCode> {
    let (work, id) = (app.clone(), app.run_id(&name).await?);
    app.to_the_end(async move {
        work.runs.remove(&id).await?;
        work.metrics.forgot(&id);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
    .map_err(Into::into)
}

pub(super) async fn stop(State(app): State<Shared>, Named(name): Named) -> Answer<Json<RunRecord>> {
    change(app, name, Change::Request(RunRequest::Stop)).await
}

pub(super) async fn pause(State(app): State<Shared>, Named(name): Named) -> Answer<Json<RunRecord>> {
    change(app, name, Change::Request(RunRequest::Pause)).await
}

pub(super) async fn resume(State(app): State<Shared>, Named(name): Named) -> Answer<Json<RunRecord>> {
    change(app, name, Change::Resume).await
}

pub(super) async fn retry(State(app): State<Shared>, Named(name): Named) -> Answer<Json<RunRecord>> {
    change(app, name, Change::Retry).await
}

enum Change {
    Request(RunRequest),
    Resume,
    Retry,
}

async fn change(app: Shared, name: String, change: Change) -> Answer<Json<RunRecord>> {
    let (work, id) = (app.clone(), app.run_id(&name).await?);
    let run = app
        .to_the_end(async move {
            match change {
                Change::Request(request) => work.runs.request(&id, request).await?,
                Change::Resume => work.runs.resume(&id).await?,
                Change::Retry => work.runs.retry(&id).await?,
            }
            work.records.run(&id).await
        })
        .await?;
    Ok(Json(run))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    after: Option<u64>,
    limit: Option<usize>,
}

pub(super) async fn entries(
    State(app): State<Shared>,
    Named(name): Named,
    Params(page): Params<Page>,
) -> Answer<Json<Vec<Entry>>> {
    let run = app.find_run(&name).await?.id;
    let limit = page.limit.unwrap_or(200).min(MAX_PAGE);
    Ok(Json(app.records.entries(&run, page.after.unwrap_or(0), limit).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfStory {
    story: Option<String>,
}

pub(super) async fn diff(
    State(app): State<Shared>,
    Named(name): Named,
    Params(OfStory { story }): Params<OfStory>,
) -> Answer<impl IntoResponse> {
    let run = app.find_run(&name).await?;
    let diff = app.runs.diff(&run.id, story.as_deref()).await?;
    Ok(([(CONTENT_TYPE, "text/x-diff")], diff))
}

pub(super) async fn apply(
    State(app): State<Shared>,
    Named(name): Named,
    Body(apply): Body<Apply>,
) -> Answer<Json<Delivered>> {
    absolute(&apply.repository)?;
    let (work, id) = (app.clone(), app.run_id(&name).await?);
    let delivered = app.to_the_end(async move { work.runs.apply(&id, &apply.repository, apply.switch).await }).await?;
    Ok(Json(delivered))
}

pub(super) async fn export(
    State(app): State<Shared>,
    Named(name): Named,
    Body(export): Body<Export>,
) -> Answer<Json<Exported>> {
    absolute(&export.directory)?;
    let (work, id) = (app.clone(), app.run_id(&name).await?);
    let files = app.to_the_end(async move { work.runs.export(&id, &export.directory).await }).await?;
    Ok(Json(Exported { files }))
}

/// The daemon's own working directory means nothing to a client.
fn absolute(path: &std::path::Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Error::invalid(format!("{} is not an absolute path", path.display())).next("Send an absolute path"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfAttempt {
    attempt: Option<AttemptId>,
}

pub(super) async fn log(
    State(app): State<Shared>,
    Named(name): Named,
    Params(OfAttempt { attempt }): Params<OfAttempt>,
) -> Answer<impl IntoResponse> {
    let run = app.find_run(&name).await?;
    let path = app.runs.log(&run.id, attempt.as_ref()).await?;
    let file = tokio::fs::File::open(&path).await.map_err(|e| {
        Error::not_found(format!("There is no log of run {}", run.name))
            .because(e)
            .next("The run may not have begun yet")
    })?;
    let body = HttpBody::from_stream(ReaderStream::new(file.take(MAX_LOG)));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body))
}
