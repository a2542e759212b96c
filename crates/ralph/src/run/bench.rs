//! The directories that gates run in: each begins on a clean checkout and an empty home of its own.
//!
//! ```text
//! <pass>/<n>/workspace   the commit, and what the gates named in `after` left
//! <pass>/<n>/home        stores of package managers: those of the base's run, and of the gates in `after`
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cove_core::run::GateSpec;
use cove_core::{AttemptId, Error, Result};
use regex::Regex;

use super::ground::Workspace;
use super::leftovers::{self, Room};
use super::{Site, place};
use crate::evidence::{self, Tripwire};

/// Longest file that tests are planted in.
const PLANTED: u64 = 4 << 20;

/// A pass of gates over one commit.
pub(super) struct Bench<'a> {
    site: &'a Site,
    commit: &'a str,
    gates: &'a [GateSpec],
    work: PathBuf,
}

/// Where one gate runs.
pub(super) struct Stand {
    pub(super) workspace: Workspace,
    pub(super) home: PathBuf,
}

impl<'a> Bench<'a> {
    /// Begins a pass; what one of that name left when it was cut off is removed.
    pub(super) async fn new(
        site: &'a Site,
        attempt: Option<&AttemptId>,
        name: &str,
        commit: &'a str,
        gates: &'a [GateSpec],
    ) -> Result<Self> {
        let work = site.place.work(attempt).join(name);
        place::clear(work.clone()).await?;
        place::make(&work)?;
        Ok(Self { site, commit, gates, work })
    }

    /// The gates whose output these need, themselves among them, in order.
    pub(super) fn with_needed(&self, chosen: &[usize]) -> BTreeSet<usize> {
        let mut all: BTreeSet<usize> = chosen.iter().copied().collect();
        for at in (0..self.gates.len()).rev() {
            if all.contains(&at) {
                all.extend(self.before(at));
            }
        }
        all
    }

    /// Positions of the gates named in `after`, in order; none after it.
    fn before(&self, at: usize) -> Vec<usize> {
        let names = &self.gates[at].after;
        (0..at).filter(|before| names.contains(&self.gates[*before].name)).collect()
    }

    /// A clean checkout with what the gates before left. `own` asks for one that nothing is shared with.
    pub(super) async fn set_up(&self, at: usize, own: bool) -> Result<Stand> {
        let (workspace, home) = self.stand(at);
        place::make(&home)?;
        let before: Vec<(PathBuf, PathBuf, bool)> = self
            .before(at)
            .into_iter()
            .map(|before| {
                let (workspace, home) = self.stand(before);
                (workspace, home, crate::gates::only_installs(&self.gates[before].command))
            })
            .collect();
        // What is carried over is read from, and copied into, whole trees.
        let named = self.gates.iter().any(|gate| gate.after.contains(&self.gates[at].name));
        let shown = if own || named || !before.is_empty() {
            self.site.own_workspace(self.commit, &workspace).await?
        } else {
            self.site.workspace(self.commit, &workspace).await?
        };
        let stand = Stand { workspace: shown, home: home.clone() };
        let stores = self.site.place.stores();
        let copying = tokio::task::spawn_blocking(move || {
            // The nearest first: what is there is not replaced. Installed packages come from gates that only
            // install, wherever these stand.
            let installing = before.iter().filter(|(_, _, installs)| *installs);
            let others = before.iter().rev().filter(|(_, _, installs)| !*installs);
            for (old, old_home, installs) in installing.chain(others) {
                leftovers::of_workspace(old, &workspace, *installs)?;
                if *installs {
                    leftovers::of_home(old_home, &home, Room::GATE)?;
                }
            }
            if stores.exists() { leftovers::of_home(&stores, &home, Room::STORES) } else { Ok(()) }
        });
        copying
            .await
            .map_err(|e| Error::internal("Carrying a gate's output over was cut off").because(e))?
            .map_err(|e| Error::internal("The output of one gate could not be given to the next").because(e))?;
        Ok(stand)
    }

