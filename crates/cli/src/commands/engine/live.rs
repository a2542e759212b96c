//! A real sandbox of an engine, made, read from inside, and removed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cove_api::{Client, EngineReport, NewSandbox};
use cove_core::capability::Finding;
use cove_core::{Control, Error, Isolation, Result, Root, SandboxInfo};

use super::profile::Profile;
use crate::proof::{self, Fact};

/// Longest the making and the removing may take each.
const BOUND: Duration = Duration::from_secs(150);

/// What became of it.
pub enum Live {
    /// It was not tried.
    Skipped {
        /// Why not.
        why: String,
    },
    /// It was made and proven.
    Passed {
        /// From the request to a proven sandbox.
        took: Duration,
        /// Each control, what was asked for and what was read inside.
        facts: Vec<Fact>,
    },
    /// It could not be made, or its proof differs.
    Failed {
        /// Why.
        error: Error,
    },
}

impl Live {
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped { why: why.into() }
    }
}

/// Makes a sandbox with all that the engine has proven of the profile, and removes it.
pub async fn make(client: &Client, report: &EngineReport, profile: &Profile) -> Live {
    if !report.available {
        return Live::skipped("the engine does not work here");
    }
    if report.isolation.iter().all(|level| *level == Isolation::Process) {
        return Live::skipped("a plain process has nothing to prove");
    }
    match tried(client, report, profile).await {
        Ok((took, info)) => Live::Passed { took, facts: proof::facts(&info) },
        Err(error) => Live::Failed { error },
    }
}

async fn tried(client: &Client, report: &EngineReport, profile: &Profile) -> Result<(Duration, SandboxInfo)> {
    let place = tempfile::Builder::new()
        .prefix("cove-test-")
        .tempdir()
        .map_err(|e| Error::internal("There is no room for the test's root").because(e).next("Set TMPDIR"))?;
    let mut spec = profile.spec.clone();
    spec.name = format!("cove-test-{}-{}", report.kind, cove_core::SandboxId::new().short());
    if profile.own_root {
        let has =
            |control: Control| report.controls.iter().any(|c| c.control == control && c.finding == Finding::Proven);
        spec.root = if has(Control::RootArchive) || !has(Control::RootDirectory) {
            Root::Archive(archive(place.path())?)
        } else {
            Root::Directory(directory(place.path())?)
        };
    }
    // What is missing is in the table already; the rest has to hold.
    let limits = &mut spec.limits;
    let lacks = |control: Control| profile.missing.contains(&control);
    limits.cpus = limits.cpus.filter(|_| !lacks(Control::LimitCpu));
    limits.memory_bytes = limits.memory_bytes.filter(|_| !lacks(Control::LimitMemory));
    limits.pids = limits.pids.filter(|_| !lacks(Control::LimitPids));
    limits.disk_bytes = limits.disk_bytes.filter(|_| !lacks(Control::LimitDisk));
    limits.open_files = limits.open_files.filter(|_| !lacks(Control::LimitOpenFiles));
    let wanted = NewSandbox { engine: report.kind.to_string(), accept_no_sandbox: false, spec };
    let begun = Instant::now();
    let late = |what: &str| Error::new(cove_core::ErrorKind::Timeout, format!("The sandbox was not {what} in time"));
    let info = tokio::time::timeout(BOUND, client.create_sandbox(&wanted)).await.map_err(|_| late("made"))??;
    let took = begun.elapsed();
    tokio::time::timeout(BOUND, client.remove_sandbox(info.id.as_str())).await.map_err(|_| late("removed"))??;
    Ok((took, info))
}

/// Directories of the smallest root there is, to mount over.
const DIRECTORIES: [&str; 10] = ["bin", "dev", "etc", "home", "proc", "run", "sys", "tmp", "usr", "workspace"];
/// Its files: names of users.
const FILES: [(&str, &str); 2] = [
    ("etc/group", "root:x:0:\nralph:x:1000:\n"),
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nralph:x:1000:1000::/home/ralph:/bin/sh\n"),
];

/// The smallest root as a directory.
fn directory(place: &Path) -> Result<PathBuf> {
    let root = place.join("root");
    let failed = |e: std::io::Error| Error::internal("The test's root cannot be written").because(e).next("Set TMPDIR");
    for dir in DIRECTORIES {
        std::fs::create_dir_all(root.join(dir)).map_err(failed)?;
    }
    for (file, text) in FILES {
        std::fs::write(root.join(file), text).map_err(failed)?;
    }
    Ok(root)
}

/// The same as an archive: the same bytes each time, so that an engine keeps one image of it.
fn archive(place: &Path) -> Result<PathBuf> {
    let root = directory(place)?;
    let file = place.join("root.tar");
    let failed = |e: std::io::Error| Error::internal("The test's root cannot be packed").because(e).next("Set TMPDIR");
    let mut tar = tar::Builder::new(File::create(&file).map_err(failed)?);
    tar.mode(tar::HeaderMode::Deterministic);
    for name in DIRECTORIES.into_iter().chain(FILES.map(|(file, _)| file)) {
        tar.append_path_with_name(root.join(name), name).map_err(failed)?;
    }
    tar.into_inner().and_then(|out| out.sync_all()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_root_of_a_test_is_the_same_each_time() {
        let packed = || {
            let place = tempfile::tempdir().unwrap();
            std::fs::read(super::archive(place.path()).unwrap()).unwrap()
        };
        assert_eq!(packed(), packed());
    }
}
