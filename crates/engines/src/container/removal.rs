//! Removing a container, whatever its engine says meanwhile.

use std::time::{Duration, Instant};

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use cove_core::{EngineKind, Error, ErrorKind, Result};

use super::client::{Address, Client, name, patience};
use super::look;

/// How long a removal is tried.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one try may take.
const TRY: Duration = Duration::from_secs(30);

/// A runtime for one thread; nothing of it outlives its use.
///
/// # Errors
/// `Internal` when the system gives none.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Error::internal("No runtime can be made").because(error))
}

/// A runtime to speak to the engine at `address` in; one of Podman's services that has ended is started again.
/// May wait for it: not from an asynchronous task.
///
/// # Errors
/// `Internal` when the system gives none, `Unavailable` when the service does not start.
pub fn speaking(address: &Address) -> Result<tokio::runtime::Runtime> {
    if address.engine == EngineKind::Podman {
        crate::podman::service::awaken(&address.socket)?;
    }
    runtime()
}

/// Removes a container, living or not, with the volumes that were made for it, and looks until it is gone.
/// One that is not there is no error.
///
/// # Errors
/// `Unavailable` with the engine's name when it cannot be reached, `Timeout` when the container stays.
pub async fn remove(client: &Client, container: &str) -> Result<()> {
    let begun = Instant::now();
    let enough = patience(PATIENCE);
    let options = || RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let mut pause = Duration::from_millis(20);
    loop {
        // What is said is a hint only: a removal under way is a conflict, one that is done may be a 500.
        let tried =
            client.call("remove the container", TRY, client.docker.remove_container(container, Some(options()))).await;
        let seen = look::container(&client.address, container).await;
        let last = match (seen, tried) {
            (Ok(None), _) => return Ok(()),
            (Ok(Some(_)), Err(error)) | (Err(error), _) => error,
            (Ok(Some(seen)), Ok(())) => {
                Error::new(ErrorKind::Timeout, format!("{} keeps a container", name(client.engine())))
                    .with("state", format!("{:?}", seen.life))
            }
        };
        if begun.elapsed() >= enough {
            return Err(stays(client, container, last));
        }
        // A daemon that is gone does not come back within a removal's patience times many.
        if last.kind() == ErrorKind::Unavailable && begun.elapsed() >= enough / 6 {
            return Err(stays(client, container, last));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn stays(client: &Client, container: &str, last: Error) -> Error {
    let engine = name(client.engine());
    let (kind, told) = match last.kind() {
        ErrorKind::Unavailable | ErrorKind::Denied => {
            (ErrorKind::Unavailable, format!("{engine} cannot be reached, so its container is not removed"))
        }
        _ => (ErrorKind::Timeout, format!("{engine} does not remove a container")),
    };
    Error::new(kind, told)
        .with("container", container)
        .next(format!("Start {engine} and remove the sandbox again"))
        .because(last)
}
