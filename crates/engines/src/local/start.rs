//! Starting a supervisor and hearing how it went.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use cove_core::error::{Context, Error, ErrorKind, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::supervisor::HelperProgram;
use crate::supervisor::control::Reply;
use crate::supervisor::plan::Directory;

/// How long building a sandbox may take, unpacking of its root not included.
const READY: Duration = Duration::from_secs(90);

/// Variables of the daemon that a supervisor gets; the rest may hold secrets.
const KEPT: [&str; 10] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "RUST_BACKTRACE",
    "LANG",
    // A Podman service that is started again has the settings of the one before.
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    crate::container::client::PATIENCE,
];

/// Starts the supervisor of `dir` and waits until its sandbox runs. `lock` goes over to it.
pub async fn start(helper: &HelperProgram, dir: &Directory, lock: OwnedFd) -> Result<()> {
    let Some((program, arguments)) = helper.0.split_first() else {
        return Err(Error::invalid("The helper program has no name"));
    };
    let log = File::options()
        .append(true)
        .create(true)
        .open(dir.log())
        .context(ErrorKind::Internal, format!("{} cannot be written", dir.log().display()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(&dir.0)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(|name| KEPT.contains(&name))))
        .current_dir("/")
        .stdin(Stdio::from(lock))
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .spawn()
        .context(ErrorKind::NotStarted, format!("The supervisor {program} cannot be started"))?;
    let Some(ready) = child.stdout.take() else {
        return Err(Error::internal("The supervisor's answer cannot be read"));
    };
    let mut answer = Vec::new();
    let heard = timeout(READY, async {
        BufReader::new(ready.take(64 << 10)).read_until(b'\n', &mut answer).await?;
        // The process that was started leaves at once; the supervisor is its child.
        child.wait().await
    });
    match heard.await {
        Err(_) => Err(Error::new(ErrorKind::NotStarted, "The sandbox was not ready in time")
            .with("seconds", READY.as_secs())
            .because(tail(dir))),
        Ok(Err(error)) => {
            Err(Error::new(ErrorKind::NotStarted, "The supervisor's answer cannot be read").because(error))
        }
        Ok(Ok(_)) => match serde_json::from_slice(&answer) {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Fault(fault)) => Err(fault.into()),
            _ => Err(Error::new(ErrorKind::NotStarted, "The supervisor ended without an answer").because(tail(dir))),
        },
    }
}

/// The end of the supervisor's log on one line.
fn tail(dir: &Directory) -> String {
    let text = std::fs::read(dir.log()).unwrap_or_default();
    let from = text.len().saturating_sub(2000);
    let lines = String::from_utf8_lossy(&text[from..]).trim().replace('\n', " / ");
    if lines.is_empty() { "Its log is empty".to_owned() } else { lines }
}
