//! Living processes and what ties them to an instance.

use std::fs;
use std::path::Path;

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among the host's processes.
    Host,
    /// In process and mount namespaces of its own.
    Sandbox,
}

/// A living process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id, as this process sees it.
    pub pid: i32,
    /// Its command line, blanks between the words.
    pub line: String,
    /// Where it runs.
    pub place: Place,
}

/// Processes with the mark in command line, environment, working directory, program or (when their
/// mounts are others than ours) mounts, and those in a control group whose name begins with `group`.
pub(super) fn of(mark: &str, group: Option<&str>) -> Vec<Process> {
    let own = std::process::id().to_string();
    let namespace = |dir: &Path, kind: &str| fs::read_link(dir.join("ns").join(kind)).ok();
    let ours = [namespace(Path::new("/proc/self"), "mnt"), namespace(Path::new("/proc/self"), "pid")];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<i32>() else { continue };
        let dir = entry.path();
        if name == own || dead(&dir) {
            continue;
        }
        let line = read(&dir.join("cmdline"));
        let mounts = || namespace(&dir, "mnt") != ours[0] && contains(&read(&dir.join("mountinfo")), mark);
        let links = || ["cwd", "exe", "root"].iter().filter_map(|link| fs::read_link(dir.join(link)).ok());
        let grouped = || group.is_some_and(|group| contains(&read(&dir.join("cgroup")), group));
        let marked = contains(&line, mark)
            || contains(&read(&dir.join("environ")), mark)
            || links().any(|path| path.to_string_lossy().contains(mark))
            || grouped()
            || mounts();
        if marked {
            let place = if namespace(&dir, "pid") == ours[1] { Place::Host } else { Place::Sandbox };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
            found.push(Process { pid, line, place });
        }
    }
    found
}

/// Ended and not collected by its parent, or gone.
fn dead(dir: &Path) -> bool {
    let stat = String::from_utf8_lossy(&read(&dir.join("stat"))).into_owned();
    let state = stat.rfind(')').and_then(|at| stat[at + 1..].trim_start().chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
