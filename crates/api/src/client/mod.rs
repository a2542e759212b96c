//! A client over a Unix socket, or over TCP with a token.

mod events;
mod exec;
mod transport;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cove_core::{AttemptId, Entry, Error, Exec, ExecSpec, Result, RunId, RunRecord, RunSpec, SandboxInfo};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use events::Follow;
use transport::Target;

use crate::IDEMPOTENCY_KEY;
use crate::operation::Operation;
use crate::wire::{Apply, Delivered, EngineReport, Export, Exported, NewSandbox, Status};

/// Asks a server. Every call has a deadline a little beyond the server's own for the operation.
/// `id` is always an id, a unique beginning or end of one, or a name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
}

/// Beyond the server's own deadline.
const SLACK: Duration = Duration::from_secs(15);

impl Client {
    /// Over the socket of a daemon of this user.
    pub fn unix(socket: impl AsRef<Path>) -> Self {
        Self { target: Target::unix(socket.as_ref()) }
    }

    /// Over TCP: `http://host:port`, with the server's token.
    ///
    /// # Errors
    /// `Invalid` for another kind of URL, or a token that cannot be sent.
    pub fn tcp(url: &str, token: &str) -> Result<Self> {
        Ok(Self { target: Target::tcp(url, token)? })
    }

    /// Whether a server answers.
    ///
    /// # Errors
    /// `Unavailable` when none does.
    pub async fn live(&self) -> Result<()> {
        self.call(Operation::Livez, "", &[], None).await.map(drop)
    }

    /// Whether it can take work.
    ///
    /// # Errors
    /// `Unavailable` when it cannot, or none answers.
    pub async fn ready(&self) -> Result<()> {
        self.call(Operation::Readyz, "", &[], None).await.map(drop)
    }

