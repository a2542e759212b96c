//! Scripts as tables: which process does what, in order.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cove_core::ExitStatus;

use super::script::{End, Process, Script};

/// What one process does, in the order of the fields.
#[derive(Debug, Clone)]
pub struct Act {
    /// Waits first.
    pub delay: Duration,
    /// Files written inside.
    pub writes: Vec<(PathBuf, Vec<u8>)>,
    /// Files removed inside.
    pub removes: Vec<PathBuf>,
    /// Bytes of stdout.
    pub stdout: Vec<u8>,
    /// Bytes of stderr.
    pub stderr: Vec<u8>,
    /// Does not end by itself once it has said everything.
    pub hangs: bool,
    /// How it ends.
    pub end: End,
}

impl Default for Act {
    fn default() -> Self {
        Self::exit(0)
    }
}

impl Act {
    /// Ends with a code and does nothing else.
    pub fn exit(code: i32) -> Self {
        Self {
            delay: Duration::ZERO,
            writes: Vec::new(),
            removes: Vec::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            hangs: false,
            end: End::Exit(ExitStatus::exited(code)),
        }
    }

    /// The sandbox vanishes.
    pub fn lost() -> Self {
        Self { end: End::Lost, ..Self::exit(0) }
    }

    /// Adds a file to write.
    #[must_use]
    pub fn write(mut self, inside: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.writes.push((inside.into(), content.into()));
        self
    }

    /// Adds a file to remove.
    #[must_use]
    pub fn remove(mut self, inside: impl Into<PathBuf>) -> Self {
        self.removes.push(inside.into());
        self
    }

    /// Adds to stdout.
    #[must_use]
    pub fn say(mut self, text: impl AsRef<[u8]>) -> Self {
        self.stdout.extend_from_slice(text.as_ref());
        self
    }

    /// Stays until it is ended from outside.
    #[must_use]
    pub fn hang(mut self) -> Self {
        self.hangs = true;
        self
    }

    /// Waits before anything else.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Does it.
    pub async fn perform(self, process: &Process) -> End {
        tokio::time::sleep(self.delay).await;
        let written = self
            .writes
            .iter()
            .try_for_each(|(path, content)| process.write(path, content))
            .and_then(|()| self.removes.iter().try_for_each(|path| process.remove(path)));
        if let Err(error) = written {
            process.stderr(format!("{error}\n")).await;
            return End::code(1);
        }
        for (bytes, is_stdout) in [(self.stdout, true), (self.stderr, false)] {
            for chunk in bytes.chunks(64 << 10) {
                if is_stdout { process.stdout(chunk).await } else { process.stderr(chunk).await }
            }
        }
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.end
    }
}

/// Processes that match do these acts, one after the other; the last is repeated.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Role of the sandbox (`agent`, `gate`); any when empty.
    pub role: String,
    /// Part of the last argument; any when empty.
    pub contains: String,
    /// What they do.
    pub acts: Vec<Act>,
}

/// Rules; the first that matches decides, and a process without a rule exits with 0.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rules: Vec<Rule>,
}

impl Table {
    /// Adds a rule.
    #[must_use]
    pub fn rule(mut self, role: &str, contains: &str, acts: impl IntoIterator<Item = Act>) -> Self {
        self.rules.push(Rule {
            role: role.to_owned(),
            contains: contains.to_owned(),
            acts: acts.into_iter().collect(),
        });
        self
    }

    /// The table as a script.
    pub fn script(self) -> Script {
        let begun = Arc::new(Mutex::new(vec![0_usize; self.rules.len()]));
        let rules = Arc::new(self.rules);
        Arc::new(move |mut process: Process| {
            let (rules, begun) = (Arc::clone(&rules), Arc::clone(&begun));
            Box::pin(async move {
                process.stdin().await;
                let matching = rules.iter().position(|rule| {
                    (rule.role.is_empty() || rule.role == process.role()) && process.command().contains(&rule.contains)
                });
                let act = matching.and_then(|at| {
                    let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
                    let acts = &rules[at].acts;
                    let nth = begun[at].min(acts.len().saturating_sub(1));
                    begun[at] += 1;
                    acts.get(nth).cloned()
                });
                act.unwrap_or_default().perform(&process).await
            })
        })
    }
}
