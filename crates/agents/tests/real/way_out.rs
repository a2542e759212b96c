//! The way out of a sandbox without the sandbox: Cove's own door behind a TCP port, as the guest's relay
//! puts it there.

use cove_core::{Door, DoorHandle, EgressPolicy, HostRule};
use cove_egress::{Doors, Options};
use tokio::net::{TcpListener, UnixStream};
use tokio::runtime::Runtime;

pub struct WayOut {
    pub url: String,
    door: Box<dyn DoorHandle>,
    _runtime: Runtime,
    _directory: tempfile::TempDir,
}

impl WayOut {
    /// Opens a door for an adapter's hosts.
    pub fn open(hosts: Vec<String>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let policy = EgressPolicy {
            allow: hosts.into_iter().map(HostRule).collect(),
            allow_private: true,
            ..EgressPolicy::default()
        };
        let (door, listener) = runtime.block_on(async {
            let doors = Doors::new(directory.path(), Options::default()).expect("doors");
            let door = doors.open("real agents", &policy).await.expect("a door");
            (door, TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
        });
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let socket = door.socket();
        runtime.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    if let Ok(mut door) = UnixStream::connect(socket).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut door).await;
                    }
                });
            }
        });
        Self { url, door, _runtime: runtime, _directory: directory }
    }

    /// Hosts let through and hosts refused, each once.
    pub fn seen(&self) -> (Vec<String>, Vec<String>) {
        let (mut reached, mut refused) = (Vec::new(), Vec::new());
        for event in self.door.take_events() {
            let host = format!("{}:{}", event.host, event.port);
            if event.allowed { reached.push(host) } else { refused.push(format!("{host} ({})", event.reason)) }
        }
        (reached, refused)
    }
}
