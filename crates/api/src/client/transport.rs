//! Connections, and one request over each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cove_core::error::Context;
use cove_core::{Error, ErrorKind, Result};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::operation::Operation;
use crate::problem::Problem;

/// Bytes of an answer that are read; a diff or a log may be large.
const MAX_ANSWER: usize = 256 << 20;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the server is.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Unix(PathBuf),
    Tcp { host: String, port: u16, authority: HeaderValue, token: HeaderValue },
}

/// What HTTP and WebSocket are spoken over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Target {
    pub(super) fn unix(socket: &Path) -> Self {
        Self::Unix(socket.to_owned())
    }

    pub(super) fn tcp(url: &str, token: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("{url:?} is not a server's address: {why}"))
                .next("Write it like http://127.0.0.1:3000")
        };
        let parsed = Url::parse(url).map_err(|e| bad("it is no URL").because(e))?;
        if parsed.scheme() != "http" {
            return Err(bad("only http is spoken; for other machines, use a tunnel"));
        }
        if parsed.path() != "/" || parsed.query().is_some() || !parsed.username().is_empty() {
            return Err(bad("it has more than host and port"));
        }
        let host = parsed.host_str().ok_or_else(|| bad("it has no host"))?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let authority = HeaderValue::from_str(&format!("{host}:{port}")).map_err(|e| bad("its host").because(e))?;
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| Error::invalid("The token holds characters that no token has"))?;
        token.set_sensitive(true);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self::Tcp { host, port, authority, token })
    }

    /// A connection, without anything said on it.
    pub(super) async fn connect(&self) -> Result<Box<dyn Wire>> {
        let connecting = async {
            match self {
                Self::Unix(socket) => UnixStream::connect(socket).await.map(|s| Box::new(s) as Box<dyn Wire>),
                Self::Tcp { host, port, .. } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Ok(Box::new(stream) as Box<dyn Wire>)
                }
            }
        };
        tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| Error::new(ErrorKind::Unavailable, format!("{self} does not answer")))?
            .map_err(|e| {
                Error::new(ErrorKind::Unavailable, format!("No server answers at {self}"))
                    .because(e)
                    .next("`cove daemon start` starts one for this user")
            })
    }

    /// Adds what every request carries.
    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        match self {
            Self::Unix(_) => drop(headers.insert(HOST, HeaderValue::from_static("localhost"))),
            Self::Tcp { authority, token, .. } => {
                headers.insert(HOST, authority.clone());
                headers.insert(AUTHORIZATION, token.clone());
            }
        }
    }

    /// One request and its whole answer.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes> {
        let whole = async {
            let (response, _connection) = self.open(method, path, headers, body).await?;
            read(response).await
        };
        tokio::time::timeout(deadline, whole).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "The server did not answer in time; it may still do what was asked")
                .with("seconds", deadline.as_secs()))
        })
    }

    /// One request and the head of its answer, which is a success. Dropping the handle ends the connection.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>)> {
        let cut = "The connection to the server broke";
        let wire = TokioIo::new(self.connect().await?);
        let (mut sender, connection) =
            http1::handshake::<_, Full<Bytes>>(wire).await.context(ErrorKind::Interrupted, cut)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Its error reaches the response as well.
            let _ = connection.await;
        }));
        let mut request = Request::new(Full::new(body.clone().unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().context(ErrorKind::Invalid, "The request's path cannot be sent")?;
        *request.headers_mut() = headers;
        if body.is_some() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.sign(request.headers_mut());
        let response = sender.send_request(request).await.context(ErrorKind::Interrupted, cut)?;
        if response.status().is_success() {
            return Ok((response, driver));
        }
        let status = response.status().as_u16();
        let body = read(response).await?;
        Err(refusal(status, &body))
    }
}

/// The error that an answer tells of.
pub(super) fn refusal(status: u16, body: &[u8]) -> Error {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.into(),
        Err(_) => Error::internal("What answers is not a Cove server").with("status", status),
    }
}

async fn read(response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let collected = body.collect().await.context(ErrorKind::Interrupted, "The server's answer was cut off")?;
    Ok(collected.to_bytes())
}

/// The path and query of an operation.
pub(super) fn path(operation: Operation, id: &str, query: &[(&str, String)]) -> String {
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in query {
        encoded.append_pair(name, value);
    }
    let query = encoded.finish();
    // Query encoding writes a space as `+`, which a path would keep.
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20");
    let path = operation.path().replace("{id}", &id);
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(socket) => write!(f, "{}", socket.display()),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}
