//! System calls fail at every one of their uses: what was acknowledged stays, an error is told as one,
//! and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints its figures")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cove_core::{Engine as _, InstanceId, Records as _, RunId};
use cove_crash::{Fault, Injection, each, number, probe_sandbox};
use cove_engines::HelperProgram;
use cove_scenarios::{Account, Finished, World, finish};
use cove_stores::Store;
use cove_testkit::remains::Territory;

const DEADLINE: Duration = Duration::from_secs(180);

/// How long remains may take to go.
const CLEAN: Duration = Duration::from_secs(30);

/// What a database does to its files, and how it may fail.
const OF_THE_LEDGER: &[(&str, &[&str])] = &[
    ("pwrite64", &["EIO", "ENOSPC", "EINTR"]),
    ("fdatasync", &["EIO", "ENOSPC", "EINTR"]),
    ("fsync", &["EIO", "ENOSPC", "EINTR"]),
    ("ftruncate", &["EIO", "ENOSPC"]),
    ("openat", &["EMFILE", "EIO", "ENOSPC"]),
    ("pread64", &["EIO", "EINTR"]),
    ("mmap", &["ENOMEM"]),
    ("unlink", &["EIO"]),
    ("lseek", &["EIO"]),
];

fn ledger_files(dir: &Path) -> Vec<PathBuf> {
    let names = ["cove.db", "cove.db-wal", "cove.db-shm", "cove.db-journal", ""];
    names.iter().map(|name| if name.is_empty() { dir.to_owned() } else { dir.join(name) }).collect()
}

fn append(injection: &[String], database: &Path) -> Finished {
    let mut command = Command::new(&injection[0]);
    command.args(&injection[1..]).arg(env!("CARGO_BIN_EXE_cove-crash-probe")).arg("ledger").arg(database);
    finish(command, DEADLINE)
}

/// What the program said it has: run, version, entries, of the last acknowledgement.
fn acknowledged(said: &str) -> Option<(RunId, u64, u64)> {
    let last = said.lines().rfind(|line| line.starts_with("ack "))?;
    let words: Vec<&str> = last.split(' ').collect();
    Some((words[1].parse().unwrap(), words[2].parse().unwrap(), words[3].parse().unwrap()))
}

/// Tries one fault; how often the call was made to fail, and whether a commit was refused for it.
fn with_a_fault(fault: &Fault) -> (usize, bool) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let database = data.join("cove.db");
    let injection = Injection::available("", &dir.path().join("trace")).unwrap();
    let done = append(&injection.words(fault, &ledger_files(&data)), &database);
    assert!([0, 1].contains(&done.code) && !done.stderr.contains("panicked"), "{done:?}");
    // Healthy again: everything acknowledged is there, state and facts together, without gaps.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::open(&database).unwrap_or_else(|error| panic!("{}\n{}", error.chain().join(": "), done.said()));
    if let Some((run, version, last)) = acknowledged(&done.stdout) {
        runtime.block_on(async {
            let record = store.run(&run).await.unwrap_or_else(|error| panic!("lost: {error}\n{}", done.said()));
            let entries = store.entries(&run, 0, 10_000).await.unwrap();
            assert!(record.version >= version && entries.len() as u64 >= last, "lost\n{}", done.said());
            assert_eq!(entries.len() as u64, record.version * 2, "{}", done.said());
            assert!(entries.iter().zip(1..).all(|(entry, seq)| entry.seq == seq));
        });
    }
    let refused = done.stdout.lines().position(|line| line.starts_with("error commit"));
    if let (Some(at), true) = (refused, fault.call.ends_with("sync")) {
        let after: Vec<&str> = done.stdout.lines().skip(at).filter(|line| line.starts_with("ack")).collect();
        assert!(after.is_empty(), "acknowledged after an fsync that failed\n{}", done.said());
        let commits_after = 8 - done.stdout.lines().filter(|line| line.starts_with("ack")).count() - 1;
        assert_eq!(done.stdout.matches("Nothing more is written").count(), commits_after, "{}", done.said());
    }
    // An error is told: either something was refused, or everything was acknowledged.
    let told = done.stdout.contains("error ");
    let complete = acknowledged(&done.stdout).is_some_and(|(_, version, _)| version == 8);
    assert!(told || complete, "{}", done.said());
    (injection.hits(), refused.is_some())
}

