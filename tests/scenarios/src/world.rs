//! Directories, a user and an environment.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cove_testkit::remains::Territory;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::process::{Finished, finish, wait_until};

/// A user id without an entry in the user database.
const UNPRIVILEGED: u32 = 54_321;

/// Longest time for one command of a scenario.
const DEADLINE: Duration = Duration::from_secs(450);

/// Who runs Cove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// Whoever runs the test.
    Own,
    /// A user without any rights; needs a test that runs as root.
    Unprivileged,
}

impl Account {
    /// Whether it can be had here; prints the skip otherwise.
    pub fn available(self, what: &str) -> bool {
        let available = self == Self::Own || Uid::effective().is_root();
        if !available {
            crate::skip(what, "running as another user needs a test that runs as root");
        }
        available
    }
}

/// Everything one scenario owns. When dropped, its daemon is ended and its directories are removed.
pub struct World {
    dir: tempfile::TempDir,
    account: Account,
    program: PathBuf,
    variables: BTreeMap<String, String>,
}

impl World {
    /// A new world with nothing in it.
    ///
    /// # Panics
    /// When the binary has not been built.
    pub fn new(account: Account) -> Self {
        let dir = tempfile::Builder::new().prefix("cove-scenario-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "data", "state", "cache"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let program = match account {
            Account::Own => built(),
            Account::Unprivileged => {
                // The build directory may lie where other users cannot look.
                let copy = dir.path().join("cove");
                std::fs::copy(built(), &copy).unwrap();
                for name in ["home", "data", "state", "cache"] {
                    let id = Some(UNPRIVILEGED);
                    std::os::unix::fs::chown(dir.path().join(name), id, id).unwrap();
                }
                copy
            }
        };
        let mut world = Self { dir, account, program, variables: BTreeMap::new() };
        for (name, folder) in
            [("HOME", "home"), ("COVE_DATA_DIR", "data"), ("COVE_STATE_DIR", "state"), ("COVE_CACHE_DIR", "cache")]
        {
            world.variables.insert(name.to_owned(), world.path(folder).display().to_string());
        }
        world
    }

    /// A path in the world's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The `cove` binary.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where this world's Cove leaves its marks on the host.
    pub fn territory(&self) -> Territory {
        Territory::new(self.dir.path(), &self.path("data"), &self.path("state"))
    }

    /// User id that Cove runs as.
    pub fn uid(&self) -> u32 {
        match self.account {
            Account::Own => Uid::effective().as_raw(),
            Account::Unprivileged => UNPRIVILEGED,
        }
    }

    /// Sets a variable for all commands.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// A `cove` command, not yet started, in the world's home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.account {
            Account::Own => Command::new(&self.program),
            Account::Unprivileged => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={UNPRIVILEGED}")).arg(format!("--regid={UNPRIVILEGED}"));
                command.args(["--clear-groups", "--inh-caps=-all", "--"]).arg(&self.program);
                command
            }
        };
        command.env_clear();
        // A machine's own engines are nobody's here, unless a scenario names one.
        command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("CONTAINER_HOST", "unix:///nowhere/podman.sock");
        for name in ["PATH", "LANG", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.current_dir(self.path("home")).envs(&self.variables).args(arguments);
        command
    }

    /// Runs a `cove` command to its end.
    #[track_caller]
    pub fn cove(&self, arguments: &[&str]) -> Finished {
        finish(self.command(arguments), DEADLINE)
    }

    /// Runs a `cove` command in a directory to its end.
    #[track_caller]
    pub fn cove_in(&self, directory: &Path, arguments: &[&str]) -> Finished {
        let mut command = self.command(arguments);
        command.current_dir(directory);
        finish(command, DEADLINE)
    }

    /// Starts a `cove` command whose output goes to `log` in the world's directory.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, directory: &Path, log: &str, arguments: &[&str]) -> Child {
        use std::os::unix::process::CommandExt as _;
        let file = std::fs::File::create(self.path(log)).unwrap();
        let mut command = self.command(arguments);
        command.current_dir(directory).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        command.process_group(0).spawn().unwrap()
    }

    /// Living processes whose command line or environment names this world's directory, this
    /// test's own process left out.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        let needle = self.dir.path().as_os_str().as_encoded_bytes();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if id == i32::try_from(std::process::id()).unwrap() {
                continue;
            }
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let names = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
            if !line.is_empty() && (names(&line) || names(&environment)) {
                found.push((Pid::from_raw(id), String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        found
    }

    /// Ends processes of this world with a signal, those whose command line holds `what`.
    pub fn kill(&self, what: &str, signal: Signal) -> usize {
        let victims: Vec<_> = self.processes().into_iter().filter(|(_, line)| line.contains(what)).collect();
        for (pid, _) in &victims {
            // It may have ended by itself meanwhile.
            let _ = kill(*pid, signal);
        }
        victims.len()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill("", Signal::SIGTERM);
        let quiet = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the end of this world's processes", Duration::from_secs(20), || {
                self.processes().is_empty().then_some(())
            });
        }));
        if quiet.is_err() {
            self.kill("", Signal::SIGKILL);
        }
    }
}

/// The binary beside the test's own.
fn built() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap();
    let program = folder.join("cove");
    assert!(program.exists(), "{} is not built: run `cargo build -p cove-cli` first", program.display());
    program
}
