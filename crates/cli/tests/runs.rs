//! Whole runs through the command: a daemon that is started by it, a scripted agent, gates, the
//! branch. With the engine without isolation, so that they work everywhere.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

mod world;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use world::{Said, World};

/// What every run here is given. The agent does what its script says, in the work tree.
const DIRECT: [&str; 8] =
    ["--engine", "none", "--i-accept-no-sandbox", "--accept-missing", LIMITS, "--agent", "command", "--plain"];
const LIMITS: &str = "limit-cpu,limit-memory,limit-pids,limit-disk,limit-open-files";

/// Makes the file that the story asks for, and commits it.
const WORKS: &str = r#"sh -c 'p=$(cat); case $p in *US-2*) f=two;; *) f=one;; esac; case $p in *"US-1"*"US-2"*) ;; esac; echo $f >> "$f.txt"; git add -A; git commit -q -m "feat: $f"; echo done'"#;
/// Breaks the gate.
const BREAKS: &str = "sh -c 'cat > /dev/null; touch broken; echo done'";

fn run(world: &World, agent: &str, more: &[&str]) -> Said {
    world.cove(&[&["run"][..], &DIRECT, &["--agent-command", agent], more].concat())
}

/// Waits until the newest run has this phase.
fn until(world: &World, phase: &str) {
    let begun = Instant::now();
    loop {
        let runs: Value = serde_json::from_str(&world.cove(&["runs", "list", "--json"]).stdout).unwrap();
        let now = runs[0]["phase"].as_str().unwrap_or_default().to_owned();
        if now == phase {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the run is {now}, not {phase}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn name(world: &World) -> String {
    world.cove(&["runs", "list", "-q"]).stdout.lines().next().unwrap().to_owned()
}

#[test]
fn a_run_is_begun_followed_looked_at_applied_and_forgotten() {
    let world = World::new().with_repository();
    let out = run(&world, WORKS, &[]);
    assert_eq!(out.code, 0, "{out:?}");
    for says in ["US-1 attempt 1 begins", "US-1 gate sh check.sh passed", "US-2 passed with", "Run succeeded"] {
        assert!(out.stdout.contains(says), "{says}: {}", out.stdout);
    }
    let name = name(&world);
    assert!(out.stderr.contains(&format!("cove runs apply {name}")), "{}", out.stderr);

    let stop = world.cove(&["runs", "stop", &name]);
    assert_eq!(stop.code, 6, "{stop:?}");
    assert!(
        stop.stderr.contains(&format!("The run {name} has succeeded")) && stop.stderr.contains("next:"),
        "{stop:?}"
    );

    let show = world.cove(&["runs", "show", &name, "--json=phase,stories,spec.agent.env"]);
    let record: Value = serde_json::from_str(&show.stdout).unwrap();
    assert_eq!(record["phase"], "succeeded");
    assert_eq!(record["stories"].as_array().unwrap().len(), 2);
    assert_eq!(world.cove(&["status", &name, "--exit-status"]).code, 0);

    let diff = world.cove(&["runs", "diff", &name]).stdout;
    assert!(diff.contains("+one") && diff.contains("+two"), "{diff}");
    let before = world.git(&["rev-parse", "HEAD"]);
    let applied = world.cove(&["runs", "apply", &name]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(world.git(&["rev-parse", "HEAD"]), before, "the work tree stays");
    assert!(world.git(&["log", "--oneline", "ralph/small"]).lines().count() >= 3);

    let prd: Value = serde_json::from_str(&std::fs::read_to_string(world.path("work/prd.json")).unwrap()).unwrap();
    assert!(prd["userStories"].as_array().unwrap().iter().all(|story| story["passes"] == true), "{prd}");

    let logs = world.cove(&["logs", &name, "-o", "ndjson"]).stdout;
    let seqs: Vec<u64> =
        logs.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(world.cove(&["logs", &name, "-f"]).code, 0);

    let exported = world.cove(&["runs", "export", &name, "out"]);
    assert!(exported.code == 0 && exported.stdout.lines().count() >= 2, "{exported:?}");

    assert_eq!(world.cove(&["runs", "rm", &name]).code, 2, "nobody can be asked");
    assert_eq!(world.cove(&["runs", "rm", &name, "--yes", "--dry-run"]).stdout, format!("{name}\n"));
    assert_eq!(world.cove(&["runs", "rm", &name, "--yes"]).code, 0);
    assert_eq!(world.cove(&["runs", "show", &name]).code, 5);
    let left: Value = serde_json::from_str(&world.cove(&["sandbox", "list", "--json"]).stdout).unwrap();
    assert_eq!(left, serde_json::json!([]));
}

#[test]
fn work_that_fails_its_gates_is_not_accepted_and_can_be_tried_again() {
    let world = World::new().with_repository();
    let out = run(&world, BREAKS, &["--max-attempts", "1"]);
    assert_eq!(out.code, 10, "{out:?}");
    assert!(out.stdout.contains("gate sh check.sh failed"), "{}", out.stdout);
    let name = name(&world);
    assert!(out.stderr.contains(&format!("cove runs retry {name}")), "{}", out.stderr);
    assert_eq!(world.cove(&["runs", "retry", &name]).code, 0);
    assert_eq!(world.cove(&["logs", &name, "-f"]).code, 10);
    let limited = run(&world, BREAKS, &["--max-iterations", "1"]);
    assert_eq!(limited.code, 11, "{limited:?}");
}

#[test]
fn one_who_detaches_leaves_the_run_going() {
    let world = World::new().with_repository();
    let agent = "sh -c 'cat > /dev/null; while ! test -e go; do sleep 0.1; done'";
    let begun = run(&world, agent, &["--detach"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    let name = begun.stdout.trim().to_owned();
    assert_eq!(world.cove(&["logs", &name, "-f", "--timeout", "1s"]).code, 124);
    assert_eq!(world.cove(&["status", &name, "--exit-status"]).code, 8);

    let mut follower = world.command(&["logs", &name, "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("attempt 1 begins")));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(follower.id()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    // To its end: a closed pipe would end it in another way.
    lines.for_each(drop);
    let left: Said = follower.wait_with_output().unwrap().into();
    assert_eq!(left.code, 130, "{left:?}");
    assert!(left.stderr.contains(&format!("cove logs -f {name}")), "{left:?}");

    assert_eq!(world.cove(&["runs", "rm", &name, "--yes"]).code, 6, "it is not over");
    assert_eq!(world.cove(&["runs", "pause", &name]).code, 0);
    until(&world, "paused");
    assert_eq!(world.cove(&["logs", &name, "-f"]).code, 12);
    assert_eq!(world.cove(&["runs", "resume", &name]).code, 0);
    until(&world, "running");
    assert_eq!(world.cove(&["runs", "stop", &name]).code, 0);
    until(&world, "stopped");
    assert_eq!(world.cove(&["logs", &name, "-f"]).code, 1);
    let some = world.cove(&["runs", "rm", &name, "nonexistent", "--yes"]);
    assert_eq!(some.code, 3, "{some:?}");
}

#[test]
fn the_daemon_is_started_once_and_ended() {
    let world = World::new();
    assert_eq!(world.cove(&["daemon", "start"]).code, 0);
    let pid = |world: &World| {
        let status: Value = serde_json::from_str(&world.cove(&["status", "--json"]).stdout).unwrap();
        status["pid"].as_u64()
    };
    let first = pid(&world).unwrap();
    let again = world.cove(&["daemon", "start"]);
    assert!(again.stderr.contains("already") && pid(&world) == Some(first), "{again:?}");
    assert_eq!(world.cove(&["daemon", "restart"]).code, 0);
    let second = pid(&world).unwrap();
    assert_ne!(first, second);
    // What a killed daemon leaves is no hindrance.
    let kill = nix::sys::signal::Signal::SIGKILL;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(second).unwrap()), kill).unwrap();
    assert_eq!(world.cove(&["runs", "list", "-q"]).code, 0);
    assert_eq!(world.cove(&["daemon", "stop"]).code, 0);
    assert_eq!(pid(&world), None);
    assert_eq!(world.cove(&["daemon", "stop"]).code, 0);
}

#[test]
fn sandboxes_by_themselves() {
    let world = World::new();
    let create = ["sandbox", "create", "--name", "box", "--engine", "none", "--accept-missing", LIMITS];
    assert_eq!(world.cove(&create).code, 7, "without consent");
    let made = world.cove(&[&create[..], &["--i-accept-no-sandbox", "--env", "A=b"]].concat());
    assert_eq!((made.code, made.stdout.as_str()), (0, "box\n"), "{made:?}");
    let exec = |args: &[&str]| world.cove(&[&["sandbox", "exec", "-n"][..], args].concat());
    let said = exec(&["box", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(exec(&["box", "printenv", "A"]).stdout, "b\n");
    assert_eq!(exec(&["box", "no-such-program-here"]).code, 127);
    assert_eq!(exec(&["--timeout", "1s", "box", "sleep", "60"]).code, 124);
    assert_eq!(exec(&["absent", "true"]).code, 5);
    let list: Value = serde_json::from_str(&world.cove(&["sandbox", "list", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["spec"]["env"]["A"], "***");
    assert_eq!(world.cove(&["sandbox", "rm", "box", "--yes"]).code, 0);
    assert_eq!(world.cove(&["sandbox", "list", "-q"]).stdout, "");
}

#[test]
fn engines_and_the_doctor_tell_the_same() {
    let world = World::new();
    let engines: Value = serde_json::from_str(&world.cove(&["engine", "list", "--json"]).stdout).unwrap();
    let isolates = engines
        .as_array()
        .unwrap()
        .iter()
        .any(|engine| engine["isolation"].as_array().unwrap().iter().any(|level| level != "process"));
    let doctor = world.cove(&["doctor", "--json"]);
    assert_eq!(doctor.code, if isolates { 0 } else { 9 }, "{doctor:?}");
    let checks: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let names: Vec<&str> = checks.as_array().unwrap().iter().filter_map(|check| check["check"].as_str()).collect();
    for name in ["kernel", "namespaces", "cgroups", "seccomp", "git", "space", "daemon", "engine native"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let none = world.cove(&["engine", "test", "none"]);
    assert!(none.stdout.contains("isolation-process") && none.code == 9, "it isolates nothing: {none:?}");
    assert_eq!(world.cove(&["engine", "test", "lxc"]).code, 5);
}

/// Whether the native engine works here; says so when not.
fn native(world: &World) -> bool {
    let engines: Value = serde_json::from_str(&world.cove(&["engine", "list", "--json"]).stdout).unwrap();
    let native = engines.as_array().unwrap().iter().find(|engine| engine["kind"] == "native");
    let proven = |engine: &Value| {
        let controls = engine["controls"].as_array().unwrap();
        ["network-door", "limit-cpu", "limit-memory", "limit-pids", "limit-disk", "limit-open-files"]
            .iter()
            .all(|name| controls.iter().any(|control| control["control"] == *name && control["state"] == "proven"))
    };
    let works = native.is_some_and(|engine| engine["available"] == true && proven(engine));
    if !works {
        eprintln!("SKIPPED: the native engine does not work here with every limit");
    }
    works
}

#[test]
fn the_demonstration_shows_what_it_promises() {
    let world = World::new();
    if !native(&world) {
        return;
    }
    let out = world.cove(&["demo"]);
    assert_eq!(out.code, 0, "{out:?}");
    for says in ["Every story passed after", "No rule allows collector.example", "failed with the original check"] {
        assert!(out.stdout.contains(says), "{says}: {}", out.stdout);
    }
    assert!(!out.stdout.contains("not seen"), "{}", out.stdout);
}

#[test]
fn an_agent_from_a_home_directory_runs_in_a_real_sandbox() {
    let world = World::new().with_repository();
    if !native(&world) {
        return;
    }
    // The agent lies in the home with its package; beside it lies what it must not see.
    world.write("home/secret", "s3cret");
    let agent = world.path("home/tools/node_modules/agent/cli.sh");
    world.write(
        "home/tools/node_modules/agent/cli.sh",
        "#!/bin/sh\ncat > /dev/null\n. \"$(dirname \"$0\")/words.sh\"\ncat \"$HOME_OF_USER/secret\" 2> /dev/null\n\
         echo \"$WORD\" >> said.txt\necho done\n",
    );
    world.write("home/tools/node_modules/agent/words.sh", "WORD=$WORD_OF_USER\n");
    std::fs::set_permissions(&agent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let home = format!("HOME_OF_USER={}", world.path("home").display());
    let agent = agent.display().to_string();
    let args =
        ["run", "--agent", "command", "--agent-command", &agent, "--agent-env", &home, "--agent-env", "WORD_OF_USER"];
    let out =
        world.cove_with(&[&args[..], &["--foreground", "--engine", "native"]].concat(), &[("WORD_OF_USER", "hello")]);
    assert_eq!(out.code, 6, "a daemon runs already: {out:?}");
    assert_eq!(world.cove(&["daemon", "stop"]).code, 0);
    let out =
        world.cove_with(&[&args[..], &["--foreground", "--engine", "native"]].concat(), &[("WORD_OF_USER", "hello")]);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(!out.stdout.contains("s3cret"), "{}", out.stdout);
    let name = name(&world);
    let diff = world.cove(&["runs", "diff", &name]).stdout;
    assert!(diff.contains("+hello"), "{diff}");
    let shown = world.cove(&["runs", "show", &name, "--json"]).stdout;
    assert!(!shown.contains("\"hello\""), "values of variables are not shown: {shown}");
}

#[test]
fn a_terminal_inside_a_real_sandbox() {
    let world = World::new();
    if !native(&world) {
        return;
    }
    let made = world.cove(&["sandbox", "create", "--name", "box", "--engine", "native"]);
    assert_eq!(made.code, 0, "{made:?}");
    let tty = world.cove(&["sandbox", "exec", "-n", "-t", "box", "sh", "-c", "test -t 1 && stty size && id -u"]);
    assert_eq!((tty.code, tty.stdout.as_str()), (0, "24 80\r\n1000\r\n"), "{tty:?}");
    let show = world.cove(&["sandbox", "show", "box"]).stdout;
    assert!(show.contains("proven") && show.contains("seccomp") && !show.contains("deviates"), "{show}");
    let mut cat = world.command(&["sandbox", "exec", "box", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut cat.stdin.take().unwrap(), b"through\n").unwrap();
    let said: Said = cat.wait_with_output().unwrap().into();
    assert_eq!((said.code, said.stdout.as_str()), (0, "through\n"), "{said:?}");
    assert_eq!(world.cove(&["sandbox", "stop", "box"]).code, 0);
    assert_eq!(world.cove(&["sandbox", "rm", "box", "--yes"]).code, 0);
}

#[test]
fn a_follower_brings_a_daemon_that_died_back_and_the_run_goes_on() {
    let world = World::new().with_repository();
    let go = world.path("go");
    let agent =
        format!("sh -c 'cat > /dev/null; while ! test -e {}; do sleep 0.1; done; date >> said.txt'", go.display());
    let begun = run(&world, &agent, &["--detach"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    let name = begun.stdout.trim().to_owned();
    let mut follower = world.command(&["logs", &name, "-f"]).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().contains("attempt 1 begins")));
    let status: Value = serde_json::from_str(&world.cove(&["status", "--json"]).stdout).unwrap();
    let pid = i32::try_from(status["pid"].as_u64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    std::fs::write(go, "").unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let said: Said = follower.wait_with_output().unwrap().into();
    assert_eq!(said.code, 0, "{said:?} {rest:#?}");
    assert!(rest.last().is_some_and(|line| line.contains("Run succeeded")), "{rest:#?}");
}

#[test]
fn the_managed_policy_counts_whoever_asks() {
    let world = World::new().with_repository();
    world.write("policy.json", r#"{ "refuseNoSandbox": true }"#);
    let policy = world.path("policy.json").display().to_string();
    let cove = |args: &[&str]| world.cove_with(args, &[("COVE_POLICY_FILE", &policy)]);
    let args = [&["run"][..], &DIRECT, &["--agent-command", "true", "--detach"]].concat();
    let refused = cove(&args);
    assert_eq!(refused.code, 7, "{refused:?}");
    assert!(refused.stderr.contains("The policy of this machine refuses"), "{refused:?}");
    let box_of_its_own = ["sandbox", "create", "--engine", "none", "--i-accept-no-sandbox"];
    assert_eq!(cove(&box_of_its_own).code, 7);
    world.write("policy.json", r#"{ "maxTime": "1h", "refuseNoSandbox": false }"#);
    let lowered = cove(&args);
    assert_eq!(lowered.code, 0, "{lowered:?}");
    assert!(lowered.stderr.contains("The policy lowers bounds.wallSeconds"), "{lowered:?}");
    world.write("policy.json", r#"{ "maxTmie": "1h" }"#);
    assert_eq!(cove(&args).code, 2, "a policy that is not understood lets nothing begin");
}
