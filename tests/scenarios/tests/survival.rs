//! A run survives whatever ends around it, and ends as an undisturbed one does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cove_scenarios::{Account, Small, World, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Works for a while, so that there is a middle to be disturbed in.
const SLOW: &str = "echo '{\"type\":\"text\",\"text\":\"working\"}'; sleep 3; echo done > made/$story";

const DEADLINE: Duration = Duration::from_secs(180);

fn begin(world: &World, small: &Small) -> String {
    let arguments = small.arguments(SLOW, &["--detach", "-q"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    world.cove(&arguments).expect(0).stdout.trim().to_owned()
}

fn record(world: &World, run: &str) -> Option<Value> {
    let shown = world.cove(&["runs", "show", run, "-o", "json"]);
    (shown.code == 0).then(|| serde_json::from_str(&shown.stdout).unwrap())
}

/// Waits until story `number` (from 1) is being worked on inside a sandbox.
fn in_the_middle(world: &World, run: &str, number: usize) {
    wait_until("an agent at work", DEADLINE, || {
        let record = record(world, run)?;
        let story = &record["stories"][number - 1];
        let begun =
            story["status"] == "working" && story["current"]["sandboxes"].as_array().is_some_and(|s| !s.is_empty());
        let said = world.cove(&["logs", run]).stdout.matches("working").count() >= number;
        (begun && said).then_some(())
    });
}

fn ends_well(world: &World, small: &Small, run: &str) {
    let ended = wait_until("the run's end", DEADLINE, || {
        let record = record(world, run)?;
        let over =
            ["succeeded", "incomplete", "limit_reached", "failed", "stopped"].iter().any(|p| record["phase"] == *p);
        over.then_some(record)
    });
    assert_eq!(ended["phase"], "succeeded", "{ended:#}");
    assert_eq!(small.passes(), vec![true; small.passes().len()]);
    world.cove(&["runs", "apply", run, "--into", &small.repository.path.display().to_string()]).expect(0);
    let files = small.repository.ask(&["ls-tree", "-r", "--name-only", "cove/small", "made/"]);
    let wanted: Vec<String> = (1..=small.passes().len()).map(|k| format!("made/S-{k}")).collect();
    let made: Vec<&str> = files.lines().filter(|line| *line != "made/.keep").collect();
    assert_eq!(made, wanted);
    // One commit for each story: nothing doubled.
    let subjects = small.repository.ask(&["log", "--format=%s", "main..cove/small"]);
    assert_eq!(subjects.lines().count(), wanted.len(), "{subjects}");
    wait_until("the end of all sandboxes", DEADLINE, || {
        let list = world.cove(&["sandbox", "list", "-o", "json"]).expect(0).stdout;
        let list: Value = serde_json::from_str(&list).unwrap();
        let items = list.as_array().or_else(|| list["items"].as_array()).unwrap();
        items.is_empty().then_some(())
    });
    assert!(!world.processes().iter().any(|(_, line)| line.contains("__supervise")), "{:?}", world.processes());
}

#[test]
fn the_terminal_is_closed() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 2);
    let arguments = small.arguments(SLOW, &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = world.start(&world.path("home"), "followed", &arguments);
    let run = wait_until("a run", DEADLINE, || {
        let listed = world.cove(&["runs", "list", "-q"]);
        let first = listed.stdout.lines().next()?.trim().to_owned();
        (!first.is_empty()).then_some(first)
    });
    in_the_middle(&world, &run, 1);
    let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::killpg(group, Signal::SIGHUP).unwrap();
    child.wait().unwrap();
    ends_well(&world, &small, &run);
}

#[test]
fn the_daemon_is_killed_in_the_middle_of_an_agents_work() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 2);
    let run = begin(&world, &small);
    in_the_middle(&world, &run, 1);
    assert!(world.kill(" serve", Signal::SIGKILL) > 0, "no daemon among {:?}", world.processes());
    // The next command starts it again.
    ends_well(&world, &small, &run);
}

#[test]
fn a_supervisor_is_killed() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 2);
    let run = begin(&world, &small);
    in_the_middle(&world, &run, 2);
    assert!(world.kill("__supervise", Signal::SIGKILL) > 0, "no supervisor among {:?}", world.processes());
    ends_well(&world, &small, &run);
}

#[test]
fn every_process_is_killed_as_when_the_machine_stops() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 2);
    let run = begin(&world, &small);
    in_the_middle(&world, &run, 1);
    assert!(world.kill("", Signal::SIGKILL) > 1, "too few of {:?}", world.processes());
    ends_well(&world, &small, &run);
}

#[test]
fn a_daemon_that_is_asked_to_end_leaves_a_run_that_goes_on() {
    let world = World::new(Account::Own);
    let small = Small::new(&world, 2);
    let run = begin(&world, &small);
    in_the_middle(&world, &run, 1);
    assert!(world.kill(" serve", Signal::SIGTERM) > 0);
    wait_until("the daemon's end", DEADLINE, || {
        (!world.processes().iter().any(|(_, line)| line.contains(" serve"))).then_some(())
    });
    ends_well(&world, &small, &run);
}
