//! Podman services of our own: one as root, one as an ordinary account, each with its own storage.

use std::path::Path;
use std::process::Command;

use super::keeper::{Absence, Up};
use super::server::{Server, mode};
use crate::process::{Outcome, exists, output};

/// The account that owns the rootless service; made when absent, and kept.
const ACCOUNT: &str = "cove-bed";

/// Ids that the account may map, where `useradd` gave it none.
const SUBORDINATE: u32 = 65_536;

/// Starts the service of root below `directory`.
pub fn up(directory: &Path, root: bool) -> Up {
    installed()?;
    if !root {
        return Err(Absence::Skipped("the service of root needs root".to_owned()));
    }
    let started = || -> Outcome<_> {
        prepare(directory, "")?;
        start(directory)
    };
    let server = started().map_err(Absence::Failed)?;
    let socket = directory.join("podman.sock").display().to_string();
    let script = directory.join("as").display().to_string();
    let variables = vec![("COVE_TEST_PODMAN".to_owned(), socket), ("COVE_TEST_PODMAN_AS".to_owned(), script)];
    Ok((Box::new(server), variables))
}

/// Starts the service of an ordinary account below `directory`: of [`ACCOUNT`] when we are root, of our
/// own otherwise.
pub fn up_rootless(directory: &Path, root: bool) -> Up {
    installed()?;
    if !exists("newuidmap") {
        return Err(Absence::Skipped("newuidmap (Debian package uidmap) is not installed".to_owned()));
    }
    let started = || -> Outcome<_> {
        if !root {
            let user = output(Command::new("id").arg("-un"))?.trim().to_owned();
            prepare(directory, "")?;
            return Ok((user, start(directory)?));
        }
        account()?;
        let group = output(Command::new("id").args(["-g", ACCOUNT]))?.trim().to_owned();
        let become_owner = format!(
            "[ \"$(id -u)\" != 0 ] || exec setpriv --reuid={ACCOUNT} --regid={group} --init-groups \"$0\" \"$@\"\n"
        );
        prepare(directory, &become_owner)?;
        output(Command::new("chown").arg("-R").arg(format!("{ACCOUNT}:")).arg(directory))?;
        Ok((ACCOUNT.to_owned(), start(directory)?))
    };
    let (user, server) = started().map_err(Absence::Failed)?;
    let socket = directory.join("podman.sock");
    let variables = vec![
        ("COVE_TEST_PODMAN_ROOTLESS".to_owned(), format!("{user}:{}", socket.display())),
        ("COVE_TEST_PODMAN_ROOTLESS_AS".to_owned(), directory.join("as").display().to_string()),
    ];
    Ok((Box::new(server), variables))
}

fn installed() -> Result<(), Absence> {
    if exists("podman") {
        return Ok(());
    }
    Err(Absence::Skipped("the program podman is not installed".to_owned()))
}

/// Directories and settings; what runs podman with them is the script `as`, which begins with `first`.
fn prepare(directory: &Path, first: &str) -> Outcome {
    let place = directory.display();
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).map_err(|e| format!("{name} cannot be written: {e}"))
    };
    for name in ["", "home", "run"] {
        let made = std::fs::create_dir(directory.join(name)).and_then(|()| mode(&directory.join(name), 0o700));
        made.map_err(|e| format!("{place}/{name} cannot be made: {e}"))?;
    }
    // crun refuses machines with both cgroup versions; there is no systemd to ask for cgroups or to
    // log to. The default limits are higher than a process without CAP_SYS_RESOURCE may set.
    write(
        "containers.conf",
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nlog_driver = \"k8s-file\"\n\
         [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n"
            .to_owned(),
    )?;
    write(
        "storage.conf",
        format!(
            "[storage]\ndriver = \"{}\"\nrunroot = \"{place}/run/storage\"\ngraphroot = \"{place}/graph\"\n",
            if overlay_works(directory) { "overlay" } else { "vfs" }
        ),
    )?;
    write(
        "as",
        format!(
            "#!/bin/sh\n# Runs a command as the owner of this podman would.\n{first}cd {place} || exit 1\n\
             export HOME={place}/home XDG_RUNTIME_DIR={place}/run TMPDIR={place}/home\n\
             export CONTAINERS_CONF={place}/containers.conf CONTAINERS_STORAGE_CONF={place}/storage.conf\n\
             unset CONTAINER_HOST DOCKER_HOST XDG_CONFIG_HOME XDG_DATA_HOME\nexec \"$@\"\n"
        ),
    )?;
    mode(&directory.join("as"), 0o755).map_err(|e| e.to_string())
}

/// Overlay does not stack on itself: a machine that is a container may need plain copies.
fn overlay_works(directory: &Path) -> bool {
    let kind = output(Command::new("stat").args(["-f", "-c", "%T"]).arg(directory));
    kind.is_ok_and(|kind| kind.trim() != "overlayfs")
}

fn start(directory: &Path) -> Outcome<Server> {
    let script = directory.join("as");
    let within = |arguments: &[&str]| {
        let mut command = Command::new(&script);
        command.args(arguments);
        command
    };
    let socket = directory.join("podman.sock");
    let address = format!("unix://{}", socket.display());
    // `tmpdir` is on purpose not one that other podmans of the same user know.
    let tmp = directory.join("run/libpod/tmp").display().to_string();
    let service = within(&["podman", "--tmpdir", &tmp, "system", "service", "--time=0", &address]);
    let empty = within(&["podman", "--url", &address, "rm", "--all", "--force", "--volumes", "--time=0"]);
    Server::start(service, &socket, &directory.join("log"), empty)
}

fn account() -> Outcome {
    if output(Command::new("id").arg(ACCOUNT)).is_err() {
        let mut useradd = Command::new("useradd");
        useradd.args(["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", ACCOUNT]);
        output(&mut useradd)?;
    }
    for (file, flag) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.lines().any(|line| line.starts_with(&format!("{ACCOUNT}:"))) {
            continue;
        }
        let ends = text.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(1).map(|field| field.parse::<u32>().ok());
            fields.next()??.checked_add(fields.next()??)
        });
        let first = ends.max().unwrap_or(0).max(1_000_000);
        output(Command::new("usermod").args([flag, &format!("{first}-{}", first + SUBORDINATE - 1), ACCOUNT]))?;
    }
    Ok(())
}
