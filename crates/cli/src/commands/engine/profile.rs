//! What a run of this user asks an engine for.

use std::collections::BTreeSet;

use cove_api::EngineReport;
use cove_core::capability::{Finding, required};
use cove_core::{Control, Isolation, Limits, Mount, Network, Result, Root, SandboxSpec};

use crate::args::EngineTest;
use crate::context::Context;

/// The sandbox that settings and arguments describe.
pub struct Asked {
    spec: SandboxSpec,
    /// Whether a root was named; otherwise an engine may choose the kind it can show.
    root_named: bool,
}

impl Asked {
    /// From settings and arguments.
    ///
    /// # Errors
    /// Those of settings; `NotFound` for a root that is not there.
    pub fn new(context: &Context, args: &EngineTest) -> Result<Self> {
        let resolved = context.settings()?;
        resolved.warnings.iter().for_each(|warning| context.printer.warn(warning));
        let parts = resolved.run_parts()?;
        let root = super::super::sandbox::root(context, &args.root)?.unwrap_or(parts.root);
        let mut spec = SandboxSpec::new(root);
        spec.limits = parts.limits;
        spec.hardening.accept_missing = parts.accept_missing.into_iter().collect();
        Ok(Self { root_named: spec.root != Root::Host, spec })
    }

    /// What is asked of one engine.
    pub fn of(&self, report: &EngineReport) -> Profile {
        let mut spec = self.spec.clone();
        let proven =
            |control: Control| report.controls.iter().any(|c| c.control == control && c.finding == Finding::Proven);
        let own_root = !self.root_named && !proven(Control::RootHost);
        let mut required: Vec<Control> = required(&as_a_run_asks(&spec));
        if own_root {
            // Container engines cannot show the host's directories; their runs name an image.
            required.iter_mut().filter(|control| **control == Control::RootHost).for_each(|c| *c = Control::RootImage);
        }
        if spec.isolation == Isolation::Process {
            spec.limits = Limits::NONE;
        }
        let missing = required.iter().copied().filter(|control| !proven(*control)).collect();
        Profile { spec, required, missing, own_root }
    }
}

/// The same sandbox with its door and its workspace.
fn as_a_run_asks(spec: &SandboxSpec) -> SandboxSpec {
    SandboxSpec {
        network: Network::Door { socket: "/door".into() },
        mounts: vec![Mount { source: "/workspace".into(), target: "/workspace".into(), read_only: false, give: true }],
        ..spec.clone()
    }
}

/// What a run asks of one engine.
pub struct Profile {
    /// A sandbox by itself: no door, no workspace of a run.
    pub spec: SandboxSpec,
    /// Controls that a run asks for.
    pub required: Vec<Control>,
    /// Those of them that the engine has not proven.
    pub missing: BTreeSet<Control>,
    /// Whether a root has to be made for a live test, since the engine cannot show the host's.
    pub own_root: bool,
}

impl Profile {
    /// What is missing and was not accepted as missing.
    pub fn lacking(&self) -> Vec<Control> {
        self.missing.iter().copied().filter(|control| !self.waived(*control)).collect()
    }

    /// Whether settings say to go without it.
    pub fn waived(&self, control: Control) -> bool {
        cove_core::capability::acceptable(control) && self.spec.hardening.accept_missing.contains(&control)
    }
}
