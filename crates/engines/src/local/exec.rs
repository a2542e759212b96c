//! One exec's two directions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cove_core::engine::{Exec, ExecInput, ExecOutput, ExecSpec, Output, PtySize};
use cove_core::error::{Context, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::link;
use crate::supervisor::control::{FRAME_BYTES, Frame, HEADER, Reply, Request, Started};

/// How long a start may take; the supervisor gives up before.
const START: Duration = Duration::from_secs(90);

/// How long a signal or a change of size may take.
const CALL: Duration = Duration::from_secs(30);

/// Bytes of stdin in one frame.
const PIECE: usize = 64 << 10;

/// Starts a process; `None` when no supervisor listens.
pub async fn exec(dir: &Path, spec: &ExecSpec) -> Result<Option<Exec>> {
    let Some(mut stream) = link::request(dir, &Request::Exec { spec: spec.clone() }).await? else { return Ok(None) };
    let first = timeout(START, link::read_frame(&mut stream))
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "The process was not started in time"))?
        .context(ErrorKind::Interrupted, "The sandbox vanished before the process began")?;
    let started: Started = match first {
        (Frame::Started, bytes) => {
            serde_json::from_slice(&bytes).context(ErrorKind::Internal, "The supervisor's answer is not understood")?
        }
        (Frame::Reply, bytes) => match serde_json::from_slice(&bytes) {
            Ok(Reply::Fault(fault)) => return Err(fault.into()),
            _ => return Err(Error::internal("The supervisor's answer is not understood")),
        },
        _ => return Err(Error::internal("The supervisor's answer is not understood")),
    };
    let (reader, writer) = stream.into_split();
    let deaf = Arc::new(AtomicBool::new(false));
    let input = Input {
        writer: Some(writer),
        deaf: Arc::clone(&deaf),
        dir: dir.to_owned(),
        exec: started.exec,
        terminal: spec.pty.is_some(),
    };
    let output = Stream { reader, buffer: Vec::new(), consumed: 0, deaf, done: false };
    Ok(Some(Exec { input: Box::new(input), output: Box::new(output) }))
}

struct Input {
    /// Kept until this half is dropped: losing it early would look like an end of stdin.
    writer: Option<OwnedWriteHalf>,
    /// Whether the process takes no more stdin.
    deaf: Arc<AtomicBool>,
    dir: PathBuf,
    exec: u64,
    terminal: bool,
}

impl Input {
    async fn send(&mut self, kind: Frame, bytes: &[u8]) -> Result<()> {
        let closed = || Error::new(ErrorKind::Interrupted, "The process takes no more input");
        let Some(writer) = self.writer.as_mut().filter(|_| !self.deaf.load(Ordering::Acquire)) else {
            return Err(closed());
        };
        let mut frame = Vec::with_capacity(HEADER + bytes.len());
        frame.extend_from_slice(&kind.header(bytes.len()));
        frame.extend_from_slice(bytes);
        writer.write_all(&frame).await.map_err(|error| closed().because(error))
    }

    async fn call(&self, request: Request) -> Result<()> {
        match link::call(&self.dir, &request, CALL).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::new(ErrorKind::Interrupted, "The sandbox is gone")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::Interrupted, "The process has ended"))
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl ExecInput for Input {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.send(Frame::Stdin, piece).await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        // Closing what the process has closed already is no failure.
        let _ = self.send(Frame::StdinEnd, &[]).await;
        Ok(())
    }

    async fn resize(&mut self, size: PtySize) -> Result<()> {
        if !self.terminal {
            return Err(Error::invalid("The process was started without a terminal"));
        }
        self.call(Request::Resize { exec: self.exec, size }).await
    }

    async fn signal(&mut self, signal: i32) -> Result<()> {
        self.call(Request::Signal { exec: self.exec, signal }).await
    }
}

struct Stream {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
    consumed: usize,
    deaf: Arc<AtomicBool>,
    done: bool,
}

impl Stream {
    /// Takes a whole frame out of the buffer.
    fn parse(&mut self) -> Result<Option<(Frame, Vec<u8>)>> {
        let held = &self.buffer[self.consumed..];
        let Some((header, rest)) = held.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, kind] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let Some(kind) = Frame::of(kind).filter(|_| length <= FRAME_BYTES) else {
            return Err(Error::internal("The supervisor's stream is damaged"));
        };
        let Some(bytes) = rest.get(..length) else { return Ok(None) };
        let bytes = bytes.to_vec();
        self.consumed += HEADER + length;
        if self.consumed == self.buffer.len() {
            self.buffer.clear();
            self.consumed = 0;
        }
        Ok(Some((kind, bytes)))
    }
}

#[async_trait]
impl ExecOutput for Stream {
    async fn next(&mut self) -> Result<Option<Output>> {
        while !self.done {
            while let Some((kind, bytes)) = self.parse()? {
                match kind {
                    Frame::Stdout => return Ok(Some(Output::Stdout(bytes))),
                    Frame::Stderr => return Ok(Some(Output::Stderr(bytes))),
                    Frame::StdinClosed => self.deaf.store(true, Ordering::Release),
                    Frame::Exit => {
                        self.done = true;
                        self.deaf.store(true, Ordering::Release);
                        let exit = serde_json::from_slice(&bytes)
                            .context(ErrorKind::Internal, "The supervisor's stream is damaged")?;
                        return Ok(Some(Output::Exit(exit)));
                    }
                    _ => return Err(Error::internal("The supervisor's stream is damaged")),
                }
            }
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            self.buffer.reserve(FRAME_BYTES);
            // The one point of waiting; what was read is in the buffer when the caller cancels.
            let count = self.reader.read_buf(&mut self.buffer).await;
            if !matches!(count, Ok(count) if count > 0) {
                self.done = true;
                self.deaf.store(true, Ordering::Release);
                return Err(Error::new(ErrorKind::Interrupted, "The sandbox vanished while the process ran"));
            }
        }
        Ok(None)
    }
}
