//! Sandboxes on record and in engines, kept in step.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_core::{
    Engine, EngineKind, Error, ErrorKind, Exec, ExecSpec, InstanceId, Records, Result, SandboxId, SandboxInfo,
    SandboxSpec, SandboxState, Swept,
};
use jiff::Timestamp;
use tokio::sync::{Notify, RwLock};
use tokio_util::task::TaskTracker;

use crate::choice::{choose, prove};
use crate::find::find;

/// Sandboxes of one instance that may live at once.
const MAX_LIVING: usize = 256;

/// Between two looks at whether a sandbox is still being made.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Label with what a sandbox is for: `agent`, `gate`, `shell`, ….
const ROLE: &str = "run.cove.role";

/// Makes, finds, ends and reconciles sandboxes. The intent is on record before an engine is asked, and
/// the record goes only after the engine removed everything. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    instance: InstanceId,
    /// Held while a record is changed by what was read of it before.
    naming: tokio::sync::Mutex<()>,
    /// Creations share it; a sweep has it alone, so that it never takes a half-made sandbox for a remain.
    pub(crate) making: RwLock<()>,
    /// Being created in this process.
    underway: Mutex<HashSet<SandboxId>>,
    /// Creations go on when their caller stops waiting.
    tasks: TaskTracker,
    /// Told when an engine could not remove something.
    pub(crate) trouble: Notify,
}

impl std::fmt::Debug for Sandboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandboxes").field("instance", &self.inner.instance).finish_non_exhaustive()
    }
}

