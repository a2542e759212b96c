//! Podman's service: where it listens, and starting one where none stands.
//!
//! Podman has no daemon. Where the machine keeps no socket for it, `podman system service` is started on one
//! of our own, ends by itself when nobody spoke to it for a while, and is started again by whoever needs it:
//! the daemon, or the supervisor of a sandbox that removes its container. Containers live on meanwhile.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::container::client::line;
use crate::container::whereabouts::{self, Variables};

/// How long a started service may take until it listens.
const START: Duration = Duration::from_secs(60);

/// When it ends by itself after the last call.
const IDLE: Duration = Duration::from_secs(120);

/// Longest path of a Unix socket on Linux (`unix(7)`).
const SOCKET_BOUND: usize = 107;

const SOCKET: &str = "podman.sock";
const LOCK: &str = "service.lock";
const LOG: &str = "service.log";

/// The socket to speak to: the machine's when one stands, else that of our own service below `state`, started
/// if need be.
///
/// # Errors
/// `Unavailable` when there is neither a socket nor the program, or the service does not start (with what it
/// said); those of [`whereabouts::podman`].
pub fn socket(variables: Variables<'_>, state: &Path) -> Result<PathBuf> {
    if let Some(standing) = whereabouts::podman(variables)? {
        return Ok(standing);
    }
    let program = whereabouts::podman_program(variables).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "Podman is not there: no socket, and no program podman in PATH")
            .next("Install podman, or use another engine: cove engine list")
    })?;
    let service = Service::new(state, program);
    service.wake()?;
    Ok(service.socket())
}

/// Starts the service behind a socket again when it is one of ours and has ended. Waits for it, so not to be
/// called where waiting is not allowed. For any other socket nothing happens.
///
/// # Errors
/// Those of [`Service::wake`].
pub fn awaken(socket: &Path) -> Result<()> {
    let Some(directory) = socket.parent() else { return Ok(()) };
    if socket.file_name() != Some(OsStr::new(SOCKET)) || !directory.join(LOCK).is_file() {
        return Ok(());
    }
    let program = whereabouts::podman_program(&whereabouts::environment)
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, "The program podman is not in PATH any more"))?;
    Service { directory: directory.to_owned(), command: vec![program.into()], idle: IDLE }.wake()
}

/// A `podman system service` of our own.
#[derive(Debug, Clone)]
pub struct Service {
    directory: PathBuf,
    command: Vec<OsString>,
    idle: Duration,
}

impl Service {
    /// With its socket below `state`, made by `program`. Nothing is started yet.
    pub fn new(state: &Path, program: impl Into<OsString>) -> Self {
        Self { directory: state.join("podman"), command: vec![program.into()], idle: IDLE }
    }

    /// With words between the program and `system service`.
    #[must_use]
    pub fn with_arguments<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command.extend(words.into_iter().map(Into::into));
        self
    }

    /// Ending after another time without calls; at least a second.
    #[must_use]
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.idle = idle.max(Duration::from_secs(1));
        self
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// Sees to it that somebody listens, and waits for it. Of several callers, of other processes too, one starts it.
    ///
    /// # Errors
    /// `Unavailable` with the program's last words when it ends or does not listen in time; `Invalid` when the
    /// socket's path is too long.
    pub fn wake(&self) -> Result<()> {
        let socket = self.socket();
        if socket.as_os_str().as_bytes().len() > SOCKET_BOUND {
            return Err(Error::invalid(format!("The path {} is too long for a socket", socket.display()))
                .next("Set COVE_STATE_DIR to a shorter path, or start Podman's own socket: systemctl --user start podman.socket"));
        }
        if UnixStream::connect(&socket).is_ok() {
            return Ok(());
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.and_then(|()| fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700)))
            .context(ErrorKind::Internal, format!("{} cannot be made", self.directory.display()))?;
        let _only_starter = self.lock()?;
        if UnixStream::connect(&socket).is_ok() {
            return Ok(());
        }
        // Nobody listens, and nobody else starts it: it is a dead one's.
        let _ = fs::remove_file(&socket);
        let mut child = self.start(&socket)?;
        let until = Instant::now() + START;
        let reason = loop {
            if UnixStream::connect(&socket).is_ok() {
                break None;
            }
            match child.try_wait() {
                Ok(Some(status)) => break Some(format!("it ended with {status}")),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                _ => break Some(format!("it did not listen within {} s", START.as_secs())),
            }
        };
        let Some(reason) = reason else {
            // Whoever started it waits for its end, so that no dead process stays in the table.
            let waiting = std::thread::Builder::new().name("podman-service".to_owned());
            let _ = waiting.spawn(move || child.wait());
            return Ok(());
        };
        let _ = child.kill();
        let _ = child.wait();
        Err(Error::new(ErrorKind::Unavailable, format!("Podman's service cannot be started: {reason}"))
            .with("said", self.last_words())
            .next("See what it says: podman info"))
    }

    fn lock(&self) -> Result<Flock<File>> {
        let path = self.directory.join(LOCK);
        let until = Instant::now() + START * 2;
        let mut file =
            File::create(&path).context(ErrorKind::Internal, format!("{} cannot be made", path.display()))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((again, _)) if Instant::now() < until => file = again,
                Err((_, error)) => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        "Another process starts Podman's service and does not finish",
                    )
                    .because(error));
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn start(&self, socket: &Path) -> Result<Child> {
        let log = File::create(self.directory.join(LOG)).context(ErrorKind::Internal, "Podman's log cannot be made")?;
        let errors = log.try_clone().context(ErrorKind::Internal, "Podman's log cannot be made")?;
        let mut address = OsString::from("unix://");
        address.push(socket);
        let (program, words) = self.command.split_first().ok_or_else(|| Error::internal("No program is named"))?;
        let mut command = Command::new(program);
        command.args(words).args(["system", "service"]).arg(format!("--time={}", self.idle.as_secs())).arg(address);
        // With one of these it would speak to another service, or take sockets that are not its own.
        for variable in ["CONTAINER_HOST", "CONTAINER_CONNECTION", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        // It lives on when we are interrupted at a terminal, and keeps no directory busy.
        command.process_group(0).current_dir("/").stdin(Stdio::null()).stdout(log).stderr(errors);
        command.spawn().context(ErrorKind::Unavailable, format!("{} cannot be started", Path::new(program).display()))
    }

    fn last_words(&self) -> String {
        let said = fs::read(self.directory.join(LOG)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        line(&lines[lines.len().saturating_sub(3)..].join(" | "))
    }
}
