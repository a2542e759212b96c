//! The daemon: records, engines, runs and the interface over HTTP, wired together.
//!
//! [`Daemon::start`] takes a state directory for itself, continues what an earlier daemon left, and
//! serves a Unix socket, and TCP with a token where asked to. Who may ask is settled before any route
//! is looked at: by the kernel's word about the peer on the socket, by the token on TCP.

mod absent;
mod activity;
mod answer;
mod app;
mod daemon;
mod guard;
mod idempotency;
mod listen;
mod lock;
mod metrics;
mod on_demand;
mod options;
mod place;
mod port;
mod routes;
mod token;
mod wiring;

pub use daemon::{Daemon, Ended};
pub use options::{Clamp, ClampSandbox, Options, Tcp};
pub use port::{Foundation, Runs, Wiring};
pub use token::token;
pub use wiring::Standard;
