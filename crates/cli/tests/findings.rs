//! What earlier users stumbled over, and shall not again.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

mod world;

use serde_json::Value;
use world::World;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn every_error_says_what_to_do_next() {
    let world = World::new().with_repository();
    world.write("work/broken.json", "{");
    let docker = ["sandbox", "create", "--engine", "docker", "--root-dir", "/nonexistent"];
    for args in [
        &["sandbox", "show", "absent"][..],
        &["sandbox", "create", "--engine", "none"],
        &["sandbox", "create", "--mount", "x"],
        &["sandbox", "create", "--memory", "1k"],
        &["sandbox", "create", "--label", "run.cove.managed=false", "--engine", "none", "--i-accept-no-sandbox"],
        &docker,
        &["runs", "show", "absent"],
        &["runs", "stop", "absent"],
        &["logs", "absent"],
        &["engine", "test", "lxc"],
        &["run", "--repo", "/nonexistent"],
        &["run", "--prompt", "/nonexistent"],
        &["run", "broken.json"],
        &["run", "--agent", "command", "--agent-command", "true", "--branch", "a..b"],
        &["prd", "validate", "broken.json"],
        &["prd", "show", "absent.json"],
        &["config", "get", "nonsense"],
        &["-C", "/nonexistent", "status"],
    ] {
        let out = world.cove(args);
        let lines: Vec<&str> = out.stderr.lines().collect();
        assert!(out.code != 0 && lines[0].starts_with("error: "), "{args:?}: {out:?}");
        assert!(lines.last().unwrap().starts_with("  next: "), "{args:?}: {out:?}");
        let rest = lines[1..lines.len() - 1].iter();
        assert!(lines.len() <= 3 && rest.clone().all(|line| line.starts_with("  why: ")), "{args:?}: {out:?}");
        assert!(lines.iter().all(|line| line.chars().count() < 700), "{args:?}: {out:?}");
        for inside in ["(engine=", "op=", "(sandbox=", "(control=", "(line=", "(path="] {
            assert!(!out.stderr.contains(inside), "{args:?}: {out:?}");
        }
        let machine = world.cove(&[args, &["--json"]].concat());
        assert!(json(&machine.stderr)["next"].is_string(), "{args:?}: {machine:?}");
    }
}

