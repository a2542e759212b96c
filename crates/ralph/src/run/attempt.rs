//! One attempt at a story: an agent in a sandbox, its work taken out, and gates in sandboxes of
//! their own. Runs as a worker; only the run's owner changes the record.

use std::path::Path;
use std::sync::Arc;

use cove_core::agent::AgentRequest;
use cove_core::ledger::Verdict;
use cove_core::run::{GateSpec, TokenMeaning};
use cove_core::{
    AgentOutcome, AttemptId, EgressPolicy, Error, ErrorKind, Fact, HostRule, Mount, Network, Result, SandboxId, Usage,
};
use cove_git::{CommitMessage, Merged};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::agent::{Driven, Stopped};
use super::budget::Bound;
use super::checks::given;
use super::crew::{Crew, Message};
use super::taken::inspect;
use super::trial::{Trial, fingerprint, judged};
use super::{HOME, Site, WORKSPACE, agent, feedback, place};
use crate::prd::Story;
use crate::prompt::PromptContext;

/// What an attempt is about.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) attempt: AttemptId,
    /// Position of the story in the PRD.
    pub(crate) story: usize,
    pub(crate) number: u32,
    /// Commit it starts from.
    pub(crate) base: String,
    /// Sandbox of its agent, on record already.
    pub(crate) sandbox: SandboxId,
    pub(crate) feedback: Option<String>,
    /// The run's progress file.
    pub(crate) progress: String,
    /// Stories passed so far.
    pub(crate) passed: usize,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Conclusion {
    /// Passed its gates on its base.
    Ready {
        commit: String,
        protected: Vec<String>,
        /// Gates that really passed.
        green: Vec<String>,
        message: String,
    },
    /// Judged, and not accepted.
    Rejected { verdict: Verdict, feedback: String, fingerprint: String },
    /// The provider refuses for now.
    Limited { resets_at: Option<Timestamp>, reason: String },
    /// Repeating cannot help.
    Hopeless { reason: String, next: Option<String> },
    /// A bound of the whole run was reached in the middle.
    Bound(Bound),
    /// Ours or the host's failure.
    Broken(Error),
    /// Cut off.
    Interrupted,
}

/// A job and its conclusion.
#[derive(Debug)]
pub(crate) struct Worked {
    pub(crate) job: Job,
    pub(crate) usage: Usage,
    pub(crate) conclusion: Conclusion,
}

/// Works on `job` until it is concluded or `cancel` is.
pub(crate) async fn work(
    site: Arc<Site>,
    job: Job,
    to_owner: mpsc::Sender<Message>,
    cancel: CancellationToken,
) -> Worked {
    let crew = Crew::new(Arc::clone(&site), Some(job.attempt.clone()), to_owner);
    let conclusion = tokio::select! {
        biased;
        () = cancel.cancelled() => Conclusion::Interrupted,
        conclusion = attempt(&site, &crew, &job) => conclusion.unwrap_or_else(Conclusion::Broken),
    };
    wind_up(&site, &crew, job, conclusion).await
}

/// Work that passed its gates on a base that is not the head any more.
pub(crate) struct Onto {
    pub(crate) head: String,
    pub(crate) commit: String,
    pub(crate) protected: Vec<String>,
    pub(crate) green: Vec<String>,
    pub(crate) message: String,
}

/// Brings work onto the head that moved while it was done, and runs the gates again.
pub(crate) async fn merge(
    site: Arc<Site>,
    job: Job,
    work: Onto,
    to_owner: mpsc::Sender<Message>,
    cancel: CancellationToken,
) -> Worked {
    let crew = Crew::new(Arc::clone(&site), Some(job.attempt.clone()), to_owner);
    let conclusion = tokio::select! {
        biased;
        () = cancel.cancelled() => Conclusion::Interrupted,
        conclusion = onto(&site, &crew, &job, work) => conclusion.unwrap_or_else(Conclusion::Broken),
    };
    wind_up(&site, &crew, job, conclusion).await
}

