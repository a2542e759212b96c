//! Which crate may use which: the arrows of ARCHITECTURE.md.

use std::collections::BTreeMap;

use crate::process::root;

/// Crate and the project's crates that it may use outside tests.
const TABLE: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("layers", &["core"]),
    ("guest", &["core"]),
    ("engines", &["core", "guest"]),
    ("egress", &["core"]),
    ("git", &["core"]),
    ("redact", &["core"]),
    ("stores", &["core"]),
    ("agents", &["core"]),
    ("control", &["core", "layers"]),
    ("ralph", &["core", "control", "git"]),
    ("settings", &["core", "agents"]),
    ("api", &["core"]),
    (
        "server",
        &["agents", "api", "control", "core", "egress", "engines", "git", "layers", "ralph", "settings", "stores"],
    ),
    ("cli", &["agents", "api", "containment", "core", "egress", "engines", "git", "ralph", "server", "settings"]),
    ("testkit", &["core"]),
    ("attack", &[]),
    ("containment", &["core"]),
];

/// Findings: arrows that the table does not have, and crates it does not name.
pub fn check() -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut findings = Vec::new();
    let Ok(entries) = std::fs::read_dir(root().join("crates")) else {
        return vec!["crates/ cannot be read".to_owned()];
    };
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let manifest = root().join("crates").join(&name).join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else { continue };
        let Ok(parsed) = text.parse::<toml::Table>() else {
            findings.push(format!("crates/{name}/Cargo.toml is not TOML"));
            continue;
        };
        let Some(allowed) = table.get(name.as_str()) else {
            findings.push(format!("crates/{name} is not in the dependency table (xtask/src/tidy/dependencies.rs)"));
            continue;
        };
        findings.extend(
            ["dependencies", "build-dependencies"]
                .iter()
                .filter_map(|section| parsed.get(*section)?.as_table())
                .flat_map(toml::Table::keys)
                .filter_map(|key| key.strip_prefix("cove-"))
                .filter(|used| !allowed.contains(used))
                .map(|used| format!("crates/{name} may not use {used}")),
        );
        if parsed.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool) != Some(true) {
            findings.push(format!("crates/{name} does not take the workspace's lints"));
        }
    }
    findings
}
