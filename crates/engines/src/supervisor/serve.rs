//! Serves one connection of `control.sock`.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use cove_core::error::{Error, ErrorKind, Result};
use cove_guest::wire::Order;

use super::control::{Fault, Frame, REQUEST_BYTES, Reply, Request, Stats, read_frame, write_document};
use super::streams;
use super::system;
use super::table::{Event, Sandbox, lock};

/// How long a client may take to say what it wants, and to take a short answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long ending a sandbox may take beyond the grace.
const ENDING: Duration = Duration::from_secs(120);

/// Answers the connection's one request.
pub fn connection(mut stream: UnixStream, sandbox: &Arc<Sandbox>) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let request = match read_frame(&mut stream, REQUEST_BYTES) {
        Ok((Frame::Request, bytes)) => serde_json::from_slice::<Request>(&bytes)
            .map_err(|error| Error::invalid("The request is not understood").because(error)),
        Ok(_) => Err(Error::invalid("The first frame is not a request")),
        Err(_) => return,
    };
    let reply = match request {
        Ok(Request::Exec { spec }) => match streams::exec(&mut stream, sandbox, &spec) {
            Ok(()) => return,
            Err(error) => Err(error),
        },
        Ok(other) => answer(sandbox, other),
        Err(error) => Err(error),
    };
    let reply = reply.unwrap_or_else(|error| Reply::Fault(Fault::from(&error)));
    let _ = write_document(&mut stream, Frame::Reply, &reply);
}

fn answer(sandbox: &Sandbox, request: Request) -> Result<Reply> {
    match request {
        Request::Exec { .. } => Err(Error::internal("An exec is not answered here")),
        Request::Signal { exec, signal } => {
            if !(1..=64).contains(&signal) {
                return Err(Error::invalid(format!("{signal} is not a signal")));
            }
            let job = sandbox.job(exec)?;
            sandbox.order(&Order::Signal { id: job.id, signal }, &[])?;
            Ok(Reply::Done)
        }
        Request::Resize { exec, size } => {
            let job = sandbox.job(exec)?;
            let terminal = lock(&job.terminal);
            let master =
                terminal.as_ref().ok_or_else(|| Error::invalid("The process was started without a terminal"))?;
            system::resize(master, size)
                .map_err(|error| Error::internal("The terminal's size cannot be changed").because(error))?;
            Ok(Reply::Done)
        }
        Request::Stop { grace_ms } => {
            let grace = Duration::from_millis(grace_ms);
            end(sandbox, grace, |done| Event::Stop { grace, done })
        }
        Request::Quit => end(sandbox, Duration::ZERO, |done| Event::Quit { done }),
        Request::Stats => Ok(Reply::Stats(Stats {
            execs: sandbox.job_count() as u64,
            uptime_ms: u64::try_from(sandbox.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            oom_kills: lock(&sandbox.launched).oom_kills(),
        })),
    }
}

fn end(
    sandbox: &Sandbox,
    grace: Duration,
    event: impl FnOnce(std::sync::mpsc::SyncSender<()>) -> Event,
) -> Result<Reply> {
    let (done, ended) = sync_channel(1);
    sandbox.tell(event(done));
    match ended.recv_timeout(grace.saturating_add(ENDING)) {
        Ok(()) => Ok(Reply::Done),
        Err(_) => Err(Error::new(ErrorKind::Timeout, format!("Sandbox {} does not end", sandbox.plan.id))),
    }
}
