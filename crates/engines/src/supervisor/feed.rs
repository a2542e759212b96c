//! The direction to a process: frames from the client, bytes into its stdin.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use super::control::{FRAME_BYTES, Frame, HEADER};
use super::system;

/// End-of-file on a terminal.
const EOT: u8 = 4;

/// Pieces moved before the other streams get their turn.
const TURN: usize = 8;

/// What a move came to.
pub enum Fed {
    /// All is well.
    On,
    /// The process takes no more input; said once.
    Closed,
    /// The client speaks nonsense.
    Nonsense,
}

/// One exec's stdin.
pub struct Feed {
    stdin: Option<File>,
    /// Whether stdin is a terminal, which is ended by a character.
    terminal: bool,
    /// Bytes from the client that are no whole frame yet.
    inbox: Vec<u8>,
    /// Bytes for stdin, and how many of them the process took.
    held: Vec<u8>,
    taken: usize,
    /// Last byte for stdin, to know where a terminal's line stands.
    last: u8,
    ends: bool,
    client_done: bool,
    /// Whether a move stopped for the sake of the other streams.
    more: bool,
}

impl Feed {
    /// Feeds `stdin`, which must not wait.
    pub fn new(stdin: Option<File>, terminal: bool) -> Self {
        Self {
            stdin,
            terminal,
            inbox: Vec::new(),
            held: Vec::new(),
            taken: 0,
            last: b'\n',
            ends: false,
            client_done: false,
            more: false,
        }
    }

    /// The process has ended.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Whether there is something to do at once.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Whether the client's next frame is awaited.
    pub fn listens(&self) -> bool {
        !self.client_done && self.held.is_empty() && !self.ends
    }

    /// What to wait for at stdin.
    pub fn watched(&self) -> libc::pollfd {
        match &self.stdin {
            Some(stdin) if !self.held.is_empty() => system::watched(stdin, false, true),
            // An error here says that nobody reads; terminals report one while nobody has them open.
            Some(stdin) if !self.terminal => system::watched(stdin, false, false),
            _ => system::unwatched(),
        }
    }

    /// Moves stdin along.
    pub fn advance(&mut self, client: &mut UnixStream) -> Fed {
        for _ in 0..TURN {
            if !self.listen(client) {
                return Fed::Nonsense;
            }
            self.more = !self.held.is_empty() || self.ends;
            if !self.feed() {
                return Fed::Closed;
            }
            if !self.more || !self.held.is_empty() || self.client_done {
                self.more = false;
                return Fed::On;
            }
        }
        Fed::On
    }

    /// Takes what the client says while there is room; false when it speaks nonsense.
    fn listen(&mut self, client: &mut UnixStream) -> bool {
        while self.listens() {
            if !self.parse() {
                return false;
            }
            if !self.listens() {
                return true;
            }
            let mut bytes = [0; 32 << 10];
            match client.read(&mut bytes) {
                Ok(0) => {
                    self.client_done = true;
                    self.ends = true;
                }
                Ok(count) => self.inbox.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn parse(&mut self) -> bool {
        let Some((header, rest)) = self.inbox.split_first_chunk::<HEADER>() else { return true };
        let [a, b, c, d, kind] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > FRAME_BYTES {
            return false;
        }
        let Some(bytes) = rest.get(..length) else { return true };
        match Frame::of(kind) {
            Some(Frame::Stdin) => self.held = bytes.to_vec(),
            Some(Frame::StdinEnd) => self.ends = true,
            _ => return false,
        }
        self.inbox.drain(..HEADER + length);
        true
    }

    /// Gives the process what it takes; false when it has just been found to take nothing more.
    fn feed(&mut self) -> bool {
        while let Some(stdin) = &mut self.stdin {
            if self.held.is_empty() {
                if !self.ends {
                    return true;
                }
                if !self.terminal {
                    self.stdin = None;
                    break;
                }
                // In the middle of a line the first one only ends the line.
                self.held = vec![EOT; if self.last == b'\n' { 1 } else { 2 }];
                self.ends = false;
            }
            match stdin.write(&self.held[self.taken..]) {
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.stdin = None;
                    self.forget();
                    return false;
                }
            }
            if self.taken >= self.held.len() {
                self.last = self.held.last().copied().filter(|last| *last != EOT).unwrap_or(b'\n');
                self.held.clear();
                self.taken = 0;
            }
        }
        self.forget();
        true
    }

    /// Nobody reads any more: what the client still sends is let go.
    fn forget(&mut self) {
        self.held.clear();
        self.taken = 0;
        self.ends = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&Frame::Stdin.header(piece.len()));
            out.extend_from_slice(piece);
        }
        out.extend_from_slice(&Frame::StdinEnd.header(0));
        out
    }

    /// Feeds `said` in portions into a pipe; what arrived, or `None` for nonsense.
    fn fed(said: &[u8], portion: usize) -> Option<Vec<u8>> {
        let (reader, writer) = io::pipe().unwrap();
        let writer: std::os::fd::OwnedFd = writer.into();
        system::set_nonblocking(&writer).unwrap();
        let mut feed = Feed::new(Some(writer.into()), false);
        let (mut client, mut mine) = UnixStream::pair().unwrap();
        mine.set_nonblocking(true).unwrap();
        for part in said.chunks(portion.max(1)) {
            client.write_all(part).unwrap();
            if matches!(feed.advance(&mut mine), Fed::Nonsense) {
                return None;
            }
        }
        drop(client);
        let nonsense = matches!(feed.advance(&mut mine), Fed::Nonsense);
        drop(feed);
        let mut arrived = Vec::new();
        { reader }.read_to_end(&mut arrived).unwrap();
        (!nonsense).then_some(arrived)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_said_arrives_however_it_is_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
            portion in 1_usize..400,
        ) {
            prop_assert_eq!(fed(&frames(&pieces), portion), Some(pieces.concat()));
        }

        #[test]
        fn nonsense_is_survived(said in prop::collection::vec(any::<u8>(), 0..2000), portion in 1_usize..400) {
            let _ = fed(&said, portion);
        }
    }
}
