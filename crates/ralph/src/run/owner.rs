//! The owning task: phases, the record, and what people ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_core::run::{Phase, RunRecord, RunRequest, StoryStatus};
use cove_core::{Agent, Ending, Error, ErrorKind, Fact, Result};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::budget::{Bound, Budget};
use super::ground::Ground;
use super::{Files, Place, Site, place, prepare};
use crate::prd::Prd;
use crate::runner::Shared;
use crate::tamper::ControlFiles;

/// Longest pause before the records are tried again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A word to the owner; answered once it is on record.
pub(crate) enum Command {
    /// Stop or pause.
    Request(RunRequest, oneshot::Sender<Result<()>>),
    /// Go on after a pause.
    Resume(oneshot::Sender<Result<()>>),
}

/// Why the owner stopped waiting for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// A person asked; `record.request` says for what.
    Request,
    /// The daemon ends.
    Shutdown,
}

/// What concluded attempts mean for the run as a whole.
#[derive(Debug, Default)]
pub(super) struct After {
    pub(super) ending: Option<Ending>,
    pub(super) bound: Option<Bound>,
    /// When the provider serves again, and its words.
    pub(super) limited: Option<(Option<Timestamp>, String)>,
    pub(super) broken: Option<Error>,
}

/// Owns one run.
pub(crate) struct Owner {
    pub(super) shared: Arc<Shared>,
    pub(super) record: RunRecord,
    pub(super) prd: Prd,
    pub(super) agent: Arc<dyn Agent>,
    pub(super) place: Place,
    pub(super) files: Files,
    pub(super) budget: Arc<Budget>,
    ground: Arc<Ground>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What the wave under way leads to.
    pub(super) after: After,
    /// Pauses for a provider since an attempt last got through.
    pub(super) provider_pauses: u32,
    /// A place among the runs that work.
    permit: Option<OwnedSemaphorePermit>,
    /// Since when work is being counted.
    working: Option<Instant>,
}

impl Owner {
    pub(crate) fn new(shared: Arc<Shared>, record: RunRecord, commands: mpsc::Receiver<Command>) -> Result<Self> {
        let prd = Prd::parse(&record.spec.prd.text, record.spec.prd.path.as_deref())?;
        let agent = (shared.deps.agents)(&record.spec.agent)?;
        let place = Place::new(&shared.deps.data_dir, &record.id);
        let files = Files::new(&place, &record, prd.format);
        let budget = Arc::new(Budget::new(&record.spec.bounds, record.usage.clone()));
        Ok(Self {
            shared,
            record,
            prd,
            agent,
            place,
            files,
            budget,
            ground: Arc::default(),
            commands,
            after: After::default(),
            provider_pauses: 0,
            permit: None,
            working: None,
        })
    }

    /// Brings the run to its end, or to where a shutdown leaves it. A failure of the records (a full disk)
    /// is waited out: the run goes on from what is on record, as after a restart.
    pub(crate) async fn live(mut self) {
        let mut pause = self.shared.pace.first_backoff;
        loop {
            let before = self.record.version;
            let Err(error) = self.phases().await else { return };
            let error = error.chain().join(": ");
            tracing::error!(run = %self.record.id, %error, "a step could not be taken; trying again later");
            self.remove_sandboxes().await;
            if self.record.version > before {
                pause = self.shared.pace.first_backoff;
            }
            if self.waited(pause).await == Err(Halt::Shutdown) {
                return;
            }
            pause = pause.saturating_mul(2).min(LONGEST_BACKOFF);
            self = match self.again().await {
                Ok(Some(owner)) => owner,
                Ok(None) => return,
                Err((owner, error)) => {
                    tracing::warn!(run = %owner.record.id, %error, "the run cannot be read yet");
                    *owner
                }
            };
        }
    }

