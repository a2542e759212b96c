//! Every operation and its handler.

mod events;
mod exec;
mod runs;
mod sandboxes;
mod server;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};
use cove_api::Operation;
use cove_core::Error;
use http::{Method, StatusCode, Uri};

use crate::answer::Failure;
use crate::app::Shared;
use crate::guard::guard;

/// All routes behind their guard.
pub(crate) fn router(app: &Shared) -> Router {
    Operation::ALL
        .into_iter()
        .fold(Router::new(), |router, operation| {
            let guarded = handler(operation).route_layer(from_fn_with_state((app.clone(), operation), guard));
            router.route(operation.path(), guarded)
        })
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .with_state(app.clone())
}

fn handler(operation: Operation) -> MethodRouter<Shared> {
    match operation {
        Operation::Livez => get(server::livez),
        Operation::Readyz => get(server::readyz),
        Operation::OpenApi => get(server::openapi),
        Operation::Metrics => get(server::metrics),
        Operation::Status => get(server::status),
        Operation::ListEngines => get(server::engines),
        Operation::SubmitRun => post(runs::submit),
        Operation::ListRuns => get(runs::list),
        Operation::GetRun => get(runs::one),
        Operation::RemoveRun => delete(runs::remove),
        Operation::StopRun => post(runs::stop),
        Operation::PauseRun => post(runs::pause),
        Operation::ResumeRun => post(runs::resume),
        Operation::RetryRun => post(runs::retry),
        Operation::ListEntries => get(runs::entries),
        Operation::FollowEntries => get(events::follow),
        Operation::RunDiff => get(runs::diff),
        Operation::ApplyRun => post(runs::apply),
        Operation::ExportRun => post(runs::export),
        Operation::RunLog => get(runs::log),
        Operation::CreateSandbox => post(sandboxes::create),
        Operation::ListSandboxes => get(sandboxes::list),
        Operation::GetSandbox => get(sandboxes::one),
        Operation::RemoveSandbox => delete(sandboxes::remove),
        Operation::StopSandbox => post(sandboxes::stop),
        Operation::ExecSandbox => get(exec::exec),
        Operation::SandboxLog => get(sandboxes::log),
    }
}

async fn nothing_here(uri: Uri) -> Failure {
    Error::not_found(format!("There is no route {}", uri.path())).next("/openapi.json lists the routes").into()
}

async fn not_so(method: Method, uri: Uri) -> Failure {
    let error = Error::invalid(format!("{} takes no {method}", uri.path())).next("/openapi.json lists the routes");
    Failure::with_status(&error, StatusCode::METHOD_NOT_ALLOWED)
}
