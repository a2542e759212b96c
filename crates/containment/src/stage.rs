//! What lies on the host during the attempts: the program, files that would be read or written, a
//! process with a secret, and listeners. All of it ours, all of it gone afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use cove_core::error::Context as _;
use cove_core::{ErrorKind, Mount, Result, SandboxId, SandboxSpec};
use tempfile::TempDir;

use crate::program;

/// Where the program and its lists are inside.
pub const READ_ONLY: &str = "/mnt/attack";
/// A directory inside that may be written.
pub const WORK: &str = "/mnt/work";
/// A variable of the host's process whose value is a secret.
const SECRET_NAME: &str = "COVE_CONTAINMENT_SECRET";

/// Ids that own the set-group-id program: not nobody's, and not anybody's on common systems.
const GROUP: u32 = 61_235;

/// The stage; dropping it ends its process and removes it.
pub struct Stage {
    dir: TempDir,
    token: String,
    listener: Child,
    /// Kept open: the process ends with its stdin, and nothing reads further.
    _said: BufReader<ChildStdout>,
    port: String,
    before: Snapshot,
}

/// Everything about the files outside: name, owner, mode, content.
type Snapshot = BTreeMap<PathBuf, (u32, u32, u32, Vec<u8>)>;

impl Stage {
    /// Sets it up.
    ///
    /// # Errors
    /// `Internal` with the step that failed.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("cove-containment-").tempdir();
        let dir = dir.context(ErrorKind::Internal, "No temporary directory could be made")?;
        let token = format!("token-{}", SandboxId::new());
        let path = dir.path();
        lay_out(path, &token).context(ErrorKind::Internal, format!("{} could not be prepared", path.display()))?;
        program::write(&path.join("ro/program"))?;
        mark(path);
        let (listener, said, port) =
            listen(path, &token).context(ErrorKind::Internal, "No listener could be started")?;
        let before = snapshot(&path.join("outside"));
        Ok(Self { dir, token, listener, _said: said, port, before })
    }

    /// A path of it on the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What nobody inside can know.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The name by which the sandbox beside is known.
    pub fn neighbour(&self) -> String {
        format!("cove-neighbour-{}", self.token)
    }

    /// The secret that the sandbox beside bears.
    pub fn neighbour_mark(&self) -> String {
        format!("beside-{}", self.token)
    }

    /// `spec` with the program, and a directory of that name to write in.
    ///
    /// # Errors
    /// `Internal` when the directory cannot be made.
    pub fn furnish(&self, spec: &SandboxSpec, work: &str) -> Result<SandboxSpec> {
        let here = self.path(work);
        let made = fs::create_dir_all(&here).and_then(|()| fs::write(here.join("own"), "x"));
        made.context(ErrorKind::Internal, format!("{} could not be made", here.display()))?;
        let mut spec = spec.clone();
        spec.mounts.push(Mount { source: self.path("ro"), target: READ_ONLY.into(), read_only: true, give: false });
        spec.mounts.push(Mount { source: here, target: WORK.into(), read_only: false, give: true });
        Ok(spec)
    }

    /// Writes a list for the program and says where it is inside.
    ///
    /// # Errors
    /// `Internal` when it cannot be written.
    pub fn list(&self, name: &str, lines: &[String]) -> Result<String> {
        let path = self.path("ro/lists").join(name);
        fs::write(&path, lines.join("\n"))
            .context(ErrorKind::Internal, format!("{} cannot be written", path.display()))?;
        Ok(format!("{READ_ONLY}/lists/{name}"))
    }

    /// A word with its placeholders filled, for inside or for the host.
    pub fn fill(&self, word: &str, inside: bool) -> String {
        if !word.contains('{') {
            return word.to_owned();
        }
        let text = |path: &str| self.path(path).to_string_lossy().into_owned();
        let place = |within: &str, outside: &str| if inside { within.to_owned() } else { text(outside) };
        let mut out = word.to_owned();
        for (name, value) in [
            ("{flag}", text("outside/flag")),
            ("{canary}", text("outside/canary")),
            ("{outside}", text("outside")),
            ("{escaped}", text("outside/escaped")),
            ("{stage}", text("")),
            ("{work}", place(WORK, "scratch")),
            ("{own}", place("/mnt/work/own", "scratch/own")),
            ("{ro}", place(READ_ONLY, "ro")),
            ("{token}", self.token.clone()),
            ("{secret}", format!("secret-{}", self.token)),
            ("{secretname}", SECRET_NAME.to_owned()),
            ("{socket}", text("outside/socket")),
            ("{abstract}", format!("cove-containment-{}", self.token)),
            ("{tcp}", format!("127.0.0.1:{}", self.port)),
            ("{tcpmapped}", format!("[::ffff:127.0.0.1]:{}", self.port)),
            ("{hostpid}", self.listener.id().to_string()),
            ("{hostname}", fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()),
            ("{neighbour}", self.neighbour()),
            ("{neighbourport}", NEIGHBOUR_PORT.to_owned()),
            ("{neighbourmark}", self.neighbour_mark()),
        ] {
            out = out.replace(name, &value);
        }
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            let name = format!("{{ns:{kind}}}");
            if out.contains(&name) {
                let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
                out = out.replace(&name, &link.to_string_lossy());
            }
        }
        out
    }

    /// What changed outside; empty when nothing did.
    pub fn changes(&self) -> Vec<String> {
        let now = snapshot(&self.path("outside"));
        let mut out: Vec<String> = now
            .iter()
            .filter(|(path, about)| self.before.get(*path) != Some(about))
            .map(|(path, _)| path.display().to_string())
            .collect();
        out.extend(self.before.keys().filter(|path| !now.contains_key(*path)).map(|path| path.display().to_string()));
        out
    }
}

