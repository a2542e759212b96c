//! Rules about documents: those that must be there, and links that lead nowhere.

use std::path::PathBuf;

use crate::process::root;

const REQUIRED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "AGENTS.md",
    "SPECIFICATION.md",
    "LICENSE",
    "docs/README.md",
    "changes/README.md",
];

/// Findings about all documents.
pub fn check(files: &[PathBuf]) -> Vec<String> {
    let mut findings: Vec<String> =
        REQUIRED.iter().filter(|name| !root().join(name).is_file()).map(|name| format!("{name} is missing")).collect();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "md")) {
        let Ok(text) = std::fs::read_to_string(root().join(path)) else { continue };
        let folder = root().join(path.parent().unwrap_or(path));
        for target in links(&text) {
            if !folder.join(&target).exists() {
                findings.push(format!("{} links to {target}, which is not there", path.display()));
            }
        }
    }
    findings
}

/// Relative link targets of a Markdown text, without their fragments; code blocks are passed over.
fn links(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let mut rest = line;
        while let Some(start) = rest.find("](") {
            rest = &rest[start + 2..];
            let Some(end) = rest.find(')') else { break };
            let target = rest[..end].split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") && !target.contains(' ')
            {
                out.push(target.to_owned());
            }
            rest = &rest[end..];
        }
    }
    out
}
