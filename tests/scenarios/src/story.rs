//! A small repository with a check, and runs on it with an agent that is a line of shell.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::process::Finished;
use crate::repository::Repository;
use crate::world::World;

/// A repository whose check passes as soon as every file that a finished story names is there.
pub struct Small {
    /// The repository.
    pub repository: Repository,
    /// Its PRD, beside the repository.
    pub prd: PathBuf,
}

impl Small {
    /// With stories `S-1` to `S-n`; story k wants a file `made/S-k`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn new(world: &World, stories: usize) -> Self {
        let repository = Repository::with(
            &world.path("repository"),
            &[("README.md", "small\n"), ("check.sh", CHECK), ("made/.keep", "")],
        );
        let list: Vec<Value> = (1..=stories)
            .map(|k| {
                json!({
                    "id": format!("S-{k}"), "title": format!("Make file {k}"), "description": "A file is there.",
                    "acceptanceCriteria": [format!("made/S-{k} is there")], "priority": k, "passes": false, "notes": ""
                })
            })
            .collect();
        let prd = world.path("prd.json");
        let text = json!({"project": "small", "branchName": "cove/small", "description": "Files", "userStories": list});
        std::fs::write(&prd, serde_json::to_string_pretty(&text).unwrap()).unwrap();
        if world.uid() != nix::unistd::Uid::effective().as_raw() {
            repository.give_to(world.uid());
            std::os::unix::fs::chown(&prd, Some(world.uid()), Some(world.uid())).unwrap();
            // Cove writes the new text beside the old one.
            std::os::unix::fs::chown(prd.parent().unwrap(), Some(world.uid()), Some(world.uid())).unwrap();
        }
        Self { repository, prd }
    }

    /// Arguments of `cove run` on it. `agent` is a line of POSIX shell; `$story` is the story's id.
    pub fn arguments(&self, agent: &str, more: &[&str]) -> Vec<String> {
        let script = format!("story=$(grep -o 'S-[0-9]*' | head -n 1); {agent}");
        let mut arguments: Vec<String> = ["run", "--repo", &text(&self.repository.path), "--prd", &text(&self.prd)]
            .iter()
            .chain(&["--agent", "command", "--gate", "check=sh check.sh"])
            .map(|&part| part.to_owned())
            .collect();
        arguments.push("--agent-command".to_owned());
        arguments.push(format!("sh -c {}", quoted(&script)));
        arguments.extend(more.iter().map(|&part| part.to_owned()));
        arguments
    }

    /// Runs it in the foreground to its end.
    #[track_caller]
    pub fn run(&self, world: &World, agent: &str, more: &[&str]) -> Finished {
        let arguments = self.arguments(agent, &[&["--foreground"], more].concat());
        world.cove(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `passes` of each story in the user's file.
    ///
    /// # Panics
    /// When the file is no JSON.
    pub fn passes(&self) -> Vec<bool> {
        let text = std::fs::read_to_string(&self.prd).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        document["userStories"].as_array().unwrap().iter().map(|story| story["passes"] == true).collect()
    }
}

/// Whatever was made has to be done.
const CHECK: &str =
    "#!/bin/sh\nset -e\nfor file in made/S-*; do\n  [ -e \"$file\" ] || continue\n  grep -q done \"$file\"\ndone\n";

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// One word for a POSIX shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
