//! SPECIFICATION.md: every promise has a number of its own, and the test that holds it exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::process::root;

const FILE: &str = "SPECIFICATION.md";

/// Findings about the book of promises.
pub fn check(files: &[PathBuf]) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(root().join(FILE)) else { return vec![format!("{FILE} is missing")] };
    let mut findings = Vec::new();
    let mut sources: BTreeMap<String, Option<String>> = BTreeMap::new();
    findings.extend(judge(&text, |path| {
        sources
            .entry(path.to_owned())
            .or_insert_with(|| {
                let known = files.iter().any(|file| file.to_string_lossy() == path);
                known.then(|| std::fs::read_to_string(root().join(path)).unwrap_or_default())
            })
            .clone()
    }));
    findings
}

/// The rows' findings; `source` gives the text of a tracked file.
fn judge(text: &str, mut source: impl FnMut(&str) -> Option<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut numbers = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let at = at + 1;
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        let Some(number) = cells.first().filter(|first| first.starts_with("S-")) else { continue };
        if number.len() != 5 || !number[2..].bytes().all(|b| b.is_ascii_digit()) {
            findings.push(format!("{FILE}:{at}: {number} is no number like S-001"));
        }
        if !numbers.insert((*number).to_owned()) {
            findings.push(format!("{FILE}:{at}: {number} is taken already"));
        }
        let [_, promise, tests] = cells.as_slice() else {
            findings.push(format!("{FILE}:{at}: {number} needs a sentence and its tests"));
            continue;
        };
        if promise.is_empty() || promise.ends_with('.') {
            findings.push(format!("{FILE}:{at}: {number} needs a sentence without a final stop"));
        }
        let named = quoted(tests);
        if named.is_empty() {
            findings.push(format!("{FILE}:{at}: {number} names no test"));
        }
        for name in named {
            let Some((path, test)) = name.split_once("::") else {
                findings.push(format!("{FILE}:{at}: {name} is not path::test"));
                continue;
            };
            match source(path) {
                None => findings.push(format!("{FILE}:{at}: {number} names {path}, which is not there")),
                Some(text) if !holds(&text, test) => {
                    findings.push(format!("{FILE}:{at}: {number} names {test}, which {path} does not have"));
                }
                Some(_) => {}
            }
        }
    }
    if numbers.is_empty() {
        findings.push(format!("{FILE} holds no promise"));
    }
    findings
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).filter(|part| !part.is_empty()).collect()
}

/// Whether a source has a test of this name: a function, or a string that names a trial or a figure.
fn holds(source: &str, test: &str) -> bool {
    let ends = |rest: &str| rest.chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
    let function = format!("fn {test}");
    source.match_indices(&function).any(|(at, found)| ends(&source[at + found.len()..]))
        || source.contains(&format!("\"{test}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &str) -> Vec<String> {
        judge(rows, |path| (path == "a.rs").then(|| "fn holds_water() {}\nTrial::test(\"by name\")\n".to_owned()))
    }

    #[test]
    fn a_book_in_order_has_no_findings() {
        let rows = "| Number | Promise | Test |\n|---|---|---|\n| S-001 | It holds | `a.rs::holds_water` |\n| S-002 | So does this | `a.rs::holds_water`, `a.rs::by name` |\n";
        assert_eq!(found(rows), Vec::<String>::new());
    }

    #[test]
    fn every_disorder_is_found() {
        for (rows, says) in [
            ("", "holds no promise"),
            ("| S-1 | It holds | `a.rs::holds_water` |", "no number like"),
            ("| S-001 | It holds | `a.rs::holds_water` |\n| S-001 | It holds | `a.rs::holds_water` |", "taken already"),
            ("| S-001 | It holds | `a.rs::holds` |", "does not have"),
            ("| S-001 | It holds | `b.rs::holds_water` |", "not there"),
            ("| S-001 | It holds | later |", "names no test"),
            ("| S-001 | It holds |", "needs a sentence"),
            ("| S-001 | It holds. | `a.rs::holds_water` |", "final stop"),
            ("| S-001 | It holds | `holds_water` |", "not path::test"),
        ] {
            let findings = found(rows);
            assert!(findings.iter().any(|finding| finding.contains(says)), "{rows}: {findings:?}");
        }
    }
}
