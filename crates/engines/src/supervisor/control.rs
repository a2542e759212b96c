//! What is said on `control.sock`.
//!
//! A connection carries one request. Frames are a length (`u32`, little endian, of what follows the
//! kind), a kind byte and that many bytes. The first frame is a [`Request`] document. An exec answers
//! [`Frame::Started`] and then streams; everything else answers one [`Frame::Reply`]. A connection
//! that closes ends its exec.

use std::io::{self, Read, Write};

use cove_core::engine::{ExecSpec, PtySize};
use cove_core::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// Bytes of a frame's header.
pub const HEADER: usize = 5;

/// Largest first frame.
pub const REQUEST_BYTES: usize = 4 << 20;

/// Largest frame after the first.
pub const FRAME_BYTES: usize = 256 << 10;

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Frame {
    /// A [`Request`] document.
    Request = 1,
    /// Bytes for stdin.
    Stdin = 2,
    /// No more stdin.
    StdinEnd = 3,
    /// A [`Reply`] document; the answer to everything but an exec, and an error at any time.
    Reply = 4,
    /// A [`Started`] document.
    Started = 5,
    /// Bytes of stdout.
    Stdout = 6,
    /// Bytes of stderr.
    Stderr = 7,
    /// The process takes no more stdin.
    StdinClosed = 8,
    /// A `cove_core::ExitStatus` document; the last frame.
    Exit = 9,
}

impl Frame {
    /// The kind of a byte.
    pub fn of(byte: u8) -> Option<Self> {
        [
            Self::Request,
            Self::Stdin,
            Self::StdinEnd,
            Self::Reply,
            Self::Started,
            Self::Stdout,
            Self::Stderr,
            Self::StdinClosed,
            Self::Exit,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    /// The header of a frame with `length` bytes.
    pub fn header(self, length: usize) -> [u8; HEADER] {
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        [a, b, c, d, self as u8]
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "request")]
pub enum Request {
    /// Start a process and stream.
    Exec {
        /// What to start.
        spec: ExecSpec,
    },
    /// Signal an exec's process group.
    Signal {
        /// From [`Started`].
        exec: u64,
        /// Signal number.
        signal: i32,
    },
    /// Change an exec's terminal size.
    Resize {
        /// From [`Started`].
        exec: u64,
        /// The new size.
        size: PtySize,
    },
    /// End the sandbox; answered when everything inside is dead.
    Stop {
        /// Milliseconds between TERM and KILL.
        grace_ms: u64,
    },
    /// End the sandbox and the supervisor at once, without delivering what is left.
    Quit,
    /// Counts; answered in [`Reply::Stats`].
    Stats,
}

/// What a supervisor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// Done.
    Done,
    /// Counts.
    Stats(Stats),
    /// It did not work.
    Fault(Fault),
}

/// Counts of one sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Execs that run.
    pub execs: u64,
    /// Milliseconds since it was ready.
    pub uptime_ms: u64,
    /// Kills by the memory limit.
    pub oom_kills: u64,
}

/// The first answer to an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Names it in further requests.
    pub exec: u64,
}

/// An error on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    kind: ErrorKind,
    message: String,
    next: Option<String>,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let mut message = error.chain().join(": ");
        let mut end = message.len().min(16 << 10);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        Self { kind: error.kind(), message, next: error.next_step().map(str::to_owned) }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = Self::new(fault.kind, fault.message);
        match fault.next {
            Some(step) => error.next(step),
            None => error,
        }
    }
}

/// Reads one frame of at most `bound` bytes.
pub fn read_frame(from: &mut impl Read, bound: usize) -> io::Result<(Frame, Vec<u8>)> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let [a, b, c, d, kind] = header;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let kind = Frame::of(kind).filter(|_| length <= bound).ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}

/// Writes one document as a frame.
pub fn write_document(to: &mut impl Write, kind: Frame, document: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(document)?;
    let mut frame = kind.header(bytes.len()).to_vec();
    frame.extend_from_slice(&bytes);
    to.write_all(&frame)
}