#[test]
fn the_ledger_with_every_call_failing_once() {
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("trace");
    let Some(counter) = Injection::available("failing system calls of the ledger", &log) else { return };
    let calls: Vec<&str> = OF_THE_LEDGER.iter().map(|(call, _)| *call).collect();
    append(&counter.counting(&calls, &ledger_files(dir.path())), &dir.path().join("cove.db")).expect(0);
    let most = number("COVE_CRASH_NTH", 24);
    let uses: BTreeMap<String, usize> = counter.uses(&calls).into_iter().collect();
    let faults: Vec<Fault> = OF_THE_LEDGER
        .iter()
        .flat_map(|(call, errors)| {
            let times = uses[*call].min(most);
            errors
                .iter()
                .flat_map(move |error| (1..=times).map(move |nth| Fault { call: (*call).to_owned(), error, nth }))
        })
        .collect();
    let results = each(&faults, with_a_fault);
    let hits = results.iter().filter(|(hits, _)| *hits > 0).count();
    let refused = results.iter().filter(|(_, refused)| *refused).count();
    println!(
        "ledger: {hits} of {} faults injected, {refused} refused a commit; uses {uses:?}; {:?}",
        faults.len(),
        begun.elapsed()
    );
    assert_eq!(hits, faults.len(), "each fault is really injected");
    assert!(hits >= 150 && refused >= 20, "{hits} {refused}");
}

/// What a supervisor and the first process do to build, serve and end a sandbox.
const OF_A_SANDBOX: &[(&str, &[&str], usize)] = &[
    ("clone3", &["ENOMEM"], 2),
    ("clone", &["EAGAIN"], 2),
    ("unshare", &["ENOSPC"], 2),
    ("mount", &["EIO"], 4),
    ("openat", &["EMFILE", "EIO"], 60),
    ("openat2", &["EMFILE", "EINTR"], 6),
    ("open_tree", &["EMFILE"], 6),
    ("mkdirat", &["ENOSPC"], 6),
    ("mkdir", &["ENOSPC", "EINTR"], 5),
    ("rmdir", &["EIO", "EINTR"], 4),
    ("write", &["EIO", "ENOSPC", "EINTR"], 8),
    ("read", &["EIO", "EINTR"], 10),
    ("pivot_root", &["EIO"], 1),
    ("setns", &["EIO"], 1),
    ("socket", &["EMFILE"], 2),
    ("socketpair", &["EMFILE"], 2),
    ("bind", &["ENOSPC"], 1),
    ("listen", &["EIO"], 1),
    ("accept4", &["EMFILE", "EINTR"], 3),
    ("sendmsg", &["EIO", "EINTR"], 4),
    ("recvmsg", &["EIO", "EINTR"], 4),
    ("fsopen", &["EMFILE"], 3),
    ("fsconfig", &["ENOSPC"], 3),
    ("fsmount", &["EMFILE"], 3),
    ("move_mount", &["EIO"], 6),
    ("mount_setattr", &["EIO"], 6),
    ("umount2", &["EIO"], 1),
    ("sethostname", &["EIO"], 1),
    ("setresuid", &["EAGAIN"], 1),
    ("capset", &["EPERM"], 2),
    ("seccomp", &["ENOMEM"], 1),
    ("prctl", &["EIO"], 6),
    ("pipe2", &["EMFILE"], 3),
    ("dup2", &["EMFILE"], 2),
    ("fcntl", &["EMFILE", "EINTR"], 5),
    ("poll", &["EINTR"], 6),
    ("eventfd2", &["EMFILE"], 1),
    ("rename", &["EIO", "ENOSPC"], 2),
    ("fdatasync", &["EIO", "ENOSPC"], 2),
    ("execve", &["EMFILE"], 2),
    ("pidfd_send_signal", &["EIO"], 1),
    ("wait4", &["EINTR"], 3),
];

/// A place for sandboxes of one engine.
struct Site {
    _dir: tempfile::TempDir,
    state: PathBuf,
    instance: InstanceId,
    territory: Territory,
    usual: HelperProgram,
    program: String,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("cove-calls-").tempdir().unwrap();
        let (state, instance) = (dir.path().join("state"), InstanceId::new());
        std::fs::create_dir(&state).unwrap();
        let territory = Territory::new(dir.path(), &dir.path().join("data"), &state).of_instance(&instance);
        let program = World::new(Account::Own).program().display().to_string();
        let usual = HelperProgram(vec![program.clone(), "__supervise".to_owned()]);
        Self { _dir: dir, state, instance, territory, usual, program }
    }

    fn log(&self) -> PathBuf {
        self._dir.path().join("trace")
    }

    fn sandbox(&self, tracer: Vec<String>) -> Vec<String> {
        let mut helper = Injection::detached(tracer);
        helper.extend([self.program.clone(), "__supervise".to_owned()]);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let said =
            runtime.block_on(probe_sandbox(&self.state, self.instance.clone(), HelperProgram(helper), &self.usual));
        said.unwrap_or_else(|error| panic!("{}", error.chain().join(": ")))
    }

    fn sweep(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let native = cove_engines::native::Native::new(self.state.join("images"), &self.usual).unwrap();
            let (state, instance) = (&self.state, self.instance.clone());
            let engine = cove_engines::LocalEngine::new(native, state, instance, self.usual.clone()).unwrap();
            engine.sweep(&[]).await.unwrap();
        });
    }
}