/// The port of the listener in the sandbox beside, in its own network.
pub const NEIGHBOUR_PORT: &str = "47231";

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.listener.kill();
        let _ = self.listener.wait();
    }
}

fn lay_out(dir: &Path, token: &str) -> io::Result<()> {
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(dir, 0o755)?;
    for name in ["outside", "ro", "ro/lists", "scratch"] {
        fs::create_dir(dir.join(name))?;
    }
    // Open to everybody, so that nothing but the sandbox keeps them from being read and written.
    for (name, content, bits) in [
        ("outside/flag", token, 0o644),
        ("outside/canary", "whole\n", 0o666),
        ("ro/file", "x", 0o666),
        ("scratch/own", "x", 0o666),
    ] {
        fs::write(dir.join(name), content)?;
        mode(&dir.join(name), bits)?;
    }
    mode(&dir.join("scratch"), 0o777)
}

/// Programs with a right of their own; only root can make them, and only root needs them.
fn mark(dir: &Path) {
    let program = dir.join("ro/program");
    let copy = |name: &str| fs::copy(&program, dir.join("ro").join(name)).map(|_| dir.join("ro").join(name));
    let root = fs::metadata(dir).is_ok_and(|meta| meta.uid() == 0);
    if !root {
        return;
    }
    let bits = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    if let Ok(path) = copy("setuid") {
        let _ = bits(&path, 0o4755);
    }
    if let Ok(path) = copy("setgid") {
        let _ = chown(&path, None, Some(GROUP)).and_then(|()| bits(&path, 0o2755));
    }
    if let Ok(path) = copy("capable") {
        let marked = Command::new(&program).arg("capable").arg(&path).status();
        if !marked.is_ok_and(|status| status.success()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// A process of the host that has a secret in its environment and its arguments, stands in a
/// directory with the flag, and listens.
fn listen(dir: &Path, token: &str) -> io::Result<(Child, BufReader<ChildStdout>, String)> {
    let mut child = Command::new(dir.join("ro/program"))
        .args(["serve", &format!("cove-containment-{token}"), "0"])
        .arg(dir.join("outside/socket"))
        .arg(format!("secret-{token}"))
        .env(SECRET_NAME, format!("secret-{token}"))
        .current_dir(dir.join("outside"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut said = BufReader::new(said);
    let mut line = String::new();
    let read = said.read_line(&mut line);
    match line.trim().strip_prefix("READY ") {
        Some(port) if read.is_ok() => Ok((child, said, port.to_owned())),
        _ => {
            let _ = child.kill();
            let _ = child.wait();
            Err(io::Error::other(line.trim().to_owned()))
        }
    }
}

fn snapshot(dir: &Path) -> Snapshot {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let about = |path: &Path| {
        let meta = fs::symlink_metadata(path).ok()?;
        let content = if meta.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() };
        Some((meta.uid(), meta.gid(), meta.mode(), content))
    };
    let own = about(dir).map(|about| (dir.to_owned(), about));
    entries.filter_map(|entry| Some((entry.path(), about(&entry.path())?))).chain(own).collect()
}
