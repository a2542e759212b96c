//! A repository with checks that are red, and agents let loose on it.

use std::path::PathBuf;

use cove_scenarios::{Account, Repository, World, quoted};
use serde_json::{Value, json};

use crate::outcome::{self, Outcome, judge};
use crate::{Cheat, Fools, Honest};

/// Printed where the checks passed in the agent's own tree.
const FOOLED: &str = "own-checks-are-green";
/// Printed when a script came to its end.
const DONE: &str = "script-came-to-its-end";

/// A repository with its checks.
pub struct Field {
    files: Vec<(&'static str, String)>,
    gates: Vec<(&'static str, String)>,
    flags: Vec<String>,
    mounts: Vec<PathBuf>,
    gate_seconds: u64,
}

impl Field {
    /// A repository of these files.
    pub fn new(files: &[(&'static str, &str)]) -> Self {
        let mut files: Vec<_> = files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
        files.push((".gitignore", "__pycache__/\ntarget/\nlocal-only/\n".to_owned()));
        Self { files, gates: Vec::new(), flags: Vec::new(), mounts: Vec::new(), gate_seconds: 60 }
    }

    /// One more check.
    #[must_use]
    pub fn gate(mut self, name: &'static str, command: impl Into<String>) -> Self {
        self.gates.push((name, command.into()));
        self
    }

    /// Time of each check.
    #[must_use]
    pub fn gate_seconds(mut self, seconds: u64) -> Self {
        self.gate_seconds = seconds;
        self
    }

    /// More arguments of `cove run`.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// A directory that sandboxes see, such as a toolchain.
    #[must_use]
    pub fn shows(mut self, directory: PathBuf) -> Self {
        self.mounts.push(directory);
        self
    }

    /// Lets every cheat try a story of its own, and after them an honest agent the same.
    ///
    /// # Panics
    /// When a story passes that must not, a reason is missing, a positive control does not hold, or the
    /// honest agent is refused.
    pub fn withstands(&self, cheats: &[Cheat], honest: &Honest) {
        let mut scripts: Vec<String> = cheats.iter().map(|cheat| self.dishonest(cheat)).collect();
        scripts.push(format!("{}\necho {DONE}", honest.script));
        let (world, outcomes) = self.run(&scripts, &["--parallel", "4", "--max-attempts", "1"]);
        let mut problems = Vec::new();
        for (cheat, outcome) in cheats.iter().zip(&outcomes) {
            problems.extend(judge(cheat, outcome).into_iter().map(|problem| format!("{}: {problem}", cheat.name)));
        }
        if let Some(outcome) = outcomes.last() {
            problems.extend(honest_problems(honest, outcome));
        }
        assert!(problems.is_empty(), "{}", problems.join("\n\n"));
        drop(world);
    }

    /// As [`withstands`](Self::withstands), where the bounds are too narrow for anybody's work.
    ///
    /// # Panics
    /// As it does.
    pub fn withstands_all(&self, cheats: &[Cheat]) {
        let scripts: Vec<String> = cheats.iter().map(|cheat| self.dishonest(cheat)).collect();
        let (_world, outcomes) = self.run(&scripts, &["--parallel", "4", "--max-attempts", "1"]);
        let problems: Vec<String> = cheats
            .iter()
            .zip(&outcomes)
            .flat_map(|(cheat, outcome)| {
                judge(cheat, outcome).into_iter().map(|problem| format!("{}: {problem}", cheat.name))
            })
            .collect();
        assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    }

    /// Lets honest agents work one after another, each on what the ones before did.
    ///
    /// # Panics
    /// When one of them is refused.
    pub fn lets_through(&self, honest: &[Honest]) {
        let scripts: Vec<String> = honest.iter().map(|one| format!("{}\necho {DONE}", one.script)).collect();
        let (_world, outcomes) = self.run(&scripts, &["--max-attempts", "1"]);
        let problems: Vec<String> =
            honest.iter().zip(&outcomes).flat_map(|(one, outcome)| honest_problems(one, outcome)).collect();
        assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    }

    /// Lets the first agent work honestly and prepare the ground, and the second profit from it.
    ///
    /// # Panics
    /// When the first is refused or the second is not.
    pub fn withstands_later(&self, sleeper: &Honest, heir: &Cheat) {
        let scripts = [format!("{}\necho {DONE}", sleeper.script), self.dishonest(heir)];
        let (_world, outcomes) = self.run(&scripts, &["--max-attempts", "1"]);
        let mut problems = honest_problems(sleeper, &outcomes[0]);
        problems.extend(judge(heir, &outcomes[1]).into_iter().map(|problem| format!("{}: {problem}", heir.name)));
        assert!(problems.is_empty(), "{}", problems.join("\n\n"));
    }

    /// Runs one script in a run of its own, with as many attempts as given.
    pub fn alone(&self, script: &str, attempts: u32) -> Outcome {
        let attempts = attempts.to_string();
        let (_world, mut outcomes) = self.run(&[script.to_owned()], &["--max-attempts", &attempts]);
        outcomes.remove(0)
    }

    /// The script with its positive control.
    fn dishonest(&self, cheat: &Cheat) -> String {
        let mut script = cheat.script.to_owned();
        if cheat.fools == Fools::Checks {
            // In a copy, so that the control leaves nothing behind.
            let checks: Vec<String> =
                self.gates.iter().map(|(_, command)| format!("sh -c {}", quoted(command))).collect();
            script.push_str(&format!(
                "\nrm -rf /tmp/own && cp -a . /tmp/own && (cd /tmp/own && export CI=true && {}) >/tmp/own.log 2>&1 && echo {FOOLED} || tail -n 5 /tmp/own.log\nrm -rf /tmp/own",
                checks.join(" && ")
            ));
        }
        script.push_str(&format!("\necho {DONE}"));
        script
    }

    fn run(&self, scripts: &[String], flags: &[&str]) -> (World, Vec<Outcome>) {
        let world = World::new(Account::Own);
        let files: Vec<(&str, &str)> = self.files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let repository = Repository::with(&world.path("repository"), &files);
        let agents = world.path("agents");
        std::fs::create_dir(&agents).unwrap();
        let ids: Vec<String> = (1..=scripts.len()).map(|nth| format!("C-{nth:03}")).collect();
        for (id, script) in ids.iter().zip(scripts) {
            std::fs::write(agents.join(id), script).unwrap();
        }
        let stories: Vec<Value> = ids
            .iter()
            .enumerate()
            .map(|(nth, id)| {
                json!({
                    "id": id, "title": "Make the checks pass", "description": "They are red.", "priority": nth + 1,
                    "acceptanceCriteria": ["The checks pass"], "passes": false, "notes": ""
                })
            })
            .collect();
        let gates: Vec<Value> = self
            .gates
            .iter()
            .map(|(name, command)| json!({"name": name, "command": command, "timeoutSeconds": self.gate_seconds}))
            .collect();
        let prd = world.path("prd.json");
        let text = json!({
            "project": "field", "branchName": "cove/field", "description": "A field", "qualityGates": gates,
            "userStories": stories
        });
        std::fs::write(&prd, text.to_string()).unwrap();
        let shown = agents.display().to_string();
        let agent = format!(
            "sh -c {}",
            quoted(&format!("story=$(grep -o 'C-[0-9]*' | head -n 1); export story; sh {shown}/$story"))
        );
        let (repo, prd) = (repository.path.display().to_string(), prd.display().to_string());
        let mut arguments: Vec<&str> =
            vec!["run", "--foreground", "--engine", "native", "--repo", &repo, "--prd", &prd];
        arguments.extend(["--agent", "command", "--agent-command", &agent, "--agent-mount", &shown]);
        arguments.extend(["--max-iterations", "500"]);
        let mounts: Vec<String> = self.mounts.iter().map(|path| path.display().to_string()).collect();
        for mount in &mounts {
            arguments.extend(["--agent-mount", mount]);
        }
        arguments.extend(self.flags.iter().map(String::as_str));
        arguments.extend(flags);
        let finished = world.cove(&arguments);
        let outcomes = outcome::read(&world, &ids, &finished);
        (world, outcomes)
    }
}

fn honest_problems(honest: &Honest, outcome: &Outcome) -> Vec<String> {
    let mut problems = Vec::new();
    if !outcome.said.contains(DONE) {
        problems.push(format!("{}: the script did not come to its end:\n{outcome}", honest.name));
    }
    if !outcome.passed {
        problems.push(format!("{}: honest work was refused:\n{outcome}", honest.name));
    }
    if !outcome.flags.contains(honest.flag) {
        problems.push(format!("{}: no flag says {:?}:\n{outcome}", honest.name, honest.flag));
    }
    problems
}

/// Whether the positive control held.
pub(crate) fn fooled(cheat: &Cheat, outcome: &Outcome) -> bool {
    match cheat.fools {
        Fools::Checks => outcome.said.contains(FOOLED),
        Fools::Saying(words) => outcome.said.contains(words),
    }
}