    /// Puts tests that must fail into the checkout.
    pub(super) async fn plant(&self, stand: &Stand, mark: &str) -> Result<Vec<String>> {
        let git = &self.site.shared.deps.git;
        let files = git.files(&self.site.place.repo(), self.commit).await?;
        let (workspace, mark) = (stand.workspace.path().to_owned(), mark.to_owned());
        let planting = tokio::task::spawn_blocking(move || plant(&workspace, files, &mark));
        planting.await.map_err(|e| Error::internal("Preparing a check was cut off").because(e))
    }

    /// What the gate left goes, unless a later one of `chosen` needs it.
    pub(super) async fn tear_down(&self, at: usize, chosen: &BTreeSet<usize>) -> Result<()> {
        let needed = chosen.range(at + 1..).any(|later| self.before(*later).contains(&at));
        if needed { Ok(()) } else { place::clear(self.work.join(at.to_string())).await }
    }

    /// Keeps the stores of package managers that a gate on the base left, for all later passes.
    pub(super) async fn keep_stores(&self, at: usize) -> Result<()> {
        let ((_, from), to) = (self.stand(at), self.site.place.stores());
        place::make(&to)?;
        let copying = tokio::task::spawn_blocking(move || leftovers::of_home(&from, &to, Room::STORES));
        let copied = copying.await.map_err(|e| Error::internal("Keeping a gate's stores was cut off").because(e))?;
        if let Err(error) = copied {
            // Only a saving of time is lost.
            tracing::warn!(run = %self.site.run, %error, "the stores of package managers are not kept");
            place::clear(self.site.place.stores()).await?;
        }
        Ok(())
    }

    pub(super) async fn end(self) {
        if let Err(error) = place::clear(self.work).await {
            tracing::warn!(run = %self.site.run, %error, "the checkouts of gates are left until the attempt is over");
        }
    }

    /// Workspace and home of a gate.
    fn stand(&self, at: usize) -> (PathBuf, PathBuf) {
        let dir = self.work.join(at.to_string());
        (dir.join("workspace"), dir.join("home"))
    }
}

/// Adds failing tests to files of the checkout, which nobody else sees yet. Links are left alone.
fn plant(workspace: &Path, mut files: Vec<String>, mark: &str) -> Vec<String> {
    files.sort();
    let mut planted = Vec::new();
    for path in files {
        let Some(language) = evidence::language(&path) else { continue };
        if planted.len() >= evidence::FILES {
            break;
        }
        let file = workspace.join(&path);
        let linked = Path::new(&path)
            .ancestors()
            .filter(|part| !part.as_os_str().is_empty())
            .any(|part| std::fs::symlink_metadata(workspace.join(part)).map_or(true, |data| data.is_symlink()));
        if linked || std::fs::metadata(&file).map_or(true, |data| !data.is_file() || data.len() > PLANTED) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        if let Some(more) = evidence::plant(language, &text, mark, planted.len())
            && std::fs::write(&file, text + &more).is_ok()
        {
            planted.push(path);
        }
    }
    planted
}

/// What a planted run's output says about failing.
pub(super) fn named(log: &[u8], mark: &str, planted: &[String]) -> Tripwire {
    let text = String::from_utf8_lossy(log);
    let mut wire = Tripwire { files: planted.iter().cloned().collect(), ..Tripwire::default() };
    let mark = format!("{mark}_");
    // Runners name what passes as well.
    for line in text.lines().filter(|line| FAILS.is_match(line)) {
        for (at, _) in line.match_indices(&mark) {
            let mut numbers = line[at + mark.len()..].split(|c: char| !c.is_ascii_digit());
            let file = numbers.next().and_then(|n| n.parse::<usize>().ok()).and_then(|n| planted.get(n));
            if let (Some(file), Some(number)) = (file, numbers.next().filter(|n| !n.is_empty())) {
                wire.named.insert(format!("{file}#{number}"));
            }
        }
    }
    wire
}

/// A line about a failing test, in the words and signs of the runners we know.
static FAILS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"FAIL|ERROR:|not ok|[✖✕✗✘×●]|^\s*\d+\) ").expect("the pattern is constant"));
