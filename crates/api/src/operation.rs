//! Every operation: its route, words and shapes. One table for server, client and document.

use std::time::Duration;

use cove_core::{Entry, ExecSpec, RunRecord, RunSpec, SandboxInfo};
use http::Method;
use schemars::{Schema, SchemaGenerator};

use crate::wire::{Apply, Delivered, EngineReport, Export, Exported, NewSandbox, Status};

/// What can be asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each has its summary in the table")]
pub enum Operation {
    Livez,
    Readyz,
    OpenApi,
    Metrics,
    Status,
    SubmitRun,
    ListRuns,
    GetRun,
    RemoveRun,
    StopRun,
    PauseRun,
    ResumeRun,
    RetryRun,
    ListEntries,
    FollowEntries,
    RunDiff,
    ApplyRun,
    ExportRun,
    RunLog,
    CreateSandbox,
    ListSandboxes,
    GetSandbox,
    RemoveSandbox,
    StopSandbox,
    ExecSandbox,
    SandboxLog,
    ListEngines,
}

/// What an operation answers with.
#[derive(Clone, Copy)]
pub enum Answer {
    /// JSON of a shape, with this status.
    Json(u16, Shape),
    /// Nothing, 204.
    Empty,
    /// Text of a media type, 200.
    Text(&'static str),
    /// Server-sent events; the data of each is of a shape.
    Events(Shape),
    /// A WebSocket, 101.
    Socket,
}

/// How a shape gets into a document.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of the query.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// JSON type.
    pub kind: &'static str,
    /// What it does.
    pub about: &'static str,
}

const fn text(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind: "string", about }
}

const fn number(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, kind: "integer", about }
}

fn of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn free(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) query: &'static [Parameter],
    pub(crate) body: Option<Shape>,
    pub(crate) answer: Answer,
    /// Seconds.
    pub(crate) deadline: u64,
}

const AFTER: Parameter = number("after", "Only entries with a greater `seq`");
const LIMIT: Parameter = number("limit", "At most so many, 1 to 1000");
const CURSOR: Parameter =
    text("cursor", "Only what is older than this id: that of the last one of the page before, as its Link header says");
const STORY: Parameter = text("story", "Only what this story changed");
const ATTEMPT: Parameter = text("attempt", "Of this attempt; of the last one when absent");
const GRACE: Parameter = number("graceSeconds", "Between TERM and KILL, at most 60; 5 when absent");

impl Operation {
    /// All of them, in the order of the document.
    pub const ALL: [Self; 27] = [
        Self::Livez,
        Self::Readyz,
        Self::OpenApi,
        Self::Metrics,
        Self::Status,
        Self::SubmitRun,
        Self::ListRuns,
        Self::GetRun,
        Self::RemoveRun,
        Self::StopRun,
        Self::PauseRun,
        Self::ResumeRun,
        Self::RetryRun,
        Self::ListEntries,
        Self::FollowEntries,
        Self::RunDiff,
        Self::ApplyRun,
        Self::ExportRun,
        Self::RunLog,
        Self::CreateSandbox,
        Self::ListSandboxes,
        Self::GetSandbox,
        Self::RemoveSandbox,
        Self::StopSandbox,
        Self::ExecSandbox,
        Self::SandboxLog,
        Self::ListEngines,
    ];

    /// Its method.
    pub fn method(self) -> Method {
        self.line().method
    }