impl Sandboxes {
    /// Over these records and engines, at most one engine of each kind. Each is put behind the
    /// capability guard, deadlines, error context and tracing.
    pub fn new(records: Arc<dyn Records>, engines: Vec<Arc<dyn Engine>>, instance: InstanceId) -> Self {
        let engines = engines.into_iter().map(cove_layers::guarded).collect();
        let inner = Inner {
            records,
            engines,
            instance,
            naming: tokio::sync::Mutex::default(),
            making: RwLock::default(),
            underway: Mutex::default(),
            tasks: TaskTracker::new(),
            trouble: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The identity that engines put on what they make.
    pub fn instance(&self) -> &InstanceId {
        &self.inner.instance
    }

    /// The engines, in the order given.
    pub fn engines(&self) -> &[Arc<dyn Engine>] {
        &self.inner.engines
    }

    /// Has the engines proven that [`choose`](Self::choose) may take. May take seconds the first time, when the
    /// engine is one that waits until it is asked for.
    ///
    /// # Errors
    /// Why the engine that is named is not there, and what to do.
    pub async fn prove(&self, engine: &str, spec: &SandboxSpec) -> Result<()> {
        prove(&self.inner.engines, engine, spec).await
    }

    /// The engine that would serve `spec`. `auto` takes the first of native, docker and podman that
    /// proved everything asked for. `direct` needs consent and is asked only for what it can give.
    ///
    /// # Errors
    /// `Invalid` for an unknown name, `Refused` for `direct` without consent, `Unavailable` when the
    /// engine is not there, `Unsupported` with what it lacks and why.
    pub fn choose(&self, engine: &str, accept_no_sandbox: bool, spec: &SandboxSpec) -> Result<Arc<dyn Engine>> {
        choose(&self.inner.engines, engine, accept_no_sandbox, spec).map(|(engine, _)| engine)
    }

    /// Makes a sandbox; see [`create_as`](Self::create_as).
    ///
    /// # Errors
    /// Those of [`create_as`](Self::create_as).
    pub async fn create(
        &self,
        engine: &str,
        accept_no_sandbox: bool,
        spec: SandboxSpec,
        role: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<SandboxInfo> {
        self.create_as(SandboxId::new(), engine, accept_no_sandbox, spec, role, labels).await
    }

    /// Makes a sandbox under an id that the caller put on record before. It is made to the end even
    /// when the caller stops waiting. A failure leaves nothing; where the engine did not answer, it
    /// leaves a record that says so, until [`remove`](Self::remove) or the next day.
    ///
    /// # Errors
    /// Those of [`choose`](Self::choose) and of the engine; `Conflict` when the id or the name is
    /// taken, `Exhausted` when too many live.
    pub async fn create_as(
        &self,
        id: SandboxId,
        engine: &str,
        accept_no_sandbox: bool,
        mut spec: SandboxSpec,
        role: &str,
        labels: BTreeMap<String, String>,
    ) -> Result<SandboxInfo> {
        spec.labels.extend(labels);
        spec.labels.insert(ROLE.to_owned(), role.to_owned());
        if spec.name.is_empty() {
            spec.name = format!("cove-{role}-{}", id.short());
        }
        check_name(&spec.name)?;
        spec.validate()?;
        prove(&self.inner.engines, engine, &spec).await?;
        let (engine, spec) = choose(&self.inner.engines, engine, accept_no_sandbox, &spec)?;
        let inner = self.inner.clone();
        let task = self.inner.tasks.spawn(async move {
            let _making = inner.making.read().await;
            let _underway = Underway::begin(&inner, &id);
            inner.create(&id, &*engine, spec).await.inspect_err(|error| {
                // It may have left what it could not reach any more.
                if error.kind().retryable() {
                    inner.trouble.notify_one();
                }
            })
        });
        task.await.unwrap_or_else(|e| Err(Error::internal("Making the sandbox failed unexpectedly").because(e)))
    }

    /// Starts a process.
    ///
    /// # Errors
    /// `NotFound` without such a sandbox, and those of [`Engine::exec`].
    pub async fn exec(&self, id: &SandboxId, spec: &ExecSpec) -> Result<Exec> {
        let engine = self.inner.engine_of(id).await?;
        engine.exec(id, spec).await
    }

    /// Ends everything inside and records how it ended. Harmless for what is not there.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn stop(&self, id: &SandboxId, grace: Duration) -> Result<()> {
        let Some(engine) = absent(self.inner.engine_of(id).await)? else { return Ok(()) };
        engine.stop(id, grace).await?;
        absent(self.inspect(id).await).map(drop)
    }

    /// Removes every trace, then the record. Harmless for what is not there. One that is being made is
    /// made first.
    ///
    /// # Errors
    /// Those of the engine; the record stays then, and may be removed later.
    pub async fn remove(&self, id: &SandboxId) -> Result<()> {
        let Some(engine) = absent(self.inner.engine_of(id).await)? else { return Ok(()) };
        // Bounded, since making it is.
        while self.inner.is_underway(id) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        engine.remove(id).await.inspect_err(|_| self.inner.trouble.notify_one())?;
        self.inner.forget(id).await
    }

    /// Waits until an engine could not make or remove something, or be reconciled: it is worth to
    /// [`reconcile`](Self::reconcile) soon.
    pub async fn troubled(&self) {
        self.inner.trouble.notified().await;
    }

    /// What is known now; the record is brought up to date.
    ///
    /// # Errors
    /// `NotFound` without such a sandbox, and those of the engine.
    pub async fn inspect(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let record = self.inner.record(id).await?;
        let engine = self.inner.engine(record.engine)?;
        let seen = match engine.inspect(id).await {
            Ok(seen) => Some(seen),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        self.inner.learn(record, seen).await
    }

    /// All sandboxes on record, newest first, each as its engine sees it now; as last seen where an
    /// engine does not answer.
    ///
    /// # Errors
    /// Those of the records.
    pub async fn list(&self) -> Result<Vec<SandboxInfo>> {
        let records = self.inner.records.sandboxes().await?;
        let mut seen: BTreeMap<EngineKind, BTreeMap<SandboxId, SandboxInfo>> = BTreeMap::new();
        for engine in &self.inner.engines {
            match engine.list().await {
                Ok(list) => drop(seen.insert(engine.kind(), list.into_iter().map(|i| (i.id.clone(), i)).collect())),
                Err(error) => tracing::warn!(engine = %engine.kind(), %error, "sandboxes shown as last seen"),
            }
        }
        let mut out = Vec::with_capacity(records.len());
        for record in records {
            out.push(match seen.get_mut(&record.engine) {
                Some(list) => {
                    let now = list.remove(&record.id);
                    self.inner.learn(record, now).await?
                }
                None => record,
            });
        }
        Ok(out)
    }

    /// The sandbox that a person means by an id, the unique beginning or end of one, or a name.
    ///
    /// # Errors
    /// `NotFound`, or `Invalid` when several fit.
    pub async fn find(&self, text: &str) -> Result<SandboxInfo> {
        find(&self.inner.records.sandboxes().await?, text).cloned()
    }

    /// Brings records and engines together: states are taken over, what engines lost is recorded as
    /// failed, what nobody has on record is removed. `keep` names sandboxes that runs
    /// still mean to use. An engine that does not answer is left alone. To be called at start, and
    /// on a timer.
    ///
    /// # Errors
    /// Those of the records; an engine's are logged.
    pub async fn reconcile(&self, keep: &[SandboxId]) -> Result<Vec<Swept>> {
        self.inner.reconcile(keep).await
    }

    /// Waits for creations under way whose callers have gone.
    pub async fn settle(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    async fn create(&self, id: &SandboxId, engine: &dyn Engine, spec: SandboxSpec) -> Result<SandboxInfo> {
        let mut record = SandboxInfo {
            id: id.clone(),
            name: spec.name.clone(),
            engine: engine.kind(),
            state: SandboxState::Creating,
            spec,
            attestation: None,
            created_at: Timestamp::now(),
        };
        self.claim(&record).await?;
        let made = engine.create(id, &record.spec).await;
        match made {
            Ok(info) => {
                record.state = info.state;
                record.attestation = info.attestation;
                self.records.put_sandbox(&record).await?;
                Ok(record)
            }
            Err(error) => {
                // The caller has the reason, so there is nothing to show once the engine left nothing. Only
                // where that is not sure (it did not answer) does the record stay, until a reconciliation
                // finds out.
                let unsure = error.kind() == ErrorKind::Timeout;
                if !unsure && engine.remove(id).await.is_ok() && self.forget(id).await.is_ok() {
                    return Err(error);
                }
                record.state = SandboxState::Failed { reason: error.told().join(": ") };
                if let Err(e) = self.records.put_sandbox(&record).await {
                    tracing::warn!(sandbox = %id, error = %e, "a failed sandbox could not be recorded as such");
                }
                Err(error)
            }
        }
    }

    /// Writes the intent, unless id or name are taken or too many live.
    async fn claim(&self, record: &SandboxInfo) -> Result<()> {
        let _naming = self.naming.lock().await;
        let known = self.records.sandboxes().await?;
        let living: Vec<&SandboxInfo> = known.iter().filter(|i| crate::Findable::living(*i)).collect();
        if living.iter().any(|i| i.name == record.name) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("A living sandbox has the name {:?} already", record.name),
            )
            .next("Choose another name, or remove that sandbox"));
        }
        if known.iter().any(|i| i.id == record.id) {
            return Err(Error::new(ErrorKind::Conflict, format!("The sandbox {} is on record already", record.id)));
        }
        if living.len() >= MAX_LIVING {
            return Err(Error::new(ErrorKind::Exhausted, format!("{MAX_LIVING} sandboxes live already"))
                .next("Remove some: `cove sandbox list`, `cove sandbox rm`"));
        }
        self.records.put_sandbox(record).await
    }

    pub(crate) async fn record(&self, id: &SandboxId) -> Result<SandboxInfo> {
        let all = self.records.sandboxes().await?;
        all.into_iter().find(|i| i.id == *id).ok_or_else(|| {
            Error::not_found(format!("There is no sandbox {id}")).next("`cove sandbox list` shows those there are")
        })
    }

    fn engine(&self, kind: EngineKind) -> Result<Arc<dyn Engine>> {
        self.engines.iter().find(|e| e.kind() == kind).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("The engine {kind} that made the sandbox is not there"))
                .next("`cove doctor` shows the engines of this host")
        })
    }

    async fn engine_of(&self, id: &SandboxId) -> Result<Arc<dyn Engine>> {
        self.engine(self.record(id).await?.engine)
    }

    /// Takes over what its engine says about a sandbox on record; `None` when it knows it not.
    pub(crate) async fn learn(&self, mut record: SandboxInfo, seen: Option<SandboxInfo>) -> Result<SandboxInfo> {
        if self.is_underway(&record.id) {
            return Ok(record);
        }
        let (state, attestation) = match (&record.state, seen) {
            (_, Some(seen)) => (seen.state, seen.attestation.or_else(|| record.attestation.clone())),
            (SandboxState::Creating, None) => {
                let reason = "Cove ended while it was being made".to_owned();
                (SandboxState::Failed { reason }, None)
            }
            (SandboxState::Running, None) => {
                let reason = "The engine lost it".to_owned();
                (SandboxState::Failed { reason }, record.attestation.clone())
            }
            (SandboxState::Stopped { .. } | SandboxState::Failed { .. }, None) => return Ok(record),
        };
        if state == record.state && attestation == record.attestation {
            return Ok(record);
        }
        // What changed on record while the engine was asked is newer than its answer, and what was
        // removed meanwhile is not revived.
        let _naming = self.naming.lock().await;
        let now = self.records.sandboxes().await?.into_iter().find(|i| i.id == record.id);
        match now {
            Some(now) if now.state != record.state => return Ok(now),
            Some(_) => {
                record.state = state;
                record.attestation = attestation;
                self.records.put_sandbox(&record).await?;
            }
            None => {
                record.state = state;
                record.attestation = attestation;
            }
        }
        Ok(record)
    }

    /// Takes a sandbox off the record. Not while a state is being learned, which would bring it back.
    pub(crate) async fn forget(&self, id: &SandboxId) -> Result<()> {
        let _naming = self.naming.lock().await;
        self.records.forget_sandbox(id).await
    }

    pub(crate) fn is_underway(&self, id: &SandboxId) -> bool {
        self.underway.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

/// Marks an id as being created for as long as it lives.
struct Underway<'a>(&'a Inner, SandboxId);

impl<'a> Underway<'a> {
    fn begin(inner: &'a Inner, id: &SandboxId) -> Self {
        inner.underway.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        Self(inner, id.clone())
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.underway.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// What is not there is no failure.
fn absent<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if begins && name.len() <= 63 && name.bytes().all(fits) && !name.starts_with(SandboxId::PREFIX) {
        return Ok(());
    }
    Err(Error::invalid(format!("{name:?} cannot be a sandbox's name"))
        .next("Use at most 63 lowercase letters, digits, dots, dashes and underscores"))
}