    /// The server's own description.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn openapi(&self) -> Result<Value> {
        self.json(Operation::OpenApi, "", &[]).await
    }

    /// Prometheus text.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn metrics(&self) -> Result<String> {
        self.call(Operation::Metrics, "", &[], None).await.map(|b| String::from_utf8_lossy(&b).into_owned())
    }

    /// What the server is.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn status(&self) -> Result<Status> {
        self.json(Operation::Status, "", &[]).await
    }

    /// Asks for a run. With a `key`, a repetition answers with the run that the first one made.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn submit(&self, spec: &RunSpec, key: Option<&str>) -> Result<RunRecord> {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let value = HeaderValue::from_str(key)
                .map_err(|e| Error::invalid("The idempotency key cannot be sent in a header").because(e))?;
            headers.insert(HeaderName::from_static(IDEMPOTENCY_KEY), value);
        }
        let body = encode(spec)?;
        decode(&self.send(Operation::SubmitRun, "", &[], headers, Some(body)).await?)
    }

    /// Runs, newest first, without the texts of PRD, progress and prompt.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        self.runs_before(None, limit).await
    }

    /// The page of runs that are older than `cursor`, the id of the last one of the page before. A page
    /// shorter than `limit` is the last.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn runs_before(&self, cursor: Option<&str>, limit: usize) -> Result<Vec<RunRecord>> {
        self.json(Operation::ListRuns, "", &page(cursor, limit)).await
    }

    /// One run.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn run(&self, id: &str) -> Result<RunRecord> {
        self.json(Operation::GetRun, id, &[]).await
    }

    /// Removes an ended run with all it kept.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn remove_run(&self, id: &str) -> Result<()> {
        self.call(Operation::RemoveRun, id, &[], None).await.map(drop)
    }

    /// Ends a run.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn stop_run(&self, id: &str) -> Result<RunRecord> {
        self.json(Operation::StopRun, id, &[]).await
    }

    /// Pauses a run.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn pause_run(&self, id: &str) -> Result<RunRecord> {
        self.json(Operation::PauseRun, id, &[]).await
    }

    /// Goes on with a paused run.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn resume_run(&self, id: &str) -> Result<RunRecord> {
        self.json(Operation::ResumeRun, id, &[]).await
    }

    /// Tries the open stories of an ended run again.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn retry_run(&self, id: &str) -> Result<RunRecord> {
        self.json(Operation::RetryRun, id, &[]).await
    }

    /// Ledger entries after position `after`, in order.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn entries(&self, id: &str, after: u64, limit: usize) -> Result<Vec<Entry>> {
        self.json(Operation::ListEntries, id, &[("after", after.to_string()), ("limit", limit.to_string())]).await
    }

    /// Ledger entries after position `after` as they come, each once and in order, until the run is
    /// over. A connection that breaks is made again and resumes. Nothing is sent before the first
    /// [`Follow::next`].
    pub fn follow(&self, id: &str, after: u64) -> Follow {
        Follow::new(self.target.clone(), id, after)
    }

    /// What a run changed, as a diff; only by one story where given.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn diff(&self, id: &str, story: Option<&str>) -> Result<Vec<u8>> {
        let query: Vec<_> = story.map(|s| ("story", s.to_owned())).into_iter().collect();
        self.call(Operation::RunDiff, id, &query, None).await.map(|b| b.to_vec())
    }

    /// Delivers a run's branch.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn apply(&self, id: &str, apply: &Apply) -> Result<Delivered> {
        decode(&self.call(Operation::ApplyRun, id, &[], Some(encode(apply)?)).await?)
    }

    /// Writes a run's files.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn export(&self, id: &str, export: &Export) -> Result<Exported> {
        decode(&self.call(Operation::ExportRun, id, &[], Some(encode(export)?)).await?)
    }

    /// An agent's raw output; of the last attempt when none is named.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn log(&self, id: &str, attempt: Option<&AttemptId>) -> Result<Vec<u8>> {
        let query: Vec<_> = attempt.map(|a| ("attempt", a.to_string())).into_iter().collect();
        self.call(Operation::RunLog, id, &query, None).await.map(|b| b.to_vec())
    }

    /// Makes a sandbox.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn create_sandbox(&self, sandbox: &NewSandbox) -> Result<SandboxInfo> {
        decode(&self.call(Operation::CreateSandbox, "", &[], Some(encode(sandbox)?)).await?)
    }

    /// Sandboxes, newest first.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn sandboxes(&self) -> Result<Vec<SandboxInfo>> {
        self.json(Operation::ListSandboxes, "", &[]).await
    }

    /// The page of sandboxes that are older than `cursor`; see [`runs_before`](Self::runs_before).
    ///
    /// # Errors
    /// Those of the server.
    pub async fn sandboxes_before(&self, cursor: Option<&str>, limit: usize) -> Result<Vec<SandboxInfo>> {
        self.json(Operation::ListSandboxes, "", &page(cursor, limit)).await
    }

    /// One sandbox.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn sandbox(&self, id: &str) -> Result<SandboxInfo> {
        self.json(Operation::GetSandbox, id, &[]).await
    }

    /// Removes a sandbox and every trace.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.call(Operation::RemoveSandbox, id, &[], None).await.map(drop)
    }

    /// Ends everything inside a sandbox: TERM, then KILL after `grace` (whole seconds).
    ///
    /// # Errors
    /// Those of the server.
    pub async fn stop_sandbox(&self, id: &str, grace: Duration) -> Result<SandboxInfo> {
        self.json(Operation::StopSandbox, id, &[("graceSeconds", grace.as_secs().to_string())]).await
    }

    /// Starts a process in a sandbox. Dropping both directions ends it.
    ///
    /// # Errors
    /// Those of the transport; those of the server come from the first [`cove_core::ExecOutput::next`].
    pub async fn exec(&self, id: &str, spec: &ExecSpec) -> Result<Exec> {
        exec::start(&self.target, id, spec).await
    }

    /// The end of what a sandbox's supervisor wrote.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn sandbox_log(&self, id: &str) -> Result<Vec<u8>> {
        self.call(Operation::SandboxLog, id, &[], None).await.map(|b| b.to_vec())
    }

    /// What each engine can do on the server's host.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn engines(&self) -> Result<Vec<EngineReport>> {
        self.json(Operation::ListEngines, "", &[]).await
    }

    /// The run that `text` names, as its id; for calls that repeat.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn run_id(&self, text: &str) -> Result<RunId> {
        match text.parse() {
            Ok(id) => Ok(id),
            Err(_) => self.run(text).await.map(|run| run.id),
        }
    }

    async fn json<T: DeserializeOwned>(&self, operation: Operation, id: &str, query: &[(&str, String)]) -> Result<T> {
        decode(&self.call(operation, id, query, None).await?)
    }

    async fn call(
        &self,
        operation: Operation,
        id: &str,
        query: &[(&str, String)],
        body: Option<Bytes>,
    ) -> Result<Bytes> {
        self.send(operation, id, query, HeaderMap::new(), body).await
    }

    async fn send(
        &self,
        operation: Operation,
        id: &str,
        query: &[(&str, String)],
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Bytes> {
        let path = transport::path(operation, id, query);
        let deadline = operation.deadline() + SLACK;
        self.target.send(operation.method(), &path, headers, body, deadline).await
    }
}

fn page(cursor: Option<&str>, limit: usize) -> Vec<(&'static str, String)> {
    let cursor = cursor.map(|id| ("cursor", id.to_owned()));
    [("limit", limit.to_string())].into_iter().chain(cursor).collect()
}

fn encode(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|e| Error::invalid("The request cannot be written").because(e))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        Error::internal("The server's answer cannot be understood")
            .because(e)
            .next("Use the same version of Cove on both sides")
    })
}
