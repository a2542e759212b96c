//! Names that a shell can complete: those of the runs and sandboxes there are, of engines, agents and
//! settings. Asked of a daemon that runs; none is started for it, and none is waited for long.

use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use cove_api::Client;
use cove_core::Result;
use cove_settings::Paths;

/// A person waits for the answer.
const BOUND: Duration = Duration::from_millis(800);
/// Names shown.
const MOST: usize = 100;

/// Runs, newest first, with their phase.
pub fn runs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        asked(async |client| {
            let runs = client.runs(MOST).await?;
            Ok(runs.into_iter().map(|run| candidate(&run.name, run.phase.told())).collect())
        })
    })
}

/// Sandboxes, newest first.
pub fn sandboxes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        asked(async |client| {
            let sandboxes = client.sandboxes_before(None, MOST).await?;
            Ok(sandboxes.into_iter().map(|info| candidate(&info.name, &info.engine.to_string())).collect())
        })
    })
}

/// Engines.
pub fn engines() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        ["auto", "native", "docker", "podman", "none"].into_iter().map(CompletionCandidate::new).collect()
    })
}

/// Agents.
pub fn agents() -> ArgValueCandidates {
    ArgValueCandidates::new(|| cove_agents::names().into_iter().map(CompletionCandidate::new).collect())
}

/// Keys of settings.
pub fn keys() -> ArgValueCandidates {
    ArgValueCandidates::new(|| cove_settings::Key::all().keys().map(CompletionCandidate::new).collect())
}

fn candidate(name: &str, about: &str) -> CompletionCandidate {
    CompletionCandidate::new(crate::output::clean_line(name)).help(Some(about.to_owned().into()))
}

/// Asks the daemon; nothing when it does not answer at once.
fn asked(question: impl AsyncFnOnce(Client) -> Result<Vec<CompletionCandidate>>) -> Vec<CompletionCandidate> {
    let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let variables: std::collections::BTreeMap<String, String> = variables.collect();
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let client = match (set("COVE_SERVER"), set("COVE_TOKEN")) {
        (Some(url), Some(token)) => Client::tcp(url, token).ok(),
        (Some(_), None) => None,
        (None, _) => Paths::from_variables(&variables)
            .ok()
            .filter(|paths| paths.check_socket().is_ok() && paths.socket.exists())
            .map(|paths| Client::unix(&paths.socket)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Some(client), Ok(runtime)) = (client, runtime) else { return Vec::new() };
    runtime
        .block_on(async { tokio::time::timeout(BOUND, question(client)).await })
        .ok()
        .and_then(Result::ok)
        .unwrap_or_default()
}
