//! What Cove is compared with.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cove_core::error::Context as _;
use cove_core::{ErrorKind, Result};
use serde_json::json;

/// A root file system with a static busybox.
pub fn root(at: &Path) -> Result<PathBuf> {
    let root = at.join("root");
    for dir in ["bin", "proc", "dev", "sys", "tmp", "etc", "run", "home", "workspace"] {
        std::fs::create_dir_all(root.join(dir)).context(ErrorKind::Internal, "The root cannot be made")?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists());
    let busybox = busybox
        .ok_or_else(|| cove_core::Error::not_found("There is no busybox").next("Install the package busybox-static"))?;
    std::fs::copy(busybox, root.join("bin/busybox")).context(ErrorKind::Internal, "busybox cannot be copied")?;
    for name in ["sh", "true"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name))
            .context(ErrorKind::Internal, "A link cannot be made")?;
    }
    Ok(root)
}

/// A program of another project that runs `true` in the root once.
pub struct Peer {
    /// Name for the report.
    pub name: &'static str,
    arguments: Vec<String>,
    cleanup: Vec<String>,
}

impl Peer {
    /// Runs it to its end; whether it succeeded.
    pub fn run(&self) -> bool {
        quiet(&self.arguments)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !self.cleanup.is_empty() {
            quiet(&self.cleanup);
        }
    }
}

fn quiet(arguments: &[String]) -> bool {
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&w| w.to_owned()).collect()
}

/// The peers that work here; those that do not are printed.
pub fn available(at: &Path, root: &Path) -> Result<Vec<Peer>> {
    let bundle = at.join("bundle");
    std::fs::create_dir_all(&bundle).context(ErrorKind::Internal, "The bundle cannot be made")?;
    let namespaces = ["pid", "network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
    let configuration = json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"], "noNewPrivileges": true},
        "root": {"path": root, "readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": namespaces}
    });
    let text = serde_json::to_vec(&configuration).context(ErrorKind::Internal, "The bundle cannot be written")?;
    std::fs::write(bundle.join("config.json"), text).context(ErrorKind::Internal, "The bundle cannot be written")?;
    let bundle = bundle.display().to_string();
    let id = format!("cove-bench-{}", std::process::id());
    let image = format!("{id}:1");
    let import = format!("tar -C {} -c . | docker import - {image}", root.display());
    let mut peers = vec![Peer {
        name: "runc run",
        arguments: words(&["runc", "run", "--bundle", &bundle, &id]),
        cleanup: Vec::new(),
    }];
    if quiet(&words(&["docker", "info"])) && quiet(&words(&["sh", "-c", &import])) {
        peers.push(Peer {
            name: "docker run --rm --network none",
            arguments: words(&["docker", "run", "--rm", "--network", "none", &image, "/bin/true"]),
            cleanup: words(&["docker", "rmi", &image]),
        });
    } else {
        println!("not compared: docker (no engine answers)");
    }
    peers.retain(|peer| {
        let works = peer.run();
        if !works {
            println!("not compared: {} (it does not work here)", peer.name);
        }
        works
    });
    Ok(peers)
}
