//! A first look at what came out of a workspace: flags, refusals, and the runner's own files put back.

use cove_core::run::GateSpec;
use cove_core::{Error, ErrorKind, Result};
use cove_git::{Change, CollectedWork, CommitMessage};

use super::Site;
use crate::gates::{READ_BOUND, Snapshot};
use crate::reason::{Reason, Refusal};
use crate::tamper::{self, Edit, Tamper};

/// Files whose contents are compared.
const LOOKED_AT: usize = 500;
/// Bytes of a lock file that are compared.
const LOCK_BOUND: usize = 32 << 20;

/// What was taken out of a workspace, after a first look.
pub(crate) struct Taken {
    pub(crate) commit: String,
    pub(crate) files: u32,
    pub(crate) flags: Vec<String>,
    pub(crate) protected: Vec<String>,
    pub(crate) refused: Vec<Refusal>,
    /// Nothing is left once the runner's own files are as they were.
    pub(crate) dropped_all: bool,
}

/// Looks at a diff, and puts the runner's own files back as they were.
pub(crate) async fn inspect(site: &Site, base: &str, collected: CollectedWork) -> Result<Option<Taken>> {
    let (git, repo) = (&site.shared.deps.git, site.place.repo());
    let found = look(site, base, &collected.commit, &collected.changes).await?;
    let mut refused = found.refused;
    if !collected.refused.is_empty() {
        let text = format!("The work holds what cannot be taken: {}", collected.refused.join("; "));
        refused.insert(0, Refusal::new(Reason::NotTakeable, text));
    }
    let mut taken = Taken {
        commit: collected.commit,
        files: u32::try_from(collected.changes.len()).unwrap_or(u32::MAX),
        flags: found.flags.into_iter().chain(collected.notes).collect(),
        protected: found.protected,
        refused,
        dropped_all: false,
    };
    if taken.refused.is_empty() && !found.dropped.is_empty() {
        taken.dropped_all = found.dropped.len() >= collected.changes.len();
        let message = CommitMessage::new("chore: leave the runner's files as they were");
        taken.commit = git.restore(&repo, &taken.commit, base, &found.dropped, &message).await?;
    }
    Ok(Some(taken))
}

/// The files that have to be as in the run's base for one more pass: none where earlier stories left
/// the tests and what steers them as they were.
pub(crate) async fn first_files(site: &Site, head: &str, commit: &str) -> Result<Vec<String>> {
    let (git, repo) = (&site.shared.deps.git, site.place.repo());
    let earlier = git.changes(&repo, &site.base, head).await?;
    if look(site, &site.base, head, &earlier).await?.protected.is_empty() {
        return Ok(Vec::new());
    }
    let all = git.changes(&repo, &site.base, commit).await?;
    Ok(look(site, &site.base, commit, &all).await?.protected)
}

/// Whether test runners are told somewhere to stop at a first failure.
pub(crate) async fn ends_early(site: &Site, gates: &[GateSpec]) -> Result<bool> {
    const WORDS: [&str; 6] = ["failfast", "fail-fast", "bail", "exitfirst", "maxfail", "--exit-first"];
    const FILES: [&str; 8] = [
        "package.json",
        "pyproject.toml",
        "pytest.ini",
        "setup.cfg",
        "tox.ini",
        "Makefile",
        ".mocharc.json",
        ".config/nextest.toml",
    ];
    let says = |text: &str| {
        let text = text.replace("no-fail-fast", "");
        WORDS.iter().any(|word| text.contains(word))
            || text
                .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''))
                .any(|word| matches!(word, "-x" | "-f"))
    };
    if gates.iter().any(|gate| says(&gate.command)) {
        return Ok(true);
    }
    let (git, repo) = (&site.shared.deps.git, site.place.repo());
    for path in FILES {
        match git.read(&repo, &site.base, path, READ_BOUND).await {
            Ok(Some(content)) if says(&String::from_utf8_lossy(&content)) => return Ok(true),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Exhausted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

async fn look(site: &Site, from: &str, to: &str, changes: &[Change]) -> Result<Tamper> {
    let (git, repo) = (&site.shared.deps.git, site.place.repo());
    let edits: Vec<Edit> = changes.iter().map(Edit::from).collect();
    let wanted: Vec<String> = tamper::wanted(&edits).into_iter().take(LOOKED_AT).collect();
    let mut trees = [Snapshot::default(), Snapshot::default()];
    for (tree, commit) in trees.iter_mut().zip([from, to]) {
        tree.files = git.files(&repo, commit).await?;
        for path in &wanted {
            let bound = if tamper::is_lock(path) { LOCK_BOUND } else { READ_BOUND };
            match git.read(&repo, commit, path, bound).await {
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
    looking.await.map_err(|e| Error::internal("Looking at the diff was cut off").because(e))?
}