async fn wind_up(site: &Site, crew: &Crew, job: Job, conclusion: Conclusion) -> Worked {
    crew.disband().await;
    if let Err(error) = place::clear(site.place.work(Some(&job.attempt))).await {
        tracing::warn!(attempt = %job.attempt, %error, "a workspace is left until the run is removed");
    }
    Worked { usage: crew.usage(), job, conclusion }
}

async fn attempt(site: &Site, crew: &Crew, job: &Job) -> Result<Conclusion> {
    let story = site.story(job.story);
    let (git, repo) = (&site.shared.deps.git, site.place.repo());
    let work = site.place.work(Some(&job.attempt));
    let (workspace, home) = (work.join("workspace"), work.join("home"));
    place::make(&work)?;
    place::make(&home)?;
    place::make(&site.place.logs(Some(&job.attempt)))?;
    git.checkout(&repo, &job.base, &site.branch, &workspace).await?;

    let driven = match in_sandbox(site, crew, job, story, &workspace, &home).await {
        // What no repetition can change.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::Unsupported | ErrorKind::Refused | ErrorKind::Denied | ErrorKind::Invalid
            ) =>
        {
            return Ok(Conclusion::Hopeless { reason: e.told().join(": "), next: e.next_step().map(str::to_owned) });
        }
        driven => driven?,
    };
    if driven.absent {
        let program = site.agent.program();
        return Ok(Conclusion::Hopeless {
            reason: format!("The agent's program {program:?} could not be found or run in the sandbox"),
            next: Some("Install it where the sandbox sees it, or name its directory with --agent-mount".to_owned()),
        });
    }

    let keep = format!("refs/cove/attempts/{}/{}", site.ref_name(job.story), job.number);
    let collected = git.collect(&workspace, &repo, &job.base, &keep, &site.message(story, job)).await?;
    let work = match collected {
        Some(collected) => inspect(site, &job.base, collected).await?,
        None => None,
    };
    crew.tell(vec![Fact::Collected {
        attempt: job.attempt.clone(),
        commit: work.as_ref().map(|work| work.commit.clone()),
        files: work.as_ref().map_or(0, |work| work.files),
        flags: work.as_ref().map(|work| work.flags.clone()).unwrap_or_default(),
    }])
    .await?;

    if let Some(conclusion) = ended_badly(site, &driven) {
        return Ok(conclusion);
    }
    let claims = crate::token::claims(&driven.message);
    let others = site.prd.stories.len().saturating_sub(job.passed + 1);
    if claims && site.spec.token_means == TokenMeaning::Prd && others > 0 {
        let text = format!(
            "The agent claims that the whole PRD is done; {others} other stories are open, and only checks close them"
        );
        crew.tell(vec![Fact::Note { text }]).await?;
    }
    let gates = site.gates_of(story);
    let Some(work) = work else {
        return unchanged(site, crew, job, &gates, claims, driven.message).await;
    };
    if let Some(reason) = work.refused {
        let print = fingerprint(["refused", &reason]);
        let feedback = feedback::refused(&reason);
        return Ok(Conclusion::Rejected { verdict: Verdict::Refused { reason }, feedback, fingerprint: print });
    }
    if work.dropped_all {
        return unchanged(site, crew, job, &gates, claims, driven.message).await;
    }
    let protected = if site.spec.trust_test_changes { Vec::new() } else { work.protected };
    let trial =
        Trial { name: "gates", commit: &work.commit, original: &job.base, protected: &protected, gates: &gates };
    Ok(match judged(site, crew, job, &trial).await? {
        Ok(green) => Conclusion::Ready { commit: work.commit, protected, green, message: driven.message },
        Err(rejected) => rejected,
    })
}

