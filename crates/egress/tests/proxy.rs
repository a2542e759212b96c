//! Doors as a sandbox sees them: raw bytes through the socket, servers on loopback behind it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cove_core::{Door as _, DoorEvent, DoorHandle, EgressPolicy, ErrorKind, HostRule};
use cove_egress::{Doors, Options, Resolver};
use cove_testkit::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

/// A server that keeps what it received and answers every connection with the same bytes.
struct Server {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Answers as soon as what it heard has `until` in it, then closes.
    async fn start(until: &'static [u8], answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { at: listener.local_addr().unwrap(), heard: Arc::default(), connections: Arc::default() };
        let (heard, connections) = (server.heard.clone(), server.connections.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let heard = heard.clone();
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    let mut piece = [0; 4096];
                    while !all.windows(until.len()).any(|w| w == until) {
                        match stream.read(&mut piece).await {
                            Ok(count @ 1..) => all.extend_from_slice(&piece[..count]),
                            _ => break,
                        }
                    }
                    let _ = stream.write_all(answer).await;
                    heard.lock().unwrap().push(all);
                    let _ = stream.shutdown().await;
                });
            }
        });
        server
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().iter().map(|h| String::from_utf8_lossy(h).into_owned()).collect::<Vec<_>>().join("|")
    }
}

/// Names and their answers, one after another; the last stays.
#[derive(Default)]
struct Script {
    answers: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Resolver for Script {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let list = answers.get_mut(name).ok_or_else(|| io::Error::other("no such name"))?;
        Ok(if list.len() > 1 { list.remove(0) } else { list[0].clone() })
    }
}

struct Lab {
    dir: tempfile::TempDir,
    overrides: BTreeMap<String, SocketAddr>,
    script: Arc<Script>,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), overrides: BTreeMap::new(), script: Arc::default() }
    }

    fn leads(mut self, name: &str, to: &Server) -> Self {
        self.overrides.insert(name.to_owned(), to.at);
        self
    }

    async fn door_with(&self, allow: &[&str], private: bool, change: impl FnOnce(&mut Options)) -> Box<dyn DoorHandle> {
        let mut options =
            Options { resolve_overrides: self.overrides.clone(), resolver: self.script.clone(), ..Options::default() };
        change(&mut options);
        let doors = Doors::new(self.dir.path(), options).unwrap();
        let policy = EgressPolicy {
            allow: allow.iter().map(|r| HostRule((*r).to_owned())).collect(),
            block: Vec::new(),
            allow_private: private,
        };
        doors.open("test", &policy).await.unwrap()
    }

    async fn door(&self, allow: &[&str]) -> Box<dyn DoorHandle> {
        self.door_with(allow, false, |_| {}).await
    }
}

async fn connect(door: &dyn DoorHandle) -> UnixStream {
    UnixStream::connect(door.socket()).await.unwrap()
}

/// Sends and reads until the other side closes.
async fn say(door: &dyn DoorHandle, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = connect(door).await;
    // The door may have answered and closed before everything was sent.
    let _ = stream.write_all(bytes.as_ref()).await;
    let mut all = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut all)).await.expect("an answer");
    String::from_utf8_lossy(&all).into_owned()
}

