//! The egress door: the only way out of a sandbox.
//!
//! [`verdict`] decides, without I/O, whether a host, a port and an address may be reached. [`Doors`]
//! opens doors: each is a Unix socket with an HTTP/1.1 proxy behind it and a policy of its own. What
//! is sent through a door is hostile input.
//!
//! ```text
//! sandbox ── 127.0.0.1:3128 ── guest relay ── Unix socket ── session ─┬─ CONNECT ── tunnel (TLS name checked)
//!                                                                     └─ http://… ── forward (one request)
//! ```

pub mod verdict;

mod answer;
mod body;
mod doors;
mod events;
mod forward;
mod head;
mod hello;
mod reach;
mod session;
mod tunnel;

pub use doors::{Doors, Options};
pub use reach::{Resolver, SystemResolver};
