//! Where dependencies come from: one that was there must not come from somewhere else afterwards.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Edit, Found, locks, shown};
use crate::gates::Tree;
use crate::reason::Reason;

/// Programs that checks call, and packages that bring them.
const TOOLS: [&str; 24] = [
    "jest",
    "vitest",
    "mocha",
    "ava",
    "tap",
    "jasmine",
    "karma",
    "playwright",
    "cypress",
    "c8",
    "nyc",
    "chai",
    "tsc",
    "typescript",
    "ts-node",
    "tsx",
    "eslint",
    "biome",
    "prettier",
    "node",
    "npm",
    "pnpm",
    "pytest",
    "tox",
];

/// Dependencies of a manifest that are taken from elsewhere than before.
pub(super) fn inspect(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    let (Some(old), Some(new)) = (sources(&edit.path, before), sources(&edit.path, after)) else { return };
    let locked = locks::names_beside(&edit.path, before);
    for (name, source) in &new {
        let is_new = !old.iter().any(|(other, _)| other.1 == name.1);
        let moved = match old.get(name).or_else(|| old.iter().find(|(other, _)| other.1 == name.1).map(|(_, s)| s)) {
            Some(before) => before != source && source.elsewhere.is_some(),
            None => false,
        };
        // A package of the repository's own under a name that something else has already, or that brings
        // programs of such names.
        let takes = |name: &str| TOOLS.contains(&name) || locked.contains(name);
        let takes_over = is_new
            && source.elsewhere.is_some()
            && (takes(&name.1) || source.local.iter().any(|at| brings(&edit.path, at, after).iter().any(|n| takes(n))));
        if moved || takes_over {
            found.refuse(
                Reason::DependencyRedirected,
                format!(
                    "`{}` takes the dependency `{}` from {}",
                    shown(&edit.path),
                    shown(&name.1),
                    shown(source.elsewhere.as_deref().unwrap_or("elsewhere"))
                ),
            );
        }
    }
}

/// `go.mod` and `go.work`: requirements are the story's own, replacements and toolchains are not.
pub(super) fn go(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    let directives = |tree: &dyn Tree| -> Vec<String> {
        let text = tree.text(&edit.path).unwrap_or_default();
        let mut block = String::new();
        let mut out = Vec::new();
        for line in text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
            if let Some(name) = line.strip_suffix('(') {
                block = name.trim().to_owned();
            } else if line == ")" {
                block.clear();
            } else if !line.is_empty() {
                let whole = if block.is_empty() { line.to_owned() } else { format!("{block} {line}") };
                if ["replace ", "toolchain ", "exclude ", "tool ", "use "].iter().any(|word| whole.starts_with(word)) {
                    out.push(whole);
                }
            }
        }
        out
    };
    let old = directives(before);
    let fresh: Vec<String> = directives(after).into_iter().filter(|line| !old.contains(line)).collect();
    if let Some(line) = fresh.iter().find(|line| line.starts_with("replace ") || line.starts_with("toolchain ")) {
        found.refuse(Reason::DependencyRedirected, format!("`{}` says `{}`", shown(&edit.path), shown(line)));
        return;
    }
    found.flag(format!("dependencies in `{}` were changed", shown(&edit.path)));
    found.dependencies_changed.insert(edit.path.clone());
}

/// Section and name of a dependency.
type Name = (String, String);

/// What a manifest says about one dependency.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    /// Where it comes from, when that is not the registry by its own name.
    elsewhere: Option<String>,
    /// A directory of the repository.
    local: Option<String>,
    /// Everything else, to compare; versions may change.
    rest: String,
}

fn sources(path: &str, tree: &dyn Tree) -> Option<BTreeMap<Name, Source>> {
    let text = tree.text(path)?;
    let lower = path.to_ascii_lowercase();
    let is_json = lower.ends_with(".json");
    let value: Value = if is_json {
        serde_json::from_str(&text).ok()?
    } else {
        serde_json::to_value(toml::from_str::<toml::Table>(&text).ok()?).ok()?
    };
    let mut out = BTreeMap::new();
    gather("", &value, &mut out, 0);
    Some(out)
}

