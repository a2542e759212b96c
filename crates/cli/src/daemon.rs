//! Finds the daemon of this user, or starts it.

use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cove_api::{Client, Status};
use cove_core::quantity::format_duration;
use cove_core::{Error, ErrorKind, Result};

use crate::context::Context;
use crate::output::clean_line;

/// How long a daemon may take to be ready; probing engines is part of it.
const READY: Duration = Duration::from_secs(60);

/// How long another daemon's lock is waited for.
const LOCKED: Duration = Duration::from_secs(20);
/// Exit code of a daemon that finds another one at work.
const CONFLICT: i32 = 6;

/// This build, as a daemon reports it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A client of the daemon that runs, or of one that is started now. `COVE_SERVER` and `COVE_TOKEN`
/// name another server instead.
///
/// # Errors
/// `Unavailable` when none can be reached or started.
pub async fn connect(context: &Context) -> Result<Client> {
    match running(context).await? {
        Some((client, status)) => {
            same_directories(context, &status)?;
            warn_of_other_version(context, &status);
            Ok(client)
        }
        None => start(context).await,
    }
}

/// The daemon that runs now.
///
/// # Errors
/// `Unavailable` when a server that was named does not answer; `Denied` for a bad token.
pub async fn running(context: &Context) -> Result<Option<(Client, Status)>> {
    if let Some(url) = context.variables.get("COVE_SERVER").filter(|url| !url.is_empty()) {
        let client = Client::tcp(url, &token(context)?)?;
        let status = client.status().await?;
        return Ok(Some((client, status)));
    }
    context.paths.check_socket()?;
    if !context.paths.socket.exists() {
        return Ok(None);
    }
    let client = Client::unix(&context.paths.socket);
    match client.status().await {
        Ok(status) => Ok(Some((client, status))),
        // A socket that nobody serves is what a killed daemon leaves; the next one replaces it.
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One daemon serves one data directory: to go on with another one would lose what was asked for.
fn same_directories(context: &Context, status: &Status) -> Result<()> {
    if context.variables.get("COVE_SERVER").is_some_and(|url| !url.is_empty()) {
        return Ok(());
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let paths = &context.paths;
    for (what, variable, asked, has) in [
        ("data", "COVE_DATA_DIR", &paths.data, &status.data_dir),
        ("state", "COVE_STATE_DIR", &paths.state, &status.state_dir),
    ] {
        if real(asked) != real(has) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("A daemon runs with another {what} directory than {}", asked.display()),
            )
            .because(format!("It serves {} with {}", paths.socket.display(), has.display()))
            .next(match variable {
                "COVE_DATA_DIR" => {
                    "Give this one a daemon of its own: set COVE_STATE_DIR too; or end the other: cove daemon stop"
                }
                _ => "End it: cove daemon stop; or unset COVE_STATE_DIR",
            }));
        }
    }
    Ok(())
}

fn token(context: &Context) -> Result<String> {
    let variables = &context.variables;
    if let Some(token) = variables.get("COVE_TOKEN").filter(|token| !token.is_empty()) {
        return Ok(token.clone());
    }
    match variables.get("COVE_TOKEN_FILE") {
        Some(file) => crate::context::read_bounded(Path::new(file), 4096)?
            .map(|text| text.trim().to_owned())
            .ok_or_else(|| Error::not_found(format!("COVE_TOKEN_FILE names {file}, which does not exist"))),
        None => Err(Error::new(ErrorKind::Denied, "COVE_SERVER is set and there is no token for it")
            .next("Set COVE_TOKEN or COVE_TOKEN_FILE, or unset COVE_SERVER")),
    }
}

fn warn_of_other_version(context: &Context, status: &Status) {
    if status.version != VERSION {
        let busy = if status.living_runs > 0 {
            format!("; it has {} unfinished, which go on after a restart", count(status.living_runs, "run"))
        } else {
            String::new()
        };
        context.printer.warn(&format!(
            "The daemon is version {}, this command is {VERSION}{busy}; cove daemon restart brings them together",
            clean_line(&status.version)
        ));
    }
}

