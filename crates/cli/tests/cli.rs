//! The command as a person or a script meets it, as far as no daemon is needed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use serde_json::{Value, json};
use world::World;

#[test]
fn the_commands_are_these() {
    let out = World::new().cove(&["--help"]);
    let commands: Vec<&str> = out
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expected = [
        "run",
        "runs",
        "logs",
        "status",
        "prd",
        "sandbox",
        "engine",
        "config",
        "daemon",
        "doctor",
        "demo",
        "serve",
        "completion",
        "explain",
        "help",
    ];
    assert_eq!(commands, expected);
    assert_eq!(out.code, 0);
}

#[test]
fn help_topics_and_completions_are_data() {
    let world = World::new();
    for (args, says) in [
        (vec![], "cove doctor"),
        (vec!["help", "exit-codes"], " 11  the run ended by a limit"),
        (vec!["help", "environment"], "CONTAINER_TIMEOUT"),
        (vec!["help", "formatting"], "ndjson"),
        (vec!["help", "runs", "rm"], "--dry-run"),
        (vec!["help", "labels"], "run.cove.instance"),
        (vec!["help", "man"], ".TH"),
        (vec!["help", "man", "runs", "rm"], "dry\\-run"),
        (vec!["completion", "bash"], "_cove"),
        (vec!["completion", "zsh"], "#compdef cove"),
        (vec!["completion", "fish"], "complete --keep-order"),
        (vec!["completion", "powershell"], "Register-ArgumentCompleter"),
        (vec!["completion", "elvish"], "edit:completion"),
        (vec!["completion", "nushell"], "export extern cove"),
        (vec!["config", "list", "--jq", ".[] | select(.key == \"loop.maxIterations\") | .value"], "50"),
        (vec!["explain", "not-started"], "exit code 125"),
        (vec!["explain", "12"], "waits for a person"),
        (vec!["explain", "s-001"], "has not been proven"),
        (vec!["explain", "loop.maxIterations"], "Attempts of the whole run"),
        (vec!["config", "schema"], "json-schema.org/draft/2020-12"),
        (vec!["config", "schema", "--policy"], "blockedHosts"),
        (vec!["config", "paths"], "socket"),
        (vec!["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let out = world.cove(&args);
        assert_eq!((out.code, out.stderr.as_str()), (0, ""), "{args:?}");
        assert!(out.stdout.contains(says), "{args:?}: {}", out.stdout);
    }
}

#[test]
fn settings_are_shown_with_their_origin_in_every_format() {
    let world = World::new();
    world.write("home/.config/cove/config.json", "{\n  \"ralph\": { \"loop\": { \"maxIterations\": 9 } }\n}\n");
    let list = |format: &str| world.cove(&["config", "list", "--changed", "-o", format]).stdout;
    let origin = format!("user {}:2", world.path("home/.config/cove/config.json").display());
    assert_eq!(list("table"), format!("KEY                 VALUE  ORIGIN\nloop.maxIterations  9      {origin}\n"));
    let item = json!({
        "key": "loop.maxIterations", "value": 9, "origin": origin,
        "overrides": [{"value": 50, "origin": "default"}],
    });
    assert_eq!(serde_json::from_str::<Value>(&list("json")).unwrap(), json!([item]));
    assert_eq!(serde_json::from_str::<Value>(list("ndjson").trim()).unwrap(), item);
    assert_eq!(list("name"), "loop.maxIterations\n");
    assert!(list("yaml").starts_with("- key: loop.maxIterations\n  value: 9\n"), "{}", list("yaml"));
    let picked = world.cove(&["config", "list", "--changed", "--json=value,key"]).stdout;
    let picked: Value = serde_json::from_str(&picked).unwrap();
    assert_eq!(picked.to_string(), r#"[{"value":9,"key":"loop.maxIterations"}]"#);
    assert_eq!(world.cove(&["config", "get", "ralph.loop.maxIterations"]).stdout, "9\n");
    let explained = world.cove(&["config", "explain", "loop.maxIterations"]).stdout;
    assert!(explained.contains(&origin) && explained.contains("overrides 50 (default)"), "{explained}");
    assert_eq!(
        world.cove_with(&["config", "get", "loop.maxIterations"], &[("COVE__LOOP__MAX_ITERATIONS", "3")]).stdout,
        "3\n"
    );
}

#[test]
fn errors_tell_what_why_and_what_next() {
    let world = World::new();
    world.write("home/.config/cove/config.json", "{\n  \"ralph\": { \"loop\": { \"maxItterations\": 9 } }\n}\n");
    let out = world.cove(&["config", "list"]);
    assert_eq!((out.code, out.stdout.as_str()), (2, ""));
    let file = world.path("home/.config/cove/config.json");
    let expected = format!(
        "error: {}:2: unknown key ralph.loop.maxItterations\n  next: Did you mean ralph.loop.maxIterations?\n",
        file.display()
    );
    assert_eq!(out.stderr, expected);
    let out = world.cove(&["config", "list", "--json"]);
    assert_eq!((out.code, out.stdout.as_str()), (2, ""));
    let problem: Value = serde_json::from_str(&out.stderr).unwrap();
    assert_eq!((&problem["code"], &problem["exitCode"]), (&json!("invalid"), &json!(2)));
    assert!(problem["next"].as_str().unwrap().contains("maxIterations"));
}

#[test]
fn mistakes_have_their_exit_codes() {
    let world = World::new();
    for (args, code, says) in [
        (vec!["rnu"], 2, "similar"),
        (vec!["run", "--max-iterations", "many"], 2, "invalid value"),
        (vec!["run", "--image", "a", "--root-dir", "/b"], 2, "cannot be used with"),
        (vec!["run", "--gate", "tests"], 2, "NAME=COMMAND"),
        (vec!["config", "get", "loop.maxItterations"], 5, "loop.maxIterations"),
        (vec!["config", "get", "loop"], 5, "It is a group"),
        (vec!["config", "list", "--json=kye"], 2, "The fields are key"),
        (vec!["config", "list", "--jq", ".["], 2, "cannot be understood"),
        (vec!["sandbox", "create", "--memory", "lots"], 2, "'lots' for '--memory <SIZE>': write a number with"),
        (vec!["run", "--attempt-timeout", "soon"], 2, "such as 90s or 1h30m"),
        (vec!["explain", "E1"], 5, "The codes are"),
        (vec!["help", "nonsense"], 5, "the topics are"),
        (vec!["run"], 2, "git init"),
        (vec!["run", "--repo", "/nonexistent/x"], 5, "no repository"),
        (vec!["prd", "validate"], 5, "cove prd init"),
        (vec!["-C", "/nonexistent/x", "status"], 5, "no directory"),
        (vec!["status", "amber", "--exit-status"], 9, "cove daemon start"),
    ] {
        let out = world.cove(&args);
        assert_eq!((out.code, out.stdout.as_str()), (code, ""), "{args:?}: {}", out.stderr);
        assert!(out.stderr.contains(says), "{args:?}: {}", out.stderr);
    }
    let out = world.cove(&["run", "--json=x", "--max-iterations", "many"]);
    assert_eq!(serde_json::from_str::<Value>(&out.stderr).unwrap()["exitCode"], 2, "{}", out.stderr);
}

#[test]
fn a_prd_is_begun_checked_and_shown() {
    let world = World::new();
    assert_eq!(world.cove(&["prd", "init", "--project", "Tally"]).code, 0);
    assert_eq!(world.cove(&["prd", "init"]).code, 6, "an existing file is kept");
    assert_eq!(world.cove(&["prd", "validate"]).code, 0);
    let stories: Value = serde_json::from_str(&world.cove(&["prd", "show", "--json"]).stdout).unwrap();
    let ids: Vec<&str> = stories.as_array().unwrap().iter().map(|story| story["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["US-001", "US-002", "US-003"]);
    world.write("work/broken.json", "{\n  \"project\": \"x\",\n  \"userStories\": [\n    { \"id\": }\n  ]\n}\n");
    let out = world.cove(&["prd", "validate", "broken.json"]);
    assert_eq!(out.code, 2);
    assert!(out.stderr.contains("broken.json") && out.stderr.contains('4'), "{}", out.stderr);
    world.write("work/todo.md", "# Things\n\n- [ ] Add a button\n- [x] Begin\n");
    let imported = world.cove(&["prd", "import", "todo.md", "--to", "-"]);
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    assert!(imported.stdout.contains("\"userStories\"") && imported.stdout.contains("Add a button"));
}

#[test]
fn a_dry_run_shows_what_would_be_done_and_does_nothing() {
    let world = World::new().with_repository();
    let args =
        ["run", "--dry-run", "--agent", "command", "--agent-command", "sh -c 'true'", "--agent-env", "KEY=s3cret"];
    let out = world.cove(&args);
    assert_eq!(out.code, 0, "{}", out.stderr);
    for says in
        ["branch       ralph/", "gate         sh check.sh: sh check.sh", "US-1 First", "command      sh -c true", "KEY"]
    {
        assert!(out.stdout.contains(says), "{says}: {}", out.stdout);
    }
    let out = world.cove(&[&args[..], &["--json"]].concat());
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(document["stories"][1]["id"], "US-2");
    assert!(!out.stdout.contains("s3cret"), "values of variables are not shown");
    assert!(!world.path("home/.local/state/cove/cove.sock").exists(), "no daemon was started");
}

#[test]
fn a_run_is_refused_before_anything_is_started() {
    let world = World::new().with_repository();
    let run =
        |more: &[&str]| world.cove(&[&["run", "--agent", "command", "--agent-command", "true"][..], more].concat());
    for (more, code, says) in [
        (vec!["absent.json"], 5, "cove prd init"),
        (vec!["--base", "nonexistent"], 5, "names no commit"),
        (vec!["--agent", "claud"], 2, "claud"),
        (vec!["--engine", "none"], 7, "--i-accept-no-sandbox"),
        (vec!["--engine", "kubernetes"], 9, "KUBECONFIG"),
        (vec!["--accept-missing", "seccomp"], 2, "cannot be left out"),
        (vec!["--agent-env", "SURELY_NOT_SET"], 2, "not set"),
        (vec!["--agent-command", "a 'b"], 2, "open '"),
        (vec!["--prompt", "absent.md"], 5, "no prompt template"),
    ] {
        let out = run(&more);
        assert_eq!((out.code, out.stdout.as_str()), (code, ""), "{more:?}: {}", out.stderr);
        assert!(out.stderr.contains(says), "{more:?}: {}", out.stderr);
    }
    let keyless = world.cove(&["run", "--agent", "claude"]);
    assert_eq!(keyless.code, 4, "{}", keyless.stderr);
    assert!(keyless.stderr.contains("--agent-env ANTHROPIC_API_KEY"), "{}", keyless.stderr);
    assert!(!world.path("home/.local/state/cove/cove.sock").exists(), "no daemon was started");
}

#[test]
fn a_repository_without_commits_and_one_that_asks_for_too_much() {
    let empty = World::new();
    empty.git(&["init", "-q"]);
    empty.write("work/prd.json", "{}");
    let out = empty.cove(&["run"]);
    assert_eq!(out.code, 2, "{}", out.stderr);
    assert!(out.stderr.contains("has no commits"), "{}", out.stderr);

    let world = World::new().with_repository();
    world.write("work/.cove/config.json", r#"{"ralph": {"security": {"allowedHosts": ["evil.example"]}}}"#);
    let args = ["run", "--dry-run", "--agent", "command", "--agent-command", "true"];
    let uncommitted = world.cove(&args);
    assert!(uncommitted.code == 0 && !uncommitted.stderr.contains("evil"), "only what is committed counts");
    world.commit("settings");
    let warned = world.cove(&args);
    assert_eq!(warned.code, 0, "{}", warned.stderr);
    assert!(warned.stderr.contains("warning: ralph.security.allowedHosts"), "{}", warned.stderr);
    assert!(!warned.stdout.contains("evil.example"), "{}", warned.stdout);
    let strict = world.cove(&[&args[..], &["--strict"]].concat());
    assert_eq!(strict.code, 7, "{}", strict.stderr);
    world.write("work/.cove/config.json", r#"{"ralph": {"prd": {"path": "../secret.json"}}}"#);
    world.commit("escape");
    assert_eq!(world.cove(&args).code, 7);
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let world = World::new();
    let mut child = world.command(&["config", "schema"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
}

#[test]
fn status_without_a_daemon_starts_none() {
    let world = World::new();
    let out = world.cove(&["status", "--json"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "{\n  \"running\": false\n}\n"));
    assert!(!world.path("home/.local/state/cove").exists());
}