#[test]
fn the_pass_table_is_whole_and_its_exit_code_true() {
    let world = World::new();
    let out = world.cove(&["engine", "test", "--json"]);
    let engines = json(&out.stdout);
    let engines = engines.as_array().unwrap();
    assert!(engines.len() >= 2, "{out:?}");
    for engine in engines {
        let controls = engine["controls"].as_array().unwrap();
        assert_eq!(controls.len(), cove_core::Control::ALL.len(), "{engine}");
        for control in controls {
            let proven = control["state"] == "proven";
            assert!(proven || control["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{control}");
        }
        let lacking = engine["lacking"].as_array().unwrap();
        let required = |control: &&Value| control["required"] == true && control["state"] == "missing";
        assert_eq!(controls.iter().filter(required).count(), lacking.len(), "{engine}");
        match engine["live"]["result"].as_str().unwrap() {
            "passed" => {
                let facts = engine["live"]["controls"].as_array().unwrap();
                assert!(facts.len() >= 10, "{engine}");
                for fact in facts {
                    let text = |name: &str| fact[name].as_str().is_some_and(|text| !text.is_empty());
                    assert!(text("expected") && text("found") && fact["result"] != "deviates", "{fact}");
                }
            }
            "skipped" => assert!(engine["live"]["reason"].is_string(), "{engine}"),
            other => assert!(other == "failed" && engine["holds"] == false, "{engine}"),
        }
    }
    let decisive: Vec<&Value> = engines.iter().filter(|engine| engine["decisive"] == true).collect();
    assert_eq!(decisive.len(), 1, "auto takes one: {out:?}");
    assert_eq!(out.code == 0, decisive[0]["holds"] == true, "{out:?}");
    // Without a sandbox nothing is held, and one that was asked for decides.
    let none = world.cove(&["engine", "test", "none", "--json"]);
    assert_eq!((none.code, &json(&none.stdout)[0]["holds"]), (9, &Value::Bool(false)), "{none:?}");
    let text = world.cove(&["engine", "test", "--no-live"]).stdout;
    for says in ["CONTROL", "NATIVE", "seccomp *", "limit-memory * (w)", "The engine direct"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let left = json(&world.cove(&["sandbox", "list", "--json"]).stdout);
    assert_eq!(left, serde_json::json!([]), "its sandboxes are removed");
}

#[test]
fn the_doctor_agrees_with_the_probes() {
    let world = World::new();
    let checks = json(&world.cove(&["doctor", "--json"]).stdout);
    let engines = json(&world.cove(&["engine", "list", "--json"]).stdout);
    let native = engines.as_array().unwrap().iter().find(|engine| engine["kind"] == "native").unwrap();
    let missing = |name: &str| {
        let controls = native["controls"].as_array().unwrap();
        controls.iter().any(|control| control["control"] == name && control["state"] == "missing")
    };
    let check =
        |name: &str| checks.as_array().unwrap().iter().find(|check| check["check"] == name).unwrap()["result"].clone();
    if native["available"] == true && ["limit-memory", "limit-cpu", "limit-pids"].into_iter().any(missing) {
        assert_ne!(check("cgroups"), "ok", "{checks}");
    }
}

#[test]
fn a_daemon_of_another_directory_is_not_used() {
    let world = World::new();
    assert_eq!(world.cove(&["daemon", "start"]).code, 0);
    let elsewhere = world.path("elsewhere").display().to_string();
    let refused = world.cove_with(&["runs", "list"], &[("COVE_DATA_DIR", &elsewhere)]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains(&elsewhere) && refused.stderr.contains("COVE_STATE_DIR"), "{refused:?}");
    // With a state directory of its own it has a daemon of its own.
    let state = world.path("s2").display().to_string();
    let own = [("COVE_DATA_DIR", elsewhere.as_str()), ("COVE_STATE_DIR", state.as_str())];
    let listed = world.cove_with(&["runs", "list", "-q"], &own);
    assert_eq!((listed.code, listed.stdout.as_str()), (0, ""), "{listed:?}");
    let status = |variables: &[(&str, &str)]| json(&world.cove_with(&["status", "--json"], variables).stdout);
    let (first, second) = (status(&[]), status(&own));
    assert_ne!(first["pid"], second["pid"]);
    assert!(second["dataDir"].as_str().unwrap().ends_with("elsewhere"), "{second}");
    assert_eq!(world.cove_with(&["daemon", "stop"], &own).code, 0);
    assert_eq!(status(&[])["pid"], first["pid"], "the other one goes on");
}

#[test]
fn a_dry_run_refuses_what_a_run_would_refuse() {
    let world = World::new().with_repository();
    let dry = |more: &[&str]| world.cove(&[&["run", "--dry-run"][..], more].concat());
    // A key is not needed, but missed.
    let keyless = dry(&["--agent", "claude", "--image", "example.com/agent"]);
    assert_eq!(keyless.code, 0, "{keyless:?}");
    assert!(
        keyless.stderr.contains("a real run would be refused") && keyless.stderr.contains("ANTHROPIC_API_KEY"),
        "{keyless:?}"
    );
    let real = world.cove(&["run", "--agent", "claude", "--image", "example.com/agent"]);
    assert_eq!(real.code, 4, "{real:?}");
    let command = ["--agent", "command", "--agent-command", "true"];
    for (more, says) in [
        (["--allow-host", "https://example.com/x"], "host rule"),
        (["--gate-host", "a b"], "host rule"),
        (["--block-host", "*.127.0.0.1"], "host rule"),
        (["--branch", "a..b"], "cannot be a branch"),
        (["--parallel", "0"], "parallel"),
    ] {
        for dry in [&["--dry-run"][..], &[]] {
            let out = world.cove(&[&["run"][..], dry, &command, &more].concat());
            assert_eq!((out.code, out.stdout.as_str()), (2, ""), "{more:?} {dry:?}: {out:?}");
            assert!(out.stderr.contains(says), "{more:?}: {out:?}");
        }
    }
    assert!(!world.path("home/.local/state/cove/cove.sock").exists(), "no daemon was started");
}

#[test]
fn completions_know_what_there_is() {
    let world = World::new();
    let complete = |line: &[&str]| {
        let args = [&["--", "cove"][..], line].concat();
        world.cove_with(&args, &[("COVE_COMPLETE", "fish")]).stdout
    };
    assert_eq!(complete(&["sandbox", "show", ""]).lines().filter(|line| !line.starts_with('-')).count(), 0);
    assert!(!world.path("home/.local/state/cove/cove.sock").exists(), "no daemon was started");
    let limits = "limit-cpu,limit-memory,limit-pids,limit-disk,limit-open-files";
    let create = [
        "sandbox",
        "create",
        "--name",
        "mybox",
        "--engine",
        "none",
        "--i-accept-no-sandbox",
        "--accept-missing",
        limits,
    ];
    let made = world.cove(&create);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(complete(&["sandbox", "show", ""]).lines().any(|line| line.starts_with("mybox")));
    assert!(complete(&["sandbox", "rm", "my"]).contains("mybox"));
    assert!(complete(&["engine", "test", ""]).contains("podman"));
    assert!(complete(&["config", "get", "loop.maxIt"]).contains("loop.maxIterations"));
    assert!(complete(&["run", "--agent", "cl"]).contains("claude"));
    assert!(complete(&["runs", ""]).contains("apply"));
}
