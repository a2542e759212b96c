//! Finding a repository's own checks. Only the root is looked at, and only what runs without a network
//! once dependencies are there.

use cove_core::run::GateSpec;

use super::{Tree, cargo, node, python, targets};

/// Files whose contents detection reads.
pub(super) const READS: [&str; 20] = [
    "Cargo.toml",
    "package.json",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "Pipfile",
    "tox.ini",
    "pytest.ini",
    "Makefile",
    "makefile",
    "GNUmakefile",
    "justfile",
    "Justfile",
    ".justfile",
    "deno.json",
    "go.mod",
    "clippy.toml",
    ".clippy.toml",
    "rust-toolchain.toml",
    "noxfile.py",
];

/// The checks found, tests first. Those of a language's own tools are preferred; targets of `make` and
/// `just` are taken where no such was found, as they usually call the same.
pub fn detect(tree: &dyn Tree) -> Vec<GateSpec> {
    let mut gates = cargo::detect(tree);
    gates.extend(node::detect(tree));
    gates.extend(python::detect(tree));
    if tree.has("go.mod") {
        gates.push(gate("go test", "go test ./...", &["**/*_test.go", "**/testdata/**", "go.sum", "go.mod"]));
    }
    if gates.is_empty() {
        gates = targets::detect(tree);
    }
    gates
}

pub(super) fn gate(name: &str, command: &str, protects: &[&str]) -> GateSpec {
    GateSpec {
        name: name.to_owned(),
        command: command.to_owned(),
        timeout_seconds: 1800,
        protects: protects.iter().map(|glob| (*glob).to_owned()).collect(),
        after: Vec::new(),
    }
}

/// What to protect for a command line that somebody wrote: scripts of the repository that it names,
/// and what its tools read.
pub fn scripts_of(command: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let words: Vec<&str> =
        command.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '\'' | '"')).collect();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().unwrap_or_default();
        let known: &[&str] = match word.rsplit('/').next().unwrap_or_default() {
            "cargo" => &cargo::PROTECTS,
            "npm" | "pnpm" | "yarn" | "bun" | "node" | "npx" | "jest" | "vitest" | "mocha" => &node::PROTECTS,
            "pytest" | "tox" | "nox" | "unittest" => &python::PROTECTS,
            "go" if next == "test" => &["**/*_test.go", "**/testdata/**", "go.sum", "go.mod"],
            "make" | "gmake" => &targets::MAKE_PROTECTS,
            "just" => &targets::JUST_PROTECTS,
            _ => &[],
        };
        out.extend(known.iter().map(|glob| (*glob).to_owned()));
        let path = word.strip_prefix("./").unwrap_or(word);
        let script = path.rsplit_once('.').is_some_and(|(stem, ending)| {
            !stem.is_empty() && matches!(ending, "sh" | "bash" | "py" | "js" | "mjs" | "cjs" | "ts" | "rb" | "pl")
        });
        let inside = !path.starts_with(['/', '-', '$', '~', '.'])
            && !path.contains("..")
            && !path.contains(['*', '?', '[', '{', '$', '=']);
        if inside && (script || word.starts_with("./")) && !path.is_empty() {
            out.push(path.trim_end_matches('/').to_owned());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    out.retain(|glob| seen.insert(glob.clone()));
    out
}

/// What to protect for a command that checks one story: scripts that it names and that look like checks.
/// What else it names is most often the program that the story is about, whose original cannot pass.
pub fn checks_of(command: &str) -> Vec<String> {
    const WORDS: [&str; 9] = ["check", "test", "verif", "accept", "spec", "lint", "validat", "assert", "gate"];
    const FOLDERS: [&str; 5] = ["scripts", "script", "ci", ".ci", "acceptance"];
    let mut out = scripts_of(command);
    out.retain(|path| {
        let lower = path.to_ascii_lowercase();
        let (folders, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
        let plain = command.contains(path.as_str());
        plain
            && (WORDS.iter().any(|word| name.contains(word))
                || folders.split('/').any(|folder| FOLDERS.contains(&folder)))
    });
    out
}
