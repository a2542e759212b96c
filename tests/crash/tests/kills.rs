//! The daemon and everything around it is killed: at every boundary of the ledger, and at random
//! moments. Whatever happens, the run ends as an undisturbed one does, and nothing is left.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints its figures")]

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cove_crash::{DEADLINE, End, Life, Standing, each, number};
use cove_testkit::remains::Place;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Does its work at once.
const QUICK: &str = "echo done > made/$story";

/// Does its work with a middle to be disturbed in.
const SLOW: &str = "sleep 0.4; echo done > made/$story; sleep 0.1";

/// What an undisturbed run comes to, and how many boundaries it has.
fn undisturbed() -> &'static (End, u64) {
    static END: OnceLock<(End, u64)> = OnceLock::new();
    END.get_or_init(|| {
        let mut life = Life::new(QUICK);
        drop(life.begin());
        let (end, standing) = life.ends();
        assert_eq!(end.over.0, "succeeded", "{end:?}");
        assert_eq!(end.passes, [true, true]);
        assert_eq!((standing.counted, standing.begun), (2, 2));
        let boundaries = life.ledger().look().unwrap().version;
        life.over();
        (end, boundaries)
    })
}

/// What happens at a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The daemon is killed.
    Daemon,
    /// Every process is killed, as when the machine stops.
    Everything,
    /// The daemon is killed, and the next one at its next boundary.
    Twice,
}

#[derive(Debug)]
struct Boundary {
    number: u64,
    way: Way,
}

/// Ends the run's life at the boundary and lets it go on. Whether the boundary was reached.
fn cut(boundary: &Boundary) -> (bool, Duration) {
    let mut life = Life::new(QUICK);
    let request = life.begin();
    let mut ledger = life.ledger();
    let seen = ledger.wait("the boundary", DEADLINE, |seen| seen.version >= boundary.number || seen.over());
    drop(ledger);
    match boundary.way {
        Way::Daemon | Way::Twice => life.kill_daemon(),
        Way::Everything => life.kill_everything(),
    }
    drop(request);
    life.restart();
    if boundary.way == Way::Twice {
        let begun = Instant::now();
        // A run that was over has no further boundary.
        while life.ledger().look().is_some_and(|now| !now.over() && now.version <= seen.version + 1) {
            assert!(begun.elapsed() < DEADLINE, "the run does not go on");
            std::thread::sleep(Duration::from_micros(300));
        }
        life.kill_daemon();
        life.restart();
    }
    let (end, standing) = life.ends();
    assert_eq!(end, undisturbed().0);
    let Standing { counted, begun, verdicts } = &standing;
    assert_eq!(*counted, 2, "an interruption was counted: {standing:?}");
    assert!((2..=2 + life.restarts).contains(begun), "{standing:?}");
    assert!(verdicts.keys().all(|verdict| ["accepted", "interrupted"].contains(&verdict.as_str())), "{standing:?}");
    assert_eq!(verdicts["accepted"], 2);
    let longest = life.longest;
    life.over();
    (!seen.over() || seen.version == boundary.number, longest)
}

#[test]
fn a_kill_at_every_boundary() {
    let begun = Instant::now();
    let boundaries = undisturbed().1;
    assert!(boundaries > 15, "only {boundaries} boundaries");
    let ways = [Way::Daemon, Way::Everything, Way::Twice];
    let times = number("COVE_CRASH_TIMES", 1);
    let trials: Vec<Boundary> = (1..=boundaries)
        .flat_map(|number| {
            // Once each: the ways take turns.
            let first = usize::try_from(number).unwrap();
            (0..times).map(move |time| Boundary { number, way: ways[(first + time) % 3] })
        })
        .collect();
    let results = each(&trials, cut);
    let reached = results.iter().filter(|(reached, _)| *reached).count();
    let longest = results.iter().map(|(_, longest)| *longest).max().unwrap();
    println!(
        "boundaries: {boundaries}, {times} times each: {} kills, {reached} before the end, nothing left {longest:?} after a restart at the latest; {:?}",
        trials.len(),
        begun.elapsed()
    );
    // Reports are recorded together or one by one as they come, so a run may have a few less.
    assert!(reached * 10 >= trials.len() * 8, "{reached} of {}", trials.len());
}

/// Whom a random kill may hit.
const VICTIMS: [&str; 5] = ["daemon", "daemon", "supervisor", "in a sandbox", "program of the daemon"];

/// A process of that class, as soon as there is one; `None` when the run is over before.
fn victim(life: &Life, class: &str, random: &mut StdRng) -> Option<Pid> {
    let mut ledger = life.ledger();
    let begun = Instant::now();
    loop {
        if ledger.look().is_some_and(|seen| seen.over()) {
            return None;
        }
        let mut found: Vec<i32> = Vec::new();
        for process in life.territory().processes() {
            let its = match process.place {
                Place::Sandbox => "in a sandbox",
                Place::Host if process.line.contains(" serve") => "daemon",
                Place::Host if process.line.contains("__supervise") => "supervisor",
                // The command that asked for the run.
                Place::Host if process.line.contains("--detach") => continue,
                Place::Host => "program of the daemon",
            };
            if its == class {
                found.push(process.pid);
            }
        }
        if let Some(pid) = found.choose(random) {
            return Some(Pid::from_raw(*pid));
        }
        assert!(begun.elapsed() < DEADLINE, "the run neither ends nor has a {class}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn at_random(seed: &u64) -> (&'static str, Duration) {
    let mut random = StdRng::seed_from_u64(*seed);
    let mut life = Life::new(SLOW);
    let request = life.begin();
    let mut ledger = life.ledger();
    ledger.wait("the run", DEADLINE, |_| true);
    drop(ledger);
    std::thread::sleep(Duration::from_micros(random.random_range(0..2_000_000)));
    let class = *VICTIMS.choose(&mut random).unwrap();
    let Some(pid) = victim(&life, class, &mut random) else {
        drop(request);
        life.ends();
        life.over();
        return ("nobody", Duration::ZERO);
    };
    if class == "daemon" {
        life.kill_daemon();
        drop(request);
        life.restart();
    } else {
        let _ = kill(pid, Signal::SIGKILL);
    }
    let (end, standing) = life.ends();
    assert_eq!(end, undisturbed().0, "{class}: {standing:?}");
    // What dies inside a sandbox is the agent's or the check's own failure, and counts.
    let own = u64::from(class == "in a sandbox");
    assert!((2..=2 + own).contains(&standing.counted), "{class}: {standing:?}");
    assert!((2..=3).contains(&standing.begun), "{class}: {standing:?}");
    let longest = life.longest;
    life.over();
    (class, longest)
}

#[test]
fn kills_at_random_moments() {
    let begun = Instant::now();
    undisturbed();
    let first = number("COVE_CRASH_SEED", rand::random::<u16>().into()) as u64;
    let count = number("COVE_CRASH_KILLS", 15) as u64;
    println!("COVE_CRASH_SEED={first} COVE_CRASH_KILLS={count}");
    let seeds: Vec<u64> = (first..first + count).collect();
    let results = each(&seeds, at_random);
    let mut hit: BTreeMap<&str, usize> = BTreeMap::new();
    for (class, _) in &results {
        *hit.entry(class).or_default() += 1;
    }
    let longest = results.iter().map(|(_, longest)| *longest).max().unwrap();
    println!("random kills: {hit:?}, nothing left after {longest:?} at the latest; {:?}", begun.elapsed());
}
