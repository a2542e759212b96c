//! `testbed`: real servers and agent programs for tests. It installs; each test starts what it needs
//! on loopback and ends it by process id. Repeating it is cheap.

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
    ("faketime", "faketime"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("setpriv", "util-linux"),
    ("busybox", "busybox-static"),
];

/// What is there.
pub struct Bed {
    /// Variables that tell tests where things are.
    pub variables: Vec<(String, String)>,
    /// What could not be installed and so is not tested, with the reason.
    pub missing: Vec<String>,
}

/// The task: `testbed [up]`.
///
/// # Errors
/// When something could not be installed.
pub fn run(_arguments: &[String]) -> Outcome {
    heading("test bed");
    let bed = up()?;
    for (name, value) in &bed.variables {
        say(&format!("{name}={value}"));
    }
    if bed.missing.is_empty() { Ok(()) } else { Err(bed.missing.join("\n")) }
}

/// Installs what is absent.
///
/// # Errors
/// Never for a thing that is merely not to be had here; that is listed in [`Bed::missing`].
pub fn up() -> Outcome<Bed> {
    let mut bed = Bed { variables: Vec::new(), missing: Vec::new() };
    debian(&mut bed);
    agents(&mut bed);
    Ok(bed)
}

fn debian(bed: &mut Bed) {
    let absent: Vec<&str> =
        DEBIAN.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    if absent.is_empty() {
        return;
    }
    say(&format!("Installing {}", absent.join(", ")));
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

fn apt(arguments: &[&str]) -> Outcome {
    if !exists("apt-get") {
        return Err("there is no apt-get on this machine".to_owned());
    }
    let mut command = if exists("sudo") && !is_root() {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    } else {
        Command::new("apt-get")
    };
    // A package that starts its server at once would take ports that tests do not own.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(arguments);
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
