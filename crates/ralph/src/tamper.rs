//! What in a diff could make checks pass that should not: looked at before the checks run.
//!
//! Three answers. *Flags* are sentences for the ledger. *Protected* paths are taken from the original
//! commit for a second pass of the checks, so that an edited test cannot be the only one that passed.
//! *Dropped* paths never reach the branch (the PRD and the progress file belong to the runner). A
//! *refused* diff is not looked at any further.

mod content;
mod dependencies;
mod locks;
mod place;
mod shadow;

use std::collections::BTreeSet;

use cove_core::run::GateSpec;
use cove_core::{Error, Result};
use cove_git::{Change, ChangeStatus};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::gates::Tree;
use crate::reason::{Reason, Refusal};

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Path from the repository's root, `/`-separated.
    pub path: String,
    /// What became of it.
    pub kind: EditKind,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditKind {
    /// It is new.
    Added,
    /// Its contents or mode changed.
    Modified,
    /// It is gone.
    Deleted,
    /// It became a link, or was one.
    TypeChanged,
    /// It is now a submodule, or points to another commit of one.
    Submodule,
}

impl From<&Change> for Edit {
    fn from(change: &Change) -> Self {
        let kind = match change.status {
            _ if change.new_mode == Change::SUBMODULE => EditKind::Submodule,
            ChangeStatus::Added => EditKind::Added,
            ChangeStatus::Modified => EditKind::Modified,
            ChangeStatus::Removed => EditKind::Deleted,
            ChangeStatus::TypeChanged => EditKind::TypeChanged,
        };
        Self { path: change.path.clone(), kind }
    }
}

/// Where the runner's own files lie in the repository; none when they are outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlFiles {
    /// The PRD.
    pub prd: Option<String>,
    /// The progress file.
    pub progress: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tamper {
    /// Sentences about the diff, for the ledger; at most [`FLAGS_BOUND`].
    pub flags: Vec<String>,
    /// Paths to take from the original commit for the second pass (a path that was added is removed by
    /// that). Empty: no second pass is needed.
    pub protected: Vec<String>,
    /// Paths to take from the original commit before anything else.
    pub dropped: Vec<String>,
    /// Why the work is refused as a whole; empty when it is not.
    pub refused: Vec<Refusal>,
}

/// Most flags of one diff.
pub const FLAGS_BOUND: usize = 50;

/// The paths whose contents, before and after, [`inspect`] compares: to be loaded into both trees. Those
/// that decide most come first, for a caller that loads only so many; what is not loaded is judged by
/// its name, to the worse side.
pub fn wanted(edits: &[Edit]) -> Vec<String> {
    let (special, plain): (Vec<&Edit>, Vec<&Edit>) =
        edits.iter().partition(|edit| !matches!(place::of(&edit.path), place::Place::Other | place::Place::Test));
    let plain =
        plain.into_iter().filter(|edit| place::of(&edit.path) == place::Place::Test || content::is_source(&edit.path));
    special.into_iter().chain(plain).map(|edit| edit.path.clone()).collect()
}

/// Whether a path is a lock file's.
pub(crate) fn is_lock(path: &str) -> bool {
    place::of(path) == place::Place::Lock
}

/// Whether a path lies among installed dependencies.
pub(crate) fn is_installed(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "node_modules" | ".venv" | "venv" | ".tox" | "site-packages"))
}

/// Whether a path that no commit has would decide how tests are found or run, or is git's own. Installed
/// dependencies are what a gate is meant to leave.
pub(crate) fn is_planted(path: &str) -> bool {
    let installed = is_installed(path);
    // Generated, as a rule, and never taken where the commit has one.
    let generated = path == "Makefile" || path.ends_with("/Makefile") || path.ends_with(".mk");
    let is_cargo = path == ".cargo" || path.ends_with("/.cargo");
    let decides = is_cargo || place::of(path) == place::Place::TestConfiguration;
    place::is_git_directory(path) || !installed && !generated && decides
}

