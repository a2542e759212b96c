//! A connection to a container engine of this machine, and what its errors mean.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bollard::errors::Error as Refusal;
use bollard::{ClientVersion, Docker};
use cove_core::{EngineKind, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Longest that one call may take unless it says otherwise. Bollard's own limit lies above it.
pub const CALL: Duration = Duration::from_secs(60);

/// How long an engine may take to say who it is.
const GREETING: Duration = Duration::from_secs(15);

/// Newest version of the interface that is spoken here; engines that know less are asked with theirs.
const VERSION: ClientVersion = ClientVersion { major_version: 1, minor_version: 44 };

/// Where an engine listens and which version of the interface was agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Docker or Podman.
    pub engine: EngineKind,
    /// A Unix socket of this machine.
    pub socket: PathBuf,
    /// Major and minor version of the interface.
    pub version: (usize, usize),
}

/// A connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// The typed client. Calls go through [`within`] or one of the methods here.
    pub docker: Docker,
    /// Where it leads.
    pub address: Address,
}

impl Client {
    /// Connects and agrees on a version. Must be called within a runtime.
    ///
    /// # Errors
    /// `Unavailable` with the engine's name when nobody answers at `socket` in time.
    pub async fn connect(engine: EngineKind, socket: &Path) -> Result<Self> {
        let at = text(socket)?;
        let limit = CALL.as_secs() * 20;
        let docker =
            Docker::connect_with_unix(at, limit, &VERSION).map_err(|error| trouble(engine, "connect", error))?;
        let docker = within(engine, "connect", GREETING, docker.negotiate_version()).await.map_err(|error| {
            match error.kind() {
                // Whoever answers a greeting like that is no engine that we could speak to.
                ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => {
                    let text = format!("What listens at {at} is no {} that Cove can speak to", name(engine));
                    Error::new(ErrorKind::Unsupported, text).because(error)
                }
                _ => error,
            }
        })?;
        let version = docker.client_version();
        let version = (version.major_version, version.minor_version);
        Ok(Self { docker, address: Address { engine, socket: socket.to_owned(), version } })
    }

    /// Goes on where another connection agreed on a version; nothing is sent.
    ///
    /// # Errors
    /// `Unavailable` when there is no socket.
    pub fn to(address: &Address) -> Result<Self> {
        let at = text(&address.socket)?;
        let (major_version, minor_version) = address.version;
        let version = ClientVersion { major_version, minor_version };
        let docker = Docker::connect_with_unix(at, CALL.as_secs() * 20, &version)
            .map_err(|error| trouble(address.engine, "connect", error))?;
        Ok(Self { docker, address: address.clone() })
    }

    /// Which engine this is.
    pub fn engine(&self) -> EngineKind {
        self.address.engine
    }

    /// Awaits a call for at most `limit`.
    ///
    /// # Errors
    /// See [`trouble`]; `Timeout` when it takes longer.
    pub async fn call<T>(
        &self,
        what: &str,
        limit: Duration,
        call: impl Future<Output = std::result::Result<T, Refusal>>,
    ) -> Result<T> {
        within(self.engine(), what, limit, call).await
    }
}

fn text(socket: &Path) -> Result<&str> {
    socket.to_str().ok_or_else(|| Error::invalid(format!("{} cannot be an engine's socket", socket.display())))
}

/// Name of a variable that lowers every wait for an engine to so many milliseconds; for tests of engines that
/// do not answer. Unset outside of them.
pub const PATIENCE: &str = "COVE_TEST_ENGINE_PATIENCE_MS";

/// A wait for an engine, as long as usual unless a test wants it shorter.
pub fn patience(usual: Duration) -> Duration {
    static BOUND: OnceLock<Option<Duration>> = OnceLock::new();
    let bound = BOUND.get_or_init(|| Some(Duration::from_millis(std::env::var(PATIENCE).ok()?.parse().ok()?)));
    bound.map_or(usual, |bound| usual.min(bound))
}

/// Awaits a call for at most `limit`.
///
/// # Errors
/// See [`trouble`]; `Timeout` when it takes longer.
pub async fn within<T>(
    engine: EngineKind,
    what: &str,
    limit: Duration,
    call: impl Future<Output = std::result::Result<T, Refusal>>,
) -> Result<T> {
    let limit = patience(limit);
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(trouble(engine, what, error)),
        Err(_) => Err(Error::new(ErrorKind::Timeout, format!("{} did not answer in time", name(engine)))
            .with("call", what)
            .with("seconds", limit.as_secs())
            .next(restart(engine))),
    }
}

/// The engine's name as its makers write it.
pub fn name(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Podman => "Podman",
        _ => "Docker",
    }
}

fn restart(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Podman => "Look whether Podman's service lives: podman info",
        _ => "Look whether Docker lives: docker info",
    }
}

/// An engine's refusal in our words: `NotFound` (404), `Conflict` (409), `Invalid` (400),
/// `Denied` (401, 403, or the socket may not be opened), `Unavailable` when nobody answers, else
/// `Internal`. The numbers are hints only: Podman says 500 where Docker says 409.
pub fn trouble(engine: EngineKind, what: &str, error: Refusal) -> Error {
    let name = name(engine);
    let (kind, told) = match &error {
        Refusal::DockerResponseServerError { status_code, message } => {
            let kind = match status_code {
                400 => ErrorKind::Invalid,
                401 | 403 => ErrorKind::Denied,
                404 => ErrorKind::NotFound,
                409 => ErrorKind::Conflict,
                502..=504 => ErrorKind::Unavailable,
                _ => ErrorKind::Internal,
            };
            (kind, format!("{name} refused: {}", line(message)))
        }
        Refusal::DockerStreamError { error } => (ErrorKind::Internal, format!("{name} refused: {}", line(error))),
        Refusal::RequestTimeoutError => (ErrorKind::Timeout, format!("{name} did not answer in time")),
        Refusal::JsonDataError { .. } | Refusal::JsonSerdeError { .. } => {
            (ErrorKind::Internal, format!("{name}'s answer is not understood"))
        }
        other if denied(other) => (ErrorKind::Denied, format!("{name}'s socket may not be opened")),
        _ => (ErrorKind::Unavailable, format!("{name} cannot be reached")),
    };
    let told = Error::new(kind, told).with("call", what);
    let told = if kind == ErrorKind::Unavailable { told.next(restart(engine)) } else { told };
    told.because(error)
}

fn denied(error: &Refusal) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What an engine says, on one line and bounded: it may quote what an image or a sandbox made up.
pub fn line(text: &str) -> String {
    let clean: String = text.trim().chars().take(600).map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean
}
