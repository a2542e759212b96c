//! One run of the program: scrubbed environment, deadline, bounded output, no process left over.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cove_core::error::Context as _;
use cove_core::{Error, ErrorKind, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

/// Deadline of a call that names none.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);
/// Output bound of a call that names none.
const BOUND: usize = 128 << 20;
/// How much of stderr is kept: its end.
const TAIL: usize = 4096;

/// Settings that win over any repository's own, for the process itself.
const CONFIG: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.alternateRefsCommand", "true"),
    ("core.sshCommand", "false"),
    ("core.pager", "cat"),
    ("core.editor", "false"),
    ("credential.helper", ""),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("log.showSignature", "false"),
    ("merge.verifySignatures", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("fetch.unpackLimit", "1"),
    ("fastimport.unpackLimit", "1"),
    ("http.lowSpeedLimit", "500"),
    ("http.lowSpeedTime", "60"),
    ("protocol.ext.allow", "never"),
];

/// Variables of the host that transports need. Nothing else passes.
const PASSED: &[&str] = &[
    "PATH",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

pub(crate) struct Call {
    program: PathBuf,
    home: PathBuf,
    directory: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    config: Vec<(String, String)>,
    stdin: Input,
    bound: usize,
    truncate: bool,
    deadline: Duration,
    protocols: &'static str,
    secrets: Vec<String>,
    memory: Option<u64>,
}

enum Input {
    None,
    Bytes(Vec<u8>),
    File(std::fs::File),
}

/// How a call ended.
pub(crate) struct Outcome {
    pub code: i32,
    pub stdout: Vec<u8>,
    /// The end of stderr, credentials removed.
    pub stderr: String,
    /// More was said than [`Call::truncate`] asked for.
    pub truncated: bool,
}

impl Call {
    pub(crate) fn new<S: AsRef<OsStr>>(
        program: &Path,
        home: PathBuf,
        directory: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            program: program.to_owned(),
            home,
            directory: directory.to_owned(),
            args: args.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            env: Vec::new(),
            config: Vec::new(),
            stdin: Input::None,
            bound: BOUND,
            truncate: false,
            deadline: DEADLINE,
            protocols: "file",
            secrets: Vec::new(),
            memory: None,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A setting of this call, stronger than every file.
    pub(crate) fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((name.into(), value.into()));
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    pub(crate) fn stdin_file(mut self, file: std::fs::File) -> Self {
        self.stdin = Input::File(file);
        self
    }

    /// More output than this is an error.
    pub(crate) fn bound(mut self, bytes: usize) -> Self {
        self.bound = bytes;
        self
    }

    /// More output than this is cut off.
    pub(crate) fn truncate(mut self, bytes: usize) -> Self {
        self.bound = bytes;
        self.truncate = true;
        self
    }

    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Transports that may be used, as `GIT_ALLOW_PROTOCOL` takes them.
    pub(crate) fn protocols(mut self, protocols: &'static str) -> Self {
        self.protocols = protocols;
        self
    }

    /// For what reads objects of a sandbox: an address space of 4 GiB, also of git's own children,
    /// so that an object that unpacks to far more than it seems ends git and not the host.
    pub(crate) fn hostile(mut self) -> Self {
        self.memory = Some(4 << 30);
        self.config("core.packedGitLimit", "512m").config("core.packedGitWindowSize", "64m")
    }

    /// Text that must not appear in errors.
    pub(crate) fn secret(mut self, text: impl Into<String>) -> Self {
        self.secrets.push(text.into());
        self
    }

    /// Runs it; a non-zero exit is an error that ends with git's own words.
    pub(crate) async fn ok(self) -> Result<Vec<u8>> {
        let what = self.args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        let outcome = self.run().await?;
        if outcome.code != 0 {
            return Err(outcome.error(ErrorKind::Internal, format!("git {what} failed")));
        }
        Ok(outcome.stdout)
    }

    /// Runs it and reports any exit.
    pub(crate) async fn run(mut self) -> Result<Outcome> {
        let what = self.args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        let stdin = std::mem::replace(&mut self.stdin, Input::None);
        let mut command = self.command();
        let mut bytes = Vec::new();
        match stdin {
            Input::None => command.stdin(Stdio::null()),
            Input::File(file) => command.stdin(Stdio::from(file)),
            Input::Bytes(given) => {
                bytes = given;
                command.stdin(Stdio::piped())
            }
        };
        let mut child = command
            .spawn()
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("git {what} could not be started")).because(e))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let mut group = Group(pid);
        limit(pid, self.memory);
        let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut input) = input {
                // A program that stops reading says why on stderr and by its exit.
                let _ = input.write_all(&bytes).await;
                let _ = input.shutdown().await;
            }
        };
        let work = async {
            let ((), out, err, status) =
                tokio::join!(feed, keep_start(stdout, self.bound, &group), keep_end(stderr), child.wait());
            (out, err, status)
        };
        let Ok((out, err, status)) = tokio::time::timeout(self.deadline, work).await else {
            return Err(Error::new(ErrorKind::Timeout, format!("git {what} took longer than {:?}", self.deadline))
                .next(
                    "Try again; if it repeats, look at the size of the repository and the speed of its disk or network",
                ));
        };
        group.0 = None;
        let status = status.context(ErrorKind::Internal, format!("git {what} could not be waited for"))?;
        let (stdout, truncated) = out;
        if truncated && !self.truncate {
            return Err(Error::new(ErrorKind::Exhausted, format!("git {what} said more than {} bytes", self.bound)));
        }
        let stderr = redact(&String::from_utf8_lossy(&err), &self.secrets);
        if let (Some(signal), false) = (std::os::unix::process::ExitStatusExt::signal(&status), truncated) {
            // It says nothing about what was asked: neither yes nor no.
            return Err(Error::new(ErrorKind::Interrupted, format!("git {what} was ended by signal {signal}")));
        }
        Ok(Outcome { code: status.code().unwrap_or(-1), stdout, stderr, truncated })
    }

    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.env_clear();
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let network = self.protocols != "file";
        if let (true, Some(agent)) = (network, std::env::var_os("SSH_AUTH_SOCK")) {
            command.env("SSH_AUTH_SOCK", agent);
        }
        let ssh = if network { "ssh -oBatchMode=yes -oConnectTimeout=20" } else { "false" };
        command
            .env("HOME", self.home.join("home"))
            .env("XDG_CONFIG_HOME", self.home.join("home"))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.home.join("gitconfig"))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TEMPLATE_DIR", self.home.join("home"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "false")
            .env("SSH_ASKPASS", "false")
            .env("GIT_SSH_COMMAND", ssh)
            .env("GIT_ALLOW_PROTOCOL", self.protocols)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_PAGER", "cat")
            .env("GIT_EDITOR", "false");
        let own = self.config.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let all: Vec<(&str, &str)> = CONFIG.iter().copied().chain(own).collect();
        command.env("GIT_CONFIG_COUNT", all.len().to_string());
        for (at, (name, value)) in all.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{at}"), name).env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
            .args(&self.args)
            .current_dir(&self.directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Set from outside, right after the start: long before git has read anything.
#[cfg(target_os = "linux")]
fn limit(pid: Option<Pid>, memory: Option<u64>) {
    use rustix::process::{Resource, Rlimit, prlimit};
    if let (Some(pid), Some(_)) = (pid.and_then(|p| rustix::process::Pid::from_raw(p.as_raw())), memory) {
        // It may have ended already.
        let _ = prlimit(Some(pid), Resource::As, Rlimit { current: memory, maximum: memory });
        let _ = prlimit(Some(pid), Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    }
}

#[cfg(not(target_os = "linux"))]
fn limit(_: Option<Pid>, _: Option<u64>) {}

/// What git says when one of its own programs was ended, or the host could not serve it.
const HOST: [(&str, ErrorKind); 4] = [
    ("died of signal", ErrorKind::Interrupted),
    ("no space left on device", ErrorKind::Exhausted),
    ("disk quota exceeded", ErrorKind::Exhausted),
    ("too many open files", ErrorKind::Exhausted),
];

impl Outcome {
    /// An error of this call, with the end of git's words. Where they tell of a failure of the host, it
    /// is of that kind.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        let said = self.stderr.trim();
        let lower = said.to_lowercase();
        let host = HOST.iter().find(|(words, _)| lower.contains(words));
        let error = Error::new(host.map_or(kind, |(_, kind)| *kind), message).with("exit", self.code);
        if said.is_empty() { error } else { error.because(said.to_owned()) }
    }
}

/// Kills the process group unless disarmed: at the deadline and when the caller goes away.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first `bound` bytes, and whether there were more (the program is then ended).
async fn keep_start(stream: Option<impl AsyncRead + Unpin>, bound: usize, group: &Group) -> (Vec<u8>, bool) {
    let mut kept = Vec::new();
    if let Some(stream) = stream {
        let limit = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
        let _ = stream.take(limit).read_to_end(&mut kept).await;
    }
    let more = kept.len() > bound;
    if more {
        kept.truncate(bound);
        group.kill();
    }
    (kept, more)
}

async fn keep_end(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = [0_u8; 4096];
    if let Some(mut stream) = stream {
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            kept.extend_from_slice(&piece[..count]);
            if kept.len() > 2 * TAIL {
                kept.drain(..kept.len() - TAIL);
            }
        }
    }
    let surplus = kept.len().saturating_sub(TAIL);
    kept.split_off(surplus)
}

