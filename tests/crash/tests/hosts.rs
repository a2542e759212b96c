//! The host misbehaves: its disk is full, its clock is stepped, its files are not what they were.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints its figures")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cove_crash::{DEADLINE, Life, Seen};
use cove_scenarios::{Account, World, finish, skip, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde_json::Value;

/// Works for a while.
const SLOW: &str = "sleep 2; echo done > made/$story";

fn program(name: &str, arguments: &[&str]) -> cove_scenarios::Finished {
    let mut command = Command::new(name);
    command.args(arguments);
    finish(command, Duration::from_secs(60))
}

/// A small disk on a directory; let go when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn on(dir: &Path, bytes: u64) -> Self {
        let path = dir.display().to_string();
        let options = format!("size={bytes},mode=0755");
        program("mount", &["-t", "tmpfs", "-o", &options, "cove-small-disk", &path]).expect(0);
        Self(dir.to_owned())
    }

    /// Takes all the room there is.
    fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [1 << 20, 1 << 16, 1 << 12, 1] {
            while file.write(&vec![7; size]).is_ok_and(|written| written == size) {}
        }
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(nix::libc::ENOSPC), "the disk is full");
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn rooted(what: &str) -> bool {
    let root = Uid::effective().is_root();
    if !root {
        skip(what, "it needs a test that runs as root");
    }
    root
}

#[test]
#[ignore = "the sweep takes the test's own disk for a remain; run it with --run-ignored all"]
fn a_run_waits_while_the_disk_is_full_and_goes_on_when_there_is_room() {
    if !rooted("a full disk under a run") {
        return;
    }
    // Declared first: the disk is let go after the processes on it.
    let mut mounted = None;
    let mut life = Life::new(SLOW);
    let disk: &SmallDisk = mounted.insert(SmallDisk::on(&life.world.path("data"), 48 << 20));
    let request = life.begin();
    let mut ledger = life.ledger();
    let before = ledger.wait("an agent at work", DEADLINE, |seen| seen.entries >= 8 || seen.over());
    assert!(!before.over());
    let filler = disk.fill();
    // The agent ends in its time; nothing of what follows can be put on record.
    let log = life.world.path("state").join("daemon.log");
    let notices = |words: &str| {
        wait_until(words, DEADLINE, || std::fs::read_to_string(&log).unwrap_or_default().contains(words).then_some(()));
    };
    notices("the disk is full");
    // It is said plainly, and nothing is lost or made up.
    assert!(life.world.cove(&["runs", "list"]).expect(0).stdout.contains("small"));
    // A database may have room left within its own files: then the sandbox is made, else refused plainly.
    let asked = life.world.cove(&["sandbox", "create", "--name", "tight"]);
    let plainly = asked.stderr.contains("disk is full") && asked.stderr.contains("Make room");
    assert!(asked.code == 0 || (asked.code == 1 && plainly), "{}", asked.said());
    let still = ledger.look().unwrap();
    assert!(!still.over() && still.entries >= before.entries, "{before:?} {still:?}");
    // Longer than one step is tried for: then the run waits.
    notices("a step could not be taken; trying again later");
    std::fs::remove_file(filler).unwrap();
    if asked.code == 0 {
        life.world.cove(&["sandbox", "rm", "--yes", "tight"]).expect(0);
    }
    drop(request);
    let (end, standing) = life.ends();
    assert_eq!(end.over.0, "succeeded", "{end:?} {standing:?}");
    assert_eq!(end.passes, [true, true]);
    assert_eq!(standing.counted, 2, "{standing:?}");
    life.world.cove(&["daemon", "stop"]).expect(0);

    // A daemon cannot start on a full disk, says so, and loses nothing.
    let filler = disk.fill();
    let refused = life.world.cove(&["daemon", "start"]);
    if refused.code != 0 {
        assert!(refused.stderr.contains("disk is full") || refused.stderr.contains("No space"), "{}", refused.said());
    }
    std::fs::remove_file(filler).unwrap();
    assert!(life.world.cove(&["runs", "list"]).expect(0).stdout.contains("succeeded"));
    life.world.cove(&["daemon", "stop"]).expect(0);
    drop(mounted.take());
}

