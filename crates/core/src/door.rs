//! The port to the egress door: the only way out of a sandbox.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// What may leave a sandbox. Everything else is refused; metadata addresses always are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EgressPolicy {
    /// Hosts that may be reached.
    pub allow: Vec<HostRule>,
    /// Hosts refused even where a rule allows them.
    pub block: Vec<HostRule>,
    /// Whether a rule may lead to loopback or private addresses of the host. Only for hosts that are
    /// themselves written as such an address or as `localhost`.
    pub allow_private: bool,
}

/// `example.com`, `*.example.com` (any depth below, not the name itself), an IP address, each with
/// an optional `:port`; without one, 80 and 443.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct HostRule(pub String);

/// One decision of a door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoorEvent {
    /// Host as asked for, lowercase, without port.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether it was let through.
    pub allowed: bool,
    /// Why, as a sentence that names the rule.
    pub reason: String,
    /// Equal decisions since the door opened, this one included.
    pub count: u64,
}

/// Opens doors.
#[async_trait]
pub trait Door: Send + Sync {
    /// Opens a door with a policy of its own on a fresh Unix socket; it stays open until the handle
    /// is dropped or closed. `label` names it in logs.
    ///
    /// # Errors
    /// `Invalid` for a rule that cannot be read, with the rule.
    async fn open(&self, label: &str, policy: &EgressPolicy) -> Result<Box<dyn DoorHandle>>;
}

/// An open door.
#[async_trait]
pub trait DoorHandle: Send + Sync {
    /// The socket to put into [`crate::Network::Door`].
    fn socket(&self) -> PathBuf;
    /// Decisions since the last call, one per host, port and outcome, in order of first sight.
    fn take_events(&self) -> Vec<DoorEvent>;
    /// Closes it and every connection through it.
    async fn close(&self);
}
