//! A directory with a user's repository in it, and plain git to set things up.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part; a test may panic")]

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use cove_git::{CollectedWork, CommitMessage, Git};

pub struct Lab {
    pub dir: tempfile::TempDir,
    pub git: Git,
}

impl Lab {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), git: Git::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs plain git, as a user or an agent would.
    pub fn plain<S: AsRef<OsStr>>(&self, at: &Path, args: impl IntoIterator<Item = S>) -> String {
        let args: Vec<_> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let out = Command::new("git")
            .args(&args)
            .current_dir(at)
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "User")
            .env("GIT_AUTHOR_EMAIL", "user@example.com")
            .env("GIT_COMMITTER_NAME", "User")
            .env("GIT_COMMITTER_EMAIL", "user@example.com")
            .env("GIT_ALLOW_PROTOCOL", "file")
            .output()
            .unwrap();
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// A user's repository with some files in one commit on `main`.
    pub fn user(&self, name: &str) -> PathBuf {
        let at = self.path(name);
        std::fs::create_dir_all(&at).unwrap();
        self.plain(&at, ["init", "-q", "-b", "main"]);
        write(&at, "README.md", "Read me\n");
        write(&at, "src/lib.rs", "pub fn one() -> u32 { 1 }\n");
        write(&at, "src/deep/er/x.txt", "x\n");
        write(&at, "run.sh", "#!/bin/sh\n");
        std::fs::set_permissions(at.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        write(&at, ".gitignore", "/target/\n*.log\n");
        symlink("README.md", at.join("link")).unwrap();
        self.commit(&at, "feat: begin");
        at
    }

    pub fn commit(&self, at: &Path, message: &str) -> String {
        self.plain(at, ["add", "-A"]);
        self.plain(at, ["commit", "-q", "--allow-empty", "-m", message]);
        self.plain(at, ["rev-parse", "HEAD"])
    }

    /// Bare repository, base commit and a sandbox's clone.
    pub async fn workspace(&self) -> (PathBuf, String, PathBuf) {
        let user = self.user("user");
        let bare = self.path("bare");
        self.git.clone_source(user.to_str().unwrap(), &bare).await.unwrap();
        let base = self.git.resolve(&bare, "HEAD").await.unwrap();
        let workspace = self.path("workspace");
        self.git.checkout(&bare, &base, "ralph/work", &workspace).await.unwrap();
        (bare, base, workspace)
    }

    pub async fn collect(&self, workspace: &Path, bare: &Path, base: &str) -> Option<CollectedWork> {
        let message = CommitMessage::new("feat: the work").trailer("Run-Id", "run_1");
        self.git.collect(workspace, bare, base, "refs/cove/taken/1", &message).await.unwrap()
    }
}

pub fn write(at: &Path, path: &str, text: impl AsRef<[u8]>) {
    let file = at.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

/// `A path` lines of a collected work, for comparing.
pub fn changed(work: &CollectedWork) -> Vec<String> {
    work.changes.iter().map(|c| format!("{} {}", format!("{:?}", c.status).chars().next().unwrap(), c.path)).collect()
}
