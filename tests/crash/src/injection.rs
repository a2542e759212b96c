//! System calls that fail at a chosen time, by strace(1).

use std::path::{Path, PathBuf};

/// Which call fails, how, and at which of its uses (counted in each thread by itself).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The system call.
    pub call: String,
    /// The error's name.
    pub error: &'static str,
    /// From 1.
    pub nth: usize,
}

/// strace with a fault in it.
pub struct Injection {
    program: PathBuf,
    log: PathBuf,
}

impl Injection {
    /// Where strace is; `None`, with a line that says so, where it is not.
    pub fn available(what: &str, log: &Path) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path).map(|dir| dir.join("strace")).find(|program| program.exists());
        if program.is_none() {
            cove_scenarios::skip(what, "strace is not installed");
        }
        Some(Self { program: program?, log: log.to_owned() })
    }

    /// The words before those of a program that runs to its end. With `paths`, only calls on these
    /// files fail.
    pub fn words(&self, fault: &Fault, paths: &[PathBuf]) -> Vec<String> {
        let Fault { call, error, nth } = fault;
        let text = |path: &Path| path.display().to_string();
        let mut words: Vec<String> = vec![text(&self.program)];
        words.extend(["-f", "-qq", "-e", "signal=none", "-o"].map(str::to_owned));
        words.push(text(&self.log));
        for path in paths {
            words.extend(["-P".to_owned(), text(path)]);
        }
        words.extend(["-e".to_owned(), format!("trace={call}")]);
        words.extend(["-e".to_owned(), format!("inject={call}:error={error}:when={nth}")]);
        words
    }

    /// Words that only count calls.
    pub fn counting(&self, calls: &[&str], paths: &[PathBuf]) -> Vec<String> {
        let never = Fault { call: calls.join(","), error: "EIO", nth: 65_000 };
        self.words(&never, paths)
    }

    /// The same words for a program that goes on in the background: the tracer stays out of the way.
    pub fn detached(words: Vec<String>) -> Vec<String> {
        let mut words = words;
        words.insert(1, "-D".to_owned());
        words
    }

    /// How often strace made a call fail.
    pub fn hits(&self) -> usize {
        injected(&self.log)
    }

    /// Most uses of each call by one thread.
    pub fn uses(&self, calls: &[&str]) -> Vec<(String, usize)> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut counts = std::collections::BTreeMap::<(String, &str), usize>::new();
        for line in text.lines() {
            let Some((pid, rest)) = line.split_once(' ') else { continue };
            let Some(call) =
                calls.iter().find(|call| rest.trim_start().strip_prefix(**call).is_some_and(|r| r.starts_with('(')))
            else {
                continue;
            };
            *counts.entry((pid.to_owned(), call)).or_default() += 1;
        }
        let most = |call: &str| counts.iter().filter(|((_, c), _)| *c == call).map(|(_, n)| *n).max().unwrap_or(0);
        calls.iter().map(|call| ((*call).to_owned(), most(call))).collect()
    }
}

/// Calls that a log of strace marks as made to fail.
pub fn injected(log: &Path) -> usize {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).matches("(INJECTED)").count()
}
