//! What a check calls in the repository by way of other files: a target of make that runs a script, a
//! script that runs another.

use std::collections::BTreeSet;

use super::Tree;
use super::detect::{checks_of, scripts_of};

/// Files that are followed for one check.
const FILES: usize = 50;
/// Scripts whose contents may be needed.
const SCRIPTS: usize = 200;

/// Scripts of the repository that a check may call: their contents are to be loaded.
pub(super) fn scripts(files: &[String]) -> impl Iterator<Item = &String> {
    let is_script = |path: &&String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        path.matches('/').count() <= 2 && (name.ends_with(".sh") || name.ends_with(".bash"))
    };
    files.iter().filter(is_script).take(SCRIPTS)
}

/// Globs for what the command's targets and scripts name in turn: tests and configuration of the runners
/// they call, and other scripts that look like checks.
pub(super) fn protects(command: &str, tree: &dyn Tree) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut texts = vec![command.to_owned()];
    while let Some(text) = texts.pop() {
        let first = seen.is_empty();
        let mut called: Vec<String> = if first { scripts_of(&text) } else { checks_of(&text) };
        if !first {
            out.extend(called.iter().cloned());
            // What is protected for a runner by its name is so however it is called.
            out.extend(scripts_of(&text).into_iter().filter(|glob| glob.contains('*')));
        }
        let word = |word: &str| text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|other| other == word);
        if word("make") {
            called.extend(["GNUmakefile", "makefile", "Makefile"].map(str::to_owned));
        }
        if word("just") {
            called.extend(["justfile", "Justfile", ".justfile"].map(str::to_owned));
        }
        if ["npm", "pnpm", "yarn", "bun"].into_iter().any(word) {
            called.push("package.json".to_owned());
        }
        for path in called {
            if seen.len() < FILES && seen.insert(path.clone()) {
                texts.extend(
                    tree.text(&path).map(|text| if path == "package.json" { script_lines(&text) } else { text }),
                );
            }
        }
        seen.insert(String::new());
    }
    out.retain(|glob| !glob.is_empty());
    out
}

/// The commands of a package's scripts.
fn script_lines(text: &str) -> String {
    let package: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let scripts = package.get("scripts").and_then(serde_json::Value::as_object);
    scripts.into_iter().flatten().filter_map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
}