/// Looks at a diff. `before` and `after` hold the contents of the paths named by [`wanted`]; a file
/// that is not there counts as changed in every respect.
///
/// # Errors
/// `Invalid` when a pattern of a gate's `protects` cannot be read.
pub fn inspect(
    edits: &[Edit],
    gates: &[GateSpec],
    control: &ControlFiles,
    before: &dyn Tree,
    after: &dyn Tree,
) -> Result<Tamper> {
    let protects = patterns(gates)?;
    let roots = shadow::Roots::new(gates, before, after);
    let mut found = Found::default();
    for edit in edits {
        let path = edit.path.as_str();
        if place::is_git_directory(path) {
            found.refuse(Reason::GitTakeover, format!("it writes to `{}`, inside a git directory", shown(path)));
            continue;
        }
        if edit.kind == EditKind::Submodule {
            found.refuse(Reason::Submodule, format!("it makes `{}` a submodule, or moves one", shown(path)));
            continue;
        }
        if let Some(what) = place::control_file(path, control) {
            found.flag(format!(
                "{what} `{}` was {}; dropped, as only the runner keeps it",
                shown(path),
                verb(edit.kind)
            ));
            found.dropped.insert(path.to_owned());
            continue;
        }
        match place::of(path) {
            place::Place::Modules => content::modules(edit, before, after, &mut found),
            place::Place::Attributes => content::attributes(edit, before, after, &mut found),
            place::Place::Ci => found.flag(format!("CI file `{}` was {}", shown(path), verb(edit.kind))),
            place::Place::Orders => {
                found.flag(format!("instructions to agents in `{}` were {}", shown(path), verb(edit.kind)));
            }
            place::Place::Test => test(edit, before, after, &mut found),
            place::Place::Snapshot => {
                if edit.kind != EditKind::Added {
                    found.flag(format!("recorded test output `{}` was {}", shown(path), verb(edit.kind)));
                    found.protected.insert(path.to_owned());
                }
            }
            place::Place::TestConfiguration => {
                found.flag(format!("test configuration `{}` was {}", shown(path), verb(edit.kind)));
                found.protected.insert(path.to_owned());
            }
            place::Place::Manifest => content::manifest(edit, before, after, &mut found),
            place::Place::Lock => {
                found.locks.push(path.to_owned());
                found.flag(format!("lock file `{}` was {}", shown(path), verb(edit.kind)));
                locks::inspect(edit, before, after, &mut found);
            }
            place::Place::GoModule => dependencies::go(edit, before, after, &mut found),
            place::Place::Other if protects.is_match(path) => guarded(edit, &mut found),
            place::Place::Other => {}
        }
        if let Some(name) = shadow::of(edit, &roots) {
            found.refuse(
                Reason::ModuleShadowed,
                format!("the new `{}` takes the place of the module `{name}` that checks import", shown(path)),
            );
        }
        if content::is_source(path) && edit.kind != EditKind::Added {
            content::weakened(edit, before, after, &mut found);
        } else if content::is_source(path) {
            content::added(edit, after, &mut found);
        }
    }
    Ok(found.end())
}

/// A test or something in a directory of tests: new ones only add.
fn test(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    let path = edit.path.as_str();
    match edit.kind {
        EditKind::Added => {
            // A module of tests of a Rust crate is named by the file above it.
            if !path.ends_with(".rs") || !path.split('/').any(|part| part == "src") {
                found.added.insert(path.to_owned());
            }
        }
        EditKind::Deleted => {
            found.flag(format!("test file `{}` was deleted", shown(path)));
            found.protected.insert(path.to_owned());
        }
        EditKind::Modified | EditKind::TypeChanged | EditKind::Submodule => {
            let more = content::only_longer(path, before, after);
            found.flag(format!(
                "test file `{}` was changed{}",
                shown(path),
                if more { " (lines were only added)" } else { "" }
            ));
            found.protected.insert(path.to_owned());
        }
    }
}

/// A file that a gate protects and that we know nothing else about.
fn guarded(edit: &Edit, found: &mut Found) {
    let path = edit.path.as_str();
    // A new file can take over a check only where the check names it; it then matches exactly.
    found.flag(format!("a check's own file `{}` was {}", shown(path), verb(edit.kind)));
    found.protected.insert(path.to_owned());
}

fn patterns(gates: &[GateSpec]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for gate in gates {
        for glob in &gate.protects {
            let read = GlobBuilder::new(glob).literal_separator(true).build();
            set.add(read.map_err(|error| {
                Error::invalid(format!("`protects` of the gate `{}` holds a bad pattern", gate.name)).because(error)
            })?);
        }
    }
    set.build().map_err(|error| Error::invalid("The gates protect too many patterns").because(error))
}

/// A path in a sentence: no control characters, bounded.
fn shown(path: &str) -> String {
    path.chars().take(200).collect::<String>().escape_debug().to_string().replace('`', "'")
}

fn verb(kind: EditKind) -> &'static str {
    match kind {
        EditKind::Added => "added",
        EditKind::Modified => "changed",
        EditKind::Deleted => "deleted",
        EditKind::TypeChanged => "replaced by another kind of file",
        EditKind::Submodule => "made a submodule",
    }
}

/// What gathers during an inspection.
#[derive(Default)]
struct Found {
    flags: Vec<String>,
    protected: BTreeSet<String>,
    dropped: BTreeSet<String>,
    refused: Vec<Refusal>,
    /// Tests that are new: not there in the second pass, where there is one.
    added: BTreeSet<String>,
    locks: Vec<String>,
    /// Manifests whose dependencies changed: they and the locks stay as they are in the second pass,
    /// as without them honest work would not build.
    dependencies_changed: BTreeSet<String>,
}

impl Found {
    fn flag(&mut self, text: String) {
        if self.flags.len() < FLAGS_BOUND && !self.flags.contains(&text) {
            self.flags.push(text);
        }
    }

    fn refuse(&mut self, reason: Reason, why: String) {
        self.flag(format!("refused: {why}"));
        if self.refused.len() < FLAGS_BOUND {
            self.refused.push(Refusal::new(reason, format!("The work is refused: {why}")));
        }
    }

    fn end(mut self) -> Tamper {
        if self.dependencies_changed.is_empty() {
            self.protected.extend(self.locks);
        }
        // The original tests and what steers them go together: a new test may need new configuration.
        if !self.protected.is_empty() {
            self.protected.extend(self.added);
        }
        Tamper {
            flags: self.flags,
            protected: self.protected.into_iter().collect(),
            dropped: self.dropped.into_iter().collect(),
            refused: self.refused,
        }
    }
}

#[cfg(test)]
mod tests;
