//! One connection through a door: requests one after another, each judged for itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::answer::Answer;
use crate::body::Cut;
use crate::doors::Shared;
use crate::head::{Head, MAX_HEAD, Target};
use crate::{forward, tunnel};

/// The client's side of a connection.
pub(crate) struct Client {
    pub from: Incoming,
    pub to: OwnedWriteHalf,
}

/// What the client sends, with what was read ahead.
pub(crate) struct Incoming {
    stream: OwnedReadHalf,
    ahead: BytesMut,
    idle: Duration,
}

/// Serves a connection until it ends, an error or the total deadline.
pub(crate) async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    let (from, to) = stream.into_split();
    let idle = shared.options.idle_timeout;
    let client = Client { from: Incoming { stream: from, ahead: BytesMut::new(), idle }, to };
    match timeout(shared.options.total_timeout, requests(client, &shared)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(door = %shared.label, %error, "a connection ended"),
        Err(_) => tracing::debug!(door = %shared.label, "a connection reached its total deadline"),
    }
}

async fn requests(mut client: Client, shared: &Shared) -> io::Result<()> {
    loop {
        let bytes = match timeout(shared.options.head_timeout, client.from.head()).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let answer = Answer { status: 431, ..Answer::malformed("Its head is too large") };
                return answer.write(&mut client.to).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) if client.from.ahead.is_empty() => return Ok(()),
            Err(_) => {
                let answer = Answer { status: 408, ..Answer::malformed("It took too long") };
                return answer.write(&mut client.to).await;
            }
        };
        let head = match Head::parse(&bytes) {
            Ok(head) => head,
            Err(problem) => {
                tracing::debug!(door = %shared.label, problem, "a request was malformed");
                return Answer::malformed(problem).write(&mut client.to).await;
            }
        };
        match &head.target {
            Target::Tunnel { host, port } => return tunnel::run(client, shared, host, *port).await,
            Target::Forward { host, port, path } => {
                if !forward::run(&mut client, shared, &head, host, *port, path).await? {
                    return Ok(());
                }
            }
        }
    }
}

impl Incoming {
    /// A head with the empty line that ends it; `None` at the end of the stream. Ends also at an
    /// empty line in a wrong form, for the parser to refuse.
    async fn head(&mut self) -> io::Result<Option<Bytes>> {
        let mut looked = 0;
        loop {
            let from = usize::saturating_sub(looked, 3);
            if let Some(at) = end_of_head(&self.ahead[from..]) {
                return Ok(Some(self.ahead.split_to(from + at).freeze()));
            }
            looked = self.ahead.len();
            if looked > MAX_HEAD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return if looked == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// A line without its CRLF, at most `most` bytes of it.
    pub(crate) async fn line(&mut self, most: usize) -> Result<Bytes, Cut> {
        loop {
            if let Some(at) = self.ahead.iter().position(|b| *b == b'\n') {
                let line = self.ahead.split_to(at + 1).freeze();
                let line = line.strip_suffix(b"\r\n").map(|text| line.slice_ref(text)).ok_or(Cut::Malformed)?;
                return if line.len() <= most && !line.contains(&b'\r') { Ok(line) } else { Err(Cut::Malformed) };
            }
            if self.ahead.len() > most + 1 {
                return Err(Cut::Malformed);
            }
            self.more().await.map_err(|_| Cut::Gone)?;
        }
    }

    /// At least one byte, at most `most`.
    pub(crate) async fn some(&mut self, most: usize) -> io::Result<Bytes> {
        if self.ahead.is_empty() {
            self.more().await?;
        }
        Ok(self.ahead.split_to(most.min(self.ahead.len())).freeze())
    }

    /// Reads more ahead.
    pub(crate) async fn more(&mut self) -> io::Result<()> {
        self.ahead.reserve(16 << 10);
        match timeout(self.idle, self.stream.read_buf(&mut self.ahead)).await?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// What was read ahead and not used.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// The rest of the stream and what was read ahead of it.
    pub(crate) fn into_parts(self) -> (OwnedReadHalf, BytesMut) {
        (self.stream, self.ahead)
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|b| *b == b'\n') {
        at += found + 1;
        match bytes.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
    None
}
