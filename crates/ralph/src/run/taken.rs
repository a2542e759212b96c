//! A first look at what came out of a workspace: flags, refusals, and the runner's own files put back.

use cove_core::{Error, ErrorKind, Result};
use cove_git::{Change, ChangeStatus, CollectedWork, CommitMessage};

use super::Site;
use crate::gates::{READ_BOUND, Snapshot};
use crate::tamper::{self, Edit, EditKind};

/// Files whose contents are compared.
const LOOKED_AT: usize = 500;

/// What was taken out of a workspace, after a first look.
pub(crate) struct Taken {
    pub(crate) commit: String,
    pub(crate) files: u32,
    pub(crate) flags: Vec<String>,
    pub(crate) protected: Vec<String>,
    pub(crate) refused: Option<String>,
    /// Nothing is left once the runner's own files are as they were.
    pub(crate) dropped_all: bool,
}

/// Looks at a diff, and puts the runner's own files back as they were.
pub(crate) async fn inspect(site: &Site, base: &str, collected: CollectedWork) -> Result<Option<Taken>> {
    let (git, repo) = (&site.shared.deps.git, site.place.repo());
    let edits: Vec<Edit> = collected.changes.iter().map(edit).collect();
    let wanted: Vec<String> = tamper::wanted(&edits).into_iter().take(LOOKED_AT).collect();
    let mut trees = [Snapshot::default(), Snapshot::default()];
    for (tree, commit) in trees.iter_mut().zip([base, &collected.commit]) {
        tree.files = git.files(&repo, commit).await?;
        for path in &wanted {
            match git.read(&repo, commit, path, READ_BOUND).await {
                Ok(Some(content)) => drop(tree.contents.insert(path.clone(), content)),
                Ok(None) => {}
                // Not loaded: it counts as changed in every respect.
                Err(e) if e.kind() == ErrorKind::Exhausted => {}
                Err(e) => return Err(e),
            }
        }
    }
    let [before, after] = trees;
    let (gates, control) = (site.gates_of_all(), site.control.clone());
    let looking = tokio::task::spawn_blocking(move || tamper::inspect(&edits, &gates, &control, &before, &after));
    let found = looking.await.map_err(|e| Error::internal("Looking at the diff was cut off").because(e))??;
    let refused = (!collected.refused.is_empty())
        .then(|| format!("The work holds what cannot be taken: {}", collected.refused.join("; ")))
        .or_else(|| found.refused.map(|why| format!("The work is refused: {why}")));
    let mut taken = Taken {
        commit: collected.commit,
        files: u32::try_from(collected.changes.len()).unwrap_or(u32::MAX),
        flags: found.flags.into_iter().chain(collected.notes).collect(),
        protected: found.protected,
        refused,
        dropped_all: false,
    };
    if taken.refused.is_none() && !found.dropped.is_empty() {
        taken.dropped_all = found.dropped.len() >= collected.changes.len();
        let message = CommitMessage::new("chore: leave the runner's files as they were");
        taken.commit = git.restore(&repo, &taken.commit, base, &found.dropped, &message).await?;
    }
    Ok(Some(taken))
}

fn edit(change: &Change) -> Edit {
    let kind = match change.status {
        ChangeStatus::Added => EditKind::Added,
        ChangeStatus::Modified => EditKind::Modified,
        ChangeStatus::Removed => EditKind::Deleted,
        ChangeStatus::TypeChanged => EditKind::TypeChanged,
    };
    Edit { path: change.path.clone(), kind }
}
