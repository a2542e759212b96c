//! The repositories in `examples/`: their PRDs are good, their checks pass, and their scripted agents
//! do every story.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cove_ralph::prd::Prd;
use cove_ralph::prompt::{PromptContext, render};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// Whether a program can be started; says so when the test is skipped for the want of it.
fn there(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

fn run(directory: &Path, script: &str, stdin: &str) -> (bool, String) {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("exec 2>&1; {script}"))
        .current_dir(directory)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CARGO_TARGET_DIR", directory.join("target"))
        .env_remove("GIT_DIR")
        // A test of a test: the outer runner's variables would change the inner one's output.
        .env_remove("NODE_TEST_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // A script that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Works all stories off; checks after each when `each`, else at the end.
fn work_off(name: &str, agent: &str, each: bool) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join(name);
    assert!(Command::new("cp").arg("-r").arg(example(name)).arg(&place).status().unwrap().success());
    assert!(run(&place, "git init --quiet", "").0);
    let file = place.join("prd.json");
    let prd = Prd::parse(&std::fs::read_to_string(&file).unwrap(), Some(&file)).unwrap();
    assert!(prd.stories.len() >= 5 && prd.stories.iter().all(|story| !story.passes));
    assert_eq!(prd.gates.len(), 1);
    assert!(!prd.gates[0].protects.is_empty());
    let good = |commands: &[String]| {
        for command in commands.iter().chain([&prd.gates[0].command]) {
            let (passed, text) = run(&place, command, "");
            assert!(passed, "{name}: {command}\n{text}");
        }
    };
    if each {
        good(&[]);
    }
    for story in &prd.stories {
        for command in &story.commands {
            assert!(!run(&place, command, "").0, "{name}: {} is done before it began", story.id);
        }
        let prompt = render(None, &PromptContext::for_story(story)).unwrap();
        let (done, words) = run(&place, agent, &prompt);
        assert!(done && cove_ralph::token::claims(&words), "{name} {}\n{words}", story.id);
        if each {
            good(&story.commands);
        }
    }
    good(&[]);
}

#[test]
fn the_python_example_is_worked_off() {
    if there("python3") {
        work_off("python-cronspec", "python3 solution/agent.py", true);
    }
}

#[test]
fn the_node_example_is_worked_off() {
    if there("node") {
        work_off("node-mdtoc", "node solution/agent.js", true);
    }
}

#[test]
fn the_rust_example_is_worked_off() {
    // Without cargo in its PATH the agent leaves the tests to the end, where one build does.
    if there("cargo") && there("git") {
        let link = r#"for tool in git sed head dirname; do ln -sf "$(command -v $tool)" "$tools/$tool"; done"#;
        let start = r#"shell=$(command -v sh); PATH=$tools exec "$shell" solution/agent.sh"#;
        let agent = format!("tools=$PWD/target/tools; mkdir -p \"$tools\"; {link}; {start}");
        work_off("rust-shelf", &agent, false);
    }
}
