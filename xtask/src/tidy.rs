//! `tidy`: rules about the tree that no compiler checks.

mod dependencies;
mod documents;
mod promises;
mod sources;

use std::path::PathBuf;

use crate::process::{self, Outcome, cargo, complain, exists, heading, output, root};

/// Runs every check and reports all findings.
///
/// # Errors
/// When any check found something.
pub fn run_checks() -> Vec<String> {
    let files = tracked();
    let mut findings = dependencies::check();
    findings.extend(sources::check(&files));
    findings.extend(documents::check(&files));
    findings.extend(promises::check(&files));
    findings
}

/// Formatting, lints and the checks of [`run_checks`].
///
/// # Errors
/// When any check found something.
pub fn run() -> Outcome {
    heading("tidy: rules");
    let findings = run_checks();
    for finding in &findings {
        complain(&format!("tidy: {finding}"));
    }
    heading("tidy: formatting");
    let formatted = process::run(cargo().args(["fmt", "--all", "--check"]));
    heading("tidy: lints");
    let linted =
        process::run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]));
    formatted?;
    linted?;
    if findings.is_empty() { Ok(()) } else { Err(format!("tidy found {} things", findings.len())) }
}

/// Files of the tree: tracked and new ones, without what is ignored.
fn tracked() -> Vec<PathBuf> {
    if !exists("git") {
        return Vec::new();
    }
    let mut git = std::process::Command::new("git");
    git.current_dir(root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    output(&mut git)
        .unwrap_or_default()
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect()
}
