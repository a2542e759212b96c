//! Rules about single files: size, words, unfinished code.

use std::path::{Path, PathBuf};

use crate::process::root;

/// Lines that a production file may have.
const MAX_LINES: usize = 600;

/// Bytes that any file may have.
const MAX_BYTES: u64 = 1 << 20;

/// File names that say nothing about what is inside.
const VAGUE_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// Findings about all tracked files.
pub fn check(files: &[PathBuf]) -> Vec<String> {
    let mut findings = Vec::new();
    for path in files {
        let whole = root().join(path);
        let size = std::fs::metadata(&whole).map_or(0, |m| m.len());
        if size > MAX_BYTES && path.file_name().is_none_or(|n| n != "Cargo.lock") {
            findings.push(format!("{} has {size} bytes; the bound is {MAX_BYTES}", path.display()));
        }
        let Ok(text) = std::fs::read_to_string(&whole) else { continue };
        findings.extend(banned(path, &text));
        if path.extension().is_some_and(|e| e == "rs") {
            findings.extend(rust(path, &text));
        }
    }
    findings
}

/// Words that may stand nowhere. They are put together here so that this file does not hold them.
fn banned(path: &Path, text: &str) -> Vec<String> {
    let hosts = [
        ["npm", "js.org"].concat(),
        ["npm", "js.com"].concat(),
        ["py", "pi.org"].concat(),
        ["python", "hosted.org"].concat(),
        ["static.crates", ".io"].concat(),
        ["index.crates", ".io"].concat(),
        ["deb.debian", ".org"].concat(),
    ];
    let places = [["/wo", "rk/"].concat()];
    if path.file_name().is_some_and(|n| n == "Cargo.lock") {
        return Vec::new();
    }
    text.lines()
        .enumerate()
        .filter_map(|(number, line)| {
            let host = hosts.iter().find(|host| line.contains(host.as_str()));
            let place = places.iter().find(|place| begins_a_path(line, place));
            host.map(|_| "names a package registry's host")
                .or(place.map(|_| "names a path of a certain machine"))
                .map(|what| format!("{}:{} {what}", path.display(), number + 1))
        })
        .collect()
}

/// Whether `place` stands in the line other than in the middle of a longer path.
fn begins_a_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "-_.}".contains(c)))
}

fn rust(path: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let name = path.to_string_lossy();
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    if VAGUE_NAMES.contains(&stem.as_str()) {
        findings.push(format!("{name}: a file named {stem} says nothing about what is inside"));
    }
    let test_file = name.contains("/tests/")
        || name.starts_with("tests/")
        || name.contains("/benches/")
        || stem == "tests"
        || stem.ends_with("_tests");
    if test_file {
        return findings;
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{name} has {lines} lines; the bound is {MAX_LINES}"));
    }
    let lint = ["unsafe", "_code"].concat();
    let allows_unsafe = text.lines().any(|line| line.contains("allow(") && line.contains(&lint));
    let may = ["crates/guest/", "crates/engines/", "crates/attack/"].iter().any(|room| name.starts_with(room));
    if allows_unsafe && !may {
        findings.push(format!(
            "{name} allows unsafe code, which belongs to the guest, the engines' system modules and the attack program"
        ));
    }
    let unfinished = [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat()];
    for (number, line) in text.lines().enumerate() {
        if unfinished.iter().any(|word| line.contains(word.as_str())) {
            findings.push(format!("{name}:{} is unfinished", number + 1));
        }
    }
    findings
}
