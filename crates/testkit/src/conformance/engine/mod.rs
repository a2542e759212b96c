//! What every engine that runs real programs must do.
//!
//! Trials are chosen by what the engine says it can do; the rest is reported with the control that
//! is missing. Programs used inside: a POSIX shell, coreutils, `setsid`, and bash for its sockets.

mod bench;
mod ending;
mod exec;
mod files;
mod hardening;
mod lifecycle;
mod limits;
mod odd;
mod options;
mod terminal;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use cove_core::{Capabilities, Control, Engine, SandboxId, SandboxSpec};

/// An engine to try, fresh for each trial.
pub struct Setup {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The least that this engine can be asked for: root, isolation, network, limits.
    pub spec: SandboxSpec,
    /// A directory of this trial's own.
    pub scratch: PathBuf,
    /// Makes a second adapter over the same state, as a restarted daemon has it.
    pub another: Box<dyn Fn() -> Arc<dyn Engine> + Send + Sync>,
    /// Kills what supervises a sandbox from outside, where there is such a thing.
    pub lose: Option<Lose>,
}

/// Kills a sandbox's supervisor.
pub type Lose = Box<dyn Fn(&SandboxId) + Send + Sync>;

/// A running trial.
pub type Run<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One trial.
#[derive(Clone, Copy)]
pub struct Trial {
    /// What must hold.
    pub name: &'static str,
    /// What it can only be tried with.
    pub needs: &'static [Control],
    /// Whether [`Setup::lose`] is needed.
    pub needs_loss: bool,
    /// Whether it only makes sense where the sandbox is kept apart from the host.
    pub needs_isolation: bool,
    /// Panics when it does not hold.
    pub run: for<'a> fn(&'a Setup) -> Run<'a>,
}

impl Trial {
    /// Why an engine cannot be tried with it.
    pub fn skipped(&self, capabilities: &Capabilities, has_loss: bool) -> Option<String> {
        if let Some(control) = self.needs.iter().find(|control| !capabilities.has(**control)) {
            return Some(format!("needs {control}"));
        }
        if self.needs_loss && !has_loss {
            return Some("needs a supervisor".to_owned());
        }
        let apart = [Control::IsolationContainer, Control::IsolationGvisor, Control::IsolationVm];
        if self.needs_isolation && !apart.into_iter().any(|control| capabilities.has(control)) {
            return Some("needs isolation".to_owned());
        }
        None
    }
}

/// A trial from a function; `needs`, `loss` and `apart` narrow where it applies.
macro_rules! trial {
    ($function:ident $(, needs: [$($control:ident),*])? $(, loss: $loss:literal)? $(, apart: $apart:literal)?) => {
        $crate::conformance::engine::Trial {
            name: stringify!($function),
            needs: &[$($(cove_core::Control::$control),*)?],
            needs_loss: false $(|| $loss)?,
            needs_isolation: false $(|| $apart)?,
            run: |setup| Box::pin($function(setup)),
        }
    };
}
pub(crate) use trial;

/// All of them.
pub fn trials() -> Vec<Trial> {
    [
        lifecycle::TRIALS,
        exec::TRIALS,
        terminal::TRIALS,
        ending::TRIALS,
        files::TRIALS,
        hardening::TRIALS,
        limits::TRIALS,
        options::TRIALS,
        odd::TRIALS,
    ]
    .concat()
}
