//! The decision: name first, then every address it leads to.
//!
//! 1. [`Host::parse`] brings every spelling of a host into one form, or refuses it.
//! 2. [`Policy::judge`] compares host and port with the rules.
//! 3. [`Policy::judge_addresses`] compares what the name resolved to; one wrong address refuses all.
//!    The caller connects to an address that was judged, never to the name again.
//!
//! Metadata services of clouds are refused in every step, whatever the rules say.

mod address;
mod host;
mod policy;
mod rule;

pub use address::{Class, classify, is_metadata};
pub use host::{Host, HostProblem};
pub use policy::{Allowed, Policy, Reach, Refusal};
