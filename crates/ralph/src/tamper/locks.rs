//! Lock files: a package that was locked stays locked to the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Edit, EditKind, Found, shown};
use crate::gates::Tree;
use crate::reason::Reason;

/// Packages that a lock file takes from elsewhere than before.
pub(super) fn inspect(edit: &Edit, before: &dyn Tree, after: &dyn Tree, found: &mut Found) {
    if edit.kind == EditKind::Deleted {
        return;
    }
    let path = edit.path.as_str();
    let refuse = |found: &mut Found, package: &str| {
        found.refuse(
            Reason::LockRedirected,
            format!("`{}` takes `{}` from another source than before", shown(path), shown(package)),
        );
    };
    let Some(new) = packages(path, after) else {
        if edit.kind != EditKind::Added || after.read(path).is_none() {
            found.flag(format!("lock file `{}` cannot be compared", shown(path)));
            found.protected.insert(path.to_owned());
        }
        return;
    };
    let old = packages(path, before).unwrap_or_default();
    for (name, locked) in &new {
        let same = old.get(name);
        let moved = same.is_some_and(|before| before.version == locked.version && before.bytes != locked.bytes)
            || same.is_some_and(|before| !before.local && locked.local);
        // Where the old one took everything from registries, a new host is a new source.
        let host = locked.host.as_ref().filter(|_| same.is_some());
        let foreign = host.is_some_and(|host| !old.values().any(|before| before.host.as_ref() == Some(host)));
        if moved || foreign {
            refuse(found, name);
            return;
        }
    }
}

/// Names of packages in the lock files beside a manifest.
pub(super) fn names_beside(manifest: &str, tree: &dyn Tree) -> BTreeSet<String> {
    let directory = manifest.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
    ["package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "poetry.lock", "uv.lock"]
        .iter()
        .filter_map(|name| packages(&format!("{directory}{name}"), tree))
        .flat_map(BTreeMap::into_keys)
        .map(|key| key.rsplit("node_modules/").next().unwrap_or(&key).to_owned())
        .collect()
}

/// What a lock file says about one package.
#[derive(Debug, PartialEq, Eq)]
struct Locked {
    version: String,
    /// Digest and address, as far as the format has them.
    bytes: String,
    host: Option<String>,
    /// A directory, not a package.
    local: bool,
}

fn packages(path: &str, tree: &dyn Tree) -> Option<BTreeMap<String, Locked>> {
    let text = tree.text(path)?;
    let lower = path.to_ascii_lowercase();
    if lower.ends_with(".json") {
        let value: Value = serde_json::from_str(&text).ok()?;
        let list = value.get("packages").or_else(|| value.get("dependencies")).and_then(Value::as_object);
        let named = list.into_iter().flatten().filter(|(name, _)| !name.is_empty());
        return Some(named.map(|(name, spec)| (name.clone(), of_json(spec))).collect());
    }
    if matches!(lower.rsplit('/').next(), Some("cargo.lock" | "poetry.lock" | "uv.lock")) {
        let table: toml::Table = toml::from_str(&text).ok()?;
        let list = table.get("package").and_then(toml::Value::as_array);
        return Some(list.into_iter().flatten().filter_map(of_toml).collect());
    }
    Some(of_lines(&text))
}

fn of_json(spec: &Value) -> Locked {
    let field = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let resolved = field("resolved");
    let local = spec.get("link").and_then(Value::as_bool).unwrap_or(false)
        || resolved.starts_with("file:")
        || field("version").starts_with("file:");
    // The same digest from a mirror is the same package.
    let bytes = if field("integrity").is_empty() { resolved } else { field("integrity") };
    Locked { version: field("version").to_owned(), bytes: bytes.to_owned(), host: host(resolved), local }
}

fn of_toml(package: &toml::Value) -> Option<(String, Locked)> {
    let field = |key: &str| package.get(key).and_then(toml::Value::as_str).unwrap_or_default();
    let name = package.get("name")?.as_str()?;
    let source = match package.get("source") {
        Some(toml::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let version = field("version");
    let files = package.get("files").map(ToString::to_string).unwrap_or_default();
    let bytes = format!("{}{source}{files}", field("checksum"));
    let local = ["path", "editable", "directory", "virtual"].iter().any(|word| source.contains(&format!("{word} =")))
        || source.contains("\"directory\"");
    // A crate of the workspace has neither source nor digest; one that loses them is not the same any more.
    Some((format!("{name} {version}"), Locked { version: version.to_owned(), bytes, host: host(&source), local }))
}

/// yarn, pnpm, go.sum and others: each line that names an address or a digest, under its package.
fn of_lines(text: &str) -> BTreeMap<String, Locked> {
    let mut out = BTreeMap::new();
    let mut package = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') || trimmed.is_empty() {
            continue;
        }
        if let [module, version, digest] = trimmed.split_whitespace().collect::<Vec<_>>()[..]
            && digest.starts_with("h1:")
        {
            let locked = Locked { version: version.to_owned(), bytes: digest.to_owned(), host: None, local: false };
            out.insert(format!("{module} {version}"), locked);
            continue;
        }
        if trimmed.ends_with(':') {
            package = trimmed.trim_end_matches(':').to_owned();
        }
        let address = ["resolved", "integrity", "tarball", "resolution", "checksum"];
        if address.iter().any(|word| trimmed.trim_start_matches('"').starts_with(word)) {
            let local = ["file:", "link:", "portal:", "directory:"].iter().any(|word| trimmed.contains(word));
            let key = format!("{package} {}", trimmed.split([' ', ':']).next().unwrap_or_default());
            let locked = Locked { version: String::new(), bytes: trimmed.to_owned(), host: host(trimmed), local };
            out.insert(key, locked);
        }
    }
    out
}

fn host(text: &str) -> Option<String> {
    let rest = text.split_once("://")?.1;
    Some(rest.split(['/', ':', '"', '#', '?']).next().unwrap_or_default().to_owned())
}
