//! Carries connections on a loopback port to the Unix socket of the egress door.
//!
//! Part of the guest's one loop: nothing here waits, everything is bounded.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::system;

/// Most connections at a time; further ones wait in the listener's queue.
const CONNECTIONS: usize = 256;

/// Bytes held per direction of a connection.
const BUFFER: usize = 32 << 10;

/// Pause in milliseconds after a connection could not be taken for want of descriptors.
const PAUSE_MS: i32 = 100;

/// The listening side and its connections.
pub struct Relay {
    listener: TcpListener,
    port: u16,
    socket: String,
    pairs: Vec<Pair>,
    starved: bool,
}

impl Relay {
    /// Listens on `127.0.0.1`.
    pub fn listen(port: u16, socket: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port, socket, pairs: Vec::new(), starved: false })
    }

    /// The port in use.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Adds what to wait for; [`carry`](Self::carry) takes the same entries back. Returns the
    /// longest wait in milliseconds.
    pub fn watch(&self, fds: &mut Vec<libc::pollfd>) -> i32 {
        let open = self.pairs.len() < CONNECTIONS && !self.starved;
        fds.push(entry(self.listener.as_raw_fd(), open, false));
        for pair in &self.pairs {
            fds.push(entry(pair.near.as_raw_fd(), pair.out.wants_data(), pair.back.holds_data()));
            fds.push(entry(pair.far.as_raw_fd(), pair.back.wants_data(), pair.out.holds_data()));
        }
        if self.starved { PAUSE_MS } else { -1 }
    }

    /// Moves what can be moved.
    pub fn carry(&mut self, fds: &[libc::pollfd]) {
        let (Some(listener), sides) = (fds.first(), fds.get(1..).unwrap_or_default()) else { return };
        let mut ready = sides.chunks_exact(2);
        self.pairs.retain_mut(|pair| match ready.next() {
            Some([near, far]) if near.revents | far.revents != 0 => pair.pump(near.revents, far.revents),
            _ => true,
        });
        if self.starved || listener.revents != 0 {
            self.starved = false;
            self.accept();
        }
    }

    fn accept(&mut self) {
        while self.pairs.len() < CONNECTIONS {
            match self.listener.accept() {
                Ok((near, _)) => {
                    let far = system::connect_unix(&self.socket).map(UnixStream::from);
                    // A door that does not answer is an end of the connection at once.
                    if let Ok(far) = far
                        && near.set_nonblocking(true).is_ok()
                    {
                        let _ = near.set_nodelay(true);
                        self.pairs.push(Pair { near, far, out: Flow::default(), back: Flow::default() });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.starved = true;
                    return;
                }
            }
        }
    }
}

fn entry(fd: RawFd, read: bool, write: bool) -> libc::pollfd {
    let events = if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
    // A negative descriptor is passed over, so that a half that waits for nothing cannot wake the loop.
    libc::pollfd { fd: if events == 0 { -1 } else { fd }, events, revents: 0 }
}

struct Pair {
    near: std::net::TcpStream,
    far: UnixStream,
    out: Flow,
    back: Flow,
}

impl Pair {
    /// Whether the connection goes on.
    fn pump(&mut self, near: i16, far: i16) -> bool {
        let ready = |events: i16, which: i16| events & (which | libc::POLLHUP | libc::POLLERR) != 0;
        let went = (!ready(near, libc::POLLIN) || self.out.fill(&mut self.near))
            && (!ready(far, libc::POLLIN) || self.back.fill(&mut self.far))
            && self.out.drain(&mut self.far)
            && self.back.drain(&mut self.near);
        if !went {
            return false;
        }
        if self.out.finished() {
            let _ = self.far.shutdown(Shutdown::Write);
        }
        if self.back.finished() {
            let _ = self.near.shutdown(Shutdown::Write);
        }
        !(self.out.closed && self.back.closed)
    }
}

/// One direction.
#[derive(Default)]
struct Flow {
    buffer: Vec<u8>,
    taken: usize,
    ended: bool,
    closed: bool,
}

impl Flow {
    fn wants_data(&self) -> bool {
        !self.ended && self.buffer.is_empty()
    }

    fn holds_data(&self) -> bool {
        self.taken < self.buffer.len()
    }

    /// Whether the source is done and everything was passed on; true once.
    fn finished(&mut self) -> bool {
        let now = self.ended && !self.holds_data() && !self.closed;
        self.closed |= now;
        now
    }

    fn fill(&mut self, from: &mut impl Read) -> bool {
        if !self.wants_data() {
            return true;
        }
        self.buffer.resize(BUFFER, 0);
        match from.read(&mut self.buffer) {
            Ok(0) => {
                self.ended = true;
                self.buffer = Vec::new();
                true
            }
            Ok(count) => {
                self.buffer.truncate(count);
                self.taken = 0;
                true
            }
            Err(error) => {
                self.buffer.clear();
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        }
    }

    fn drain(&mut self, to: &mut impl Write) -> bool {
        while self.holds_data() {
            match to.write(&self.buffer[self.taken..]) {
                Ok(0) => return false,
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.buffer.clear();
        self.taken = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn carries_both_ways_and_passes_on_each_end() {
        let dir = std::env::temp_dir().join(format!("cove-relay-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("door.sock");
        let door = UnixListener::bind(&path).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = door.accept().unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            stream.write_all(&asked).unwrap();
        });
        let mut relay = Relay::listen(0, path.to_str().unwrap().to_owned()).unwrap();
        let port = relay.port();
        let asked: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let sent = asked.clone();
        let client = std::thread::spawn(move || {
            let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            (&stream).write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            (&stream).read_to_end(&mut answer).unwrap();
            answer
        });
        let begun = Instant::now();
        while !client.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the connection did not end");
            let mut fds = Vec::new();
            relay.watch(&mut fds);
            system::poll(&mut fds, 50);
            relay.carry(&fds);
        }
        assert!(client.join().unwrap() == asked);
        served.join().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
