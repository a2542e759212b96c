//! Starts the guest as a plain child.

#![allow(unsafe_code, reason = "the descriptor of the channel is put in place between fork and exec")]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cove_core::error::{Context, Error, ErrorKind, Result};
use cove_core::{Attestation, Control, Network, Report, SandboxSpec};
use cove_guest::processes;
use cove_guest::wire::CHANNEL_FD;

use super::remains::{INSTANCE, SANDBOX};
use crate::supervisor::launch::{HOME, Launched, Launcher, Place, USER, base_environment};

/// How long killing may take.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
pub struct Direct;

impl Launcher for Direct {
    fn launch(&self, place: &Place, spec: &SandboxSpec, guest_channel: OwnedFd) -> Result<Box<dyn Launched>> {
        let (home, work) = (place.dir.join("home"), place.dir.join("work"));
        for dir in [&home, &work] {
            std::fs::create_dir_all(dir).context(ErrorKind::NotStarted, format!("{} cannot be made", dir.display()))?;
        }
        for mount in &spec.mounts {
            std::fs::metadata(&mount.source).context(
                ErrorKind::NotStarted,
                format!("The mount source {} cannot be reached", mount.source.display()),
            )?;
        }
        let marks = BTreeMap::from([
            (SANDBOX.to_owned(), place.id.to_string()),
            (INSTANCE.to_owned(), place.instance.to_string()),
        ]);
        let child = start(&place.guest, &marks, &guest_channel)
            .context(ErrorKind::NotStarted, format!("The guest {} cannot be started", place.guest.display()))?;
        // Longest targets first, so that a mount inside another wins.
        let mut views: Vec<(PathBuf, PathBuf)> =
            spec.mounts.iter().map(|mount| (mount.target.clone(), mount.source.clone())).collect();
        views.extend([(spec.workdir.clone(), work), (PathBuf::from(HOME), home.clone())]);
        views.sort_by_key(|(target, _)| std::cmp::Reverse(target.components().count()));
        Ok(Box::new(Plain { init: child, home, marks, views }))
    }
}

fn start(guest: &Path, marks: &BTreeMap<String, String>, channel: &OwnedFd) -> io::Result<libc::pid_t> {
    let channel = channel.as_raw_fd();
    let mut command = Command::new(guest);
    command.env_clear().envs(marks).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the closure only makes system calls that are safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let done = if channel == CHANNEL_FD {
                libc::fcntl(channel, libc::F_SETFD, 0)
            } else {
                libc::dup2(channel, CHANNEL_FD)
            };
            libc::setsid();
            if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    // A file that was just written may be held open for a moment by a process that is being started.
    for _ in 0..100 {
        match command.spawn() {
            Ok(child) => return Ok(child.id() as libc::pid_t),
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::ExecutableFileBusy.into())
}

struct Plain {
    init: libc::pid_t,
    home: PathBuf,
    marks: BTreeMap<String, String>,
    /// Paths of the specification and where they are on the host.
    views: Vec<(PathBuf, PathBuf)>,
}

impl Launched for Plain {
    fn init(&self) -> libc::pid_t {
        self.init
    }

    fn judge(&self, spec: &SandboxSpec, report: &Report) -> Attestation {
        let mut proven = vec![Control::IsolationProcess, Control::RootHost, Control::Pty, Control::Adopt];
        let mut waived = Vec::new();
        match spec.network {
            Network::Host => proven.push(Control::NetworkHost),
            // The door is there, but it is not the only way out.
            Network::Door { .. } | Network::None => waived.push(Control::NetworkDoor),
        }
        if spec.limits.wall_seconds.is_some() {
            proven.push(Control::LimitWall);
        }
        if !spec.mounts.is_empty() {
            proven.push(Control::Mounts);
        }
        Attestation { report: report.clone(), proven, waived, deviations: Vec::new() }
    }

    fn environment(&self, _spec: &SandboxSpec) -> BTreeMap<String, String> {
        let mut environment = base_environment(&self.home.to_string_lossy(), USER);
        // The programs are the host's, so they are found as on the host.
        if let Ok(path) = std::env::var("PATH") {
            environment.insert("PATH".to_owned(), path);
        }
        environment.extend(self.marks.clone());
        environment
    }

    fn inside(&self, path: &Path) -> PathBuf {
        for (target, source) in &self.views {
            if let Ok(rest) = path.strip_prefix(target) {
                return if rest.as_os_str().is_empty() { source.clone() } else { source.join(rest) };
            }
        }
        path.to_owned()
    }

    fn door(&self, socket: &Path) -> (PathBuf, u16) {
        // The host's loopback is shared by all, so the port is whichever is free.
        (socket.to_owned(), 0)
    }

    fn kill_all(&mut self) -> Result<()> {
        // The supervisor is the subreaper of all of them, and they are all it has for children.
        let own = std::process::id() as libc::pid_t;
        let init = self.init;
        let dead = processes::kill_descendants(own, KILL_LIMIT, || {
            crate::supervisor::reap(init);
        });
        if dead { Ok(()) } else { Err(Error::new(ErrorKind::Timeout, "Processes multiply faster than they die")) }
    }

    fn release(&mut self) -> Result<()> {
        Ok(())
    }
}
