//! Git for Cove: the user's repository becomes a bare one of our own, sandboxes get independent
//! clones of it, and what they did comes back as objects only.
//!
//! Everything runs the `git` program with an environment of its own: no configuration, hooks,
//! filters, helpers or credentials of the host or of a repository take part. A sandbox's clone is
//! hostile input: `git` is never run with its `.git` as repository or its files as work tree
//! (see [`Git::collect`]).

mod branch;
mod change;
mod checkout;
mod collect;
mod command;
mod deliver;
mod git;
mod message;
mod name;
mod object;
mod overlay;
mod source;

pub use branch::Merged;
pub use change::{Change, ChangeStatus};
pub use collect::CollectedWork;
pub use deliver::Delivered;
pub use git::Git;
pub use message::CommitMessage;
pub use name::check_branch;