    /// Its path, with `{id}` where an id, a unique beginning of one, or a name stands.
    pub fn path(self) -> &'static str {
        self.line().path
    }

    /// Its name in the document.
    pub fn id(self) -> &'static str {
        self.line().id
    }

    /// How long the server works on it; streams have no end of their own.
    pub fn deadline(self) -> Duration {
        Duration::from_secs(self.line().deadline)
    }

    /// Whether its answer is a stream without a foreseeable end.
    pub fn streams(self) -> bool {
        matches!(self.line().answer, Answer::Events(_) | Answer::Socket)
    }

    /// Whether it is answered without a token.
    pub fn open(self) -> bool {
        matches!(self, Self::Livez | Self::Readyz)
    }

    pub(crate) fn line(self) -> Line {
        use Answer::{Empty, Events, Json, Socket, Text};
        let get = |path, id, summary, answer| Line {
            method: Method::GET,
            path,
            id,
            summary,
            query: &[],
            body: None,
            answer,
            deadline: 30,
        };
        let post =
            |path, id, summary, answer| Line { method: Method::POST, deadline: 120, ..get(path, id, summary, answer) };
        let delete =
            |path, id, summary| Line { method: Method::DELETE, deadline: 330, ..get(path, id, summary, Empty) };
        match self {
            Self::Livez => get("/livez", "livez", "Whether the process answers", Text("text/plain")),
            Self::Readyz => get("/readyz", "readyz", "Whether work can be taken", Text("text/plain")),
            Self::OpenApi => get("/openapi.json", "openApi", "This document", Json(200, free)),
            Self::Metrics => {
                get("/metrics", "metrics", "Prometheus metrics", Text("text/plain; version=0.0.4; charset=utf-8"))
            }
            Self::Status => {
                get("/api/v1/status", "status", "What the server is and how it fares", Json(200, of::<Status>))
            }
            Self::SubmitRun => Line {
                body: Some(of::<RunSpec>),
                ..post("/api/v1/runs", "submitRun", "Ask for a run", Json(201, of::<RunRecord>))
            },
            Self::ListRuns => Line {
                query: &[LIMIT, CURSOR],
                ..get(
                    "/api/v1/runs",
                    "listRuns",
                    "Runs, newest first, without the texts of PRD, progress and prompt",
                    Json(200, of::<Vec<RunRecord>>),
                )
            },
            Self::GetRun => get("/api/v1/runs/{id}", "getRun", "One run", Json(200, of::<RunRecord>)),
            Self::RemoveRun => delete("/api/v1/runs/{id}", "removeRun", "Remove an ended run with all it kept"),
            Self::StopRun => post("/api/v1/runs/{id}/stop", "stopRun", "End a run", Json(200, of::<RunRecord>)),
            Self::PauseRun => post("/api/v1/runs/{id}/pause", "pauseRun", "Pause a run", Json(200, of::<RunRecord>)),
            Self::ResumeRun => {
                post("/api/v1/runs/{id}/resume", "resumeRun", "Go on with a paused run", Json(200, of::<RunRecord>))
            }
            Self::RetryRun => post(
                "/api/v1/runs/{id}/retry",
                "retryRun",
                "Try the open stories of an ended run again",
                Json(200, of::<RunRecord>),
            ),
            Self::ListEntries => Line {
                query: &[AFTER, LIMIT],
                ..get(
                    "/api/v1/runs/{id}/entries",
                    "listEntries",
                    "What a run did, in order",
                    Json(200, of::<Vec<Entry>>),
                )
            },
            Self::FollowEntries => Line {
                query: &[AFTER],
                ..get(
                    "/api/v1/runs/{id}/events",
                    "followEntries",
                    "What a run does, as it happens. The id of an event is the entry's `seq`; \
                     `Last-Event-ID` resumes. An event `end` closes the stream of an ended run",
                    Events(of::<Entry>),
                )
            },
            Self::RunDiff => Line {
                query: &[STORY],
                deadline: 120,
                ..get("/api/v1/runs/{id}/diff", "runDiff", "What a run changed", Text("text/x-diff"))
            },
            Self::ApplyRun => Line {
                body: Some(of::<Apply>),
                ..post("/api/v1/runs/{id}/apply", "applyRun", "Deliver a run's branch", Json(200, of::<Delivered>))
            },
            Self::ExportRun => Line {
                body: Some(of::<Export>),
                deadline: 300,
                ..post("/api/v1/runs/{id}/export", "exportRun", "Write a run's files", Json(200, of::<Exported>))
            },
            Self::RunLog => Line {
                query: &[ATTEMPT],
                ..get("/api/v1/runs/{id}/log", "runLog", "An agent's raw output", Text("application/octet-stream"))
            },
            Self::CreateSandbox => Line {
                body: Some(of::<NewSandbox>),
                deadline: 930,
                ..post("/api/v1/sandboxes", "createSandbox", "Make a sandbox", Json(201, of::<SandboxInfo>))
            },
            Self::ListSandboxes => Line {
                query: &[LIMIT, CURSOR],
                deadline: 120,
                ..get(
                    "/api/v1/sandboxes",
                    "listSandboxes",
                    "Sandboxes, newest first",
                    Json(200, of::<Vec<SandboxInfo>>),
                )
            },
            Self::GetSandbox => Line {
                deadline: 90,
                ..get(
                    "/api/v1/sandboxes/{id}",
                    "getSandbox",
                    "One sandbox with its proof",
                    Json(200, of::<SandboxInfo>),
                )
            },
            Self::RemoveSandbox => {
                delete("/api/v1/sandboxes/{id}", "removeSandbox", "Remove a sandbox and every trace")
            }
            Self::StopSandbox => Line {
                query: &[GRACE],
                deadline: 240,
                ..post(
                    "/api/v1/sandboxes/{id}/stop",
                    "stopSandbox",
                    "End everything inside",
                    Json(200, of::<SandboxInfo>),
                )
            },
            Self::ExecSandbox => Line {
                body: Some(of::<ExecSpec>),
                ..get(
                    "/api/v1/sandboxes/{id}/exec",
                    "execSandbox",
                    "Start a process. A WebSocket: the first message is an `ExecSpec` as JSON text; then binary \
                     messages whose first byte names the stream (0 stdin, 1 stdout, 2 stderr) and text messages \
                     `ExecControl` to and `ExecNews` from the process. The last message is an `ExecNews`",
                    Socket,
                )
            },
            Self::SandboxLog => get(
                "/api/v1/sandboxes/{id}/log",
                "sandboxLog",
                "The end of what a sandbox's supervisor wrote",
                Text("text/plain; charset=utf-8"),
            ),
            Self::ListEngines => get(
                "/api/v1/engines",
                "listEngines",
                "What each engine can do on this host",
                Json(200, of::<Vec<EngineReport>>),
            ),
        }
    }
}
