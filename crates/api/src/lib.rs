//! Cove's interface over HTTP: every operation and its shapes, the document that describes them, and a
//! client.
//!
//! Shapes are those of `cove-core` wherever it has them. The server builds its routes from
//! [`Operation`], so that the document and the routes cannot differ.

mod client;
mod openapi;
mod operation;
mod problem;
mod wire;

pub use client::{Client, Follow};
pub use openapi::document;
pub use operation::{Answer, Operation, Parameter};
pub use problem::Problem;
pub use wire::{
    Apply, ControlReport, Delivered, EngineReport, ExecControl, ExecNews, Export, Exported, NewSandbox, STDERR, STDIN,
    STDOUT, Status,
};

/// Header that makes the repetition of a request harmless.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Bytes that a request's body may have.
pub const MAX_BODY: usize = 8 << 20;

/// Entries that one answer may hold.
pub const MAX_PAGE: usize = 1000;

/// Seconds between signs of life on a stream of events.
pub const HEARTBEAT_SECONDS: u64 = 15;
