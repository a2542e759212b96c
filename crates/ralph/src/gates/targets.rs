//! Targets of `make` and recipes of `just`.

use cove_core::run::GateSpec;

use super::Tree;
use super::detect::gate;

/// GNU make reads the first of these that exists, so adding one is as good as editing another.
pub(super) const MAKE_PROTECTS: [&str; 6] = ["GNUmakefile", "makefile", "Makefile", "**/*.mk", "test/**", "tests/**"];
pub(super) const JUST_PROTECTS: [&str; 5] = ["justfile", "Justfile", ".justfile", "test/**", "tests/**"];

pub(super) fn detect(tree: &dyn Tree) -> Vec<GateSpec> {
    let makefile = ["GNUmakefile", "makefile", "Makefile"].into_iter().find(|name| tree.has(name));
    if let Some(text) = makefile.and_then(|name| tree.text(name)) {
        // `check` is the wider one where both exist.
        if let Some(target) = ["check", "test"].into_iter().find(|target| has_target(&text, target)) {
            return vec![gate(&format!("make {target}"), &format!("make {target}"), &MAKE_PROTECTS)];
        }
    }
    let justfile = ["justfile", "Justfile", ".justfile"].into_iter().find(|name| tree.has(name));
    if let Some(text) = justfile.and_then(|name| tree.text(name))
        && has_recipe(&text, "test")
    {
        return vec![gate("just test", "just test", &JUST_PROTECTS)];
    }
    Vec::new()
}

/// A rule `a b target: …`, not an assignment `target := …`.
fn has_target(text: &str, target: &str) -> bool {
    text.lines().filter(|line| !line.starts_with(['\t', ' ', '#', '.'])).any(|line| {
        line.split_once(':').is_some_and(|(targets, rest)| {
            !rest.starts_with('=') && !rest.starts_with(":=") && targets.split_whitespace().any(|name| name == target)
        })
    })
}

/// A recipe `test arg='x': …` or `@test:`.
fn has_recipe(text: &str, recipe: &str) -> bool {
    text.lines().filter(|line| !line.starts_with(['\t', ' ', '#'])).any(|line| {
        line.split_once(':').is_some_and(|(head, rest)| {
            !rest.starts_with('=') && head.trim_start_matches('@').split_whitespace().next() == Some(recipe)
        })
    })
}
