//! A process over a WebSocket.
//!
//! Three tasks in one: messages are read into a bounded queue, the queue feeds the process, the
//! process feeds the socket. Backpressure passes through each way; a signal overtakes stdin.
//! The process ends with the connection.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use cove_api::{ExecControl, ExecNews, Problem, STDERR, STDIN, STDOUT};
use cove_core::{Error, ErrorKind, Exec, ExecInput, ExecOutput, ExecSpec, Output, Result, SandboxId};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use tokio::sync::mpsc;

use crate::answer::{Answer, Failure, Named};
use crate::app::Shared;

/// Bytes of one message from a client.
const MAX_MESSAGE: usize = 1 << 20;

/// Messages that wait for a process.
const QUEUE: usize = 16;

/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(30);

/// How often a silent peer is looked at; writing to one that is gone fails.
const PING: Duration = Duration::from_secs(20);

pub(super) async fn exec(
    State(app): State<Shared>,
    Named(name): Named,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|e| {
        let error = Error::invalid(format!("This route is a WebSocket: {}", e.body_text()));
        Failure::with_status(&error, StatusCode::UPGRADE_REQUIRED)
    })?;
    let id = app.sandboxes.find(&name).await?.id;
    let tasks = app.tasks.clone();
    let tracked = tasks.token();
    let open = app.activity.open();
    Ok(upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(move |socket| async move {
        let _held = (tracked, open);
        let (mut sink, mut stream) = socket.split();
        let news = tokio::select! {
            news = converse(&app, &id, &mut sink, &mut stream) => news,
            () = app.stop.cancelled() => {
                Err(Error::new(ErrorKind::Interrupted, "The daemon ends, and the process with it"))
            }
        };
        let news = match news {
            Ok(Some(news)) => news,
            // The client is gone.
            Ok(None) => return,
            Err(error) => ExecNews::Error(Problem::from(&error)),
        };
        if let Ok(text) = serde_json::to_string(&news) {
            let _ = tokio::time::timeout(FIRST, sink.send(Message::text(text))).await;
        }
        let _ = tokio::time::timeout(FIRST, sink.close()).await;
    }))
}

type Sink = SplitSink<WebSocket, Message>;
type Stream = SplitStream<WebSocket>;

/// Runs the process; `None` when the client left.
async fn converse(app: &Shared, id: &SandboxId, sink: &mut Sink, stream: &mut Stream) -> Result<Option<ExecNews>> {
    let first = tokio::time::timeout(FIRST, stream.next())
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "No command came"))?;
    let Some(Ok(first)) = first else { return Ok(None) };
    let Message::Text(text) = first else {
        return Err(Error::invalid("The first message is not a command in JSON text"));
    };
    let spec: ExecSpec =
        serde_json::from_str(&text).map_err(|e| Error::invalid(format!("The command cannot be understood: {e}")))?;
    if spec.argv.is_empty() {
        return Err(Error::invalid("The command is empty"));
    }
    let Exec { input, output } = app.sandboxes.exec(id, &spec).await?;
    let (to_feed, fed) = mpsc::channel(QUEUE);
    let (to_signal, signalled) = mpsc::channel(QUEUE);
    tokio::select! {
        news = speak(output, sink) => news,
        end = listen(stream, to_feed, to_signal) => end.map(|()| None),
        never = feed(input, fed, signalled) => match never {},
    }
}

/// Passes the process's output on until its end.
async fn speak(mut output: Box<dyn ExecOutput>, sink: &mut Sink) -> Result<Option<ExecNews>> {
    loop {
        let message = tokio::select! {
            piece = output.next() => match piece? {
                Some(Output::Stdout(bytes)) => framed(STDOUT, &bytes),
                Some(Output::Stderr(bytes)) => framed(STDERR, &bytes),
                Some(Output::Exit(exit)) => return Ok(Some(ExecNews::Exit(exit))),
                None => return Err(Error::new(ErrorKind::Interrupted, "The process's output ended before it did")),
            },
            () = tokio::time::sleep(PING) => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return Ok(None);
        }
    }
}

fn framed(stream: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(bytes.len() + 1);
    message.push(stream);
    message.extend_from_slice(bytes);
    Message::binary(message)
}

enum Fed {
    Bytes(Bytes),
    Eof,
    Resize(cove_core::engine::PtySize),
}

/// Reads the client's messages until it leaves.
async fn listen(stream: &mut Stream, to_feed: mpsc::Sender<Fed>, to_signal: mpsc::Sender<i32>) -> Result<()> {
    while let Some(Ok(message)) = stream.next().await {
        let fed = match message {
            Message::Binary(bytes) if bytes.first() == Some(&STDIN) => Fed::Bytes(bytes.slice(1..)),
            Message::Binary(_) => return Err(Error::invalid("A binary message does not begin with 0 for stdin")),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ExecControl::Eof) => Fed::Eof,
                Ok(ExecControl::Resize(size)) => Fed::Resize(size),
                Ok(ExecControl::Signal(signal)) if (1..=64).contains(&signal) => {
                    // More than a few at once are one.
                    let _ = to_signal.try_send(signal);
                    continue;
                }
                Ok(ExecControl::Signal(signal)) => return Err(Error::invalid(format!("{signal} is not a signal"))),
                Err(e) => return Err(Error::invalid(format!("A message cannot be understood: {e}"))),
            },
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return Ok(()),
        };
        if to_feed.send(fed).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Feeds the process; holds its input open until the conversation ends. What the process no longer
/// takes is dropped: its end is told by its output.
async fn feed(
    mut input: Box<dyn ExecInput>,
    mut fed: mpsc::Receiver<Fed>,
    mut signalled: mpsc::Receiver<i32>,
) -> std::convert::Infallible {
    loop {
        tokio::select! {
            biased;
            Some(signal) = signalled.recv() => {
                if let Err(error) = input.signal(signal).await {
                    tracing::debug!(%error, signal, "a signal was not delivered");
                }
            }
            Some(fed) = fed.recv() => {
                let overtaken = tokio::select! {
                    biased;
                    done = give(&mut *input, fed) => {
                        if let Err(error) = done {
                            tracing::debug!(%error, "the process takes no more");
                        }
                        None
                    }
                    Some(signal) = signalled.recv() => Some(signal),
                };
                if let Some(signal) = overtaken
                    && let Err(error) = input.signal(signal).await
                {
                    tracing::debug!(%error, signal, "a signal was not delivered");
                }
            }
            else => std::future::pending().await,
        }
    }
}

async fn give(input: &mut dyn ExecInput, fed: Fed) -> Result<()> {
    match fed {
        Fed::Bytes(bytes) => input.write(&bytes).await,
        Fed::Eof => input.close().await,
        Fed::Resize(size) => input.resize(size).await,
    }
}
