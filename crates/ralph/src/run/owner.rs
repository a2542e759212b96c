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
use super::{Files, Place, Site, place, prepare};
use crate::prd::Prd;
use crate::runner::Shared;
use crate::tamper::ControlFiles;

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
            commands,
            after: After::default(),
            provider_pauses: 0,
            permit: None,
            working: None,
        })
    }

    /// Brings the run to its end, or to where a shutdown leaves it.
    pub(crate) async fn live(mut self) {
        if let Err(error) = self.phases().await {
            let error = error.chain().join(": ");
            tracing::error!(run = %self.record.id, %error, "the run's owner gave up; the run goes on at the next start");
            self.remove_sandboxes().await;
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
        if let Err(error) = place::clear(self.place.all_work()).await {
            tracing::warn!(run = %self.record.id, %error, "workspaces are left until the run is removed");
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
