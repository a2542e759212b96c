//! Talking to a supervisor.

use std::fs::File;
use std::io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use cove_core::error::{Context, Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::supervisor::control::{FRAME_BYTES, Frame, HEADER, Reply, Request};
use crate::supervisor::plan::Directory;

/// How long connecting and saying what is wanted may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects and makes the request. `None` when no supervisor listens.
pub async fn request(dir: &Path, request: &Request) -> Result<Option<UnixStream>> {
    let handle = match File::open(dir) {
        Ok(handle) => handle,
        Err(error) if error.kind() == NotFound => return Ok(None),
        Err(error) => return Err(error).context(ErrorKind::Internal, format!("{} cannot be opened", dir.display())),
    };
    // By descriptor: a socket's path may have 107 bytes at most, a state directory more.
    let path = format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), Directory::SOCKET);
    let bytes = serde_json::to_vec(request).context(ErrorKind::Internal, "The request cannot be written")?;
    let said = timeout(PATIENCE, async {
        let mut stream = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => break stream,
                Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
                // Its queue is full.
                Err(error) if error.kind() == WouldBlock => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => return Err(error),
            }
        };
        stream.write_all(&Frame::Request.header(bytes.len())).await?;
        stream.write_all(&bytes).await?;
        Ok::<_, std::io::Error>(Some(stream))
    });
    match said.await {
        Ok(stream) => stream.context(ErrorKind::Interrupted, "The supervisor hung up"),
        Err(_) => {
            Err(Error::new(ErrorKind::Timeout, "The supervisor does not listen").with("directory", dir.display()))
        }
    }
}

/// Makes the request and takes its reply within `limit`. `None` when no supervisor listens or it
/// left without a word.
pub async fn call(dir: &Path, what: &Request, limit: Duration) -> Result<Option<Reply>> {
    let Some(mut stream) = request(dir, what).await? else { return Ok(None) };
    match timeout(limit, read_frame(&mut stream)).await {
        Ok(Ok((Frame::Reply, bytes))) => match serde_json::from_slice(&bytes) {
            Ok(Reply::Fault(fault)) => Err(fault.into()),
            Ok(reply) => Ok(Some(reply)),
            Err(error) => Err(Error::internal("The supervisor's reply is not understood").because(error)),
        },
        Ok(Ok(_)) => Err(Error::internal("The supervisor's reply is not one")),
        Ok(Err(_)) => Ok(None),
        Err(_) => {
            Err(Error::new(ErrorKind::Timeout, "The supervisor does not answer").with("directory", dir.display()))
        }
    }
}

/// The next frame of a stream.
pub async fn read_frame(stream: &mut UnixStream) -> std::io::Result<(Frame, Vec<u8>)> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let [a, b, c, d, kind] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let kind = Frame::of(kind).filter(|_| length <= FRAME_BYTES).ok_or(std::io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok((kind, bytes))
}
