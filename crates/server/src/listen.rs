//! Connections taken and served.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::app::Shared;
use crate::guard::Transport;
use crate::place::user;

/// Connections at once, on all listeners together; further ones wait to be taken.
pub(crate) const CONNECTIONS: usize = 512;

/// How long a request's head may take, and an unused connection stay.
const HEAD: Duration = Duration::from_secs(60);

/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;

/// How long a connection has to end once it was asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves the socket until the daemon stops.
pub(crate) async fn unix(app: Shared, router: Router, listener: UnixListener, room: Arc<Semaphore>) {
    while let Some(room) = place(&app, &room).await {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = app.stop.cancelled() => return,
        };
        match taken {
            Ok((stream, _)) if is_ours(&stream) => serve(&app, &router, stream, Transport::Unix, room),
            Ok(_) => tracing::warn!("a connection of another user was refused"),
            Err(error) => pause(&error).await,
        }
    }
}

/// Serves TCP until the daemon stops.
pub(crate) async fn tcp(app: Shared, router: Router, listener: TcpListener, room: Arc<Semaphore>) {
    while let Some(room) = place(&app, &room).await {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            () = app.stop.cancelled() => return,
        };
        match taken {
            Ok((stream, _)) => {
                tend(&stream);
                serve(&app, &router, stream, Transport::Tcp, room);
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn place(app: &Shared, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        permit = room.clone().acquire_owned() => permit.ok(),
        () = app.stop.cancelled() => None,
    }
}

/// Out of file descriptors, most often: trying again at once would only spin.
async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be taken");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == user() || peer.uid() == 0)
}

/// A peer that vanished without a word is noticed within minutes.
fn tend(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));
    if let Err(error) = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive)) {
        tracing::debug!(%error, "a connection goes without keep-alive");
    }
}

fn serve(
    app: &Shared,
    router: &Router,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    transport: Transport,
    room: OwnedSemaphorePermit,
) {
    let (router, stop, open) = (router.clone(), app.stop.clone(), app.activity.open());
    app.tasks.spawn(async move {
        let _held = (room, open);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(transport);
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(FAREWELL, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    });
}
