//! A request's body: taken from the client strictly by its framing, handed on in pieces.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::head::Framing;
use crate::session::Incoming;

/// Why a body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The framing is wrong.
    Malformed,
    /// The client went away or was silent too long.
    Gone,
    /// The other side wants no more.
    Unwanted,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "The body's chunks are malformed",
            Self::Gone => "The body ended early",
            Self::Unwanted => "The body was not wanted",
        })
    }
}

impl std::error::Error for Cut {}

/// The receiving end, as hyper takes it.
pub(crate) struct Pieces {
    from: mpsc::Receiver<Result<Bytes, Cut>>,
    left: Option<u64>,
}

pub(crate) type Sender = mpsc::Sender<Result<Bytes, Cut>>;

/// A bounded way from [`pump`] to hyper.
pub(crate) fn channel(framing: Framing) -> (Sender, Pieces) {
    let (to, from) = mpsc::channel(4);
    let left = match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    (to, Pieces { from, left })
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.from.poll_recv(cx).map(|piece| {
            piece.map(|piece| {
                piece.map(|bytes| {
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(bytes.len() as u64);
                    }
                    Frame::data(bytes)
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Reads one body and sends its content on. Afterwards the next request begins.
pub(crate) async fn pump(from: &mut Incoming, framing: Framing, to: Sender) -> Result<(), Cut> {
    let done = match framing {
        Framing::None => Ok(()),
        Framing::Length(length) => exactly(from, length, &to).await,
        Framing::Chunked => chunks(from, &to).await,
    };
    if let Err(cut @ (Cut::Malformed | Cut::Gone)) = done {
        let _ = to.send(Err(cut)).await;
    }
    done
}

async fn exactly(from: &mut Incoming, mut left: u64, to: &Sender) -> Result<(), Cut> {
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(64 << 10);
        let piece = from.some(most).await.map_err(|_| Cut::Gone)?;
        left -= piece.len() as u64;
        to.send(Ok(piece)).await.map_err(|_| Cut::Unwanted)?;
    }
    Ok(())
}

/// RFC 9112 section 7.1 without extensions; trailers are read and dropped.
async fn chunks(from: &mut Incoming, to: &Sender) -> Result<(), Cut> {
    const TRAILER_LINES: usize = 32;
    loop {
        let line = from.line(256).await?;
        let digits = std::str::from_utf8(&line).ok().filter(|l| (1..=8).contains(&l.len())).ok_or(Cut::Malformed)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Cut::Malformed);
        }
        let size = u64::from_str_radix(digits, 16).map_err(|_| Cut::Malformed)?;
        if size == 0 {
            break;
        }
        exactly(from, size, to).await?;
        if !from.line(0).await?.is_empty() {
            return Err(Cut::Malformed);
        }
    }
    for _ in 0..TRAILER_LINES {
        if from.line(4096).await?.is_empty() {
            return Ok(());
        }
    }
    Err(Cut::Malformed)
}

/// The next piece of a response, without trailers.
pub(crate) async fn next_piece(body: &mut hyper::body::Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}
