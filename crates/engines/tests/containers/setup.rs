//! The circumstances in which the container engines are tried.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cove_core::{EngineKind, Error, InstanceId, Result};
use cove_engines::container::Containers;
use cove_engines::{HelperProgram, LocalEngine};
use libtest_mimic::{Arguments, Failed, Trial};

/// Names the set-up's socket to a test program that was started again as its user.
const AGAIN: &str = "COVE_TEST_AGAIN";

/// One engine in one way of running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    pub name: &'static str,
    pub engine: EngineKind,
    pub socket: PathBuf,
    /// The user that the set-up needs, where it is another than ours.
    pub user: Option<String>,
    /// Where what was proven is remembered between the processes of a test run.
    pub cache: PathBuf,
}

impl Setup {
    pub fn kind(&self) -> Result<Containers> {
        Containers::new(self.engine, &self.socket, &self.cache, &HelperProgram::current()?)
    }

    pub fn engine(&self, state: &Path, instance: &InstanceId) -> Result<LocalEngine<Containers>> {
        LocalEngine::new(self.kind()?, state, instance.clone(), HelperProgram::current()?)
    }
}

fn named(name: &'static str) -> Option<Setup> {
    let (engine, variable) = match name {
        "docker" => (EngineKind::Docker, "COVE_TEST_DOCKER"),
        "podman" => (EngineKind::Podman, "COVE_TEST_PODMAN"),
        _ => (EngineKind::Podman, "COVE_TEST_PODMAN_ROOTLESS"),
    };
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
    let (user, socket) = match value.split_once(':') {
        Some((user, socket)) => (Some(user.to_owned()), socket.to_owned()),
        None => (None, value),
    };
    Some(Setup { name, engine, socket: socket.into(), user, cache: env!("CARGO_TARGET_TMPDIR").into() })
}

/// Runs `trials` in every set-up there is; those that are missing are named.
pub fn main(trials: impl Fn(&Setup) -> Vec<Trial>) -> ! {
    let mut arguments = Arguments::from_args();
    // Engines of this kind spend most of a sandbox's start waiting for their own programs.
    arguments.test_threads.get_or_insert(4);
    if let Ok(socket) = std::env::var(AGAIN) {
        let cache = std::env::current_dir().unwrap_or_default();
        let setup =
            Setup { name: "podman-rootless", engine: EngineKind::Podman, socket: socket.into(), user: None, cache };
        libtest_mimic::run(&arguments, trials(&setup)).exit();
    }
    let mut all = Vec::new();
    for name in ["docker", "podman", "podman-rootless"] {
        match named(name) {
            None => {
                eprintln!("SKIP {name}: no engine was named for this set-up");
                let skipped = Trial::test(format!("{name}::all"), || Ok(())).with_kind("no engine here");
                all.push(skipped.with_ignored_flag(true));
            }
            Some(setup) if setup.user.is_some() => {
                all.push(Trial::test(format!("{name}::all"), move || again(&setup)));
            }
            Some(setup) => all.extend(trials(&setup)),
        }
    }
    libtest_mimic::run(&arguments, all).exit()
}

struct Account {
    uid: u32,
    gid: u32,
    home: PathBuf,
}

fn account(name: &str) -> Result<Account> {
    let unknown = || Error::invalid(format!("There is no user {name}"));
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| unknown().because(error))?;
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
        .ok_or_else(unknown)?;
    let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).ok_or_else(unknown);
    Ok(Account { uid: number(2)?, gid: number(3)?, home: fields.get(5).copied().unwrap_or("/").into() })
}

/// This program again, as the set-up's user, in a directory of that user.
fn again(setup: &Setup) -> std::result::Result<(), Failed> {
    let name = setup.user.as_deref().unwrap_or_default();
    let account = account(name).map_err(|error| error.to_string())?;
    let dir = tempfile::Builder::new().prefix("cove-test-").tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let work = dir.path().join("work");
    fs::create_dir(&work)?;
    chown(&work, Some(account.uid), Some(account.gid))?;
    let mut command = Command::new(&program);
    command.env(AGAIN, &setup.socket).env("HOME", &account.home).env("TMPDIR", &work).current_dir(&work);
    command.env("USER", name).env("XDG_RUNTIME_DIR", setup.socket.ancestors().nth(2).unwrap_or(&work));
    command.stdin(Stdio::null()).args(["--test-threads", "4"]);
    let (uid, gid) = (account.uid, account.gid);
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            libc::setgroups(1, &raw const gid);
            if libc::setresgid(gid, gid, gid) != 0 || libc::setresuid(uid, uid, uid) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let output = loop {
        match command.output() {
            // Another trial's fork may still hold the copy open for writing for a moment.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            other => break other?,
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    print!("{}", text(&output.stdout));
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}
