//! Rust.

use cove_core::run::GateSpec;

use super::Tree;
use super::detect::gate;

/// Tests, and what decides how they are built and run.
pub(super) const PROTECTS: [&str; 13] = [
    "tests/**",
    "**/tests/**",
    "**/tests.rs",
    "Cargo.toml",
    "**/Cargo.toml",
    "Cargo.lock",
    ".cargo/**",
    "rust-toolchain",
    "rust-toolchain.toml",
    "clippy.toml",
    ".clippy.toml",
    ".config/nextest.toml",
    "**/*.snap",
];

pub(super) fn detect(tree: &dyn Tree) -> Vec<GateSpec> {
    if !tree.has("Cargo.toml") {
        return Vec::new();
    }
    let text = tree.text("Cargo.toml").unwrap_or_default();
    let manifest: toml::Table = toml::from_str(&text).unwrap_or_default();
    let workspace = if manifest.contains_key("workspace") { " --workspace" } else { "" };
    let mut gates = vec![gate("cargo test", &format!("cargo test{workspace}"), &PROTECTS)];
    let lints = |table: &toml::Table| table.get("lints").and_then(|lints| lints.get("clippy")).is_some();
    let configured = tree.has("clippy.toml")
        || tree.has(".clippy.toml")
        || lints(&manifest)
        || manifest.get("workspace").and_then(toml::Value::as_table).is_some_and(lints);
    if configured {
        gates.push(gate("cargo clippy", &format!("cargo clippy{workspace} --all-targets"), &PROTECTS));
    }
    gates
}
