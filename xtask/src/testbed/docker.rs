//! A Docker daemon of our own, beside any other: own data, sockets and process file, no network.

use std::path::Path;
use std::process::Command;

use super::keeper::{Absence, Up};
use super::server::Server;
use crate::process::exists;

/// Starts it below `directory`.
pub fn up(directory: &Path, root: bool) -> Up {
    if !exists("dockerd") {
        return Err(Absence::Skipped("the program dockerd (Debian package docker.io) is not installed".to_owned()));
    }
    if !root {
        return Err(Absence::Skipped("starting dockerd needs root".to_owned()));
    }
    std::fs::create_dir(directory).map_err(|e| Absence::Failed(e.to_string()))?;
    let socket = directory.join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let mut dockerd = Command::new("dockerd");
    dockerd.arg("--data-root").arg(directory.join("data"));
    dockerd.arg("--exec-root").arg(directory.join("exec"));
    dockerd.arg("--pidfile").arg(directory.join("pid"));
    dockerd.args(["--host", &host, "--group", "root"]);
    // No rule and no bridge of the machine is touched; sandboxes have no network.
    dockerd.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false", "--ip-masq=false"]);
    dockerd.args(["--userland-proxy=false", "--log-level=warn"]);
    // A configuration of the machine's own daemon is not ours.
    let config = directory.join("daemon.json");
    std::fs::write(&config, "{}").map_err(|e| Absence::Failed(e.to_string()))?;
    dockerd.arg("--config-file").arg(&config);
    let mut empty = Command::new("sh");
    empty.env("DOCKER_HOST", &host).args(["-c", "docker ps -aq | xargs -r docker rm -fv"]);
    let server = Server::start(dockerd, &socket, &directory.join("log"), empty).map_err(Absence::Failed)?;
    Ok((Box::new(server), vec![("COVE_TEST_DOCKER".to_owned(), socket.display().to_string())]))
}
