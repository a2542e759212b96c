//! A `SEQPACKET` socket that carries messages with file descriptors.

#![allow(unsafe_code, reason = "sendmsg and recvmsg with SCM_RIGHTS have no safe form in the standard library")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use serde::Serialize;

use crate::wire::{MESSAGE_BYTES, MESSAGE_FDS};

/// One end of a message socket.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What one read brought.
#[derive(Debug)]
pub struct Message {
    /// The document.
    pub bytes: Vec<u8>,
    /// Descriptors that came along, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Whether descriptors were lost because this process may not open more files.
    pub fds_lost: bool,
}

impl Channel {
    /// Takes over a connected `SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Two connected ends, both close-on-exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let mut fds = [0; 2];
        // SAFETY: `fds` has room for the two descriptors that the call writes.
        let done =
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors are fresh and owned by nobody else.
        Ok(unsafe { (Self(OwnedFd::from_raw_fd(fds[0])), Self(OwnedFd::from_raw_fd(fds[1]))) })
    }

    /// The socket itself.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Bounds how long a send may wait for the other side to read.
    pub fn set_send_timeout(&self, limit: Duration) -> io::Result<()> {
        let time = libc::timeval {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_usec: limit.subsec_micros() as libc::suseconds_t,
        };
        // SAFETY: the pointer and length describe `time`, which outlives the call.
        let done = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDTIMEO,
                (&raw const time).cast(),
                mem::size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends a document with descriptors beside it.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        self.send_bytes(&bytes, fds)
    }

    /// Sends bytes as one message.
    pub fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MESSAGE_BYTES || fds.len() > MESSAGE_FDS {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut control = [0_u64; 8];
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut iov;
        header.msg_iovlen = 1;
        if !raw.is_empty() {
            let payload = mem::size_of_val(raw.as_slice()) as libc::c_uint;
            header.msg_control = control.as_mut_ptr().cast();
            // SAFETY: `control` is aligned for a cmsghdr and larger than the space for MESSAGE_FDS
            // descriptors; the pointers returned stay inside it.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(payload) as _;
                let cmsg = libc::CMSG_FIRSTHDR(&raw const header);
                (*cmsg).cmsg_level = libc::SOL_SOCKET;
                (*cmsg).cmsg_type = libc::SCM_RIGHTS;
                (*cmsg).cmsg_len = libc::CMSG_LEN(payload) as _;
                std::ptr::copy_nonoverlapping(raw.as_ptr(), libc::CMSG_DATA(cmsg).cast::<RawFd>(), raw.len());
            }
        }
        loop {
            // SAFETY: every pointer in `header` refers to a live local.
            let sent = unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// The next message; `None` when the other side is gone. Waits unless the socket does not block.
    ///
    /// # Errors
    /// `InvalidData` for a message over [`MESSAGE_BYTES`].
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut bytes = vec![0_u8; MESSAGE_BYTES];
        let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut control = [0_u64; 8];
        // SAFETY: an all-zero msghdr is a valid empty one.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut iov;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = mem::size_of_val(&control) as _;
        let got = loop {
            // SAFETY: every pointer in `header` refers to a live local with the length given.
            let got = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
            if got >= 0 {
                break got as usize;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::ConnectionReset => return Ok(None),
                _ => return Err(error),
            }
        };
        let fds = received(&header);
        if got == 0 {
            return Ok(None);
        }
        if header.msg_flags & libc::MSG_TRUNC != 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        bytes.truncate(got);
        bytes.shrink_to_fit();
        Ok(Some(Message { bytes, fds, fds_lost: header.msg_flags & libc::MSG_CTRUNC != 0 }))
    }
}

fn received(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled the control buffer that `header` names; the CMSG macros stay inside
    // `msg_controllen`, and each descriptor found is fresh and owned by nobody else.
    unsafe {
        let mut cmsg = libc::CMSG_FIRSTHDR(header);
        while !cmsg.is_null() {
            if (*cmsg).cmsg_level == libc::SOL_SOCKET && (*cmsg).cmsg_type == libc::SCM_RIGHTS {
                let bytes = ((*cmsg).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(cmsg).cast::<RawFd>();
                for index in 0..bytes / mem::size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            cmsg = libc::CMSG_NXTHDR(header, cmsg);
        }
    }
    fds
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl std::os::fd::AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn carries_a_document_and_a_descriptor() {
        let (one, two) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        one.send(&"hello", &[writer.as_fd()]).unwrap();
        drop(writer);
        let message = two.receive().unwrap().unwrap();
        assert_eq!(message.bytes, b"\"hello\"");
        assert!(!message.fds_lost);
        std::fs::File::from(message.fds.into_iter().next().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(one);
        assert!(two.receive().unwrap().is_none());
    }

    #[test]
    fn refuses_what_exceeds_the_bounds() {
        let (one, _two) = Channel::pair().unwrap();
        assert!(one.send_bytes(&vec![0; MESSAGE_BYTES + 1], &[]).is_err());
        assert!(one.send_bytes(b"", &[]).is_err());
    }
}
