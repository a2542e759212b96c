//! Where Docker listens.

use std::path::{Path, PathBuf};

use cove_core::{EngineKind, Error, ErrorKind, Result};

/// The socket that `host` (the value of `DOCKER_HOST`) names, else the first of the usual ones that is
/// there: the machine's, then the user's.
///
/// # Errors
/// `Unsupported` for an engine of another machine, `Unavailable` when there is no socket.
pub fn find(host: Option<&str>, runtime: Option<&Path>, home: Option<&Path>) -> Result<PathBuf> {
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return crate::container::client::local(EngineKind::Docker, host);
    }
    let usual = [
        Some(PathBuf::from("/var/run/docker.sock")),
        runtime.map(|dir| dir.join("docker.sock")),
        home.map(|dir| dir.join(".docker/run/docker.sock")),
    ];
    let found = usual.into_iter().flatten().find(|path| path.exists());
    found.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "Docker does not listen on this machine")
            .next("Install and start it (systemctl start docker), or use the engine native")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines() {
        assert_eq!(find(Some("unix:///tmp/d.sock"), None, None).unwrap(), Path::new("/tmp/d.sock"));
        for other in ["tcp://10.0.0.1:2375", "ssh://host", "npipe:////./pipe/docker", "fd://", "http://x"] {
            assert_eq!(find(Some(other), None, None).unwrap_err().kind(), ErrorKind::Unsupported, "{other}");
        }
    }

    #[test]
    fn the_users_own_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("docker.sock"), "").unwrap();
        let found = find(None, Some(dir.path()), None).unwrap();
        assert!(found == dir.path().join("docker.sock") || found == Path::new("/var/run/docker.sock"));
    }
}
