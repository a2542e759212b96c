//! The sandboxes of one worker: on record before they exist, gone when the worker ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_core::{
    AttemptId, Error, ErrorKind, Exec, ExecSpec, Fact, Hardening, Network, Result, SandboxId, SandboxInfo, SandboxSpec,
    Usage,
};
use tokio::sync::{mpsc, oneshot};

use super::Site;

/// Label that carries the run's id.
pub(crate) const RUN_LABEL: &str = "run.cove.run-id";
/// Label that carries the attempt's id.
pub(crate) const ATTEMPT_LABEL: &str = "run.cove.attempt-id";

/// Removing a sandbox, from the worker's side; what takes longer is left to the next sweep.
const REMOVE: Duration = Duration::from_secs(90);

/// What a worker tells the run's owner while it works.
#[derive(Debug)]
pub(crate) enum Message {
    /// These sandboxes are about to be made; answered once that is on record.
    Intend { attempt: AttemptId, sandboxes: Vec<SandboxId>, done: oneshot::Sender<()> },
    /// These things happened.
    Facts { facts: Vec<Fact> },
}

/// The sandboxes of an attempt, or of the baseline.
pub(crate) struct Crew {
    site: Arc<Site>,
    attempt: Option<AttemptId>,
    to_owner: mpsc::Sender<Message>,
    made: Mutex<Vec<SandboxId>>,
}

impl Crew {
    pub(crate) fn new(site: Arc<Site>, attempt: Option<AttemptId>, to_owner: mpsc::Sender<Message>) -> Self {
        Self { site, attempt, to_owner, made: Mutex::default() }
    }

    pub(crate) fn attempt(&self) -> Option<&AttemptId> {
        self.attempt.as_ref()
    }

    /// Records facts; waits where the owner is behind.
    pub(crate) async fn tell(&self, facts: Vec<Fact>) -> Result<()> {
        if facts.is_empty() {
            return Ok(());
        }
        self.to_owner.send(Message::Facts { facts }).await.map_err(|_| gone())
    }

    /// Puts `count` fresh ids on record.
    pub(crate) async fn intend(&self, count: usize) -> Result<Vec<SandboxId>> {
        let sandboxes: Vec<SandboxId> = (0..count).map(|_| SandboxId::new()).collect();
        if let Some(attempt) = &self.attempt {
            let (done, recorded) = oneshot::channel();
            let message = Message::Intend { attempt: attempt.clone(), sandboxes: sandboxes.clone(), done };
            self.to_owner.send(message).await.map_err(|_| gone())?;
            recorded.await.map_err(|_| gone())?;
        }
        Ok(sandboxes)
    }

    /// What agent and gate sandboxes have in common.
    pub(crate) fn blueprint(&self, network: Network) -> SandboxSpec {
        blueprint(&self.site.spec, network)
    }

    /// Makes a sandbox whose id is on record already. A creation that outlives the worker is undone.
    pub(crate) async fn open(&self, id: &SandboxId, role: &str, spec: SandboxSpec) -> Result<SandboxInfo> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
        let mut labels = BTreeMap::from([(RUN_LABEL.to_owned(), self.site.run.to_string())]);
        if let Some(attempt) = &self.attempt {
            labels.insert(ATTEMPT_LABEL.to_owned(), attempt.to_string());
        }
        let sandboxes = Arc::clone(&self.site.shared.deps.sandboxes);
        let (sender, made) = oneshot::channel();
        let layered = !spec.layers.is_empty();
        let (engine, consent) = (self.site.engine.clone(), self.site.spec.accept_no_sandbox);
        let (id, its_role) = (id.clone(), role.to_owned());
        self.site.shared.tend(async move {
            let made = sandboxes.create_as(id.clone(), &engine, consent, spec, &its_role, labels).await;
            if sender.send(made).is_err()
                && let Err(error) = sandboxes.remove(&id).await
            {
                tracing::warn!(sandbox = %id, %error, "left to the next sweep");
            }
        });
        let info = match made.await.map_err(|_| gone())? {
            Err(error) if layered && error.kind() == ErrorKind::NotStarted => {
                // The probe tried another file system than the one the run lies on.
                self.site.ground.give_up(error.chain().join(": ")).await;
                return Err(error);
            }
            made => made?,
        };
        let fact = Fact::SandboxStarted {
            attempt: self.attempt.clone(),
            sandbox: info.id.clone(),
            role: role.to_owned(),
            engine: info.engine.to_string(),
        };
        self.tell(vec![fact]).await?;
        Ok(info)
    }

    /// Starts a process in a sandbox that was made for this work. One that is not there any more was lost
    /// meanwhile, which is the host's failure and not an answer.
    pub(crate) async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        self.site.shared.deps.sandboxes.exec(id, spec).await.map_err(|error| match error.kind() {
            ErrorKind::Conflict | ErrorKind::NotFound => {
                Error::new(ErrorKind::Interrupted, format!("The sandbox {id} was lost")).because(error)
            }
            _ => error,
        })
    }

    /// Ends and removes one sandbox whose files are looked at next.
    ///
    /// # Errors
    /// `Interrupted` when it may still live: what it holds could change while it is read.
    pub(crate) async fn end(&self, id: &SandboxId) -> Result<()> {
        self.close(id).await;
        if self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(id) {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "A sandbox could not be ended, so its work is not looked at",
            )
            .with("sandbox", id));
        }
        Ok(())
    }

    /// Ends and removes one sandbox. What cannot be removed now is left to the next sweep.
    pub(crate) async fn close(&self, id: &SandboxId) {
        match tokio::time::timeout(REMOVE, self.site.shared.deps.sandboxes.remove(id)).await {
            Ok(Ok(())) => self.made.lock().unwrap_or_else(PoisonError::into_inner).retain(|made| made != id),
            Ok(Err(error)) => tracing::warn!(sandbox = %id, %error, "left to the next sweep"),
            Err(_) => tracing::warn!(sandbox = %id, "removing takes too long; left to the next sweep"),
        }
    }

    /// Ends and removes every sandbox that is left.
    pub(crate) async fn disband(&self) {
        let left = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for id in left {
            self.close(&id).await;
        }
    }

    /// What the attempt used so far.
    pub(crate) fn usage(&self) -> Usage {
        self.attempt.as_ref().map_or_else(Usage::default, |attempt| self.site.budget.of(attempt))
    }
}

/// The sandbox of a run's agents and gates, without mounts.
pub(crate) fn blueprint(spec: &cove_core::RunSpec, network: Network) -> SandboxSpec {
    SandboxSpec {
        limits: spec.limits.clone(),
        network,
        hardening: Hardening { accept_missing: spec.accept_missing.iter().copied().collect(), ..Hardening::default() },
        ..SandboxSpec::new(spec.root.clone())
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Interrupted, "The run's owner ended")
}
