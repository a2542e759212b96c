//! The workspaces of a run's sandboxes: those of checks are laid over a checkout that they share where the
//! engine can mount layers; agents', and others elsewhere, are checkouts of their own.
//!
//! The shared checkouts lie in `<run>/prepared/` and belong to one life of the run's owner: what a former
//! one left is removed, never used.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cove_core::{AttemptId, Control, ErrorKind, Layer, Mount, Result, SandboxSpec};
use cove_git::{CollectedWork, CommitMessage, Git, Layered, Prepared};
use tokio::sync::Mutex;

use super::{Site, crew, place};

/// The commit's files, ready for one sandbox.
#[derive(Debug, Clone)]
pub(crate) enum Workspace {
    /// A checkout of its own.
    Plain(PathBuf),
    /// Laid over a shared one.
    Layered(Layered),
}

impl Workspace {
    /// Shows it in a sandbox at `target`, writable.
    pub(crate) fn show(&self, spec: &mut SandboxSpec, target: &str) {
        match self {
            Self::Plain(path) => spec.mounts.push(given(path, target)),
            Self::Layered(layered) => spec.layers.push(Layer {
                lower: layered.lower().to_owned(),
                changes: layered.changes().to_owned(),
                target: target.into(),
            }),
        }
    }

    /// The directory that is the attempt's own.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Plain(path) => path,
            Self::Layered(layered) => layered.changes(),
        }
    }

    /// What a sandbox did in it; see [`Git::collect`].
    pub(crate) async fn collect(
        &self,
        git: &Git,
        bare: &Path,
        base: &str,
        keep_ref: &str,
        message: &CommitMessage,
    ) -> Result<Option<CollectedWork>> {
        match self {
            Self::Plain(path) => git.collect(path, bare, base, keep_ref, message).await,
            Self::Layered(layered) => git.collect_layered(layered, bare, base, keep_ref, message).await,
        }
    }
}

/// A directory of ours, writable inside.
pub(crate) fn given(source: &Path, target: &str) -> Mount {
    Mount { source: source.to_owned(), target: target.into(), read_only: false, give: true }
}

/// The shared checkouts of a run.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why workspaces are checkouts of their own, once something failed.
    given_up: Option<String>,
    current: Option<Arc<Prepared>>,
    /// Those before it, until nobody works over them.
    before: Vec<Arc<Prepared>>,
}

impl Ground {
    /// From now on every workspace is a checkout of its own.
    pub(crate) async fn give_up(&self, reason: String) {
        tracing::warn!(reason, "workspaces are no longer layered");
        self.state.lock().await.given_up = Some(reason);
    }

    /// The checkout to lay over, made where there is none; anew at `commit` when `other` does not do.
    async fn prepared(
        &self,
        site: &Site,
        commit: &str,
        other: Option<&Arc<Prepared>>,
    ) -> Result<Option<Arc<Prepared>>> {
        let mut state = self.state.lock().await;
        if state.given_up.is_some() {
            return Ok(None);
        }
        match &state.current {
            // Somebody else may have made a new one meanwhile.
            Some(current) if other.is_none_or(|other| !Arc::ptr_eq(other, current)) => {
                return Ok(Some(Arc::clone(current)));
            }
            _ => {}
        }
        let into = site.place.prepared().join(AttemptId::new().short());
        place::make(&site.place.prepared())?;
        let made = match site.shared.deps.git.prepare(&site.place.repo(), commit, &site.branch, &into).await {
            Ok(made) => Arc::new(made),
            Err(error) => {
                // Not tried for every workspace again; it costs more than the checkouts it would save.
                state.given_up = Some(error.chain().join(": "));
                return Err(error);
            }
        };
        let old = state.current.replace(Arc::clone(&made));
        state.before.extend(old);
        let (unused, used) = state.before.drain(..).partition(|old| Arc::strong_count(old) == 1);
        state.before = used;
        let unused: Vec<Arc<Prepared>> = unused;
        for old in unused {
            if let Err(error) = place::clear(old.path().to_owned()).await {
                tracing::warn!(%error, "a shared checkout is left until the run ends");
            }
        }
        Ok(Some(made))
    }
}

impl Site {
    /// A workspace at `into`, absent or empty, that shows `commit`.
    pub(crate) async fn workspace(&self, commit: &str, into: &Path) -> Result<Workspace> {
        if self.layers() {
            match self.layered(commit, into).await {
                Ok(Some(layered)) => return Ok(Workspace::Layered(layered)),
                Ok(None) => {}
                Err(error) => {
                    // A commit that does not exist, a full disk: the checkout says it in its own words.
                    if error.kind() == ErrorKind::Unsupported {
                        self.ground.give_up(error.chain().join(": ")).await;
                    }
                    tracing::warn!(run = %self.run, %error, "a workspace is checked out instead of layered");
                    place::clear(into.to_owned()).await?;
                }
            }
        }
        self.own_workspace(commit, into).await
    }

    /// The same as a checkout of its own. Agents get one: over a shared one, a directory of the commit
    /// cannot be renamed in one step (`rename(2)` answers `EXDEV`), and people's tools do that.
    pub(crate) async fn own_workspace(&self, commit: &str, into: &Path) -> Result<Workspace> {
        self.shared.deps.git.checkout(&self.place.repo(), commit, &self.branch, into).await?;
        Ok(Workspace::Plain(into.to_owned()))
    }

    async fn layered(&self, commit: &str, into: &Path) -> Result<Option<Layered>> {
        let (git, repo) = (&self.shared.deps.git, self.place.repo());
        let Some(prepared) = self.ground.prepared(self, commit, None).await? else { return Ok(None) };
        match git.layer(&repo, &prepared, commit, &self.branch, into).await {
            Err(error) if error.kind() == ErrorKind::Exhausted => {}
            other => return other.map(Some),
        }
        let Some(nearer) = self.ground.prepared(self, commit, Some(&prepared)).await? else { return Ok(None) };
        git.layer(&repo, &nearer, commit, &self.branch, into).await.map(Some)
    }

    /// Whether the run's engine mounts layers.
    fn layers(&self) -> bool {
        let spec = crew::blueprint(&self.spec, cove_core::Network::None);
        let engine = self.shared.deps.sandboxes.choose(&self.engine, self.spec.accept_no_sandbox, &spec);
        self.isolates() && engine.is_ok_and(|engine| engine.capabilities().has(Control::Layers))
    }
}
