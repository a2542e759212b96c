//! Every row of bad input that needs the whole of Cove to show its result.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cove_scenarios::{Account, Repository, Small, World};

/// An agent that does its work.
const GOOD: &str = "echo done > made/$story";

#[track_caller]
fn refused(world: &World, arguments: &[&str], code: i32, says: &[&str]) {
    let finished = world.cove(arguments).expect(code);
    for word in says {
        assert!(finished.stderr.contains(word), "{arguments:?} does not say {word:?}:\n{}", finished.stderr);
    }
}

#[test]
fn a_prd_that_cannot_be_used_is_named_with_its_place() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    let repository = small.repository.path.display().to_string();
    let rows = [
        ("missing", None, "prd"),
        ("not JSON", Some("{\"userStories\": [\n  {\"id\": }\n]}"), "line 2"),
        ("no stories", Some("{\"branchName\": \"x\", \"userStories\": []}"), "stor"),
        (
            "a cycle",
            Some(
                "{\"branchName\":\"x\",\"userStories\":[{\"id\":\"A\",\"title\":\"a\",\"passes\":false,\"dependsOn\":[\"B\"]},{\"id\":\"B\",\"title\":\"b\",\"passes\":false,\"dependsOn\":[\"A\"]}]}",
            ),
            "A",
        ),
    ];
    for (name, text, says) in rows {
        let file = world.path("bad.json");
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => {
                let _ = std::fs::remove_file(&file);
            }
        }
        let file = file.display().to_string();
        let arguments = [
            "run",
            "--foreground",
            "--repo",
            &repository,
            "--prd",
            &file,
            "--agent",
            "command",
            "--agent-command",
            "true",
        ];
        let finished = world.cove(&arguments);
        assert!([2, 5].contains(&finished.code), "{name}: {finished:?}");
        assert!(finished.stderr.contains(says), "{name} does not say {says:?}:\n{}", finished.stderr);
    }
}

#[test]
fn a_repository_without_commits_is_refused_with_the_next_step() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    let empty = Repository { path: world.path("empty") };
    std::fs::create_dir(&empty.path).unwrap();
    empty.git(&["init", "--quiet"]).expect(0);
    let (repository, prd) = (empty.path.display().to_string(), small.prd.display().to_string());
    let arguments =
        ["run", "--foreground", "--repo", &repository, "--prd", &prd, "--agent", "command", "--agent-command", "true"];
    let finished = world.cove(&arguments);
    assert_ne!(finished.code, 0, "{finished:?}");
    assert!(finished.stderr.contains("commit"), "{}", finished.stderr);
}

#[test]
fn unusual_checkouts_work_and_stay_as_they_are() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    let source = &small.repository;
    source.git(&["commit", "--quiet", "--allow-empty", "--message", "second"]).expect(0);
    let place = |name: &str| world.path(name).display().to_string();
    source.git(&["worktree", "add", "--quiet", "--detach", &place("worktree")]).expect(0);
    source.git(&["clone", "--quiet", "--bare", ".", &place("bare")]).expect(0);
    let url = format!("file://{}", source.path.display());
    source.git(&["clone", "--quiet", "--depth", "1", &url, &place("shallow")]).expect(0);
    source.git(&["clone", "--quiet", ".", &place("dirty")]).expect(0);
    std::fs::write(world.path("dirty").join("check.sh"), "not committed").unwrap();
    for name in ["worktree", "bare", "shallow", "dirty"] {
        let prd = world.path(&format!("{name}.json"));
        std::fs::copy(&small.prd, &prd).unwrap();
        let one = Small { repository: Repository { path: world.path(name) }, prd };
        let before = one.repository.git(&["status", "--porcelain"]).stdout;
        one.run(&world, GOOD, &[]).expect(0);
        assert_eq!(one.passes(), [true], "{name}");
        assert_eq!(one.repository.git(&["status", "--porcelain"]).stdout, before, "{name}");
    }
}

#[test]
fn odd_file_names_and_submodules_do_not_disturb_a_run() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    std::fs::write(small.repository.path.join("two\nlines"), "x").unwrap();
    std::fs::write(small.repository.path.join("-rf"), "x").unwrap();
    std::fs::write(small.repository.path.join(".gitmodules"), "[submodule \"s\"]\n\tpath = s\n\turl = /nonexistent\n")
        .unwrap();
    let head = small.repository.ask(&["rev-parse", "HEAD"]);
    small.repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},s")]).expect(0);
    small.repository.git(&["add", "--", "-rf", "two\nlines", ".gitmodules"]).expect(0);
    small.repository.git(&["commit", "--quiet", "--message", "odd"]).expect(0);
    small.run(&world, GOOD, &[]).expect(0);
    assert_eq!(small.passes(), [true]);
}