async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        match timeout(LONG, stream.read_u8()).await.expect("an answer") {
            Ok(byte) => all.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn refused(events: &[DoorEvent]) -> Vec<(String, u16)> {
    events.iter().filter(|e| !e.allowed).map(|e| (e.host.clone(), e.port)).collect()
}

fn block16(body: &[u8]) -> Vec<u8> {
    [&u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

/// A TLS ClientHello in one record.
fn hello(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|n| [&[0][..], &block16(n.as_bytes())].concat()).collect();
    let extensions = if names.is_empty() { vec![] } else { [&[0, 0][..], &block16(&block16(&list))].concat() };
    let body = [&[3, 3][..], &[7; 32], &[0], &block16(&[0x13, 1]), &[1, 0], &block16(&extensions)].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[22, 3, 1][..], &block16(&[&[1][..], &length[1..], &body].concat())].concat()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Up: 1\r\nConnection: close\r\n\r\nhello";
const END: &[u8] = b"\r\n\r\n";

#[tokio::test]
async fn requests_are_rewritten_and_answered() {
    let server = Server::start(END, OK).await;
    let lab = Lab::new().leads("up.example", &server);
    let door = lab.door(&["up.example", "up.example:8080"]).await;
    let answer = say(
        &*door,
        "GET http://UP.example/a?b=1 HTTP/1.1\r\nHost: up.example\r\nProxy-Authorization: Basic c2VjcmV0\r\n\
         Proxy-Connection: keep-alive\r\nConnection: close, X-Private\r\nX-Private: 1\r\nX-Kept: 2\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(answer.contains("x-up: 1") && answer.contains("content-length: 5"), "{answer}");
    let heard = server.heard();
    assert!(heard.starts_with("GET /a?b=1 HTTP/1.1\r\n") && heard.contains("host: up.example\r\n"), "{heard}");
    assert!(heard.contains("x-kept: 2") && !heard.contains("x-private") && !heard.contains("authorization"), "{heard}");
    say(&*door, "GET http://up.example:8080 HTTP/1.0\r\n\r\n").await;
    assert!(server.heard().contains("GET / HTTP/1.1\r\nhost: up.example:8080\r\n"), "{}", server.heard());
    let events = door.take_events();
    assert_eq!(
        events.iter().map(|e| (e.host.as_str(), e.port, e.allowed, e.count)).collect::<Vec<_>>(),
        [("up.example", 80, true, 1), ("up.example", 8080, true, 1)]
    );
    assert!(events[0].reason.contains("\"up.example\""));
}

#[tokio::test]
async fn bodies_of_both_framings_pass_in_both_directions() {
    let server =
        Server::start(b"end", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            .await;
    let lab = Lab::new().leads("up.example", &server);
    let door = lab.door(&["up.example"]).await;
    let mut stream = connect(&*door).await;
    let post =
        "POST http://up.example/ HTTP/1.1\r\nHost: up.example\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n";
    stream.write_all(post.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"the end").await.unwrap();
    let answer = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(answer.contains("transfer-encoding: chunked") && answer.contains("abc"), "{answer}");
    let mut stream = connect(&*door).await;
    stream
        .write_all(b"POST http://up.example/c HTTP/1.1\r\nHost: up.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nthe \r\n3\r\nend\r\n0\r\n\r\n")
        .await
        .unwrap();
    let answer = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let heard = server.heard();
    assert!(heard.contains("content-length: 7") && heard.contains("the end"), "{heard}");
    assert!(heard.contains("transfer-encoding: chunked\r\n"), "{heard}");
}

#[tokio::test]
async fn every_request_on_a_connection_is_judged_for_itself() {
    let server = Server::start(END, OK).await;
    let other = Server::start(END, OK).await;
    let lab = Lab::new().leads("up.example", &server).leads("other.example", &other);
    let door = lab.door(&["up.example"]).await;
    let mut stream = connect(&*door).await;
    let get = |host: &str| format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(get("up.example").as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "hello").await.starts_with("HTTP/1.1 200"));
    stream.write_all(get("other.example").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, ").\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden"), "{answer}");
    assert!(answer.contains("X-Cove-Reason: Refused by Cove. No rule allows other.example"), "{answer}");
    assert!(answer.contains("--allow-host other.example (for checks --gate-host other.example)"), "{answer}");
    // And the connection still serves what is allowed, also when requests come in one piece.
    stream.write_all([get("up.example"), get("other.example"), get("up.example")].concat().as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "hello").await.starts_with("HTTP/1.1 200"));
    assert!(read_until(&mut stream, ").\n").await.starts_with("HTTP/1.1 403"));
    assert!(read_until(&mut stream, "hello").await.starts_with("HTTP/1.1 200"));
    assert_eq!(other.connections.load(Ordering::SeqCst), 0);
    let events = door.take_events();
    let counts: Vec<_> = events.iter().map(|e| (e.host.as_str(), e.allowed, e.count)).collect();
    assert_eq!(counts, [("up.example", true, 3), ("other.example", false, 2)]);
    assert_eq!(door.take_events(), []);
}

#[tokio::test]
async fn ambiguous_requests_reach_nobody() {
    let server = Server::start(END, OK).await;
    let lab = Lab::new().leads("up.example", &server);
    let door = lab.door(&["up.example"]).await;
    for bad in [
        "GET / HTTP/1.1\r\nHost: up.example\r\n\r\n",
        "GET http://up.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://up.example/ HTTP/1.1\nHost: up.example\n\n",
        "GET http://up.example/ HTTP/1.1\r\nHost: up.example\nX: y\r\n\r\n",
        "POST http://up.example/ HTTP/1.1\r\nHost: up.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST http://up.example/ HTTP/1.1\r\nHost: up.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "GET https://up.example/ HTTP/1.1\r\nHost: up.example\r\n\r\n",
        "CONNECT up.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        "CONNECT evil@up.example:443 HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{5}\u{1}\u{0}\r\n\r\n",
    ] {
        let answer = say(&*door, bad).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request"), "{bad:?}: {answer}");
    }
    let long = format!("GET http://up.example/ HTTP/1.1\r\nHost: up.example\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let answer = say(&*door, long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    // Chunks are checked as they come; what follows them is never taken for a request.
    for bad in [
        "zz\r\n",
        "5;ext=1\r\nhello\r\n",
        "-1\r\n",
        "5\nhello\n",
        "5\r\nhelloX\r\n",
        "FFFFFFFFF\r\n",
        "5 \r\nhello\r\n",
    ] {
        let smuggled = "GET http://up.example/smuggled HTTP/1.1\r\nHost: up.example\r\n\r\n";
        let answer = say(&*door, format!("POST http://up.example/ HTTP/1.1\r\nHost: up.example\r\nTransfer-Encoding: chunked\r\n\r\n{bad}{smuggled}")).await;
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{bad:?}: {answer}");
    }
    assert!(!server.heard().contains("smuggled"));
}

#[tokio::test]
async fn tunnels_carry_tls_for_the_name_that_was_judged() {
    let server = Server::start(b"ping", b"pong").await;
    let lab = Lab::new().leads("up.example", &server).leads("named.example", &server);
    let door = lab.door(&["up.example", "named.example:443", "named.example:22"]).await;
    let connect_to = |at: &str| format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n").into_bytes();
    let through = |at: &str, bytes: &[u8]| [connect_to(at), bytes.to_vec()].concat();

    // Right name, in one piece with the head, then in single bytes.
    let greeting = [hello(&["up.example"]), b"ping".to_vec()].concat();
    let answer = say(&*door, through("up.example:443", &greeting)).await;
    assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\npong");
    let mut stream = connect(&*door).await;
    stream.write_all(&connect_to("UP.example.:443")).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    for byte in &greeting {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert_eq!(read_until(&mut stream, "pong").await, "pong");
    assert!(server.heard.lock().unwrap().iter().all(|h| *h == greeting), "passed on unchanged");
    // Another protocol where a rule names the port.
    let answer = say(&*door, through("named.example:22", b"SSH-2.0-x\r\nping")).await;
    assert!(answer.ends_with("\r\n\r\npong"), "{answer}");
    assert_eq!(refused(&door.take_events()), []);

    server.heard.lock().unwrap().clear();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("up.example:443", hello(&["evil.example"])),
        ("up.example:443", hello(&["xup.example"])),
        ("up.example:443", hello(&[])),
        ("up.example:443", hello(&["up.example", "evil.example"])),
        ("up.example:443", hello(&["127.0.0.1"])),
        ("up.example:443", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec()),
        ("up.example:80", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec()),
        ("named.example:443", hello(&["evil.example"])),
        ("named.example:22", hello(&["evil.example"])),
        ("up.example:443", [&[22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xff][..], &[0; 40_000]].concat()),
    ];
    let count = bad.len();
    for (at, bytes) in bad {
        let answer = say(&*door, through(at, &[bytes.clone(), b"ping".to_vec()].concat())).await;
        assert!(!answer.contains("pong"), "{at} {bytes:?}: {answer}");
    }
    let server_saw = server.heard.clone();
    eventually("the server's connections end", LONG, async || server_saw.lock().unwrap().len() == count).await;
    assert!(server.heard.lock().unwrap().iter().all(Vec::is_empty), "bytes went out: {}", server.heard());
    let events = door.take_events();
    assert_eq!(events.iter().filter(|e| !e.allowed).map(|e| e.count).sum::<u64>(), count as u64, "{events:?}");
    assert!(events.iter().any(|e| e.reason.contains("names the server evil.example")), "{events:?}");
}

#[tokio::test]
async fn tunnels_are_refused_before_they_open() {
    let lab = Lab::new();
    let door = lab.door(&["up.example"]).await;
    for (at, words) in [
        ("evil.example:443", "No rule allows evil.example"),
        ("up.example:22", "No rule allows port 22"),
        ("127.0.0.1:443", "No rule allows 127.0.0.1"),
        ("[::1]:443", "No rule allows [::1]"),
        ("169.254.169.254:80", "metadata"),
        ("0xa9fea9fe:80", "metadata"),
        ("localhost:443", "No rule allows localhost"),
    ] {
        let answer = say(&*door, format!("CONNECT {at} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden") && answer.contains(words), "{at}: {answer}");
    }
    assert_eq!(door.take_events().iter().map(|e| e.count).sum::<u64>(), 7);
    assert_eq!(*lab.script.asked.lock().unwrap(), Vec::<String>::new(), "no unlisted name is resolved");
}

#[tokio::test]
async fn a_name_is_resolved_once_and_never_leads_inside() {
    let server = Server::start(END, OK).await;
    let lab = Lab::new();
    let inside: IpAddr = server.at.ip();
    let outside: IpAddr = "203.0.113.7".parse().unwrap();
    // Public by its class, and nobody's.
    let public: IpAddr = "2a00::1".parse().unwrap();
    lab.script.answers.lock().unwrap().extend([
        ("inside.example".to_owned(), vec![vec![inside]]),
        ("mixed.example".to_owned(), vec![vec![public, inside]]),
        ("reserved.example".to_owned(), vec![vec![outside]]),
        ("metadata.example".to_owned(), vec![vec!["169.254.169.254".parse().unwrap()]]),
        // Were it asked twice, the second answer would lead inside.
        ("rebound.example".to_owned(), vec![vec![public], vec![inside]]),
        ("empty.example".to_owned(), vec![vec![]]),
    ]);
    let port = server.at.port();
    let rule = format!("*.example:{port}");
    let door = lab.door_with(&[&rule], true, |o| o.connect_timeout = Duration::from_millis(50)).await;
    for (host, status) in [
        ("inside.example", "403"),
        ("mixed.example", "403"),
        ("reserved.example", "403"),
        ("metadata.example", "403"),
        ("rebound.example", "50"),
        ("empty.example", "502"),
        ("unknown.example", "502"),
    ] {
        lab.script.asked.lock().unwrap().clear();
        let answer = say(
            &*door,
            format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        assert_eq!(*lab.script.asked.lock().unwrap(), [host], "asked once");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn models_on_the_host_are_reached_by_permission() {
    let server = Server::start(END, OK).await;
    let lab = Lab::new();
    let port = server.at.port();
    let rules = [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("*.localhost:{port}")];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let get =
        |host: &str| format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    for (private, status) in [(true, "200"), (false, "403")] {
        let door = lab.door_with(&rules, private, |_| {}).await;
        for host in ["127.0.0.1", "localhost", "model.localhost", "0x7f.1"] {
            let answer = say(&*door, get(host)).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{private} {host}: {answer}");
        }
        door.close().await;
    }
    assert_eq!(*lab.script.asked.lock().unwrap(), Vec::<String>::new(), "RFC 6761: not asked for");
}

#[tokio::test]
async fn slow_and_many_connections_leave_room_for_others() {
    let server = Server::start(END, OK).await;
    let lab = Lab::new().leads("up.example", &server);
    let short = Duration::from_millis(200);
    let door = lab
        .door_with(&["up.example"], false, |o| {
            o.max_connections = 4;
            o.head_timeout = short;
        })
        .await;
    let mut slow = Vec::new();
    for at in 0..20 {
        let mut stream = connect(&*door).await;
        if at % 2 == 0 {
            stream.write_all(b"GET http://up.example/ HTTP/1.1\r\nHost:").await.unwrap();
        }
        slow.push(stream);
    }
    let answer = say(&*door, "GET http://up.example/ HTTP/1.1\r\nHost: up.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut first = slow.remove(0);
    let mut said = String::new();
    timeout(LONG, first.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
}

#[tokio::test]
async fn closing_ends_every_connection_and_the_socket() {
    let server = Server::start(b"never", b"").await;
    let lab = Lab::new().leads("up.example", &server);
    let door = lab.door(&["up.example"]).await;
    let socket = door.socket();
    assert!(socket.starts_with(lab.dir.path()));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);
    let mut stream = connect(&*door).await;
    stream.write_all(b"CONNECT up.example:443 HTTP/1.1\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    stream.write_all(&hello(&["up.example"])).await.unwrap();
    door.close().await;
    let mut rest = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.expect("the tunnel ends");
    assert!(!socket.exists() && UnixStream::connect(&socket).await.is_err());
    door.close().await;

    let dropped = lab.door(&[]).await;
    let socket = dropped.socket();
    drop(dropped);
    assert!(!socket.exists());
    let doors = Doors::new(lab.dir.path(), Options::default()).unwrap();
    let bad = EgressPolicy { allow: vec![HostRule("a b".to_owned())], ..EgressPolicy::default() };
    assert_eq!(doors.open("x", &bad).await.err().unwrap().kind(), ErrorKind::Invalid);
    assert_eq!(Doors::new("/x".repeat(60), Options::default()).unwrap_err().kind(), ErrorKind::Invalid);
}
