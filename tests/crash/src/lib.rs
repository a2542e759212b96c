//! What the crash suite is made of: lives of a daemon that end early, what a run came to, and system
//! calls that fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its figures"
)]

mod end;
mod injection;
mod ledger;
mod life;
mod pool;
mod probe;

pub use end::{End, Standing};
pub use injection::{Fault, Injection, injected};
pub use ledger::{Ledger, Seen};
pub use life::{DEADLINE, Life};
pub use pool::{each, number};
pub use probe::{probe_descriptors, probe_ledger, probe_sandbox, store_record};
