//! Starts one exec and opens its streams.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cove_core::engine::ExecSpec;
use cove_core::error::{Error, ErrorKind, Result};
use cove_guest::wire::{COMMAND_BYTES, Command, Order};

use super::control::{Frame, Started};
use super::log;
use super::pump::{Pump, Sent, Source};
use super::system;
use super::table::{Job, News, Sandbox, lock};

/// How long the guest may take to start a process.
const START: Duration = Duration::from_secs(60);

/// Starts the process and carries its streams to the end.
///
/// # Errors
/// What keeps it from starting; nothing was sent to the client then.
pub fn exec(client: &mut UnixStream, sandbox: &Arc<Sandbox>, spec: &ExecSpec) -> Result<()> {
    let document = serde_json::to_vec(&command(sandbox, spec)?)
        .map_err(|error| Error::internal("The command cannot be passed on").because(error))?;
    if document.len() > COMMAND_BYTES {
        return Err(Error::invalid("The arguments and variables together exceed 4 MiB"));
    }
    let no_pipe = |error: io::Error| Error::new(ErrorKind::Exhausted, "No pipe can be opened").because(error);
    let document = system::memory_file(&document).map_err(no_pipe)?;
    client.set_nonblocking(true).map_err(no_pipe)?;
    let oom_kills = lock(&sandbox.launched).oom_kills();
    let job = sandbox.admit()?;
    let sent = order(sandbox, &job, spec, &document).inspect_err(|_| sandbox.dismiss(job.id))?;
    let (sources, failure) = match first_news(sandbox, &job)? {
        News::Started(Some(master)) if spec.pty.is_some() => {
            let (stdin, sources) = terminal(&job, master).map_err(no_pipe)?;
            (Sent { stdin: Some(stdin), sources, terminal: true }, None)
        }
        News::Started(_) if spec.pty.is_some() => {
            let _ = sandbox.order(&Order::Kill { id: job.id }, &[]);
            return Err(Error::internal("The guest passed no terminal on"));
        }
        News::Started(_) => (sent, None),
        News::Failed { code, message } => (sent, Some((code, message))),
        News::Refused(message) => {
            return Err(Error::new(ErrorKind::Exhausted, format!("The process cannot be started: {message}")));
        }
        // A program may kill its keeper before that has said that it runs.
        ended @ News::Exited { .. } if spec.pty.is_none() => {
            job.push(ended);
            (sent, None)
        }
        News::Exited { .. } | News::Gone => {
            return Err(Error::new(ErrorKind::Interrupted, "The sandbox ended before the process began"));
        }
    };
    let deadline = spec.timeout().and_then(|timeout| Instant::now().checked_add(timeout));
    let mut pump = Pump::new(client, sandbox, &job, sources, deadline, oom_kills);
    pump.document(Frame::Started, &Started { exec: job.id });
    if let Some((code, message)) = failure {
        pump.failed(code, &format!("cove: {message}\n"));
    }
    let end = pump.run();
    log::line(&format!("exec {} {:?}: {end}", job.id, spec.argv.first().map(String::as_str).unwrap_or_default()));
    Ok(())
}

/// Waits for the start.
fn first_news(sandbox: &Sandbox, job: &Job) -> Result<News> {
    let limit = Instant::now() + START;
    loop {
        if let Some(news) = job.take() {
            return Ok(news);
        }
        if Instant::now() >= limit {
            let _ = sandbox.order(&Order::Kill { id: job.id }, &[]);
            return Err(Error::new(ErrorKind::Timeout, "The guest did not start the process in time"));
        }
        let mut fds = [libc::pollfd { fd: job.wake_fd(), events: libc::POLLIN, revents: 0 }];
        system::poll(&mut fds, Some(limit));
    }
}

/// The streams of a terminal: one descriptor for each direction, a third for changes of size.
fn terminal(job: &Job, master: OwnedFd) -> io::Result<(File, [Option<Source>; 2])> {
    if !system::is_terminal(&master) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    *lock(&job.terminal) = Some(master.try_clone()?);
    let stdin = master.try_clone()?.into();
    Ok((stdin, [Some(Source::new(master, Frame::Stdout)?), None]))
}

fn command(sandbox: &Sandbox, spec: &ExecSpec) -> Result<Command> {
    if spec.argv.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("No program was named"));
    }
    if spec.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(Error::invalid("An argument holds a zero byte"));
    }
    if spec.env.iter().any(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')) {
        return Err(Error::invalid("A variable cannot be passed to a process"));
    }
    if spec.user.is_some_and(|user| user != sandbox.plan.spec.user) {
        return Err(Error::new(ErrorKind::Unsupported, "Processes run as the sandbox's user only")
            .next("Leave the user out, or make the sandbox with that user"));
    }
    let cwd = spec.workdir.as_ref().unwrap_or(&sandbox.plan.spec.workdir);
    let mut env: BTreeMap<String, String> = sandbox.environment.clone();
    env.extend(spec.env.clone());
    let launched = lock(&sandbox.launched);
    let cwd = launched.inside(cwd);
    if let Some(home) = env.get_mut("HOME") {
        *home = launched.inside(Path::new(home)).to_string_lossy().into_owned();
    }
    Ok(Command { argv: spec.argv.clone(), env, cwd: cwd.to_string_lossy().into_owned() })
}

fn order(sandbox: &Sandbox, job: &Job, spec: &ExecSpec, document: &File) -> Result<Sent> {
    let no_pipe = |error: io::Error| Error::new(ErrorKind::Exhausted, "No pipe can be opened").because(error);
    if let Some(size) = spec.pty {
        let order = Order::Exec { id: job.id, pty: Some((size.cols, size.rows)) };
        sandbox.order(&order, &[document.as_fd()])?;
        return Ok(Sent { stdin: None, sources: [None, None], terminal: true });
    }
    let (stdin, mine_in) = io::pipe().map_err(no_pipe)?;
    let (mine_out, stdout) = io::pipe().map_err(no_pipe)?;
    let (mine_err, stderr) = io::pipe().map_err(no_pipe)?;
    system::widen(&mine_out, 256 << 10);
    system::set_nonblocking(&mine_in).map_err(no_pipe)?;
    let order = Order::Exec { id: job.id, pty: None };
    sandbox.order(&order, &[document.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    Ok(Sent {
        stdin: Some(OwnedFd::from(mine_in).into()),
        sources: [
            Some(Source::new(OwnedFd::from(mine_out), Frame::Stdout).map_err(no_pipe)?),
            Some(Source::new(OwnedFd::from(mine_err), Frame::Stderr).map_err(no_pipe)?),
        ],
        terminal: false,
    })
}
