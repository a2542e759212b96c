//! JavaScript and TypeScript: the scripts of `package.json`.

use cove_core::run::GateSpec;
use serde_json::Value;

use super::Tree;
use super::detect::gate;

/// Tests, and what decides how they are run.
pub(super) const PROTECTS: [&str; 24] = [
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    ".npmrc",
    ".yarnrc*",
    "bunfig.toml",
    "test/**",
    "tests/**",
    "**/__tests__/**",
    "**/__mocks__/**",
    "**/*.test.*",
    "**/*.spec.*",
    "**/__snapshots__/**",
    "{jest,vitest,playwright,cypress,karma,ava}.config.*",
    ".mocharc*",
    ".eslintrc*",
    "eslint.config.*",
    "biome.json*",
    "tsconfig*.json",
];

pub(super) fn detect(tree: &dyn Tree) -> Vec<GateSpec> {
    let Some(Ok(package)) = tree.read("package.json").map(|bytes| serde_json::from_slice::<Value>(&bytes)) else {
        return Vec::new();
    };
    let script = |name: &str| package.get("scripts").and_then(|scripts| scripts.get(name)).and_then(Value::as_str);
    let program = program(tree, &package);
    let mut gates = Vec::new();
    // Once, before any of the repository's own code runs; each check gets a copy of what it installed.
    if needs_install(&package) {
        let command = format!("[ -d node_modules ] || {}", install(tree, program));
        gates.push(gate(&format!("{program} install"), &command, &PROTECTS));
    }
    let mut add =
        |name: &str| gates.push(gate(&format!("{program} {name}"), &format!("{program} run {name}"), &PROTECTS));
    // What `npm init` writes fails on purpose.
    if script("test").is_some_and(|line| !line.trim().is_empty() && !line.contains("no test specified")) {
        add("test");
    }
    if script("lint").is_some() {
        add("lint");
    }
    if let Some(name) =
        ["typecheck", "type-check", "check-types", "tsc"].into_iter().find(|name| script(name).is_some())
    {
        add(name);
    }
    if script("build").is_some() {
        add("build");
    }
    // Installing alone checks nothing.
    if gates.iter().all(|gate| crate::gates::only_installs(&gate.command)) {
        gates.clear();
    }
    gates
}

/// The package manager: the one the package names, else the one whose lock file is there, else npm.
fn program(tree: &dyn Tree, package: &Value) -> &'static str {
    let named = package.get("packageManager").and_then(Value::as_str).unwrap_or_default();
    let named = named.split('@').next().unwrap_or_default();
    if let Some(known) = ["npm", "pnpm", "yarn", "bun"].into_iter().find(|known| *known == named) {
        return known;
    }
    let locks = [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lock", "bun"), ("bun.lockb", "bun")];
    locks.into_iter().find(|(lock, _)| tree.has(lock)).map_or("npm", |(_, program)| program)
}

fn needs_install(package: &Value) -> bool {
    ["dependencies", "devDependencies", "optionalDependencies"]
        .iter()
        .any(|key| package.get(key).and_then(Value::as_object).is_some_and(|map| !map.is_empty()))
        || package.get("workspaces").is_some()
}

/// Installs exactly what the lock file says, from the cache where possible.
fn install(tree: &dyn Tree, program: &str) -> &'static str {
    match program {
        "pnpm" => "pnpm install --frozen-lockfile --prefer-offline",
        "yarn" if tree.has(".yarnrc.yml") => "yarn install --immutable",
        "yarn" => "yarn install --frozen-lockfile --prefer-offline --non-interactive",
        "bun" => "bun install --frozen-lockfile",
        _ if tree.has("package-lock.json") || tree.has("npm-shrinkwrap.json") => {
            "npm ci --prefer-offline --no-audit --no-fund"
        }
        _ => "npm install --no-audit --no-fund --no-package-lock",
    }
}
