//! The example repositories, worked off by their scripted agents in native sandboxes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use cove_scenarios::{Account, GitServer, Repository, World, skip};
use serde_json::Value;

/// The system's own interpreter, whatever else is in `PATH`.
const PYTHON: &str = "/usr/bin/python3 solution/agent.py";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// The real directory of a program, past links, for a toolchain that a home directory holds.
fn sysroot() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    path.join("bin/cargo").exists().then_some(path)
}

fn has(program: &str) -> bool {
    ["/usr/bin", "/usr/local/bin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

#[track_caller]
fn all_pass(prd: &Path) {
    let document: Value = serde_json::from_str(&std::fs::read_to_string(prd).unwrap()).unwrap();
    let stories = document["userStories"].as_array().unwrap();
    assert!(stories.len() >= 5);
    for story in stories {
        assert_eq!(story["passes"], true, "{story}");
    }
}

/// Runs an example to its end and applies the branch.
fn work_off(name: &str, agent: &str, account: Account, more: &[String]) {
    if !account.available(name) {
        return;
    }
    let world = World::new(account);
    let repository = Repository::copy_of(&example(name), &world.path("home").join(name));
    repository.give_to(world.uid());
    let mut arguments = vec!["run", "--foreground", "--engine", "native", "--agent", "command"];
    arguments.extend(["--agent-command", agent]);
    // Where control groups are not delegated to this user, the limits by them cannot be had.
    if account == Account::Unprivileged {
        arguments.extend(["--accept-missing", "limit-cpu", "--accept-missing", "limit-memory"]);
        arguments.extend(["--accept-missing", "limit-pids"]);
    }
    arguments.extend(more.iter().map(String::as_str));
    world.cove_in(&repository.path, &arguments).expect(0);
    all_pass(&repository.path.join("prd.json"));
    let before = repository.ask(&["rev-parse", "HEAD"]);
    let run = world.cove_in(&repository.path, &["runs", "list", "-q"]).expect(0).stdout.trim().to_owned();
    world.cove_in(&repository.path, &["runs", "apply", &run]).expect(0);
    assert_eq!(repository.ask(&["rev-parse", "HEAD"]), before, "the checkout stays where it was");
    let branches = repository.ask(&["branch", "--format=%(refname:short)"]);
    let branch = branches.lines().find(|branch| *branch != "main").unwrap();
    let commits: usize = repository.ask(&["rev-list", "--count", &format!("main..{branch}")]).parse().unwrap();
    assert!(commits >= 5, "{commits} commits on {branch}");
}

#[test]
fn python_as_the_tests_user() {
    work_off("python-cronspec", PYTHON, Account::Own, &[]);
}

#[test]
fn python_as_an_ordinary_user() {
    work_off("python-cronspec", PYTHON, Account::Unprivileged, &[]);
}

#[test]
fn node_as_the_tests_user() {
    if has("node") {
        work_off("node-mdtoc", "node solution/agent.js", Account::Own, &["--parallel".to_owned(), "2".to_owned()]);
    } else {
        skip("node_as_the_tests_user", "node is not installed in a system directory");
    }
}

#[test]
fn node_as_an_ordinary_user() {
    if has("node") {
        work_off("node-mdtoc", "node solution/agent.js", Account::Unprivileged, &[]);
    } else {
        skip("node_as_an_ordinary_user", "node is not installed in a system directory");
    }
}

fn rust(account: Account) {
    let Some(toolchain) = sysroot() else {
        skip("the Rust example", "there is no Rust toolchain");
        return;
    };
    let mut shown = toolchain.clone();
    // Another user cannot look into our home: a copy of the parts that a build needs.
    let copy;
    if account == Account::Unprivileged && account.available("the Rust example") {
        copy = tempfile::Builder::new().prefix("cove-toolchain-").tempdir().unwrap();
        shown = copy.path().join("toolchain");
        let script = format!(
            "set -e; mkdir -p '{to}/lib/rustlib' '{to}/bin'; cp '{from}/bin/cargo' '{from}/bin/rustc' '{from}/bin/rustdoc' '{to}/bin/'; \
             cp -r '{from}'/lib/*.so* '{to}/lib/'; cp -r '{from}'/lib/rustlib/*-linux-gnu '{to}/lib/rustlib/'; chmod -R a+rX '{base}'",
            from = toolchain.display(),
            to = shown.display(),
            base = copy.path().display()
        );
        let status = Command::new("sh").args(["-c", &script]).status().unwrap();
        assert!(status.success());
    }
    let shown = shown.display().to_string();
    let gate = format!("tests=PATH={shown}/bin:$PATH cargo test --offline");
    work_off(
        "rust-shelf",
        "sh solution/agent.sh",
        account,
        &["--agent-mount".to_owned(), shown, "--gate".to_owned(), gate],
    );
}

#[test]
fn rust_as_the_tests_user() {
    rust(Account::Own);
}

#[test]
fn rust_as_an_ordinary_user() {
    rust(Account::Unprivileged);
}

#[test]
fn a_repository_given_by_its_url() {
    let Some(server) = GitServer::start() else { return };
    let world = World::new(Account::Own);
    let source = Repository::copy_of(&example("python-cronspec"), &world.path("home").join("source"));
    let url = server.publish(&source.path, "cronspec.git");
    let prd = world.path("home").join("prd.json");
    std::fs::copy(source.path.join("prd.json"), &prd).unwrap();
    let prd_text = prd.display().to_string();
    let arguments =
        ["run", "--foreground", "--repo", &url, "--prd", &prd_text, "--agent", "command", "--agent-command", PYTHON];
    world.cove(&arguments).expect(0);
    all_pass(&prd);
}

#[test]
fn the_demo_ends_as_it_should() {
    let world = World::new(Account::Own);
    let finished = world.cove(&["demo"]).expect(0);
    for seen in
        ["all stories passed", "the foreign host was not reached", "the disabled check was noticed", "did not count"]
    {
        assert!(finished.said().contains(seen), "{seen}:\n{}", finished.said());
    }
}
