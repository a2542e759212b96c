//! The server itself.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use cove_api::{EngineReport, Status};
use cove_control::Findable;
use cove_core::capability::Finding;
use cove_core::{EngineKind, Isolation, Records};
use http::header::CONTENT_TYPE;

use crate::answer::Answer;
use crate::app::Shared;
use crate::metrics::render;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| cove_api::document().to_string());

pub(super) async fn livez() -> &'static str {
    "live\n"
}

pub(super) async fn readyz(State(app): State<Shared>) -> Answer<&'static str> {
    app.records.runs(1).await?;
    Ok("ready\n")
}

pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

pub(super) async fn metrics(State(app): State<Shared>) -> Answer<impl IntoResponse> {
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render(&app).await?))
}

pub(super) async fn status(State(app): State<Shared>) -> Answer<Json<Status>> {
    let runs = app.records.glance().await?;
    let sandboxes = app.records.sandboxes().await?;
    let engines: Vec<EngineKind> = app
        .sandboxes
        .engines()
        .iter()
        .map(|engine| EngineReport::of(&**engine))
        .filter(|report| report.isolation.iter().any(|level| *level != Isolation::Process))
        .map(|report| report.kind)
        .collect();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: app.sandboxes.instance().clone(),
        pid: std::process::id(),
        started_at: app.started_at,
        data_dir: app.options.data_dir.clone(),
        state_dir: app.options.state_dir.clone(),
        living_runs: runs.iter().filter(|run| !run.phase.is_final()).count() as u32,
        living_sandboxes: sandboxes.iter().filter(|info| info.living()).count() as u32,
        engines,
    }))
}

/// How long an engine that nobody asked for yet may take to show what it can; it goes on by itself.
const PROOF: Duration = Duration::from_secs(30);

pub(super) async fn engines(State(app): State<Shared>) -> Json<Vec<EngineReport>> {
    let reports = app.sandboxes.engines().iter().map(|engine| async {
        let proof = tokio::time::timeout(PROOF, engine.prove()).await;
        let mut report = EngineReport::of(&**engine);
        let why = match proof {
            Ok(Ok(())) => return report,
            Ok(Err(error)) => match error.next_step() {
                Some(next) => format!("{}. {next}", error.message()),
                None => error.message().to_owned(),
            },
            Err(_) => "It did not show in time what it can; ask again".to_owned(),
        };
        for control in &mut report.controls {
            control.finding = Finding::Missing { reason: why.clone() };
        }
        report.available = false;
        report.isolation.clear();
        report.why = Some(why);
        report
    });
    Json(futures_util::future::join_all(reports).await)
}
