//! The rules over the ports: which engine serves, what is on record, and what becomes of what is
//! found on one side only.

mod choice;
mod find;
mod instance;
mod reconcile;
mod sandboxes;

pub use find::{Findable, find};
pub use instance::instance;
pub use sandboxes::Sandboxes;
