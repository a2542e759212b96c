//! Asked for but not proven means refused, before the engine is asked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cove_core::capability::acceptable;
use cove_core::{
    Capabilities, Control, Engine, EngineKind, Error, ErrorKind, Exec, ExecSpec, Result, SandboxId, SandboxInfo,
    SandboxSpec, Swept,
};

/// Refuses specifications that are malformed or ask for what the engine has not proven.
pub struct Guarded {
    inner: Arc<dyn Engine>,
}

impl Guarded {
    /// Puts the guard before an engine.
    pub fn new(inner: Arc<dyn Engine>) -> Self {
        Self { inner }
    }
}

/// Fails when `capabilities` lacks what `spec` asks for.
///
/// # Errors
/// `Unsupported` that names every control that is missing, why, and what a person can do.
pub fn refuse_lacking(kind: EngineKind, capabilities: &Capabilities, spec: &SandboxSpec) -> Result<()> {
    let lacking = capabilities.lacking(spec);
    let Some((first, _)) = lacking.first() else { return Ok(()) };
    let names: Vec<String> = lacking.iter().map(|(control, _)| control.to_string()).collect();
    let mut reasons: Vec<&str> = Vec::new();
    for (_, why) in &lacking {
        let why = why.trim_end_matches('.');
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }
    // One reason is enough to go on with; the table has them all.
    let why = match reasons.as_slice() {
        [one] => (*one).to_owned(),
        [one, others @ ..] => format!("{one} ({} more in cove engine test)", others.len()),
        [] => String::new(),
    };
    Err(Error::new(ErrorKind::Unsupported, format!("The engine {kind} cannot give {}", names.join(", ")))
        .because(why)
        .with("control", names.join(","))
        .next(next_step(*first, lacking.iter().all(|(control, _)| acceptable(*control)), &names)))
}

fn next_step(first: Control, all_acceptable: bool, names: &[String]) -> String {
    if all_acceptable {
        return format!("Go without: --accept-missing {}; or provide it: cove engine test says how", names.join(","));
    }
    match first {
        Control::NetworkHost => "Use a door (--allow-host) instead of the host's network".to_owned(),
        Control::IsolationProcess => "Ask for the isolation container; a plain process isolates nothing".to_owned(),
        _ => "Choose another engine (cove engine test shows what each gives), or provide what is missing; cove doctor says how"
            .to_owned(),
    }
}

#[async_trait]
impl Engine for Guarded {
    fn kind(&self) -> EngineKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn prove(&self) -> Result<()> {
        self.inner.prove().await
    }

    async fn create(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<SandboxInfo> {
        spec.validate()?;
        refuse_lacking(self.kind(), self.capabilities(), spec)?;
        self.inner.create(id, spec).await
    }

    async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        if spec.argv.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("The command is empty"));
        }
        if let Some(nul) = spec.argv.iter().find(|arg| arg.contains('\0')) {
            return Err(Error::invalid(format!("The argument {nul:?} has a nul byte")));
        }
        if let (Some(_), Some(why)) = (spec.pty, self.capabilities().why_missing(Control::Pty)) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("The engine {} cannot give a terminal. {why}", self.kind()),
            )
            .with("control", Control::Pty)
            .next("Run it without a terminal"));
        }
        self.inner.exec(id, spec).await
    }

    async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        self.inner.stop(id, grace).await
    }

    async fn remove(&self, id: &SandboxId) -> Result<()> {
        self.inner.remove(id).await
    }

    async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        self.inner.inspect(id).await
    }

    async fn list(&self) -> Result<Vec<SandboxInfo>> {
        self.inner.list().await
    }

    async fn sweep(&self, known: &[SandboxId]) -> Result<Vec<Swept>> {
        self.inner.sweep(known).await
    }
}
