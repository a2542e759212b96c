//! A door with clients that people use: curl, and a TLS server of OpenSSL behind it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic; it says what it lacks")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use cove_core::{Door as _, EgressPolicy, HostRule};
use cove_egress::{Doors, Options};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

/// As the guest does inside a sandbox: a TCP port whose connections go to the door.
async fn relay(socket: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, socket) = (listener.local_addr().unwrap(), socket.to_owned());
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut outside = UnixStream::connect(socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    at
}

/// A web server with a certificate of its own.
async fn tls_server(dir: &Path) -> (SocketAddr, Child) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=up.example"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(dir)
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Command::new("openssl")
        .args(["s_server", "-www", "-key", "key.pem", "-cert", "cert.pem", "-accept", "127.0.0.1:0"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // It says which port it was given: `ACCEPT 127.0.0.1:40000 …`.
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let listens = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the TLS server listens");
            if let Some(at) = line.strip_prefix("ACCEPT ").and_then(|rest| rest.split(' ').next()?.parse().ok()) {
                return at;
            }
        }
    };
    let at = timeout(LONG, listens).await.expect("the TLS server listens");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (at, server)
}

async fn curl(proxy: SocketAddr, args: &[&str]) -> (bool, String) {
    let out = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--include", "--max-time", "60", "--noproxy", ""])
        .args(["--proxy", &format!("http://{proxy}")])
        .args(args)
        .env_clear()
        .output()
        .await
        .unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_goes_through_and_is_held_back() {
    for tool in ["curl", "openssl"] {
        let found = Command::new(tool).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if found.is_err() {
            eprintln!("skipped: {tool} is not installed");
            return;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (server, _running) = tls_server(dir.path()).await;
    let names = ["up.example", "front.example", "closed.example"];
    let overrides: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), server)).collect();
    let doors =
        Doors::new(dir.path().join("doors"), Options { resolve_overrides: overrides, ..Options::default() }).unwrap();
    let rules = ["up.example", "front.example"].map(|r| HostRule(r.to_owned())).to_vec();
    let door = doors.open("curl", &EgressPolicy { allow: rules, ..EgressPolicy::default() }).await.unwrap();
    let proxy = relay(&door.socket()).await;

    let (ok, text) = curl(proxy, &["https://up.example/"]).await;
    assert!(ok && text.contains("HTTP/1.0 200"), "{text}");
    let (ok, text) = curl(proxy, &["https://closed.example/"]).await;
    assert!(!ok && text.contains("403") && text.contains("--allow-host closed.example"), "{text}");
    // A tunnel to one allowed name, a greeting for another: as domain fronting does it.
    let (ok, text) = curl(proxy, &["--connect-to", "up.example:443:front.example:443", "https://up.example/"]).await;
    assert!(!ok && !text.contains("HTTP/1.0 200"), "{text}");
    let (_, text) = curl(proxy, &["http://169.254.169.254/latest/meta-data/"]).await;
    assert!(text.contains("403 Forbidden") && text.contains("metadata"), "{text}");
    let events = door.take_events();
    assert!(events.iter().any(|e| !e.allowed && e.reason.contains("names the server up.example")), "{events:?}");
    door.close().await;
}
