//! Every command and flag that the documents show exists, and the page on the command has them all.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[allow(dead_code, reason = "these tests need little of it")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use world::World;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Help texts by the words of their command; `None` for what is no command.
struct Helps {
    world: World,
    known: BTreeMap<String, Option<String>>,
}

impl Helps {
    fn of(&mut self, words: &[&str]) -> Option<String> {
        let world = &self.world;
        self.known
            .entry(words.join(" "))
            .or_insert_with(|| {
                let out = world.cove(&[&["help"][..], words].concat());
                (out.code == 0).then_some(out.stdout)
            })
            .clone()
    }
}

/// Names of the commands below a help text.
fn below(help: &str) -> BTreeSet<String> {
    help.lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// Commands that a document shows: lines of code blocks and spans of code that begin with `cove `.
fn shown(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let spans: Vec<&str> =
            if fenced { line.split(" && ").collect() } else { line.split('`').skip(1).step_by(2).collect() };
        for span in spans {
            let span = span.trim().trim_start_matches("$ ");
            if let Some(rest) = span.strip_prefix("cove ") {
                let rest = rest.split(" #").next().unwrap_or_default();
                let rest = rest.split(" | ").next().unwrap_or_default();
                out.push(rest.split(" -- ").next().unwrap_or_default().replace("\\|", "|"));
            }
        }
    }
    out
}

#[test]
fn every_command_in_the_documents_exists() {
    let mut helps = Helps { world: World::new(), known: BTreeMap::new() };
    let mut files = vec![root().join("README.md"), root().join("SECURITY.md"), root().join("CONTRIBUTING.md")];
    files.extend(
        std::fs::read_dir(root().join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file()),
    );
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for line in shown(&std::fs::read_to_string(&file).unwrap()) {
            seen += 1;
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut command: Vec<&str> = Vec::new();
            let mut help = helps.of(&[]).unwrap();
            for word in &words {
                let commands = below(&help);
                if commands.is_empty() || !word.starts_with(|c: char| c.is_ascii_lowercase()) {
                    break;
                }
                let (all, last): (Vec<&str>, &str) = (word.split('|').collect(), word.split('|').next_back().unwrap());
                wrong.extend(
                    all.iter()
                        .filter(|one| !commands.contains(**one))
                        .map(|one| format!("{name}: cove {line}: there is no command {one}")),
                );
                if !commands.contains(last) || last == "help" {
                    break;
                }
                command.push(last);
                help = helps.of(&command).unwrap_or_default();
            }
            if command.is_empty() {
                continue;
            }
            for word in &words {
                let flag = word.trim_matches(['[', ']', '(', ')', ',', '.', ';']).split('=').next().unwrap_or_default();
                let is_flag = flag.len() > 1 && flag.starts_with('-') && !flag.chars().nth(1).unwrap().is_numeric();
                let inside_quotes = line.contains(&format!("'{flag}")) || line.contains(&format!(" {flag} warnings"));
                let known = |text: &str| {
                    text.split_whitespace().any(|w| {
                        w.trim_end_matches(',').split('[').next() == Some(flag) || w.split('=').next() == Some(flag)
                    })
                };
                if is_flag && !inside_quotes && flag != "--" && !known(&help) {
                    wrong.push(format!("{name}: cove {line}: there is no flag {flag}"));
                }
            }
        }
    }
    assert!(seen > 40, "only {seen} commands were found");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_page_on_the_command_has_every_command_and_flag() {
    let mut helps = Helps { world: World::new(), known: BTreeMap::new() };
    let page = std::fs::read_to_string(root().join("docs/cli.md")).unwrap();
    let mut absent = Vec::new();
    for command in below(&helps.of(&[]).unwrap()) {
        let help = helps.of(&[&command]).unwrap_or_default();
        if !page.contains(&format!("cove {command}")) {
            absent.push(format!("cove {command}"));
        }
        let row = page.lines().filter(|line| line.starts_with(&format!("| `cove {command}"))).collect::<String>();
        absent.extend(
            below(&help).into_iter().filter(|sub| !row.contains(sub)).map(|sub| format!("cove {command} {sub}")),
        );
    }
    let run = helps.of(&["run"]).unwrap();
    let flags = run.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
    for flag in flags.map(|flag| flag.split(['=', '[']).next().unwrap().trim_matches([',', '.', ';', ')'])) {
        if !page.contains(flag) && flag != "--help" {
            absent.push(flag.to_owned());
        }
    }
    absent.sort();
    absent.dedup();
    assert_eq!(absent, Vec::<String>::new(), "docs/cli.md does not have these");
}