    /// Waits; people are told that the run cannot obey now.
    async fn waited(&mut self, pause: Duration) -> Result<(), Halt> {
        let refused = || {
            Error::new(ErrorKind::Unavailable, "The run's records cannot be written now")
                .next("Look at the disk of the data directory; cove daemon status shows where it is")
        };
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => return Err(Halt::Shutdown),
                Some(command) = self.commands.recv() => match command {
                    Command::Request(_, answer) => drop(answer.send(Err(refused()))),
                    Command::Resume(answer) => drop(answer.send(Err(refused()))),
                },
                () = tokio::time::sleep_until(end) => return Ok(()),
            }
        }
    }

    /// The same run from what is on record; `None` when it is over or gone.
    async fn again(self) -> Result<Option<Self>, (Box<Self>, Error)> {
        let record = match self.shared.deps.records.run(&self.record.id).await {
            Ok(record) if record.phase.is_final() => return Ok(None),
            Ok(record) => record,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err((Box::new(self), error)),
        };
        // What was read once is read again: the request was taken in with it.
        match Self::new(Arc::clone(&self.shared), record, self.commands) {
            Ok(owner) => Ok(Some(owner)),
            Err(error) => {
                tracing::error!(%error, "the run cannot be continued now; it goes on at the next start");
                Ok(None)
            }
        }
    }

    async fn phases(&mut self) -> Result<()> {
        place::make(self.place.root())?;
        self.settle().await?;
        loop {
            if self.shared.stopping.is_cancelled() {
                return Ok(());
            }
            if !self.record.phase.is_final() && self.record.request.is_some() {
                self.obey().await?;
                continue;
            }
            match self.record.phase {
                Phase::Queued => self.queued().await?,
                Phase::Starting => {
                    if self.admitted().await.is_ok() {
                        self.start().await?;
                    }
                }
                Phase::Running => {
                    if self.admitted().await.is_ok() {
                        self.wave().await?;
                    }
                }
                Phase::Paused | Phase::WaitingInput => self.paused().await?,
                Phase::Finishing => self.finish().await?,
                _ => return Ok(()),
            }
        }
    }

    async fn queued(&mut self) -> Result<()> {
        if self.admitted().await.is_err() {
            return Ok(());
        }
        self.enter(Phase::Starting, None, Vec::new()).await
    }

    /// Waits for a place among the runs that work.
    async fn admitted(&mut self) -> Result<(), Halt> {
        if self.permit.is_none() {
            let slots = Arc::clone(&self.shared.slots);
            let permit = self.unless_halted(slots.acquire_owned()).await?;
            // The semaphore is never closed; without a permit the caller would only ask again.
            self.permit = permit.ok();
        }
        self.working.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Time counts as work up to now, and no further until [`admitted`](Self::admitted).
    pub(super) fn rest(&mut self) {
        self.count_time();
        self.working = None;
    }

    fn count_time(&mut self) {
        if let Some(since) = self.working {
            let now = Instant::now();
            let millis = u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
            self.record.worked_millis = self.record.worked_millis.saturating_add(millis);
            // What is cut off below a millisecond stays to be counted.
            self.working = Some(since + Duration::from_millis(millis));
        }
    }

    /// When the wall-clock bound ends the run's work; `None` without such a bound.
    pub(super) fn wall_end(&mut self) -> Option<Instant> {
        self.count_time();
        let bound = self.record.spec.bounds.wall_seconds.filter(|seconds| *seconds > 0)?;
        let left = bound.saturating_mul(1000).saturating_sub(self.record.worked_millis);
        Some(Instant::now() + Duration::from_millis(left))
    }

    /// One step of the run: the record as it is now, with the facts that led to it.
    pub(super) async fn commit(&mut self, facts: Vec<Fact>) -> Result<()> {
        self.count_time();
        self.record.usage = self.budget.total();
        self.shared.commit(&mut self.record, facts).await
    }

    /// Changes the phase, together with what led to it.
    pub(super) async fn enter(&mut self, phase: Phase, reason: Option<String>, mut facts: Vec<Fact>) -> Result<()> {
        tracing::info!(run = %self.record.id, %phase, reason, "phase");
        if matches!(phase, Phase::Paused) || phase.is_final() {
            self.rest();
            self.permit = None;
        }
        self.record.phase = phase;
        self.record.reason.clone_from(&reason);
        if phase != Phase::Paused {
            self.record.resume_at = None;
        }
        facts.push(Fact::PhaseChanged { phase, reason });
        if let Some(ending) = self.record.ending.clone().filter(|_| phase.is_final()) {
            facts.push(Fact::Finished { ending });
        }
        self.commit(facts).await
    }

    /// Ends the run. Endings that leave the work as it is come at once, the others after tidying up.
    pub(super) async fn end(&mut self, ending: Ending) -> Result<()> {
        let phase = match &ending {
            Ending::Failed { .. } | Ending::Stopped => ending.phase(),
            _ => Phase::Finishing,
        };
        let reason = (phase != Phase::Finishing).then(|| ending.reason());
        self.record.ending = Some(ending);
        self.record.request = None;
        let repair = phase.is_final();
        self.enter(phase, reason, Vec::new()).await?;
        if repair {
            self.tidy().await;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        let ending = self.record.ending.clone().unwrap_or(Ending::Succeeded);
        let facts = self.bring_files_up_to_date().await?;
        self.tidy().await;
        self.enter(ending.phase(), Some(ending.reason()), facts).await
    }

    /// Takes away what only work under way needs.
    async fn tidy(&self) {
        for dir in [self.place.all_work(), self.place.prepared()] {
            if let Err(error) = place::clear(dir).await {
                tracing::warn!(run = %self.record.id, %error, "workspaces are left until the run is removed");
            }
        }
    }

    /// What every worker may read.
    pub(super) fn site(&self) -> Arc<Site> {
        Arc::new(Site {
            shared: Arc::clone(&self.shared),
            run: self.record.id.clone(),
            spec: self.record.spec.clone(),
            prd: self.prd.clone(),
            place: self.place.clone(),
            engine: self.record.engine.clone().unwrap_or_else(|| self.record.spec.engine.clone()),
            agent: Arc::clone(&self.agent),
            branch: self.record.branch.clone().unwrap_or_else(|| self.prd.branch()),
            gates: self.record.gates.clone(),
            baseline: self.record.baseline.clone(),
            base: self.record.base.clone().unwrap_or_default(),
            wires: prepare::tripwires(&self.place),
            control: control(&self.record),
            budget: Arc::clone(&self.budget),
            ground: Arc::clone(&self.ground),
        })
    }

    /// Stories whose attempt is under way, by attempt.
    pub(super) fn underway(&self) -> BTreeMap<cove_core::AttemptId, usize> {
        let stories = self.record.stories.iter().enumerate();
        stories.filter_map(|(at, story)| story.current.as_ref().map(|current| (current.id.clone(), at))).collect()
    }

    pub(super) fn passed(&self) -> usize {
        self.record.stories.iter().filter(|story| story.status == StoryStatus::Passed).count()
    }

    /// The commit that the branch stands at.
    pub(super) fn head(&self) -> Result<String> {
        let head = self.record.head.clone();
        head.ok_or_else(|| Error::new(ErrorKind::Internal, "The run has no head yet").with("run", &self.record.id))
    }
}

/// The user's PRD and progress file as paths of the repository, where they lie in it.
fn control(record: &RunRecord) -> ControlFiles {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let named = real(Path::new(&record.spec.repository));
    // A directory inside a repository names the repository.
    let root = named.ancestors().find(|dir| dir.join(".git").exists()).unwrap_or(&named).to_owned();
    let inside = |path: &Option<PathBuf>| {
        path.as_deref().and_then(|path| real(path).strip_prefix(&root).ok()?.to_str().map(str::to_owned))
    };
    let source = &record.spec.prd;
    ControlFiles { prd: inside(&source.path), progress: inside(&source.progress_path) }
}
