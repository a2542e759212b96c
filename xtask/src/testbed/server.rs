//! One server process: starting it, waiting until it answers, ending it, clearing what it left.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Outcome, output};

/// How long a server may take until it answers, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(90);

/// Something that the keeper ends.
pub trait Kept: Send {
    /// Ends it, first what runs in it. Failure shows as remains.
    fn end(&mut self);
}

/// A server process that answers on a Unix socket.
pub struct Server {
    child: Child,
    /// Removes every container in it, run before the server is ended.
    pub emptied_by: Command,
}

impl Server {
    /// Starts `command` with its output in `log` and waits until `GET /_ping` on `socket` is answered.
    ///
    /// # Errors
    /// The reason with the log's last lines; it has ended then.
    pub fn start(mut command: Command, socket: &Path, log: &Path, emptied_by: Command) -> Outcome<Self> {
        let file = File::create(log).map_err(|e| format!("{} cannot be made: {e}", log.display()))?;
        let errors = file.try_clone().map_err(|e| e.to_string())?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        let child = command.spawn().map_err(|e| format!("{:?} cannot be started: {e}", command.get_program()))?;
        let mut server = Self { child, emptied_by };
        let until = Instant::now() + PATIENCE;
        let reason = loop {
            if answers(socket) {
                return Ok(server);
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                break format!("it ended with {status}");
            }
            if Instant::now() > until {
                break format!("it did not answer within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        server.stop();
        let said = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        Err(format!("{reason}\n{}", lines[lines.len().saturating_sub(8)..].join("\n")))
    }

    fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        signal("TERM", self.child.id());
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until && !matches!(self.child.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kept for Server {
    fn end(&mut self) {
        let _ = output(&mut self.emptied_by);
        self.stop();
    }
}

fn answers(socket: &Path) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-sf", "--max-time", "10", "--unix-socket"]).arg(socket).arg("http://engine/_ping");
    output(&mut curl).is_ok_and(|said| said.trim() == "OK")
}

fn signal(name: &str, pid: u32) {
    let _ = output(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()));
}

/// Sets a mode.
///
/// # Errors
/// When it cannot be set.
pub fn mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Ends what still runs out of `directory`, unmounts what is mounted below it, and removes it.
///
/// # Errors
/// When something remains, by name.
pub fn clear(directory: &Path) -> Outcome {
    let name = directory.display().to_string();
    // Monitors and shims that outlive their server name the directory, which is ours alone, in their
    // command line. The one that rootless podman keeps has its number in a file.
    for pid in processes_of(&name).into_iter().chain(pause_processes(directory)) {
        signal("KILL", pid);
    }
    let mounts = || -> Vec<PathBuf> {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
        places.filter(|place| place.starts_with(directory)).collect()
    };
    for place in mounts().iter().rev() {
        let _ = output(Command::new("umount").arg("-l").arg(place));
    }
    // Files of mapped users, when we are not root, are removed from within their user namespace.
    if std::fs::remove_dir_all(directory).is_err() {
        let _ = output(Command::new("podman").args(["unshare", "rm", "-rf", "--", &name]));
        std::fs::remove_dir_all(directory).or_else(gone).map_err(|e| format!("{name} cannot be removed: {e}"))?;
    }
    match &mounts()[..] {
        [] => Ok(()),
        left => Err(format!("Still mounted: {left:?}")),
    }
}

fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn processes_of(name: &str) -> Vec<u32> {
    let inside = format!("{name}/");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&inside)
        })
        .collect()
}

fn pause_processes(directory: &Path) -> Vec<u32> {
    let file = directory.join("r/run/libpod/tmp/pause.pid");
    let number = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u32>().ok());
    number
        .into_iter()
        .filter(|pid| {
            // The number may have been given to somebody else since.
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("podman"))
        })
        .collect()
}