/// Everything that happens while the agent's sandbox lives; it does not outlive this.
async fn in_sandbox(
    site: &Site,
    crew: &Crew,
    job: &Job,
    story: &Story,
    workspace: &Path,
    home: &Path,
) -> Result<Driven> {
    let choice = &site.spec.agent;
    let control_files: Vec<String> =
        [&site.control.prd, &site.control.progress].into_iter().flatten().cloned().collect();
    let prompt = crate::prompt::render(
        site.spec.prompt_template.as_deref(),
        &PromptContext {
            project: &site.prd.project,
            description: &site.prd.description,
            branch: &site.branch,
            story,
            attempt: job.number,
            attempts: site.spec.bounds.attempts_per_story,
            passed: job.passed,
            total: site.prd.stories.len(),
            progress: &job.progress,
            feedback: job.feedback.as_deref(),
            gates: &site.gates,
            token: site.spec.token_means,
            workspace: &site.seen(workspace, WORKSPACE).to_string_lossy(),
            control_files: &control_files,
        },
    )?;
    let request = AgentRequest {
        prompt,
        model: choice.model.clone(),
        max_turns: site.spec.bounds.turns.filter(|turns| *turns > 0),
        program: choice.command.clone(),
        extra_args: choice.args.clone(),
        env: choice.env.clone(),
        home: site.seen(home, HOME),
    };
    let command = site.agent.command(&request)?;
    write_home(home, &command.files)?;

    let policy = EgressPolicy {
        allow: site
            .agent
            .hosts(&request)
            .into_iter()
            .map(HostRule)
            .chain(site.spec.allow_hosts.iter().cloned())
            .collect(),
        block: site.spec.block_hosts.clone(),
        allow_private: true,
    };
    let door = site.shared.deps.door.open(&format!("{} {}", site.run.short(), story.id), &policy).await?;
    let mut spec = crew.blueprint(Network::Door { socket: door.socket() });
    spec.env.insert("HOME".to_owned(), request.home.to_string_lossy().into_owned());
    spec.mounts = vec![given(workspace, WORKSPACE), given(home, HOME)];
    spec.mounts.extend(site.shown());
    crew.open(&job.sandbox, "agent", spec).await?;
    let log = site.place.agent_log(&job.attempt);
    let driven = agent::drive(site, crew, &job.sandbox, command, site.agent.parser(), &log, Some(&*door)).await;
    crew.close(&job.sandbox).await;
    door.close().await;
    driven
}

/// Files for the agent's home, before the sandbox sees it.
fn write_home(home: &Path, files: &[(std::path::PathBuf, Vec<u8>)]) -> Result<()> {
    for (path, content) in files {
        if !path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            return Err(Error::invalid(format!("The agent's file {} does not lie in its home", path.display())));
        }
        let path = home.join(path);
        if let Some(parent) = path.parent() {
            place::make(parent)?;
        }
        std::fs::write(&path, content)
            .map_err(|e| Error::internal(format!("{} could not be written", path.display())).because(e))?;
    }
    Ok(())
}

/// The conclusion where the agent itself did not end well; its work is kept on the side ref.
fn ended_badly(site: &Site, driven: &Driven) -> Option<Conclusion> {
    let failed = |reason: String| {
        let print = fingerprint(["agent", &feedback::steady(&reason)]);
        let feedback = feedback::agent_failed(&reason, &driven.message);
        Conclusion::Rejected { verdict: Verdict::AgentFailed { reason }, feedback, fingerprint: print }
    };
    match driven.stopped {
        Some(Stopped::Bound(bound)) => return Some(Conclusion::Bound(bound)),
        Some(stopped) => return Some(failed(stopped.reason(&site.spec.bounds))),
        None => {}
    }
    match &driven.outcome {
        AgentOutcome::Done { .. } => None,
        AgentOutcome::Failed { reason } => Some(failed(reason.clone())),
        AgentOutcome::Limited { resets_at, reason } => {
            Some(Conclusion::Limited { resets_at: *resets_at, reason: reason.clone() })
        }
        AgentOutcome::Unauthorized { reason } => Some(Conclusion::Hopeless {
            reason: format!("The agent is not signed in: {reason}"),
            next: Some(format!("Check the credentials of {}: `cove doctor`", site.agent.name())),
        }),
    }
}