#[test]
fn a_repository_of_a_hundred_thousand_files_is_worked_on() {
    use std::io::Write as _;
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    // One content under many names, written into the index alone: quick to make, and as many files to
    // check out as any other.
    let blob = small.repository.ask(&["rev-parse", "HEAD:README.md"]);
    let mut index = std::process::Command::new("git");
    index.current_dir(&small.repository.path).args(["update-index", "--index-info"]);
    let mut index = index.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let lines: String = (0..100_000).map(|n| format!("100644 {blob}\tmany/{}/{n}.txt\n", n % 500)).collect();
    index.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(index.wait().unwrap().success());
    small.repository.git(&["commit", "--quiet", "--message", "many files"]).expect(0);
    small.run(&world, GOOD, &[]).expect(0);
    assert_eq!(small.passes(), [true]);
}

#[test]
fn image_archives_that_cannot_be_used_are_named() {
    let world = World::new(Account::Own);
    let noise = world.path("noise.tar");
    std::fs::write(&noise, [7_u8; 4096]).unwrap();
    let escape = world.path("escape.tar");
    let mut tar = std::process::Command::new("tar");
    tar.current_dir(world.path("home")).args(["--create", "--absolute-names", "--transform", "s,^,../,", "--file"]);
    tar.arg(&escape).arg("/etc/hostname");
    assert!(tar.output().unwrap().status.success());
    for (file, says) in [(noise, "noise.tar"), (escape, "..")] {
        let file = file.display().to_string();
        let finished = world.cove(&["sandbox", "create", "--root-archive", &file]);
        assert_ne!(finished.code, 0, "{finished:?}");
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
    }
    assert!(!world.path("etc").exists());
}

/// What the agent does, flags, the exit code, and a word of the reason.
const AGENTS: &[(&str, &str, &[&str], i32, &str)] = &[
    ("prints nothing and changes nothing", "true", &["--max-attempts", "2"], 10, "change"),
    ("hangs", "sleep 1000", &["--max-attempts", "1", "--idle-timeout", "2s"], 10, "without any output"),
    ("fails", "exit 3", &["--max-attempts", "1"], 10, "3"),
    ("does the wrong thing", "echo wrong > made/$story", &["--max-attempts", "1"], 10, "check"),
    (
        "fills the disk",
        "head -c 200000000 /dev/zero > big; sleep 30",
        &["--max-attempts", "1", "--disk", "32m"],
        10,
        "disk",
    ),
];

#[test]
fn agents_that_misbehave_end_with_the_reason() {
    for (what, agent, flags, code, says) in AGENTS {
        let world = World::new(Account::Own);
        let small = Small::new(&world, 1);
        let finished = small.run(&world, agent, flags);
        assert_eq!(finished.code, *code, "{what}:\n{}", finished.said());
        assert!(finished.said().to_lowercase().contains(says), "{what} does not say {says:?}:\n{}", finished.said());
        assert_eq!(small.passes(), [false], "{what}");
    }
}

#[test]
fn a_flood_of_output_and_a_fork_bomb_do_not_reach_the_host() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    let agent = format!("head -c 1000000000 /dev/zero | tr '\\0' 'x'; {GOOD}");
    let finished = small.run(&world, &agent, &["--max-attempts", "1"]);
    assert_eq!(finished.code, 10, "{}", finished.said());
    assert!(finished.said().contains("it wrote more than"), "{}", finished.said());

    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    let bomb = "f() { f | f & }; f; sleep 1";
    let finished = small.run(&world, bomb, &["--max-attempts", "1", "--attempt-timeout", "20s"]);
    assert_eq!(finished.code, 10, "{}", finished.said());
}

#[test]
fn plants_in_the_clone_have_no_effect() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    let canary = world.path("canary");
    let agent = format!(
        "for h in pre-commit post-checkout post-merge reference-transaction; do printf '#!/bin/sh\\ntouch {0}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done; \
         git config core.fsmonitor 'touch {0}'; git config filter.evil.clean 'touch {0}'; \
         echo '{{\"userStories\":[]}}' > prd.json; echo '<promise>COMPLETE</promise>'; {GOOD}",
        canary.display()
    );
    small.run(&world, &agent, &[]).expect(0);
    assert!(!canary.exists());
    assert_eq!(small.passes(), [true]);
}

#[test]
fn what_is_not_there_is_refused_with_its_code() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 1);
    let (repository, prd) = (small.repository.path.display().to_string(), small.prd.display().to_string());
    let run = |more: &[&'static str]| {
        let mut all = vec!["run", "--foreground", "--repo", repository.as_str(), "--prd", prd.as_str()];
        all.extend(more);
        all.iter().map(|&s| s.to_owned()).collect::<Vec<_>>()
    };
    for (arguments, code, says) in [
        (run(&["--agent", "nobody"]), 2, "nobody"),
        (run(&["--agent", "command", "--agent-command", "true", "--engine", "warp"]), 2, "warp"),
        (run(&["--agent", "command", "--agent-command", "true", "--engine", "direct"]), 7, "--i-accept-no-sandbox"),
        (run(&["--agent", "command", "--agent-command", "true", "--engine", "kubernetes"]), 9, "kubernetes"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(&world, &arguments, code, &[says]);
    }
}
