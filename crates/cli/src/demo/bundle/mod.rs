//! The demonstration's repository, PRD and agent, carried inside the program.
//!
//! The repository needs a shell, awk and sed. The agent is a script that truly edits the code; at its
//! first try of the second story it breaks something, tries to reach out, disables the check and marks
//! the PRD as done by itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cove_core::{Error, ErrorKind, Result};

/// The agent's script, for `sh -c` where a mounted file is not wanted.
pub const AGENT: &str = include_str!("agent.sh");

/// Path in the repository, text, whether it is executable.
const FILES: [(&str, &str, bool); 9] = [
    ("README.md", include_str!("repository/README.md"), false),
    ("check.sh", include_str!("repository/check.sh"), true),
    ("tally", include_str!("repository/tally"), true),
    ("lib/read.awk", include_str!("repository/lib/read.awk"), false),
    ("lib/list.awk", include_str!("repository/lib/list.awk"), false),
    ("tests/assert.sh", include_str!("repository/tests/assert.sh"), false),
    ("tests/test_list.sh", include_str!("repository/tests/test_list.sh"), false),
    ("data/july.txt", include_str!("repository/data/july.txt"), false),
    ("prd.json", include_str!("repository/prd.json"), false),
];

/// Where the parts of a demonstration lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoFiles {
    /// The repository's work tree.
    pub repository: PathBuf,
    /// The PRD, in the repository.
    pub prd: PathBuf,
    /// The agent's script, outside the repository; its directory holds nothing else and can be shown
    /// to the sandbox.
    pub agent: PathBuf,
}

/// Writes everything below `dir`, which is made when it does not exist. The repository is not yet under
/// git; see [`DemoFiles::begin`].
///
/// # Errors
/// `Conflict` when there is a demonstration already; the operating system's errors as `Internal`.
pub fn write(dir: &Path) -> Result<DemoFiles> {
    let files =
        DemoFiles { repository: dir.join("tally"), prd: dir.join("tally/prd.json"), agent: dir.join("agent/agent.sh") };
    if files.repository.exists() || files.agent.exists() {
        return Err(Error::new(ErrorKind::Conflict, format!("{} holds a demonstration already", dir.display()))
            .next("Name another directory, or remove this one"));
    }
    for (path, text, executable) in FILES {
        put(&files.repository.join(path), text, executable)?;
    }
    put(&files.agent, AGENT, true)?;
    Ok(files)
}

fn put(path: &Path, text: &str, executable: bool) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let fail = |error: std::io::Error| Error::internal(format!("Cannot write {}", path.display())).because(error);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    std::fs::write(path, text).map_err(fail)?;
    let mode = if executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(fail)
}

impl DemoFiles {
    /// Puts the repository under git, with one commit on `main`. The user's own git configuration is
    /// left out of it.
    ///
    /// # Errors
    /// `Unavailable` without git; `Timeout`; `Internal` with git's own words.
    pub async fn begin(&self) -> Result<()> {
        self.git(&["init", "--quiet"]).await?;
        // `git init --initial-branch` is younger than the oldest git that is supported.
        self.git(&["symbolic-ref", "HEAD", "refs/heads/main"]).await?;
        self.git(&["add", "--all"]).await?;
        self.git(&["commit", "--quiet", "--message", "chore: a spending log that can be listed"]).await
    }

    async fn git(&self, arguments: &[&str]) -> Result<()> {
        let mut git = tokio::process::Command::new("git");
        git.current_dir(&self.repository)
            .args(["-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgSign=false"])
            .args(["-c", "core.hooksPath=/dev/null", "-c", "init.templateDir="])
            .args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), git.output())
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "git did not finish making the demonstration's repository"))?
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "git cannot be started")
                    .because(error)
                    .next("Install git and try again")
            })?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect::<String>();
        Err(Error::internal("git could not make the demonstration's repository").with("git", words.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests;