/// No change at all: accepted only where that is allowed and the gates pass as it is.
async fn unchanged(
    site: &Site,
    crew: &Crew,
    job: &Job,
    gates: &[GateSpec],
    claims: bool,
    message: String,
) -> Result<Conclusion> {
    if !site.spec.allow_empty {
        return Ok(Conclusion::Rejected {
            verdict: Verdict::NoChange,
            feedback: feedback::no_change(claims, &message),
            fingerprint: fingerprint(["no change"]),
        });
    }
    let trial = Trial { name: "gates", commit: &job.base, original: &job.base, protected: &[], gates };
    Ok(match judged(site, crew, job, &trial).await? {
        Ok(green) => Conclusion::Ready { commit: job.base.clone(), protected: Vec::new(), green, message },
        Err(rejected) => rejected,
    })
}

/// Merges onto a head that moved, and judges the result as if it were new.
async fn onto(site: &Site, crew: &Crew, job: &Job, work: Onto) -> Result<Conclusion> {
    let Onto { head, commit, protected, green, message } = work;
    if commit == job.base {
        return Ok(Conclusion::Ready { commit: head, protected, green, message });
    }
    let story = site.story(job.story);
    let mut wording = site.message(story, job);
    wording.subject = format!("merge: {}", wording.subject);
    let merged = match site.shared.deps.git.merge(&site.place.repo(), &head, &commit, &wording).await? {
        Merged::Commit(merged) => merged,
        Merged::Conflict(paths) => {
            let reason = format!("Conflicts with stories accepted meanwhile in {}", paths.join(", "));
            return Ok(Conclusion::Rejected {
                feedback: feedback::conflict(&paths),
                fingerprint: fingerprint(["conflict", &head, &paths.join("\0")]),
                verdict: Verdict::Refused { reason },
            });
        }
    };
    let gates = site.gates_of(story);
    let trial = Trial { name: "merged", commit: &merged, original: &head, protected: &protected, gates: &gates };
    Ok(match judged(site, crew, job, &trial).await? {
        Ok(green) => Conclusion::Ready { commit: merged, protected, green, message },
        Err(rejected) => rejected,
    })
}

impl Site {
    pub(crate) fn story(&self, at: usize) -> &Story {
        &self.prd.stories[at]
    }

    /// The story's id as part of a reference; its place is added where that would not tell it apart.
    pub(crate) fn ref_name(&self, at: usize) -> String {
        let slug = |story: &Story| crate::prd::slug(&story.id, 60);
        let own = slug(self.story(at));
        let shared = self.prd.stories.iter().filter(|story| slug(story) == own).count() > 1;
        if own.is_empty() || shared { format!("{own}-{at}").trim_start_matches('-').to_owned() } else { own }
    }

    /// The host directories that the user shows to sandboxes, read-only: to gates too, as a toolchain
    /// often lies outside of the system's directories.
    pub(crate) fn shown(&self) -> Vec<Mount> {
        let paths = self.spec.agent.mounts.iter().filter(|_| self.isolates());
        paths.map(|path| Mount { source: path.clone(), target: path.clone(), read_only: true, give: false }).collect()
    }

    /// The run's gates and the story's own commands.
    pub(crate) fn gates_of(&self, story: &Story) -> Vec<GateSpec> {
        let own = story.commands.iter().enumerate().map(|(nth, command)| GateSpec {
            name: format!("{} check {}", story.id, nth + 1),
            command: command.clone(),
            timeout_seconds: 1800,
            protects: crate::gates::checks_of(command),
        });
        self.gates.iter().cloned().chain(own).collect()
    }

    /// The gates of all stories: what one story spoils, another must not profit from.
    pub(crate) fn gates_of_all(&self) -> Vec<GateSpec> {
        let own = self.prd.stories.iter().flat_map(|story| self.gates_of(story).split_off(self.gates.len()));
        self.gates.iter().cloned().chain(own).collect()
    }

    /// The message of commits that the runner makes.
    pub(crate) fn message(&self, story: &Story, job: &Job) -> CommitMessage {
        CommitMessage {
            subject: format!("feat: {} - {}", story.id, story.title),
            body: String::new(),
            trailers: vec![
                ("Run-Id".to_owned(), self.run.to_string()),
                ("Story".to_owned(), story.id.clone()),
                ("Attempt".to_owned(), job.attempt.to_string()),
                ("Agent".to_owned(), self.agent.name().to_owned()),
            ],
            author: None,
        }
    }
}
