//! Layered configuration: where values come from, what they are, and what of them is in force.
//!
//! [`Resolved::load`] reads every layer, refuses unknown keys, ignores what a repository may not
//! decide, and gives [`Settings`] whose every value knows its [`Origin`]. [`Policy`] is the managed
//! layer: it never adds, it only tightens a finished [`cove_core::RunSpec`].

mod environment;
mod json;
mod key;
mod model;
mod origin;
mod paths;
mod policy;
mod project;
mod resolve;
mod scalar;
mod schema;
mod spec;

pub use key::{Key, nearest};
pub use model::{
    Agent, Backup, Container, Daemon, EngineName, Gc, Git, Loop, NetworkPolicy, Prd, Resources, Retention, Sandbox,
    Security, Settings, Storage,
};
pub use origin::Origin;
pub use paths::Paths;
pub use policy::{Policy, clamp, clamp_sandbox};
pub use project::ProjectRule;
pub use resolve::{Flag, Resolved, Setting, Sources, Value};
pub use scalar::{Cpus, Millis, Size, Span};
pub use schema::{policy_schema, schema};
pub use spec::RunParts;
