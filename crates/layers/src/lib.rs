//! Decorators over the engine's port: what every engine needs and none shall write again.
//!
//! ```text
//! caller ─► trace ─► context ─► deadline ─► guard ─► engine
//! ```
//!
//! [`guarded`] puts all of them around an engine.

mod context;
mod deadline;
mod guard;
mod trace;

use std::sync::Arc;

use cove_core::Engine;

pub use context::Contextual;
pub use deadline::{Bounded, Deadlines};
pub use guard::{Guarded, refuse_lacking};
pub use trace::Traced;

/// The engine behind capability guard, deadlines, error context and tracing.
pub fn guarded(engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
    guarded_within(engine, Deadlines::default())
}

/// As [`guarded`], with deadlines of one's own.
pub fn guarded_within(engine: Arc<dyn Engine>, deadlines: Deadlines) -> Arc<dyn Engine> {
    let guarded = Arc::new(Guarded::new(engine));
    let bounded = Arc::new(Bounded::new(guarded, deadlines));
    Arc::new(Traced::new(Arc::new(Contextual::new(bounded))))
}
