//! Repositories for runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Finished, finish};

/// A repository of the user, with a work tree.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its work tree.
    pub path: PathBuf,
}

impl Repository {
    /// Copies `source` (a directory of the project) to `path` and commits all of it.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy_of(source: &Path, path: &Path) -> Self {
        let mut copy = Command::new("cp");
        copy.arg("-r").arg("--").arg(source).arg(path);
        finish(copy, Duration::from_secs(60)).expect(0);
        Self::commit_all(path)
    }

    /// A repository with these files.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn with(path: &Path, files: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(path).unwrap();
        for (name, text) in files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Self::commit_all(path)
    }

    fn commit_all(path: &Path) -> Self {
        let this = Self { path: path.to_path_buf() };
        this.git(&["init", "--quiet", "--initial-branch=main"]).expect(0);
        this.git(&["add", "--all"]).expect(0);
        this.git(&["commit", "--quiet", "--allow-empty", "--message", "chore: begin"]).expect(0);
        this
    }

    /// Runs git in it, with an identity and without the machine's configuration.
    pub fn git(&self, arguments: &[&str]) -> Finished {
        let mut git = Command::new("git");
        git.current_dir(&self.path)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "safe.directory=*"])
            .args(["-c", "commit.gpgSign=false"])
            .args(arguments);
        finish(git, Duration::from_secs(60))
    }

    /// Stdout of a git command that has to succeed, trimmed.
    pub fn ask(&self, arguments: &[&str]) -> String {
        self.git(arguments).expect(0).stdout.trim().to_owned()
    }

    /// Gives everything in it to a user.
    ///
    /// # Panics
    /// When that is not allowed.
    pub fn give_to(&self, uid: u32) {
        let mut chown = Command::new("chown");
        chown.arg("-R").arg(format!("{uid}:{uid}")).arg("--").arg(&self.path);
        finish(chown, Duration::from_secs(60)).expect(0);
    }
}
