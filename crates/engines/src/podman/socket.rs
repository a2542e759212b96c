//! Where Podman listens.

use std::path::{Path, PathBuf};

use cove_core::{EngineKind, Error, ErrorKind, Result};

/// The socket that `host` (the value of `CONTAINER_HOST`) names, else the usual one of the caller: the
/// machine's as root, else the user's own.
///
/// # Errors
/// `Unsupported` for an engine of another machine, `Unavailable` when there is no socket.
pub fn find(host: Option<&str>, runtime: Option<&Path>, root: bool) -> Result<PathBuf> {
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        return crate::container::client::local(EngineKind::Podman, host);
    }
    let usual = if root {
        Some(PathBuf::from("/run/podman/podman.sock"))
    } else {
        runtime.map(|dir| dir.join("podman/podman.sock"))
    };
    usual.filter(|path| path.exists()).ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "Podman does not listen on this machine")
            .next("Start it (systemctl --user start podman.socket, or podman system service), or use the engine native")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines() {
        assert_eq!(find(Some("unix:///tmp/p.sock"), None, true).unwrap(), Path::new("/tmp/p.sock"));
        for other in ["tcp://10.0.0.1:8080", "ssh://core@localhost:4/run/podman/podman.sock"] {
            assert_eq!(find(Some(other), None, false).unwrap_err().kind(), ErrorKind::Unsupported, "{other}");
        }
    }

    #[test]
    fn the_users_own_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(None, Some(dir.path()), false).unwrap_err().kind(), ErrorKind::Unavailable);
        std::fs::create_dir(dir.path().join("podman")).unwrap();
        std::fs::write(dir.path().join("podman/podman.sock"), "").unwrap();
        assert_eq!(find(None, Some(dir.path()), false).unwrap(), dir.path().join("podman/podman.sock"));
    }
}
