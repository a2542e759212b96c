//! Real agent programs, a double of their models, and the door between them.

#![allow(dead_code, reason = "each test uses its part")]

pub mod way_out;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cove_agents::ParserOptions;
use cove_core::agent::AgentRequest;
use cove_core::run::AgentChoice;
use cove_core::{Agent, AgentEvent, AgentOutcome, ExitReason, ExitStatus, StreamParser, Usage};

use way_out::WayOut;

/// Longest time for one attempt; far more than any needs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Directory with the programs, or a skip that names what is missing.
pub fn programs(test: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("COVE_AGENT_CLIS").map(PathBuf::from);
    if directory.is_none() {
        println!(
            "SKIPPED {test}: real agent programs (set COVE_AGENT_CLIS to the directory of tests/agents/install.sh)"
        );
    }
    directory
}

/// `tests/agents` of the repository.
pub fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/agents")
}

/// A double of the model providers.
pub struct Model {
    child: Child,
    pub url: String,
}

impl Model {
    pub fn start(programs: &Path, fixture: &str) -> Self {
        let mut child = Command::new(kit().join("model.sh"))
            .arg(programs)
            .arg(fixture)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("model.sh starts");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut url).expect("the first line is the URL");
        let url = url.trim().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "the model double did not start: {url:?}");
        Self { child, url }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // It ends when its stdin does, and takes its own child with it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// One attempt to make.
#[derive(Default, Clone)]
#[allow(clippy::type_complexity, reason = "a count and a test are no type of their own")]
pub struct Ask<'a> {
    pub agent: &'a str,
    pub fixture: &'a str,
    pub prompt: &'a str,
    pub args: &'a [&'a str],
    pub env: &'a [(&'a str, &'a str)],
    pub max_turns: Option<u32>,
    /// Ends it from outside when this many of such events came.
    pub stop_at: Option<(usize, fn(&AgentEvent) -> bool)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Answer {
    pub events: Vec<AgentEvent>,
    pub outcome: AgentOutcome,
    pub exit: ExitStatus,
    pub usage: Usage,
    pub stderr: String,
    pub stdout: String,
    /// Hosts that the door let through and those that it refused.
    pub reached: Vec<String>,
    pub refused: Vec<String>,
}

/// Runs one attempt as the runner does: the adapter's files, variables, arguments and stdin, a fresh
/// home, nothing of our own environment, the door as the only way out.
pub fn attempt(programs: &Path, workspace: &Path, ask: &Ask<'_>) -> Answer {
    let model = Model::start(programs, ask.fixture);
    let port = model.url.rsplit(':').next().expect("a URL with a port").to_owned();
    let home = tempfile::tempdir().expect("a home");

    let choice = AgentChoice { name: ask.agent.to_owned(), ..AgentChoice::default() };
    let adapter = cove_agents::adapter(&choice).expect("a built-in agent");
    let (variable, base) = match ask.agent {
        "claude" => ("ANTHROPIC_BASE_URL", model.url.clone()),
        "gemini" => ("GOOGLE_GEMINI_BASE_URL", model.url.clone()),
        _ => ("OPENAI_BASE_URL", format!("{}/v1", model.url)),
    };
    let mut request = AgentRequest {
        prompt: ask.prompt.to_owned(),
        model: match ask.agent {
            "claude" => None,
            "codex" => Some("gpt-5.5"),
            "gemini" => Some("gemini-2.5-flash"),
            // It chooses its tools by the model's name: one of OpenAI's would edit by patches only.
            _ => Some("double-1"),
        }
        .map(str::to_owned),
        max_turns: ask.max_turns,
        extra_args: ask.args.iter().map(|&a| a.to_owned()).collect(),
        home: home.path().to_owned(),
        ..AgentRequest::default()
    };
    request.env.insert(variable.to_owned(), base);
    request.env.extend(ask.env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(adapter.hosts(&request), [format!("127.0.0.1:{port}")]);
    let proxy = WayOut::open(adapter.hosts(&request));
    let command = adapter.command(&request).expect("a command");

    for (path, content) in &command.files {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the home")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.join("node_modules/.bin").display());
    let mut child = Command::new(&command.argv[0]);
    child.args(&command.argv[1..]).current_dir(workspace).env_clear().env("PATH", path).envs(&command.env);
    child.env("TERM", "dumb").env("LANG", "C.UTF-8");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        child.env(name, &proxy.url);
    }
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = child.spawn().unwrap_or_else(|e| panic!("{} does not start: {e}", command.argv[0]));

    let mut stdin = child.stdin.take().expect("stdin is piped");
    let bytes = command.stdin.clone();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&bytes);
    });
    let (sender, output) = mpsc::sync_channel(64);
    let readers = [
        pump(child.stdout.take().expect("stdout is piped"), false, sender.clone()),
        pump(child.stderr.take().expect("stderr is piped"), true, sender),
    ];

    let mut parser = adapter.reader(ParserOptions::default());
    let (mut events, mut text) = (Vec::new(), [Vec::new(), Vec::new()]);
    let until = Instant::now() + DEADLINE;
    let mut ended_by_us = None;
    loop {
        let (error, bytes) = match output.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(piece) => piece,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) if ended_by_us.is_none() => {
                ended_by_us = Some(ExitReason::Timeout);
                kill(&child);
                continue;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break,
        };
        let new = if error { parser.stderr(&bytes) } else { parser.stdout(&bytes) };
        text[usize::from(error)].extend_from_slice(&bytes);
        events.extend(new);
        if let Some((count, wanted)) = ask.stop_at
            && ended_by_us.is_none()
            && events.iter().filter(|e| wanted(e)).count() >= count
        {
            ended_by_us = Some(ExitReason::Killed);
            kill(&child);
        }
    }
    let status = child.wait().expect("it can be waited for");
    kill(&child);
    for thread in readers {
        let _ = thread.join();
    }
    let _ = writer.join();
    let exit = match ended_by_us {
        Some(reason) => ExitStatus { code: 137, reason },
        None => status
            .code()
            .map_or(ExitStatus { code: 137, reason: ExitReason::Signaled { signal: 9 } }, ExitStatus::exited),
    };
    let outcome = parser.finish(&exit);
    let usage =
        events.iter().rev().find_map(|e| if let AgentEvent::Usage { usage } = e { Some(usage.clone()) } else { None });
    let (reached, refused) = proxy.seen();
    let [stdout, stderr] = text.map(|t| String::from_utf8_lossy(&t).into_owned());
    Answer { events, outcome, exit, usage: usage.unwrap_or_default(), stderr, stdout, reached, refused }
}

fn pump(
    mut from: impl Read + Send + 'static,
    error: bool,
    to: mpsc::SyncSender<(bool, Vec<u8>)>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 || to.send((error, buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    })
}

/// Ends the program and whatever it left behind in its group.
fn kill(child: &Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
}

/// A git repository as the runner gives it to an agent.
pub fn workspace() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a workspace");
    let check = std::fs::read(kit().join("repository/check.sh")).expect("the gate");
    std::fs::write(directory.path().join("check.sh"), check).expect("the gate is written");
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=Cove", "-c", "user.email=cove@localhost", "-c", "init.defaultBranch=main"])
            .args(args)
            .current_dir(directory.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git runs");
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "start"]);
    directory
}
