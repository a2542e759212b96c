//! `http://…`: one request to the one server that was judged, and its response back.
//!
//! The request is written anew for the server, the response anew for the client, so that neither
//! reads bytes whose framing the other chose. Every request has a connection of its own.

use std::io;

use http::{HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::{Body as _, Incoming as ResponseBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::answer::Answer;
use crate::body::{self, Cut, Pieces};
use crate::doors::Shared;
use crate::head::{Framing, Head, tokens};
use crate::reach::{self, Failure};
use crate::session::Client;
use crate::verdict::Host;

/// Headers that belong to one connection (RFC 9110 section 7.6.1) or that we write ourselves.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "content-length",
];

/// Serves one request; whether another may follow.
pub(crate) async fn run(
    client: &mut Client,
    shared: &Shared,
    head: &Head,
    host: &Host,
    port: u16,
    path: &str,
) -> io::Result<bool> {
    let head_only = head.method == "HEAD";
    let upstream = match reach::open(shared, host, port).await {
        Ok((stream, _)) => stream,
        Err(failure) => {
            // A body that nobody reads would be taken for the next request.
            let keep = head.body == Framing::None && head.keeps_alive();
            let answer = Answer { keep, head_only, ..Answer::failure(&failure, &host.to_string(), port) };
            answer.write(&mut client.to).await?;
            return Ok(keep);
        }
    };
    let (sender, pieces) = body::channel(head.body);
    let request = match request(head, host, port, path, pieces) {
        Ok(request) => request,
        Err(problem) => {
            Answer::malformed(problem).write(&mut client.to).await?;
            return Ok(false);
        }
    };
    let handshake = hyper::client::conn::http1::Builder::new().handshake(TokioIo::new(upstream));
    let Ok(Ok((mut to_server, connection))) = timeout(shared.options.connect_timeout, handshake).await else {
        Answer::failure(&Failure::TimedOut, &host.to_string(), port).write(&mut client.to).await?;
        return Ok(false);
    };
    if head.body != Framing::None && head.expects_continue() {
        client.to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let idle = shared.options.idle_timeout;
    let Client { from, to } = client;
    let mut begun = false;
    let exchange = async {
        let response = timeout(idle, to_server.send_request(request)).await.map_err(|_| Failure::TimedOut)?;
        let response = response.map_err(|error| Failure::Unreachable(format!("No response came: {error}")))?;
        begun = true;
        Ok::<_, Failure>(respond(to, response, head, idle).await)
    };
    let pump = body::pump(from, head.body, sender);
    let mut pumped: Option<Result<(), Cut>> = None;
    let exchanged = {
        tokio::pin!(exchange);
        tokio::pin!(pump);
        tokio::pin!(connection);
        let mut connected = true;
        loop {
            tokio::select! {
                biased;
                done = &mut pump, if pumped.is_none() => pumped = Some(done),
                done = &mut exchange => break done,
                _ = &mut connection, if connected => connected = false,
            }
        }
    };
    match exchanged {
        Ok(Ok(keep)) => Ok(keep && pumped == Some(Ok(()))),
        Ok(Err(error)) => Err(error),
        Err(_) if pumped == Some(Err(Cut::Malformed)) && !begun => {
            Answer::malformed("The body's chunks are malformed").write(&mut client.to).await?;
            Ok(false)
        }
        Err(failure) => {
            Answer { head_only, ..Answer::failure(&failure, &host.to_string(), port) }.write(&mut client.to).await?;
            Ok(false)
        }
    }
}

fn request(head: &Head, host: &Host, port: u16, path: &str, body: Pieces) -> Result<Request<Pieces>, &'static str> {
    const BAD: &str = "The request cannot be passed on";
    let listed: Vec<String> =
        head.headers.iter().filter(|(name, _)| name == "connection").flat_map(|(_, value)| tokens(value)).collect();
    let method = Method::from_bytes(head.method.as_bytes()).map_err(|_| BAD)?;
    let authority = if port == 80 { host.to_string() } else { format!("{host}:{port}") };
    let mut request = Request::builder().method(method).uri(path).header("host", authority);
    for (name, value) in &head.headers {
        if HOP_BY_HOP.contains(&name.as_str()) || listed.contains(name) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BAD)?;
        request = request.header(name, HeaderValue::from_bytes(value).map_err(|_| BAD)?);
    }
    if let Framing::Length(length) = head.body {
        request = request.header("content-length", length);
    }
    request.header("connection", "close").body(body).map_err(|_| BAD)
}

/// Writes the response; whether the connection can go on.
async fn respond(
    to: &mut (impl AsyncWrite + Unpin),
    response: Response<ResponseBody>,
    head: &Head,
    idle: std::time::Duration,
) -> io::Result<bool> {
    let (parts, mut body) = response.into_parts();
    let status = parts.status.as_u16();
    let empty = head.method == "HEAD" || matches!(status, 204 | 304);
    let length = body.size_hint().exact();
    let chunked = !empty && length.is_none() && head.minor == 1;
    let keep = head.keeps_alive() && (empty || length.is_some() || chunked);
    let mut out =
        format!("HTTP/1.1 {status} {}\r\n", parts.status.canonical_reason().unwrap_or("Unknown")).into_bytes();
    let listed: Vec<String> = parts.headers.get_all("connection").iter().flat_map(|v| tokens(v.as_bytes())).collect();
    for (name, value) in &parts.headers {
        let own = HOP_BY_HOP.contains(&name.as_str()) || listed.iter().any(|l| l == name.as_str());
        // The length of what HEAD would have given is information, not framing.
        if own && !(empty && status != 204 && name == "content-length") {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if let (false, Some(length)) = (empty, length) {
        out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(if keep { b"connection: keep-alive\r\n\r\n" } else { b"connection: close\r\n\r\n" });
    write(to, &out, idle).await?;
    if empty {
        return Ok(keep);
    }
    while let Some(piece) = timeout(idle, body::next_piece(&mut body)).await? {
        let piece = piece.map_err(io::Error::other)?;
        if piece.is_empty() {
            continue;
        }
        if chunked {
            write(to, format!("{:x}\r\n", piece.len()).as_bytes(), idle).await?;
        }
        write(to, &piece, idle).await?;
        if chunked {
            write(to, b"\r\n", idle).await?;
        }
    }
    if chunked {
        write(to, b"0\r\n\r\n", idle).await?;
    }
    to.flush().await?;
    Ok(keep)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8], idle: std::time::Duration) -> io::Result<()> {
    timeout(idle, to.write_all(bytes)).await?
}