/// Removes the known secrets and every `user:password@` of a URL.
pub(crate) fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret.as_str(), "***");
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '\'').unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(at) => {
                out.push_str("***");
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_ends_a_call() {
        let dir = tempfile::tempdir().unwrap();
        let git = crate::Git::new().unwrap();
        let call = git.call(dir.path(), ["x"]).config("alias.x", "!sleep 1000").deadline(Duration::from_millis(200));
        let Err(error) = call.run().await else { panic!("it ended") };
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.next_step().is_some());
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_leaves_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let git = crate::Git::new().unwrap();
        let sleeper = "!sh -c 'echo $$ >inner; sleep 1000' & echo $! >outer; wait";
        let call = tokio::spawn(git.call(dir.path(), ["x"]).config("alias.x", sleeper).run());
        let pid = |name: &str| -> Option<i32> {
            let text = std::fs::read_to_string(dir.path().join(name)).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        };
        // A zombie waits for its new parent; it does nothing any more.
        let dead = |pid: i32| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            nix::sys::signal::kill(Pid::from_raw(pid), None).is_err() || state.contains(") Z ")
        };
        let wait = async |what: &str, condition: &dyn Fn() -> bool| {
            let begun = std::time::Instant::now();
            while !condition() {
                assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        wait("it starts", &|| pid("inner").is_some() && pid("outer").is_some()).await;
        call.abort();
        let pids = [pid("inner").unwrap(), pid("outer").unwrap()];
        wait("it ends", &|| pids.iter().all(|pid| dead(*pid))).await;
    }

    #[tokio::test]
    async fn an_end_by_a_signal_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        let git = crate::Git::new().unwrap();
        for (what, kind) in [
            ("!kill -9 $PPID", ErrorKind::Interrupted),
            ("!echo 'error: index-pack died of signal 9' >&2; false", ErrorKind::Interrupted),
            ("!echo 'fatal: write error: No space left on device' >&2; false", ErrorKind::Exhausted),
            ("!false", ErrorKind::Internal),
        ] {
            let call = git.call(dir.path(), ["x"]).config("alias.x", what).deadline(Duration::from_secs(60));
            assert_eq!(call.ok().await.unwrap_err().kind(), kind, "{what}");
        }
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let git = crate::Git::new().unwrap();
        let endless = || git.call(dir.path(), ["x"]).config("alias.x", "!yes");
        let Err(error) = endless().bound(1000).run().await else { panic!("it ended") };
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        let cut = endless().truncate(1000).run().await.unwrap();
        assert!(cut.truncated && cut.stdout.len() == 1000);
    }

    #[test]
    fn credentials_leave_the_text() {
        for (text, secrets, wanted) in [
            ("at https://me:pw@h/x failed", vec![], "at https://***@h/x failed"),
            ("at https://h/x@y failed", vec![], "at https://h/x@y failed"),
            ("'ssh://tok@h' 'http://a@b@h/'", vec![], "'ssh://***@h' 'http://***@h/'"),
            ("said hunter2", vec!["hunter2".to_owned(), String::new()], "said ***"),
            ("://", vec![], "://"),
        ] {
            assert_eq!(redact(text, &secrets), wanted);
        }
    }
}
