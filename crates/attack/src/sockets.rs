//! Sockets: kinds that should not be had, and addresses that should not be reached.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::time::Duration;

use crate::report::{Outcome, Refusal, at, check};

/// A connection that is neither made nor refused in this time leads nowhere.
const PATIENCE: Duration = Duration::from_secs(5);

/// `socket`, `socketpair`, `connect`, `connect-unix`, `connect-abstract`, `send`, `abstract-names`.
pub fn attempt(verb: &str, words: &[&str]) -> Option<Outcome> {
    match (verb, words) {
        ("socket" | "socketpair", [family, kind, protocol]) => Some(socket(verb, family, kind, protocol)),
        ("connect", [address]) => Some(connect(address)),
        ("connect-unix", [path]) => Some(at("connect", UnixStream::connect(path)).map(|_| format!("{path} answers"))),
        ("connect-abstract", [name]) => Some(connect_abstract(name)),
        ("send", [address]) => Some(send(address)),
        ("abstract-names", [name]) => Some(abstract_names(name)),
        _ => None,
    }
}

fn socket(verb: &str, family: &str, kind: &str, protocol: &str) -> Outcome {
    let number = |text: &str| text.parse::<i32>().map_err(|_| Refusal::Absent(format!("{text} is no number")));
    let (family, kind, protocol) = (number(family)?, number(kind)?, number(protocol)?);
    let mut pair = [0; 2];
    // SAFETY: `pair` has room for two descriptors; they go with the process.
    let made = unsafe {
        if verb == "socket" {
            libc::socket(family, kind, protocol)
        } else {
            libc::socketpair(family, kind, protocol, pair.as_mut_ptr())
        }
    };
    at(verb, check(made.into())).map(|_| "a socket".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, Refusal> {
    text.parse().map_err(|_| Refusal::Absent(format!("{text} is no address")))
}

fn connect(text: &str) -> Outcome {
    match TcpStream::connect_timeout(&address(text)?, PATIENCE) {
        Ok(_) => Ok(format!("{text} answers")),
        // The address was found, and something between it and here let the packet go.
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Ok(format!("packets to {text} leave, though nobody answered"))
        }
        Err(error) => at("connect", Err(error)),
    }
}

fn connect_abstract(name: &str) -> Outcome {
    let address = at("connect", UnixAddress::from_abstract_name(name))?;
    at("connect", UnixStream::connect_addr(&address)).map(|_| format!("@{name} answers"))
}

fn send(text: &str) -> Outcome {
    let address = address(text)?;
    let own: SocketAddr = (if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })
        .parse()
        .map_err(|_| Refusal::Absent("no own address".to_owned()))?;
    let socket = at("bind", UdpSocket::bind(own))?;
    at("send", socket.send_to(b"cove", address)).map(|_| format!("a datagram left for {text}"))
}

/// Whether a listener of the host is listed here.
fn abstract_names(name: &str) -> Outcome {
    let text = at("read", std::fs::read_to_string("/proc/net/unix"))?;
    if text.contains(name) { Ok(format!("@{name} is listed")) } else { Err(Refusal::Nothing("not listed".to_owned())) }
}

/// Listens at an abstract name, a port (0 for any) and a path (`-` for none), says so, and stays
/// until its stdin closes.
pub fn serve(name: &str, port: &str, path: &str) {
    let listeners = (|| -> std::io::Result<_> {
        let named = UnixListener::bind_addr(&UnixAddress::from_abstract_name(name)?)?;
        let port: u16 = port.parse().map_err(|_| std::io::ErrorKind::InvalidInput)?;
        let on_path = if path == "-" { None } else { Some(UnixListener::bind(path)?) };
        Ok((named, TcpListener::bind(("127.0.0.1", port))?, on_path))
    })();
    match listeners {
        Ok(listeners) => {
            println!("READY {}", listeners.1.local_addr().map_or(0, |address| address.port()));
            let _ = std::io::stdout().flush();
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            drop(listeners);
        }
        Err(error) => println!("FAILED {error}"),
    }
}
