//! The real agent programs in native sandboxes: read-only root, uid 1000, no network but the model's
//! double on the host, through the door.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cove_scenarios::{Account, Repository, World, skip};
use serde_json::Value;

/// The directory that `tests/agents/install.sh` filled.
fn programs(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("COVE_AGENT_CLIS").map(PathBuf::from).filter(|d| d.join("node_modules/.bin").is_dir());
    if found.is_none() {
        skip(test, "COVE_AGENT_CLIS does not name the directory of tests/agents/install.sh");
    }
    found
}

fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents")
}

/// A double of the model providers; ends when its stdin closes.
struct Model {
    child: Child,
    url: String,
}

impl Model {
    fn start(programs: &Path, fixture: &str) -> Self {
        let mut child = Command::new("sh")
            .arg(kit().join("model.sh"))
            .arg(programs)
            .arg(fixture)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "the model's double did not start: {url:?}");
        Self { child, url }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs the two-story PRD with an agent and returns the exit code, all that was said and the PRD.
fn run(test: &str, agent: &str, fixture: &str, more: &[&str]) -> Option<(i32, String, Value)> {
    let programs = programs(test)?;
    let model = Model::start(&programs, fixture);
    let mut world = World::new(Account::Own);
    let bin = programs.join("node_modules/.bin");
    world.set("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    let repository = Repository::copy_of(&kit().join("repository"), &world.path("home").join("repository"));
    let endpoint = match agent {
        "claude" => format!("ANTHROPIC_BASE_URL={}", model.url),
        "gemini" => format!("GOOGLE_GEMINI_BASE_URL={}", model.url),
        _ => format!("OPENAI_BASE_URL={}/v1", model.url),
    };
    let mut arguments = vec!["run", "--foreground", "--engine", "native", "--agent", agent, "--agent-env", &endpoint];
    arguments.extend(["--gate", "check=sh check.sh", "--memory", "4g"]);
    match agent {
        "codex" => arguments.extend(["--model", "gpt-5.5"]),
        "gemini" => arguments.extend(["--model", "gemini-2.5-flash"]),
        // It chooses its tools by the model's name: one of OpenAI's would edit by patches only.
        "opencode" => arguments.extend(["--model", "double-1"]),
        _ => {}
    }
    arguments.extend(more);
    let finished = world.cove_in(&repository.path, &arguments);
    let prd = std::fs::read_to_string(repository.path.join("prd.json")).unwrap();
    Some((finished.code, finished.said(), serde_json::from_str(&prd).unwrap()))
}

fn two_stories(test: &str, agent: &str) {
    let Some((code, said, prd)) = run(test, agent, &format!("{agent}-two-stories"), &[]) else { return };
    assert_eq!(code, 0, "{said}");
    for story in prd["userStories"].as_array().unwrap() {
        assert_eq!(story["passes"], true, "{said}");
    }
}

#[test]
fn claude_closes_two_stories() {
    two_stories("claude_closes_two_stories", "claude");
}

#[test]
fn codex_closes_two_stories() {
    two_stories("codex_closes_two_stories", "codex");
}

#[test]
fn opencode_closes_two_stories() {
    two_stories("opencode_closes_two_stories", "opencode");
}

#[test]
fn gemini_closes_two_stories() {
    two_stories("gemini_closes_two_stories", "gemini");
}

#[track_caller]
fn ends(test: &str, agent: &str, fixture: &str, flags: &[&str], code: i32, says: &str) {
    let Some((ended, said, prd)) = run(test, agent, fixture, &[&["--max-attempts", "1"], flags].concat()) else {
        return;
    };
    assert_eq!(ended, code, "{said}");
    assert!(said.to_lowercase().contains(says), "{agent} {fixture} does not say {says:?}:\n{said}");
    assert_eq!(prd["userStories"][1]["passes"], false, "{said}");
}

#[test]
fn an_edit_that_was_denied_is_no_work() {
    ends("an_edit_that_was_denied_is_no_work", "claude", "claude-denied", &[], 10, "check");
}

#[test]
fn an_error_as_the_answer_is_a_failure() {
    ends("an_error_as_the_answer_is_a_failure", "claude", "error-as-answer", &[], 10, "failed");
}

#[test]
fn endless_tools_end_at_the_bound_of_turns() {
    ends("endless_tools_end_at_the_bound_of_turns", "claude", "claude-endless", &["--max-turns", "5"], 10, "turn");
}

#[test]
fn endless_tools_of_a_program_that_does_not_count_end_too() {
    let flags = ["--max-turns", "5"];
    ends("endless_tools_of_a_program_that_does_not_count_end_too", "codex", "codex-endless", &flags, 10, "turn");
}

#[test]
fn a_stream_that_is_cut_is_a_failure() {
    let flags = ["--attempt-timeout", "20s"];
    ends("a_stream_that_is_cut_is_a_failure", "claude", "stream-cut", &flags, 10, "failed");
}

#[test]
fn a_refused_key_ends_the_run() {
    let flags = ["--attempt-timeout", "60s"];
    ends("a_refused_key_ends_the_run", "codex", "unauthorized", &flags, 1, "sign");
}

#[test]
fn a_program_that_tries_again_for_ever_is_ended() {
    let flags = ["--attempt-timeout", "10s"];
    ends("a_program_that_tries_again_for_ever_is_ended", "claude", "server-error", &flags, 10, "stopped");
}
