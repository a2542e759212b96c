//! Which checks a commit must pass.

mod cargo;
mod detect;
mod install;
mod named;
mod node;
mod python;
mod targets;

use std::collections::BTreeMap;

use cove_core::run::GateSpec;
use cove_core::{Error, Result};

use crate::prd::Prd;

pub use detect::{checks_of, detect, scripts_of};
pub use install::only_installs;

/// The files of a commit.
pub trait Tree {
    /// Every path, `/`-separated, from the repository's root.
    fn files(&self) -> &[String];
    /// The contents of one file; none when it does not exist or was not loaded.
    fn read(&self, path: &str) -> Option<Vec<u8>>;

    /// The contents as text, invalid UTF-8 replaced.
    fn text(&self, path: &str) -> Option<String> {
        self.read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether the path is a file of the commit.
    fn has(&self, path: &str) -> bool {
        self.files().iter().any(|file| file == path)
    }
}

/// A tree held in memory: all paths, and the contents of those that somebody asks for (see [`wanted`]).
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every path.
    pub files: Vec<String>,
    /// Contents by path.
    pub contents: BTreeMap<String, Vec<u8>>,
}

impl Tree for Snapshot {
    fn files(&self) -> &[String] {
        &self.files
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.contents.get(path).cloned()
    }
}

impl<K: Into<String>, V: Into<Vec<u8>>> FromIterator<(K, V)> for Snapshot {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(files: I) -> Self {
        let contents: BTreeMap<String, Vec<u8>> =
            files.into_iter().map(|(path, bytes)| (path.into(), bytes.into())).collect();
        Self { files: contents.keys().cloned().collect(), contents }
    }
}

/// Bytes of one file that detection reads; a caller may cut there.
pub const READ_BOUND: usize = 1 << 20;

/// The paths among `files` whose contents [`detect`] looks at: to be loaded before it is called.
pub fn wanted(files: &[String]) -> Vec<String> {
    files
        .iter()
        .filter(|path| detect::READS.contains(&path.as_str()) || python::is_requirements(path))
        .chain(named::scripts(files))
        .cloned()
        .collect()
}

/// The checks of a run: those asked for, else those of the PRD, else those found in the repository.
///
/// # Errors
/// `Invalid` when there is none at all (work that nothing checks cannot be accepted), when a gate has
/// no name or command, or when two have the same name.
pub fn resolve(spec: Option<&[GateSpec]>, prd: &Prd, tree: &dyn Tree) -> Result<Vec<GateSpec>> {
    let mut gates = match spec {
        Some(gates) if !gates.is_empty() => gates.to_vec(),
        _ if !prd.gates.is_empty() => prd.gates.clone(),
        _ => detect(tree),
    };
    if gates.is_empty() {
        return Err(Error::invalid("No check is configured and none was found in the repository, so nothing could tell whether a story is done")
            .next("Name one with `--gate 'tests=YOUR TEST COMMAND'`, or under `qualityGates` in the PRD"));
    }
    let mut names = std::collections::BTreeSet::new();
    for gate in &mut gates {
        if gate.name.trim().is_empty() || gate.command.trim().is_empty() {
            return Err(Error::invalid(format!("The gate `{}` needs a name and a command", gate.name.escape_debug())));
        }
        if gate.command.contains('\0') || gate.command.len() > 64 << 10 {
            return Err(Error::invalid(format!(
                "The command of the gate `{}` cannot be run: it is too long or holds a NUL",
                gate.name.escape_debug()
            )));
        }
        if !names.insert(gate.name.clone()) {
            return Err(Error::invalid(format!("Two gates are called `{}`", gate.name.escape_debug()))
                .next("Give each gate a name of its own"));
        }
        for glob in &gate.protects {
            globset::Glob::new(glob).map_err(|error| {
                Error::invalid(format!("`protects` of the gate `{}` holds a bad pattern", gate.name.escape_debug()))
                    .because(error)
            })?;
        }
        if gate.protects.is_empty() {
            gate.protects = scripts_of(&gate.command);
        }
        for glob in named::protects(&gate.command, tree) {
            if !gate.protects.contains(&glob) {
                gate.protects.push(glob);
            }
        }
    }
    let mut before: Vec<String> = Vec::new();
    let mut installing: Vec<String> = Vec::new();
    for gate in &mut gates {
        if let Some(unknown) = gate.after.iter().find(|name| !before.contains(name)) {
            return Err(Error::invalid(format!(
                "The gate `{}` is to run after `{}`, which is not a gate before it",
                gate.name.escape_debug(),
                unknown.escape_debug()
            )));
        }
        if gate.after.is_empty() {
            gate.after.clone_from(&installing);
        }
        before.push(gate.name.clone());
        if only_installs(&gate.command) {
            installing.push(gate.name.clone());
        }
    }
    Ok(gates)
}

#[cfg(test)]
mod tests;
