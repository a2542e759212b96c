//! Memory of the idle daemon and of each idle sandbox, as proportional set size.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};

const SANDBOXES: u64 = 20;

struct World {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl World {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let at = |name: &str| self.dir.path().join(name);
        command.env("COVE_DATA_DIR", at("data")).env("COVE_STATE_DIR", at("state")).env("COVE_CACHE_DIR", at("cache"));
        command.env("HOME", self.dir.path()).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Stdout of a command that has to succeed.
    fn cove(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .output()
            .context(ErrorKind::Unavailable, "cove cannot be started")?;
        if !output.status.success() {
            return Err(Error::internal(format!("cove {arguments:?} ended with {}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Sum over this world's processes; all of them, or the daemon alone.
    fn kibibytes(&self, daemon: u32) -> (u64, u64) {
        let needle = self.dir.path().display().to_string();
        let mut others = 0;
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if id != daemon
                && (line.contains(&needle) || line.contains("cove-guest") || line.contains("/run/cove/guest"))
            {
                others += proportional(&entry.path());
            }
        }
        (proportional(&Path::new("/proc").join(daemon.to_string())), others)
    }
}

fn proportional(process: &Path) -> u64 {
    let text = std::fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn wait(mut daemon: Child, world: &World) -> Result<Child> {
    let begun = Instant::now();
    while world.cove(&["sandbox", "list"]).is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            let _ = daemon.kill();
            return Err(Error::new(ErrorKind::Timeout, "The daemon did not start"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(daemon)
}

pub fn run() -> Result<()> {
    println!("\n## Memory (proportional set size)");
    let own = std::env::current_exe().context(ErrorKind::Internal, "No path of this program")?;
    let program = own.with_file_name("cove");
    let dir = tempfile::tempdir().context(ErrorKind::Internal, "No temporary directory")?;
    let world = World { dir, program };
    let daemon = world.command(&["serve"]).stderr(Stdio::null()).spawn();
    let mut daemon = wait(daemon.context(ErrorKind::Unavailable, "The daemon cannot be started")?, &world)?;
    let (idle, none) = world.kibibytes(daemon.id());
    println!("{:<44} {:>10.2} MiB", "daemon, idle", idle as f64 / 1024.0);
    let made: Result<Vec<String>> = (0..SANDBOXES).map(|_| world.cove(&["sandbox", "create", "-q"])).collect();
    let (with, all) = world.kibibytes(daemon.id());
    if let Ok(made) = &made {
        let each = all.saturating_sub(none) as f64 / SANDBOXES as f64 / 1024.0;
        println!("{:<44} {each:>10.2} MiB", format!("each of {SANDBOXES} idle sandboxes"));
        println!("{:<44} {:>10.2} MiB", "daemon with them", with as f64 / 1024.0);
        for sandbox in made {
            world.cove(&["sandbox", "rm", "--yes", sandbox])?;
        }
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
    made.map(drop)
}
