//! `CONNECT`: a tunnel whose TLS server name is checked before a byte goes out.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::answer::Answer;
use crate::doors::Shared;
use crate::hello::{self, Hello, MAX_HELLO};
use crate::reach;
use crate::session::{Client, Incoming};
use crate::verdict::Host;

/// Fatal alert `unrecognized_name` (RFC 8446 section 6), so that clients say more than "closed".
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// Opens the tunnel and relays until both sides are done or silent.
pub(crate) async fn run(mut client: Client, shared: &Shared, host: &Host, port: u16) -> io::Result<()> {
    let (upstream, allowed) = match reach::open(shared, host, port).await {
        Ok(opened) => opened,
        Err(failure) => return Answer::failure(&failure, &host.to_string(), port).write(&mut client.to).await,
    };
    client.to.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let (mut from_server, mut to_server) = upstream.into_split();
    let moved = AtomicU64::new(0);
    let Client { mut from, to: mut to_client } = client;
    let up = async {
        first_bytes(&mut from, host, !allowed.port_named, shared.options.head_timeout).await?;
        let (mut stream, ahead) = from.into_parts();
        moved.fetch_add(1, Ordering::Relaxed);
        let relayed = async {
            to_server.write_all(&ahead).await?;
            copy(&mut stream, &mut to_server, &moved).await
        };
        Ok(relayed.await)
    };
    // The server's side flows from the start: some protocols begin there.
    let down = copy(&mut from_server, &mut to_client, &moved);
    let both = async {
        tokio::pin!(up);
        tokio::pin!(down);
        let (mut up_done, mut down_done) = (false, false);
        while !(up_done && down_done) {
            tokio::select! {
                done = &mut up, if !up_done => {
                    done?.map_err(Stop::Broken)?;
                    up_done = true;
                }
                done = &mut down, if !down_done => {
                    done.map_err(Stop::Broken)?;
                    down_done = true;
                }
            }
        }
        Ok::<(), Stop>(())
    };
    let ended = tokio::select! {
        ended = both => ended,
        () = silence(&moved, shared.options.idle_timeout) => Ok(()),
    };
    match ended {
        Ok(()) => Ok(()),
        Err(Stop::Broken(error)) => Err(error),
        Err(Stop::Refused { reason, tls }) => {
            shared.record(host, port, false, &reason);
            if tls {
                let _ = to_client.write_all(ALERT).await;
            }
            Ok(())
        }
        Err(Stop::Silent) => Ok(()),
    }
}

enum Stop {
    Broken(io::Error),
    Refused {
        reason: String,
        tls: bool,
    },
    /// The client never began.
    Silent,
}

/// Waits for what the client says first and judges it.
async fn first_bytes(from: &mut Incoming, host: &Host, must_be_tls: bool, deadline: Duration) -> Result<(), Stop> {
    let judged = async {
        loop {
            match hello::read(from.ahead()) {
                Hello::Incomplete if from.ahead().len() > 2 * MAX_HELLO => {
                    return Err(Stop::Refused { reason: format!("The TLS greeting to {host} is too long"), tls: true });
                }
                Hello::Incomplete => match from.more().await {
                    Ok(()) => {}
                    // Nothing was said: the server may have spoken and the client left.
                    Err(_) if from.ahead().is_empty() => return Err(Stop::Silent),
                    Err(error) => return Err(Stop::Broken(error)),
                },
                Hello::NotTls if must_be_tls => {
                    return Err(Stop::Refused {
                        reason: format!(
                            "Only TLS may be spoken to {host}; a rule that names the port allows other protocols"
                        ),
                        tls: false,
                    });
                }
                Hello::NotTls => return Ok(()),
                Hello::Bad(what) => {
                    return Err(Stop::Refused { reason: format!("The TLS greeting to {host} has {what}"), tls: true });
                }
                Hello::Name(name) => return judge_name(host, name.as_deref()),
            }
        }
    };
    if must_be_tls {
        return timeout(deadline, judged).await.unwrap_or(Err(Stop::Silent));
    }
    judged.await
}

fn judge_name(host: &Host, name: Option<&str>) -> Result<(), Stop> {
    let refused = |reason: String| Err(Stop::Refused { reason, tls: true });
    match (host, name) {
        (Host::Address(_), None) => Ok(()),
        (Host::Name(_), None) => refused(format!("The TLS greeting to {host} names no server")),
        (_, Some(name)) => match Host::parse(name) {
            Ok(said) if said == *host => Ok(()),
            Ok(said) => refused(format!("The TLS greeting to {host} names the server {said}")),
            Err(_) => refused(format!("The TLS greeting to {host} names no readable server")),
        },
    }
}

/// Copies until the end, then ends the other side's input.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0_u8; 32 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends when nothing moved in either direction for a whole period.
async fn silence(moved: &AtomicU64, period: Duration) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(period).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}
