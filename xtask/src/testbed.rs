//! `testbed`: real servers and agent programs for tests. What is absent is installed; small servers are
//! started by the tests themselves, on loopback, and ended by process id. The container engines serve
//! all tests: [`keeper`] starts own ones and ends them whatever happens to us. Repeating it is cheap.

mod docker;
mod keeper;
mod podman;
mod server;

use std::path::PathBuf;
use std::process::Command;

use crate::process::{self, Outcome, exists, heading, output, root, say};

/// Program that proves a package, and the package.
const DEBIAN: &[(&str, &str)] = &[
    ("git", "git"),
    ("nginx", "nginx-light"),
    ("fcgiwrap", "fcgiwrap"),
    ("docker-registry", "docker-registry"),
    ("runc", "runc"),
    ("strace", "strace"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("setpriv", "util-linux"),
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("dockerd", "docker.io"),
    ("podman", "podman"),
    ("iptables", "iptables"),
    ("slirp4netns", "slirp4netns"),
    ("newuidmap", "uidmap"),
    ("fuse-overlayfs", "fuse-overlayfs"),
];

/// Packages that bring no program into `PATH`: a file that proves each.
const DEBIAN_FILES: &[(&str, &str)] = &[("/usr/lib/cni/loopback", "containernetworking-plugins")];

const HELP: &str = "\
cargo xtask testbed                     installs what tests need, and shows that its servers start
cargo xtask testbed up -- COMMAND…      runs a command with the test bed's servers up";

/// What is there. Dropping it ends its servers.
pub struct Bed {
    /// Variables that tell tests where things are.
    pub variables: Vec<(String, String)>,
    /// What could not be installed or started and so is not tested, with the reason.
    pub missing: Vec<String>,
    keeper: Option<keeper::Keeper>,
}

impl Bed {
    /// Ends the servers and waits until nothing of them is left.
    ///
    /// # Errors
    /// When something remained, by name.
    pub fn down(mut self) -> Outcome {
        self.keeper.take().map_or(Ok(()), keeper::Keeper::end)
    }
}

/// The task: `testbed [up -- COMMAND…]`.
///
/// # Errors
/// When something could not be installed or started, or the command failed.
pub fn run(arguments: &[String]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &words[..] {
        ["keep", directory] => keeper::serve(directory.as_ref()),
        ["up", "--", program, rest @ ..] => {
            let bed = up()?;
            report(&bed);
            let outcome = process::run(Command::new(program).args(rest).envs(bed.variables.iter().cloned()));
            let down = bed.down();
            outcome.and(down)
        }
        [] | ["up"] => {
            heading("test bed");
            let bed = up()?;
            report(&bed);
            let missing = bed.missing.join("\n");
            bed.down()?;
            if missing.is_empty() { Ok(()) } else { Err(missing) }
        }
        _ => Err(HELP.to_owned()),
    }
}

fn report(bed: &Bed) {
    for (name, value) in &bed.variables {
        say(&format!("{name}={value}"));
    }
    for skipped in &bed.missing {
        say(&format!("SKIP {skipped}"));
    }
}

/// Installs what is absent and starts the servers.
///
/// # Errors
/// In CI when a server that is installed does not start. Otherwise never for a thing that is merely not
/// to be had here; that is listed in [`Bed::missing`].
pub fn up() -> Outcome<Bed> {
    let mut bed = Bed { variables: Vec::new(), missing: Vec::new(), keeper: None };
    debian(&mut bed);
    agents(&mut bed);
    let (keeper, started) = keeper::start()?;
    bed.keeper = Some(keeper);
    bed.variables.extend(started.variables);
    bed.missing.extend(started.skipped);
    if in_ci() && !started.failed.is_empty() {
        return Err(format!("The test bed is not complete:\n{}", started.failed.join("\n")));
    }
    bed.missing.extend(started.failed);
    Ok(bed)
}

/// Whether this is a machine where everything installable has to work.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

fn debian(bed: &mut Bed) {
    let programs = DEBIAN.iter().filter(|(program, _)| !exists(program));
    let files = DEBIAN_FILES.iter().filter(|(file, _)| !std::path::Path::new(file).exists());
    let absent: Vec<&str> = programs.chain(files).map(|(_, package)| *package).collect();
    if absent.is_empty() {
        return;
    }
    say(&format!("Installing {}", absent.join(", ")));
    let _quiet = NoServices::begin();
    let update = apt(&["-qq", "update"]);
    let together = update.and_then(|()| {
        let mut arguments = vec!["-qq", "install", "-y", "--no-install-recommends"];
        arguments.extend(&absent);
        apt(&arguments)
    });
    if together.is_err() {
        for package in absent {
            if let Err(reason) = apt(&["-qq", "install", "-y", "--no-install-recommends", package]) {
                bed.missing.push(format!("package {package}: {reason}"));
            }
        }
    }
}

/// While it lives, packages do not start their services (Debian's `policy-rc.d` interface): a server
/// started at once would take ports and sockets that tests do not own.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn begin() -> Self {
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        if policy.exists() || std::fs::write(&policy, "#!/bin/sh\nexit 101\n").is_err() {
            return Self(None); // the machine's own policy stands, or it is not ours to set
        }
        let _ = output(Command::new("chmod").arg("755").arg(&policy));
        Self(Some(policy))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.0 {
            let _ = std::fs::remove_file(policy);
        }
    }
}

fn apt(arguments: &[&str]) -> Outcome {
    if !exists("apt-get") {
        return Err("there is no apt-get on this machine".to_owned());
    }
    let mut command = if exists("sudo") && !is_root() {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "env"]);
        sudo
    } else {
        Command::new("env")
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]).args(arguments);
    output(&mut command).map(|_| ())
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Where the agent programs are installed: outside the checkout's sources, kept between runs.
fn agents_directory() -> PathBuf {
    process::target().join("testbed").join("agents")
}

fn agents(bed: &mut Bed) {
    let script = root().join("tests/agents/install.sh");
    if !script.is_file() {
        return;
    }
    if !exists("npm") {
        bed.missing.push("agent programs: there is no npm on this machine".to_owned());
        return;
    }
    let directory = agents_directory();
    match process::run(Command::new("bash").arg(&script).arg(&directory)) {
        Ok(()) => bed.variables.push(("COVE_AGENT_CLIS".to_owned(), directory.display().to_string())),
        Err(reason) => bed.missing.push(format!("agent programs: {reason}")),
    }
}
