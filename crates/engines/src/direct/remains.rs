//! Finds processes of sandboxes whose supervisor and guest were both killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cove_core::error::{Error, ErrorKind, Result};
use cove_core::{InstanceId, SandboxId, Swept};
use cove_guest::processes;

use crate::supervisor::launch::{Place, Remains};

/// Variable of every process: its sandbox.
pub const SANDBOX: &str = "COVE_SANDBOX";

/// Variable of every process: whose sandbox it is.
pub const INSTANCE: &str = "COVE_INSTANCE";

/// How long clearing may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Known by their environment, which a process could only have lost on purpose.
pub struct Processes;

impl Remains for Processes {
    fn find(&self, instance: &InstanceId) -> Result<Vec<SandboxId>> {
        let found: BTreeSet<SandboxId> =
            marked(instance).into_iter().filter_map(|(_, sandbox)| sandbox.parse().ok()).collect();
        Ok(found.into_iter().collect())
    }

    fn clear(&self, place: &Place) -> Result<Vec<Swept>> {
        let begun = Instant::now();
        let mut swept = BTreeSet::new();
        loop {
            let living: Vec<_> = marked(&place.instance)
                .into_iter()
                .filter(|(_, sandbox)| sandbox == place.id.as_str())
                .map(|(pid, _)| pid)
                .collect();
            if living.is_empty() {
                let swept = swept.into_iter().map(|pid: libc::pid_t| pid.to_string());
                return Ok(swept.map(|name| Swept { kind: "process".to_owned(), name }).collect());
            }
            if begun.elapsed() > LIMIT {
                return Err(Error::new(ErrorKind::Timeout, format!("Processes of {} do not end", place.id)));
            }
            for pid in living {
                processes::signal(pid, libc::SIGKILL);
                swept.insert(pid);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Living processes that carry the instance's mark, with their sandbox.
fn marked(instance: &InstanceId) -> Vec<(libc::pid_t, String)> {
    let own = std::process::id() as libc::pid_t;
    processes::all()
        .into_iter()
        .filter(|process| !process.zombie && process.pid != own)
        .filter_map(|process| {
            let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).ok()?;
            let value = |name: &str| {
                environment.split(|byte| *byte == 0).find_map(|variable| {
                    let text = std::str::from_utf8(variable).ok()?;
                    text.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
                })
            };
            (value(INSTANCE)? == instance.as_str()).then_some(())?;
            Some((process.pid, value(SANDBOX)?))
        })
        .collect()
}
