//! What is left on this host of one instance: processes, mounts, namespaces, control groups,
//! interfaces, directories, sockets, containers and volumes. Others work on the same host at the same
//! time, so only what carries the instance's own marks counts.

mod containers;
mod processes;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use processes::{Place, Process};

/// Levels of control groups that are looked at.
const DEPTH: usize = 10;

/// Something that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remain {
    /// `process`, `mount`, `namespace`, `cgroup`, `interface`, `directory`, `socket`, `container` or `volume`.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
}

impl fmt::Display for Remain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Where an instance of Cove leaves its marks.
#[derive(Debug, Clone)]
pub struct Territory {
    /// The last part of its directory's path, which no other has: also what a mount's source shows.
    mark: String,
    /// The short identity on control groups, containers and volumes.
    instance: Option<String>,
    data: PathBuf,
    state: PathBuf,
    root: PathBuf,
    engines: Vec<PathBuf>,
}

impl Territory {
    /// Of an instance with everything below `root`, whose name is unique on this host, with `data` and
    /// `state` in it. Container engines named by `COVE_TEST_DOCKER` and `COVE_TEST_PODMAN` (their
    /// sockets) are asked as well.
    ///
    /// # Panics
    /// When the name is too short to be unique.
    pub fn new(root: &Path, data: &Path, state: &Path) -> Self {
        let mark = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(mark.len() >= 10, "{} may not be the only one of its name", root.display());
        let engines = ["COVE_TEST_DOCKER", "COVE_TEST_PODMAN"].iter().filter_map(std::env::var_os);
        Self {
            mark,
            instance: None,
            data: data.to_owned(),
            state: state.to_owned(),
            root: root.to_owned(),
            engines: engines.filter(|socket| !socket.is_empty()).map(PathBuf::from).collect(),
        }
    }

    /// With this identity; without it, that in the file `instance` of the data directory.
    #[must_use]
    pub fn of_instance(mut self, id: &cove_core::InstanceId) -> Self {
        self.instance = Some(id.as_str().to_owned());
        self
    }

    fn instance(&self) -> Option<String> {
        let read = || fs::read_to_string(self.data.join("instance")).ok().map(|text| text.trim().to_owned());
        self.instance.clone().or_else(read).filter(|id| id.len() >= 8)
    }

    /// Everything that is there now, this process left out.
    pub fn remains(&self) -> BTreeSet<Remain> {
        let mut found = BTreeSet::new();
        let mut add = |kind, name: String| {
            found.insert(Remain { kind, name });
        };
        for process in self.processes() {
            add("process", format!("{} {}", process.pid, process.line));
        }
        for line in lines("/proc/self/mountinfo").filter(|line| line.contains(&self.mark)) {
            add(if line.contains(" - nsfs ") { "namespace" } else { "mount" }, line);
        }
        for line in lines("/proc/net/unix").filter(|line| line.contains(&self.mark)) {
            add("socket", line.rsplit(' ').next().unwrap_or_default().to_owned());
        }
        if let Some(instance) = self.instance() {
            let short = instance[instance.len() - 8..].to_owned();
            let prefix = format!("cove-{short}-");
            groups(Path::new("/sys/fs/cgroup"), DEPTH, &mut |path| {
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
                    add("cgroup", path.display().to_string());
                }
            });
            for (kind, dir) in [("interface", "/sys/class/net"), ("namespace", "/run/netns")] {
                for path in entries(Path::new(dir)).filter(|path| path.to_string_lossy().contains(&short)) {
                    add(kind, path.display().to_string());
                }
            }
            for socket in &self.engines {
                for (kind, name) in containers::of(socket, &instance) {
                    add(kind, name);
                }
            }
        }
        for path in self.directories() {
            add("directory", path.display().to_string());
        }
        found
    }

    /// Like [`remains`](Self::remains), without a daemon that serves and its socket.
    pub fn orphans(&self) -> BTreeSet<Remain> {
        let mut found = self.remains();
        found.retain(|remain| match remain.kind {
            "process" => !remain.name.contains(" serve"),
            "socket" => !remain.name.ends_with("/cove.sock"),
            _ => true,
        });
        found
    }

    /// Waits until there are no orphans; how long that took.
    ///
    /// # Panics
    /// When some are left after `deadline`; names them.
    #[track_caller]
    pub fn clean_within(&self, deadline: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let left = self.orphans();
            if left.is_empty() {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < deadline, "left after {deadline:?}:\n{}", listed(&left));
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Living processes of the instance: by command line, environment, control group, working
    /// directory or mounts.
    pub fn processes(&self) -> Vec<Process> {
        let group = self.instance().map(|id| format!("cove-{}-", &id[id.len() - 8..]));
        processes::of(&self.mark, group.as_deref())
    }

    /// Sandboxes, doors, workspaces and half-written files.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            ["sandboxes", "doors"].iter().flat_map(|d| entries(&self.state.join(d))).collect();
        for run in entries(&self.data.join("runs")) {
            let stays = |name: &str| {
                ["attempts", "prd.json", "progress.txt", "repo.git", "stores", "tripwires.json"].contains(&name)
            };
            found.extend(entries(&run).filter(|path| !stays(&name(path))));
        }
        let half = |path: &PathBuf| [".tmp", ".cove-", ".instance-"].iter().any(|begin| name(path).starts_with(begin));
        found.extend([&self.root, &self.data, &self.state].into_iter().flat_map(|dir| entries(dir)).filter(half));
        found
    }
}

/// One a line.
pub fn listed(remains: &BTreeSet<Remain>) -> String {
    remains.iter().map(|remain| format!("  {remain}\n")).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn lines(file: &str) -> impl Iterator<Item = String> + use<> {
    let text = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn groups(dir: &Path, depth: usize, see: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            see(&entry.path());
            groups(&entry.path(), depth - 1, see);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    /// Each kind that can be made without rights is seen, and seen to go.
    #[test]
    fn what_is_there_is_seen() {
        let root = tempfile::Builder::new().prefix("cove-remains-").tempdir().unwrap();
        let (data, state) = (root.path().join("data"), root.path().join("state"));
        for dir in [data.join("runs/run_1/repo.git"), state.join("doors")] {
            fs::create_dir_all(dir).unwrap();
        }
        let territory = Territory::new(root.path(), &data, &state);
        assert_eq!(territory.remains(), BTreeSet::new());

        let mut child = Command::new("sleep").arg("100").env("MARK", root.path()).spawn().unwrap();
        let socket = UnixListener::bind(state.join("s.sock")).unwrap();
        fs::create_dir_all(data.join("runs/run_1/work")).unwrap();
        fs::create_dir_all(state.join("sandboxes/sbx_1")).unwrap();
        let begun = Instant::now();
        // The child's environment shows once it has become its program.
        let kinds = loop {
            let kinds: Vec<&str> = territory.remains().iter().map(|remain| remain.kind).collect();
            if kinds.len() >= 4 || begun.elapsed() > Duration::from_secs(30) {
                break kinds;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(kinds, ["directory", "directory", "process", "socket"]);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(socket);
        fs::remove_dir_all(data.join("runs/run_1/work")).unwrap();
        fs::remove_dir_all(state.join("sandboxes")).unwrap();
        territory.clean_within(Duration::from_secs(30));
    }
}
