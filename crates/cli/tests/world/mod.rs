//! A home, a working directory and the command, apart from everything else on the machine.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Directories of one test.
pub struct World {
    root: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("cv").tempdir().unwrap();
        for dir in ["home", "work"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        Self { root }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub fn write(&self, below: &str, text: &str) {
        let file = self.path(below);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// A repository with two stories and a gate.
    pub fn with_repository(self) -> Self {
        self.git(&["init", "-q"]);
        self.git(&["symbolic-ref", "HEAD", "refs/heads/main"]);
        self.write("work/check.sh", "test ! -e broken && grep -q '' README.md\n");
        self.write("work/README.md", "read me\n");
        self.write(
            "work/prd.json",
            r#"{
  "project": "Small",
  "branchName": "ralph/small",
  "qualityGates": ["sh check.sh"],
  "userStories": [
    { "id": "US-1", "title": "First", "acceptanceCriteria": ["one.txt exists"], "priority": 1, "passes": false },
    { "id": "US-2", "title": "Second", "acceptanceCriteria": ["two.txt exists"], "priority": 2, "passes": false }
  ]
}
"#,
        );
        self.commit("chore: begin");
        self
    }

    pub fn git(&self, args: &[&str]) -> String {
        let out = Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgSign=false"])
            .args(args)
            .current_dir(self.path("work"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    /// The command with an environment of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        command
            .args(args)
            .current_dir(self.path("work"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            // A machine's own engines are nobody's here.
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
            .env("CONTAINER_HOST", "unix:///nowhere/podman.sock")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn cove(&self, args: &[&str]) -> Said {
        self.command(args).output().unwrap().into()
    }

    #[allow(dead_code, reason = "not every test file needs it")]
    pub fn cove_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Said {
        self.command(args).envs(variables.iter().copied()).output().unwrap().into()
    }
}

impl Drop for World {
    /// No daemon outlives its test.
    fn drop(&mut self) {
        let _ = self.command(&["daemon", "stop"]).output();
    }
}
