//! The container engines of the test bed, and a socket before one that can be taken away.

use std::os::unix::net::{UnixListener, UnixStream};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::process::Finished;
use crate::world::World;

/// One that the test bed has.
#[derive(Debug, Clone)]
pub struct ContainerEngine {
    /// `docker` or `podman`, as `--engine` takes it.
    pub name: &'static str,
    /// Where it listens.
    pub socket: PathBuf,
}

impl ContainerEngine {
    /// `None` with a skip line when there is none.
    pub fn of(name: &'static str, what: &str) -> Option<Self> {
        let variable = if name == "docker" { "COVE_TEST_DOCKER" } else { "COVE_TEST_PODMAN" };
        match std::env::var_os(variable) {
            Some(socket) => Some(Self { name, socket: socket.into() }),
            None => {
                crate::skip(what, &format!("no test bed with {name} ({variable})"));
                None
            }
        }
    }

    /// Has a world's Cove find it at `socket`.
    pub fn tell(&self, world: &mut World, socket: &Path) {
        let variable = if self.name == "docker" { "DOCKER_HOST" } else { "CONTAINER_HOST" };
        world.set(variable, format!("unix://{}", socket.display()));
    }

    /// Names of the containers that a world's Cove has in it.
    ///
    /// # Panics
    /// When the engine does not answer.
    pub fn containers(&self, world: &World) -> Vec<String> {
        let instance = std::fs::read_to_string(world.path("data/instance")).unwrap_or_default();
        let filter = format!("{{\"label\":[\"run.cove.instance={}\"]}}", instance.trim());
        let encoded: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sf", "--max-time", "60", "--unix-socket"]).arg(&self.socket);
        curl.arg(format!("http://engine/v1.40/containers/json?all=true&filters={encoded}"));
        let told: Finished = crate::process::finish(curl, std::time::Duration::from_secs(90)).expect(0);
        let list: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        list.as_array().unwrap().iter().map(|c| c["Names"].to_string()).collect()
    }
}

/// A socket before another, which can be taken away and put back.
pub struct Cut {
    socket: PathBuf,
    engine: PathBuf,
    standing: Option<Standing>,
}

struct Standing {
    over: Arc<Mutex<(bool, Vec<UnixStream>)>>,
    listening: JoinHandle<()>,
}

impl Cut {
    /// At `socket`, leading to `engine`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn before(engine: &Path, socket: &Path) -> Self {
        let mut this = Self { socket: socket.to_owned(), engine: engine.to_owned(), standing: None };
        this.mend();
        this
    }

    /// Puts it back.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn mend(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let over = Arc::new(Mutex::new((false, Vec::new())));
        let (shared, engine) = (over.clone(), self.engine.clone());
        let listening = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = UnixStream::connect(&engine) else { continue };
                {
                    let mut state = shared.lock().unwrap();
                    if state.0 {
                        return;
                    }
                    state.1.extend([client.try_clone().unwrap(), upstream.try_clone().unwrap()]);
                }
                let (to, from) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                std::thread::spawn(move || pour(&client, &upstream));
                std::thread::spawn(move || pour(&from, &to));
            }
        });
        self.standing = Some(Standing { over, listening });
    }

    /// Takes it away with every connection over it.
    ///
    /// # Panics
    /// When a connection's thread failed.
    pub fn cut(&mut self) {
        let Some(standing) = self.standing.take() else { return };
        standing.over.lock().unwrap().0 = true;
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
        for stream in standing.over.lock().unwrap().1.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        standing.listening.join().unwrap();
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.cut();
    }
}

fn pour(from: &UnixStream, to: &UnixStream) {
    let (mut from, mut to) = (from, to);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
