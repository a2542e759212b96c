//! A forward proxy that lets through one host and writes down every request.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Proxy {
    pub url: String,
    seen: Arc<Mutex<(Vec<String>, Vec<String>)>>,
}

impl Proxy {
    pub fn start(allowed: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
        let (allowed, log) = (allowed.to_owned(), seen.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (allowed, log) = (allowed.clone(), log.clone());
                thread::spawn(move || serve(client, &allowed, &log));
            }
        });
        Self { url, seen }
    }

    /// Hosts let through and hosts refused, each once.
    pub fn seen(&self) -> (Vec<String>, Vec<String>) {
        let (mut reached, mut refused) = self.seen.lock().expect("no panic under the lock").clone();
        for list in [&mut reached, &mut refused] {
            list.sort();
            list.dedup();
        }
        (reached, refused)
    }
}

/// One request a connection: the answer says so, and clients come again.
fn serve(mut client: TcpStream, allowed: &str, log: &Mutex<(Vec<String>, Vec<String>)>) -> Option<()> {
    let (head, rest) = head(&mut client)?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?, first.next()?);
    let tunnel = method == "CONNECT";
    let (host, path) = if tunnel {
        (target, "")
    } else {
        let target = target.strip_prefix("http://")?;
        target.split_at(target.find('/').unwrap_or(target.len()))
    };
    let known = host == allowed;
    {
        let mut seen = log.lock().expect("no panic under the lock");
        if known { seen.0.push(host.to_owned()) } else { seen.1.push(host.to_owned()) }
    }
    if !known {
        client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
        return None;
    }
    let mut server = TcpStream::connect(allowed).ok()?;
    if tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
        server.write_all(&rest).ok()?;
        let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut client);
    } else {
        let kept: Vec<&str> = lines
            .filter(|l| {
                let name = l.split(':').next().unwrap_or_default().to_ascii_lowercase();
                !matches!(name.as_str(), "connection" | "proxy-connection" | "proxy-authorization")
            })
            .collect();
        let length =
            kept.iter().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        // HTTP/1.0 to the server, so that the end of its answer is the end of the connection.
        write!(server, "{method} {path} HTTP/1.0\r\n{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).ok()?;
        server.write_all(&rest).ok()?;
        let missing = length.unwrap_or(0u64).saturating_sub(rest.len() as u64);
        std::io::copy(&mut client.try_clone().ok()?.take(missing), &mut server).ok()?;
        let (answer, rest) = self::head(&mut server)?;
        let kept: Vec<&str> = answer
            .split("\r\n")
            .filter(|l| {
                !l.to_ascii_lowercase().starts_with("connection:") && !l.to_ascii_lowercase().starts_with("keep-alive:")
            })
            .collect();
        write!(client, "{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).ok()?;
        client.write_all(&rest).ok()?;
        let _ = std::io::copy(&mut server, &mut client);
    }
    let _ = client.shutdown(Shutdown::Both);
    Some(())
}

fn head(from: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            bytes.truncate(end);
            return Some((String::from_utf8(bytes).ok()?, rest));
        }
        let n = from.read(&mut buffer).ok()?;
        if n == 0 || bytes.len() > 1 << 20 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..n]);
    }
}
