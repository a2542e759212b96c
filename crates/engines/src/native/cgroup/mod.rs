//! Control groups of a sandbox: made, limited, read, emptied and removed.
//!
//! A sandbox's groups carry its name below the supervisor's own groups (or the nearest group above
//! that may have limited children), so an administrator's limits on Cove bind the sandboxes too.

pub(crate) mod hierarchy;
mod site;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cove_core::{Control, Error, ErrorKind, Limits, Result};

pub use hierarchy::{Controller, Version};
pub use site::{Site, Sites};

/// How long a removal waits for a group to become empty.
const REMOVAL: Duration = Duration::from_secs(10);

/// How deep groups within a sandbox's group are removed with it.
const NESTING: usize = 8;

/// Microseconds of the period that CPU quotas refer to.
const PERIOD_US: u64 = 100_000;

/// The groups of one sandbox. Dropping removes them; [`remove`](Self::remove) says whether it worked.
#[derive(Debug, Default)]
pub struct Groups {
    parts: Vec<Part>,
}

/// One group, which may serve several controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    path: PathBuf,
    version: Version,
    controllers: Vec<Controller>,
}

impl Groups {
    /// Makes the groups for the limits asked for and sets the limits.
    ///
    /// # Errors
    /// `Unsupported` with the control's name when a limit cannot be had and was not accepted as
    /// missing; `NotStarted` when the kernel refuses a value. Nothing is left then.
    pub fn make(sites: &Sites, name: &str, limits: &Limits, waived: impl Fn(Control) -> bool) -> Result<Self> {
        let mut groups = Self::default();
        let wanted = [
            (Controller::Memory, Control::LimitMemory, limits.memory_bytes.is_some()),
            (Controller::Pids, Control::LimitPids, limits.pids.is_some()),
            (Controller::Cpu, Control::LimitCpu, limits.cpus.is_some()),
        ];
        for (controller, control, asked) in wanted {
            let site = match sites.site(controller) {
                Ok(site) => site,
                Err(_) if !asked || waived(control) => continue,
                Err(reason) => {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        format!("{control} cannot be given here: {reason}"),
                    ));
                }
            };
            groups.add(site, controller, name).map_err(|error| {
                failed("The sandbox's control group could not be made", &site.parent.join(name), error)
            })?;
        }
        groups.limit(limits)?;
        Ok(groups)
    }

    fn add(&mut self, site: &Site, controller: Controller, name: &str) -> io::Result<()> {
        let path = site.parent.join(name);
        if let Some(part) = self.parts.iter_mut().find(|part| part.path == path) {
            part.controllers.push(controller);
            return Ok(());
        }
        make_directory(&path)?;
        self.parts.push(Part { path, version: site.version, controllers: vec![controller] });
        Ok(())
    }

    fn limit(&self, limits: &Limits) -> Result<()> {
        let write = |path: PathBuf, value: String| -> Result<()> {
            retried(|| fs::write(&path, &value)).map_err(|error| failed("A limit could not be set", &path, error))
        };
        if let (Some(bytes), Some(part)) = (limits.memory_bytes, self.part(Controller::Memory)) {
            let at = |file: &str| part.path.join(file);
            match part.version {
                Version::V2 => {
                    write(at("memory.max"), bytes.to_string())?;
                    if at("memory.swap.max").exists() {
                        write(at("memory.swap.max"), "0".to_owned())?;
                    }
                }
                Version::V1 => {
                    write(at("memory.limit_in_bytes"), bytes.to_string())?;
                    if at("memory.memsw.limit_in_bytes").exists() {
                        write(at("memory.memsw.limit_in_bytes"), bytes.to_string())?;
                    } else if at("memory.swappiness").exists() {
                        write(at("memory.swappiness"), "0".to_owned())?;
                    }
                }
            }
        }
        if let (Some(count), Some(part)) = (limits.pids, self.part(Controller::Pids)) {
            write(part.path.join("pids.max"), count.to_string())?;
        }
        if let (Some(cpus), Some(part)) = (limits.cpus, self.part(Controller::Cpu)) {
            // The kernel's smallest quota is a millisecond.
            let quota = ((cpus * PERIOD_US as f64).round() as u64).max(1000);
            match part.version {
                Version::V2 => write(part.path.join("cpu.max"), format!("{quota} {PERIOD_US}"))?,
                Version::V1 => {
                    write(part.path.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                    write(part.path.join("cpu.cfs_quota_us"), quota.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn part(&self, controller: Controller) -> Option<&Part> {
        self.parts.iter().find(|part| part.controllers.contains(&controller))
    }

    /// Moves a process into every group.
    pub fn enter(&self, pid: libc::pid_t) -> Result<()> {
        for part in &self.parts {
            let path = part.path.join("cgroup.procs");
            retried(|| fs::write(&path, pid.to_string()))
                .map_err(|error| failed("The guest could not enter its control group", &path, error))?;
        }
        Ok(())
    }

    /// Each controller with its group's directory.
    pub fn directories(&self) -> Vec<(Controller, Version, PathBuf)> {
        let of =
            |part: &Part| part.controllers.iter().map(|c| (*c, part.version, part.path.clone())).collect::<Vec<_>>();
        self.parts.iter().flat_map(of).collect()
    }

    /// The limits in force under their v2 names, as in `Report::cgroup`. Unlimited ones are absent.
    pub fn read(&self) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::new();
        let number = |path: PathBuf| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<f64>().ok());
        if let Some(part) = self.part(Controller::Memory) {
            let (limit, swap) = match part.version {
                Version::V2 => (number(part.path.join("memory.max")), number(part.path.join("memory.swap.max"))),
                Version::V1 => {
                    let limit = number(part.path.join("memory.limit_in_bytes"));
                    let both = number(part.path.join("memory.memsw.limit_in_bytes"));
                    (limit, both.zip(limit).map(|(both, limit)| both - limit))
                }
            };
            out.extend(limit.map(|value| ("memory.max".to_owned(), value)));
            out.extend(swap.map(|value| ("memory.swap.max".to_owned(), value)));
        }
        if let Some(part) = self.part(Controller::Pids) {
            out.extend(number(part.path.join("pids.max")).map(|value| ("pids.max".to_owned(), value)));
        }
        if let Some(part) = self.part(Controller::Cpu) {
            let (quota, period) = match part.version {
                Version::V2 => {
                    let text = fs::read_to_string(part.path.join("cpu.max")).unwrap_or_default();
                    let mut fields = text.split_whitespace().map(|field| field.parse::<f64>().ok());
                    (fields.next().flatten(), fields.next().flatten())
                }
                Version::V1 => {
                    (number(part.path.join("cpu.cfs_quota_us")), number(part.path.join("cpu.cfs_period_us")))
                }
            };
            if let (Some(quota), Some(period)) = (quota, period)
                && quota > 0.0
                && period > 0.0
            {
                out.insert("cpu.max".to_owned(), quota / period);
            }
        }
        out
    }

    /// Kills for memory so far.
    pub fn oom_kills(&self) -> u64 {
        let Some(part) = self.part(Controller::Memory) else { return 0 };
        let file = match part.version {
            Version::V2 => "memory.events",
            Version::V1 => "memory.oom_control",
        };
        let text = fs::read_to_string(part.path.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Kills every process in the groups, again and again until none is left or the deadline is over.
    /// True when they are empty.
    pub fn kill(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        loop {
            let mut alive = false;
            for part in &self.parts {
                // One write kills all, forks in flight included; v1 has no such file.
                if part.version == Version::V2 && fs::write(part.path.join("cgroup.kill"), "1").is_ok() {
                    alive |= !processes(&part.path).is_empty();
                    continue;
                }
                for pid in processes(&part.path) {
                    alive = true;
                    super::sys::kill(pid);
                }
            }
            if !alive {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Removes the groups; waits for them to become empty. Repeatable.
    ///
    /// # Errors
    /// `Timeout` with the group that stayed busy; what could be removed is gone.
    pub fn remove(&mut self) -> Result<()> {
        let end = Instant::now() + REMOVAL;
        let mut busy = None;
        self.parts.retain(|part| match remove_directory(&part.path, end) {
            Ok(()) => false,
            Err(error) => {
                busy = Some(failed("A control group could not be removed", &part.path, error));
                true
            }
        });
        busy.map_or(Ok(()), Err)
    }

    /// The groups' directories.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // Best effort: whoever needs to know has called `remove`. Needs no descriptor, so it also
        // works when a failed creation ran out of them.
        let _ = self.remove();
    }
}

/// Every group of that name.
pub fn find(sites: &Sites, name: &str) -> Groups {
    let found = sites.search(|found| found == name).into_iter();
    // Which controllers they were for no longer matters.
    Groups { parts: found.map(|s| Part { path: s.parent, version: s.version, controllers: Vec::new() }).collect() }
}

/// Names of groups that begin with `prefix`.
pub fn names(sites: &Sites, prefix: &str) -> std::collections::BTreeSet<String> {
    let found = sites.search(|found| found.starts_with(prefix)).into_iter();
    found.filter_map(|site| site.parent.file_name()?.to_str().map(str::to_owned)).collect()
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::NotStarted, what).with("path", path.display()).because(error)
}

fn processes(group: &Path) -> Vec<libc::pid_t> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Again on an interruption; other errors are the caller's.
fn retried(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    retried(|| fs::create_dir(path))
}

/// `rmdir` until it works, what is there is gone, or the time is over.
fn remove_directory(path: &Path, end: Instant) -> io::Result<()> {
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error),
            // Busy while the last processes go, or while a nested group is left.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINTR | libc::ENOMEM)) => {
                remove_children(path, NESTING);
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

fn remove_children(path: &Path, nesting: usize) {
    if nesting == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_children(&entry.path(), nesting - 1);
        let _ = fs::remove_dir(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain files stand for the kernel's, so that both versions' formats are tried on any host.
    fn limited(version: Version, present: &[&str]) -> (tempfile::TempDir, Groups) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("group");
        fs::create_dir(&path).unwrap();
        present.iter().for_each(|file| fs::write(path.join(file), "").unwrap());
        let groups = Groups { parts: vec![Part { path, version, controllers: Controller::ALL.to_vec() }] };
        let limits = Limits { memory_bytes: Some(64 << 20), pids: Some(32), cpus: Some(0.5), ..Limits::NONE };
        groups.limit(&limits).unwrap();
        (dir, groups)
    }

    #[test]
    fn limits_are_written_and_read_back() {
        for (version, present, swap) in [
            (Version::V2, &["memory.swap.max"][..], Some(0.0)),
            (Version::V2, &[], None),
            (Version::V1, &["memory.memsw.limit_in_bytes"], Some(0.0)),
            (Version::V1, &["memory.swappiness"], None),
        ] {
            let (_dir, groups) = limited(version, present);
            let read = groups.read();
            assert_eq!(read.get("memory.max"), Some(&f64::from(64 << 20)));
            assert_eq!(read.get("pids.max"), Some(&32.0));
            assert_eq!(read.get("cpu.max"), Some(&0.5));
            assert_eq!(read.get("memory.swap.max").copied(), swap, "{version:?} {present:?}");
        }
    }

    #[test]
    fn unlimited_is_not_a_limit() {
        let (_dir, groups) = limited(Version::V2, &[]);
        for (file, text) in [("memory.max", "max\n"), ("pids.max", "max\n"), ("cpu.max", "max 100000\n")] {
            fs::write(groups.parts[0].path.join(file), text).unwrap();
        }
        assert!(groups.read().is_empty());
    }

    #[test]
    fn kills_for_memory_are_counted() {
        for (version, file, text) in [
            (Version::V2, "memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
            (Version::V1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ] {
            let (_dir, groups) = limited(version, &[]);
            assert_eq!(groups.oom_kills(), 0);
            fs::write(groups.parts[0].path.join(file), text).unwrap();
            assert_eq!(groups.oom_kills(), 2);
        }
    }
}