/// Every table whose name ends in `dependencies` (or is one of those that work like it), wherever it is,
/// and every list of requirements.
fn gather(at: &str, value: &Value, out: &mut BTreeMap<Name, Source>, depth: usize) {
    let Some(object) = value.as_object().filter(|_| depth < 6) else { return };
    for (key, inner) in object {
        let lower = key.to_ascii_lowercase();
        let here = format!("{at}.{lower}");
        let lists = lower.ends_with("dependencies")
            || matches!(lower.as_str(), "overrides" | "resolutions" | "sources" | "patch" | "replace")
            || at.ends_with("dependency-groups")
            || at.ends_with("patch")
            || lower == "requires" && at.ends_with("build-system");
        match inner {
            Value::Object(table) if lists => {
                for (name, spec) in table {
                    let name = name.split('@').next().filter(|n| !n.is_empty()).unwrap_or(name);
                    out.insert((here.clone(), name.to_owned()), source(name, spec));
                }
                gather(&here, inner, out, depth + 1);
            }
            Value::Array(list) if lists || at.ends_with("optional-dependencies") => {
                for requirement in list.iter().filter_map(Value::as_str) {
                    let end = requirement.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')));
                    let (name, rest) = requirement.split_at(end.unwrap_or(requirement.len()));
                    let rest = rest.trim_start();
                    let elsewhere = rest.split_once("@ ").map(|(_, url)| url.trim().to_owned());
                    let source = Source { local: None, rest: String::new(), elsewhere };
                    out.insert((here.clone(), name.to_ascii_lowercase().replace('_', "-")), source);
                }
            }
            inner => gather(&here, inner, out, depth + 1),
        }
    }
}

fn source(name: &str, spec: &Value) -> Source {
    if let Some(text) = spec.as_str() {
        let begins = |words: &[&str]| words.iter().find_map(|word| text.strip_prefix(word));
        let local =
            begins(&["file:", "link:", "portal:"]).or_else(|| text.starts_with(['.', '/', '~']).then_some(text));
        let far =
            text.contains("://") || begins(&["git+", "git:", "github:", "gitlab:", "bitbucket:", "npm:"]).is_some();
        // `user/repository` is short for a place on a forge.
        let short = text.contains('/') && !text.starts_with('@') && !text.starts_with("workspace:");
        let local_path = local.map(|path| path.trim_start_matches("./").to_owned());
        let elsewhere = (local.is_some() || far || short).then(|| text.to_owned());
        return Source { elsewhere, local: local_path, rest: String::new() };
    }
    let field = |key: &str| spec.get(key).and_then(Value::as_str);
    let place = ["path", "git", "url", "registry", "registry-index", "file"].iter().find_map(|key| field(key));
    let renamed = field("package").filter(|package| *package != name);
    Source {
        elsewhere: place.or(renamed).map(str::to_owned),
        local: field("path").map(|path| path.trim_start_matches("./").to_owned()),
        rest: ["path", "git", "url", "registry", "registry-index", "package", "rev", "branch", "tag"]
            .iter()
            .filter_map(|key| field(key).map(|value| format!("{key}={value};")))
            .collect(),
    }
}

/// The names that a package of the repository brings: its own, and its programs'.
fn brings(manifest: &str, local: &str, after: &dyn Tree) -> Vec<String> {
    let directory = manifest.rsplit_once('/').map_or("", |(directory, _)| directory);
    let path = format!("{directory}/{}/package.json", local.trim_end_matches('/'));
    let Some(text) = after.text(path.trim_start_matches('/')) else { return Vec::new() };
    let Ok(package) = serde_json::from_str::<Value>(&text) else { return Vec::new() };
    let own = package.get("name").and_then(Value::as_str).map(str::to_owned);
    let programs = match package.get("bin") {
        Some(Value::Object(table)) => table.keys().cloned().collect(),
        Some(Value::String(_)) => own.clone().into_iter().collect(),
        _ => Vec::new(),
    };
    own.into_iter().chain(programs).collect()
}
