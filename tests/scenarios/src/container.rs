//! The container engines of the test bed, and a socket before one that can be taken away.

use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::process::{Finished, wait_until};
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

/// A Docker daemon of one scenario, which may be killed; ended and cleared when dropped.
pub struct OwnDocker {
    dir: PathBuf,
    child: Option<Child>,
}

impl OwnDocker {
    /// `None` with a skip line where it cannot be had.
    ///
    /// # Panics
    /// When it does not start although it could.
    pub fn start(what: &str) -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() || !Path::new("/usr/sbin/dockerd").exists() {
            crate::skip(what, "a Docker daemon of one's own needs root and the program dockerd");
            return None;
        }
        // A name that the test bed's end knows nothing of, and short, for it holds sockets.
        let dir = PathBuf::from(format!("/tmp/cove-own-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut this = Self { dir, child: None };
        this.again();
        Some(this)
    }

    /// Where it listens.
    pub fn engine(&self) -> ContainerEngine {
        ContainerEngine { name: "docker", socket: self.dir.join("docker.sock") }
    }

    /// Starts it (once more) and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn again(&mut self) {
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        std::fs::write(self.dir.join("daemon.json"), "{}").unwrap();
        let mut dockerd = Command::new("/usr/sbin/dockerd");
        for (option, name) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid"), ("--config-file", "daemon.json")]
        {
            dockerd.arg(option).arg(self.dir.join(name));
        }
        dockerd.arg("--host").arg(format!("unix://{}", self.dir.join("docker.sock").display()));
        dockerd.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false"]);
        dockerd.args(["--ip-masq=false", "--userland-proxy=false", "--log-level=warn", "--group=root"]);
        // A killed one's number may be somebody else's by now.
        let _ = std::fs::remove_file(self.dir.join("pid"));
        dockerd.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(dockerd.spawn().unwrap());
        let socket = self.dir.join("docker.sock");
        wait_until("an answer of dockerd", Duration::from_secs(120), || {
            let mut curl = Command::new("curl");
            curl.args(["-sf", "--max-time", "5", "--unix-socket"]).arg(&socket).arg("http://engine/_ping");
            curl.output().is_ok_and(|said| said.stdout == b"OK").then_some(())
        });
    }

    /// Kills it without a word.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for OwnDocker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            for _ in 0..300 {
                if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        // What names the directory, which is ours alone.
        let inside = format!("{}/", self.dir.display());
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let number = entry.file_name().to_string_lossy().parse::<i32>();
            if let (true, Ok(pid)) = (String::from_utf8_lossy(&line).contains(&inside), number) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        for place in ours.into_iter().rev().filter(|place| Path::new(place).starts_with(&self.dir)) {
            let _ = Command::new("umount").args(["-l", place]).output();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
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