/// How a sandbox with a fault went: injected how often, and its step that failed first.
fn sandbox_with(fault: &Fault) -> (usize, String, bool) {
    let site = Site::new();
    let injection = Injection::available("", &site.log()).unwrap();
    let said = site.sandbox(injection.words(fault, &[]));
    let all = said.join("\n");
    assert!(!all.contains("HANGS") && !all.contains("timeout: "), "{all}");
    let create = &said[0];
    let refused = !create.starts_with("create ok");
    if refused {
        assert!(
            ["not_started", "internal", "exhausted", "unsupported"].iter().any(|kind| create.contains(kind)),
            "{all}"
        );
    }
    let swept = !said.last().unwrap().starts_with("remove ok");
    if swept {
        site.sweep();
    }
    // The tracer leaves with the last process it follows.
    site.territory.clean_within(CLEAN);
    let failed = said.iter().find(|line| !line.contains(" ok ")).map_or("none", |line| line.split(' ').next().unwrap());
    (injection.hits(), failed.to_owned(), swept)
}

#[test]
fn a_sandbox_with_every_call_failing_once() {
    let begun = Instant::now();
    let what = "failing system calls of a sandbox";
    let site = Site::new();
    let Some(counter) = Injection::available(what, &site.log()) else { return };
    if !nix::unistd::Uid::effective().is_root() {
        return cove_scenarios::skip(what, "it needs a test that runs as root");
    }
    let calls: Vec<&str> = OF_A_SANDBOX.iter().map(|(call, ..)| *call).collect();
    let said = site.sandbox(counter.counting(&calls, &[]));
    assert!(said.iter().all(|line| line.contains(" ok ")), "traced and undisturbed: {said:?}");
    assert!(said[1].contains("works 0"), "{said:?}");
    site.territory.clean_within(CLEAN);
    let uses: BTreeMap<String, usize> = counter.uses(&calls).into_iter().collect();
    let faults: Vec<Fault> = OF_A_SANDBOX
        .iter()
        .flat_map(|(call, errors, most)| {
            let times = uses[*call].min(*most);
            errors
                .iter()
                .flat_map(move |error| (1..=times).map(move |nth| Fault { call: (*call).to_owned(), error, nth }))
        })
        .collect();
    let every = number("COVE_CRASH_EVERY", 1).max(1);
    let faults: Vec<Fault> = faults.into_iter().step_by(every).collect();
    let results = each(&faults, sandbox_with);
    let hits = results.iter().filter(|(hits, ..)| *hits > 0).count();
    let swept = results.iter().filter(|(.., swept)| *swept).count();
    let mut steps: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, step, _) in &results {
        *steps.entry(step).or_default() += 1;
    }
    let mut harmless: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (fault, _) in faults.iter().zip(&results).filter(|(_, (_, step, _))| step == "none") {
        harmless.entry(format!("{} {}", fault.call, fault.error)).or_default().push(fault.nth);
    }
    println!("sandbox: worked all the same: {harmless:?}");
    let unused: Vec<&String> = uses.iter().filter(|(_, uses)| **uses == 0).map(|(call, _)| call).collect();
    println!(
        "sandbox: {hits} of {} faults injected; first failing step {steps:?}; {swept} left to the sweep; not used here {unused:?}; {:?}",
        faults.len(),
        begun.elapsed()
    );
    // How often a thread makes a call depends a little on timing.
    assert!(hits * 100 >= faults.len() * 90, "{hits} of {}", faults.len());
    assert!(steps.get("create").is_some_and(|count| count * 3 > faults.len()), "{steps:?}");
}

#[test]
fn an_engine_that_runs_out_of_descriptors() {
    let site = Site::new();
    if !nix::unistd::Uid::effective().is_root() {
        return cove_scenarios::skip("an engine without descriptors", "it needs a test that runs as root");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_cove-crash-probe"));
    command.arg("descriptors").arg(&site.state).arg(site.instance.as_str()).arg(&site.program);
    let done = finish(command, DEADLINE).expect(0);
    assert!(!done.stdout.contains("HANGS"), "{}", done.said());
    let count = |words: &str| done.stdout.lines().filter(|line| line.contains(words)).count();
    println!("descriptors: {} refusals, {} swept", count("open files"), count(" swept "));
    // A sandbox that cannot be seen for want of descriptors is not one that is not there.
    assert_eq!(count("not_found"), 0, "{}", done.said());
    for step in ["create", "exec", "remove"] {
        let begins = |line: &&str| line.starts_with(step) && line.contains(&format!(" {step} "));
        let mine: Vec<&str> = done.stdout.lines().filter(begins).collect();
        assert!(mine.iter().any(|line| line.ends_with("ok")), "{}", done.said());
        assert!(mine.iter().any(|line| line.contains("os error 24")), "{}", done.said());
    }
    site.territory.clean_within(CLEAN);
}