fn count(number: u32, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Starts a daemon of its own session and waits until it is ready.
///
/// # Errors
/// `Unavailable` with the end of its log.
pub async fn start(context: &Context) -> Result<Client> {
    if context.variables.contains_key("COVE_SERVER") {
        return Err(Error::invalid("COVE_SERVER names another server; none is started here").next("Unset COVE_SERVER"));
    }
    context.paths.check_socket()?;
    let settings = context.settings().map(|resolved| resolved.settings.daemon.idle_timeout.0);
    let idle = settings.unwrap_or(Duration::from_secs(1800));
    let log = context.paths.state.join("daemon.log");
    let mut child = spawn(context, &log, idle)?;
    let client = Client::unix(&context.paths.socket);
    let begun = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        if context.paths.socket.exists() && client.ready().await.is_ok() {
            // It outlives this process; nothing waits for it.
            return Ok(client);
        }
        match child.try_wait() {
            // Another one may have been first; then that one serves.
            Ok(Some(_)) if client.ready().await.is_ok() => return Ok(client),
            // One that is about to end still holds its lock.
            Ok(Some(status)) if status.code() == Some(CONFLICT) && begun.elapsed() < LOCKED => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                child = spawn(context, &log, idle)?;
            }
            Ok(Some(status)) => {
                return Err(Error::new(ErrorKind::Unavailable, format!("The daemon ended at once ({status})"))
                    .because(tail(&log))
                    .next(format!("Its log is {}; cove doctor checks this machine", log.display())));
            }
            _ if begun.elapsed() > READY => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("The daemon was not ready after {}", format_duration(READY)),
                )
                .because(tail(&log))
                .next(format!("Its log is {}", log.display())));
            }
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

fn spawn(context: &Context, log: &Path, idle: Duration) -> Result<Child> {
    let failed = |what: String| move |e: std::io::Error| Error::new(ErrorKind::Unavailable, what).because(e);
    let program = own_program()?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&context.paths.state)
        .map_err(failed(format!("The directory {} cannot be made", context.paths.state.display())))?;
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let (out, error) = (open(), open());
    let logs = failed(format!("The log {} cannot be written", log.display()));
    let (out, error) = out.and_then(|out| Ok((out, error?))).map_err(logs)?;
    Command::new(&program)
        .args(["serve", "--detached", "--idle-exit", &format!("{}s", idle.as_secs().max(1))])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(error)
        .spawn()
        .map_err(failed(format!("The daemon {} cannot be started", program.display())))
}

/// This program's file, also after an upgrade replaced it.
pub fn own_program() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|e| Error::new(ErrorKind::Unavailable, "This program's own file cannot be found").because(e))
}

/// The last lines of a log, as a cause.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let start = text.len().saturating_sub(4096);
    let text = String::from_utf8_lossy(&text[start..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    if last.is_empty() { "its log is empty".to_owned() } else { clean_line(&last) }
}

/// Ends the daemon of this user and waits until it is gone. Runs are kept and go on with the next one.
///
/// # Errors
/// `Timeout` when it does not end.
pub async fn stop(context: &Context) -> Result<bool> {
    let Some((client, status)) = running(context).await? else { return Ok(false) };
    if context.variables.contains_key("COVE_SERVER") {
        return Err(Error::invalid("COVE_SERVER names another server; it is not stopped from here"));
    }
    let pid = i32::try_from(status.pid)
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| Error::internal("The daemon reports no usable process id"))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
        .map_err(|e| Error::internal(format!("The daemon (process {pid}) cannot be ended")).because(e))?;
    let begun = Instant::now();
    while begun.elapsed() < READY {
        if client.live().await.is_err() && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_err() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Error::new(ErrorKind::Timeout, format!("The daemon (process {pid}) has not ended yet")))
}