/// The library that makes programs see another time.
fn faketime() -> Option<PathBuf> {
    let folders =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib", "/usr/lib64"];
    folders.iter().map(|dir| Path::new(dir).join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

#[test]
fn a_stepped_clock_ends_nothing() {
    let Some(library) = faketime() else {
        return skip("a clock that is stepped", "libfaketime is not installed");
    };
    let mut life = Life::new(SLOW);
    let clock = life.world.path("clock");
    let step = |to: &str| {
        let fresh = clock.with_extension("new");
        std::fs::write(&fresh, to).unwrap();
        std::fs::rename(&fresh, &clock).unwrap();
    };
    step("+0");
    for (name, value) in [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ] {
        life.world.set(name, value);
    }
    let made = life.world.cove(&["sandbox", "create", "--name", "standing", "-o", "json"]).expect(0);
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    let request = life.begin();
    let mut ledger = life.ledger();
    ledger.wait("the first agent at work", DEADLINE, |seen| seen.entries >= 8);
    step("+1d");
    let first = |seen: &Seen| seen.entries >= 13;
    let seen = ledger.wait("the second agent at work", DEADLINE, first);
    assert!(!seen.over());
    step("-1d");
    drop(request);
    let seen = ledger.wait("the run's end", DEADLINE, Seen::over);
    assert_eq!(seen.phase, "succeeded");
    // The daemon saw the steps.
    let entries = ledger.entries(&seen.run);
    let times: Vec<jiff::Timestamp> =
        entries.iter().map(|entry| entry["at"].as_str().unwrap().parse().unwrap()).collect();
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(most.as_second() - least.as_second() > 2 * 86_000, "{least} {most}: the clock was not stepped");
    let record = ledger.record(&seen.run);
    let counted: u64 =
        record["stories"].as_array().unwrap().iter().map(|story| story["attempts"].as_u64().unwrap()).sum();
    assert_eq!(counted, 2);
    assert!(record["workedMillis"].as_u64().unwrap() < 600_000, "{}", record["workedMillis"]);
    // Nobody took the standing sandbox for one that is too old; also not a daemon of another day.
    life.kill_daemon();
    step("+40d");
    life.world.cove(&["daemon", "start"]).expect(0);
    let shown = life.world.cove(&["sandbox", "exec", "standing", "--", "echo", "alive"]).expect(0);
    assert_eq!(shown.stdout.trim(), "alive");
    let list = life.world.cove(&["sandbox", "list", "-o", "json"]).expect(0);
    assert!(list.stdout.contains(made["id"].as_str().unwrap()), "{}", list.stdout);
    life.world.cove(&["sandbox", "rm", "--yes", "standing"]).expect(0);
    life.over();
}

/// Everything below a directory, with its content.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(content(&path));
        } else if !path.ends_with("daemon.lock") {
            found.push((path.clone(), std::fs::read(&path).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

/// A data directory with one run that ended.
fn used() -> World {
    let mut life = Life::new("echo done > made/$story");
    drop(life.begin());
    assert_eq!(life.ends().0.over.0, "succeeded");
    life.world.cove(&["daemon", "stop"]).expect(0);
    life.world
}

#[test]
fn a_database_that_is_not_what_it_was_is_refused_and_stays_as_it_is() {
    let world = used();
    let database = world.path("data").join("cove.db");
    let good = std::fs::read(&database).unwrap();
    let sql = |path: &Path, text: &str| rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap();
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let rows: Vec<(&str, Spoil<'_>, &[&str])> = vec![
        (
            "cut in the middle",
            Box::new(|| std::fs::write(&database, &good[..good.len() / 2 + 100]).unwrap()),
            &["damaged", "backup"],
        ),
        ("cut to a page", Box::new(|| std::fs::write(&database, &good[..4096]).unwrap()), &["damaged", "backup"]),
        ("cut to a few bytes", Box::new(|| std::fs::write(&database, &good[..50]).unwrap()), &["damaged", "backup"]),
        ("cut to nothing", Box::new(|| std::fs::write(&database, b"").unwrap()), &["empty", "backup"]),
        ("noise", Box::new(|| std::fs::write(&database, vec![9; 8192]).unwrap()), &["damaged", "backup"]),
        (
            "another program's",
            Box::new(|| {
                std::fs::remove_file(&database).unwrap();
                sql(&database, "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)");
            }),
            &["another program", "another data directory"],
        ),
        (
            "a newer version's",
            Box::new(|| {
                std::fs::write(&database, &good).unwrap();
                sql(&database, "PRAGMA user_version = 99");
            }),
            &["newer Cove"],
        ),
    ];
    for (name, spoil, words) in rows {
        spoil();
        let before = content(&world.path("data"));
        for arguments in [&["daemon", "start"][..], &["runs", "list"]] {
            let refused = world.cove(arguments);
            assert!([1, 9].contains(&refused.code), "{name}: {}", refused.said());
            for word in words {
                assert!(refused.stderr.contains(word), "{name} does not say {word:?}: {}", refused.said());
            }
        }
        // In the foreground the daemon's own code is seen.
        let served = world.cove(&["serve"]);
        assert!([1, 6, 9].contains(&served.code), "{name}: {}", served.said());
        let after = content(&world.path("data"));
        let names = |all: &[(PathBuf, Vec<u8>)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after), "{name}: files came or went");
        assert!(before == after, "{name}: a file was rewritten");
    }
    std::fs::write(&database, &good).unwrap();
    assert!(world.cove(&["runs", "list"]).expect(0).stdout.contains("small"));
}

#[test]
fn a_database_that_somebody_holds_or_that_is_read_only_is_named() {
    let world = used();
    let database = world.path("data").join("cove.db");
    let holder = rusqlite::Connection::open(&database).unwrap();
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE t (x);").unwrap();
    let refused = world.cove(&["runs", "list"]);
    assert_eq!(refused.code, 9, "{}", refused.said());
    assert!(refused.stderr.contains("locked by another process"), "{}", refused.said());
    drop(holder);
    world.cove(&["runs", "list"]).expect(0);
    world.cove(&["daemon", "stop"]).expect(0);

    let account = Account::Unprivileged;
    if !account.available("a data directory that is read-only") {
        return;
    }
    let world = World::new(account);
    world.cove(&["daemon", "start"]).expect(0);
    world.cove(&["daemon", "stop"]).expect(0);
    let (data, database) = (world.path("data"), world.path("data").join("cove.db"));
    let before = std::fs::read(&database).unwrap();
    for (path, mode) in [(&database, 0o400), (&data, 0o500)] {
        use std::os::unix::fs::PermissionsExt as _;
        let was = std::fs::metadata(path).unwrap().permissions();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = world.cove(&["runs", "list"]);
        std::fs::set_permissions(path, was).unwrap();
        assert_eq!(refused.code, 9, "{path:?}: {}", refused.said());
        let plain = refused.stderr.contains("permissions") || refused.stderr.contains("Permission denied");
        assert!(plain, "{path:?}: {}", refused.said());
        assert!(std::fs::read(&database).unwrap() == before);
    }
    world.cove(&["runs", "list"]).expect(0);
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_by_name() {
    let mut world = World::new(Account::Own);
    world.cove(&["daemon", "start"]).expect(0);
    let first = world.cove(&["daemon", "status", "-o", "json"]).expect(0);
    let first: Value = serde_json::from_str(&first.stdout).unwrap();
    std::fs::create_dir(world.path("elsewhere")).unwrap();
    world.set("COVE_STATE_DIR", world.path("elsewhere").display().to_string());
    let refused = world.cove(&["serve"]).expect(6);
    assert!(refused.stderr.contains(&format!("process {}", first["pid"])), "{}", refused.said());
    let refused = world.cove(&["runs", "list"]);
    assert!(refused.code != 0 && refused.stderr.contains("runs already"), "{}", refused.said());
    world.set("COVE_STATE_DIR", world.path("state").display().to_string());
    world.cove(&["runs", "list"]).expect(0);
}

#[test]
fn what_a_dead_supervisor_or_a_half_made_sandbox_left_is_gone_after_a_restart() {
    let life = Life::new("true");
    let world = &life.world;
    for name in ["one", "two", "three"] {
        world.cove(&["sandbox", "create", "--name", name]).expect(0);
    }
    assert!(life.territory().orphans().iter().any(|remain| remain.kind == "directory"));
    world.kill(" serve", Signal::SIGKILL);
    // One loses its supervisor; all that two has is half a directory; three goes on.
    let of = |name: &str| {
        let entries = std::fs::read_dir(world.path("state").join("sandboxes")).unwrap().flatten();
        let mut paths = entries.map(|entry| entry.path());
        paths
            .find(|dir| std::fs::read_to_string(dir.join("info.json")).unwrap().contains(&format!("{name:?}")))
            .unwrap()
    };
    let (one, two) = (of("one"), of("two"));
    let marks = |dir: &Path| dir.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(world.kill(&marks(&one), Signal::SIGKILL), 1, "the supervisor of one");
    assert_eq!(world.kill(&marks(&two), Signal::SIGKILL), 1, "the supervisor of two");
    std::fs::remove_file(two.join("lock")).unwrap();
    std::fs::remove_file(two.join("info.json")).unwrap();
    std::fs::create_dir(world.path("state/sandboxes/sbx_01m8061qk6fcn3pzwaayqhybvr")).unwrap();
    world.cove(&["daemon", "start"]).expect(0);
    // Within ten seconds, and generously more on a slow machine: no process and no group of those two.
    let left = || {
        let mut left = life.territory().orphans();
        left.retain(|remain| {
            remain.name.contains(&marks(&one))
                || remain.name.contains(&marks(&two))
                || remain.name.contains("qk6fcn3pz")
        });
        // What failed is shown for a day: its directory has its record.
        left.retain(|remain| remain.kind != "directory" || !remain.name.contains(&marks(&one)));
        left
    };
    wait_until("the end of what was left", Duration::from_secs(10), || left().is_empty().then_some(()));
    let list = world.cove(&["sandbox", "list", "-o", "json"]).expect(0);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let items = list.as_array().or_else(|| list["items"].as_array()).unwrap();
    let state =
        |name: &str| items.iter().find(|i| i["name"] == name).map(|i| i["state"].to_string()).unwrap_or_default();
    assert!(state("one").contains("failed") && state("two").contains("failed"), "{items:?}");
    assert!(state("three").contains("running"), "{items:?}");
    world.cove(&["sandbox", "exec", "three", "--", "true"]).expect(0);
    for name in ["one", "two", "three"] {
        world.cove(&["sandbox", "rm", "--yes", name]).expect(0);
    }
    life.over();
}
