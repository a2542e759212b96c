//! A process over a WebSocket.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cove_core::engine::PtySize;
use cove_core::{Error, ErrorKind, Exec, ExecInput, ExecOutput, ExecSpec, Output, Result};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::transport::{Target, Wire, path, refusal};
use crate::operation::Operation;
use crate::wire::{ExecControl, ExecNews, STDERR, STDIN, STDOUT};

/// Bytes of one message in either direction.
const MAX_MESSAGE: usize = 1 << 20;

/// Bytes of stdin sent in one message.
const PIECE: usize = 64 << 10;

/// How long the start may take.
const START: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<Box<dyn Wire>>;

pub(super) async fn start(target: &Target, id: &str, spec: &ExecSpec) -> Result<Exec> {
    let first = serde_json::to_string(spec).map_err(|e| Error::invalid("The command cannot be written").because(e))?;
    let opening = async {
        let wire = target.connect().await?;
        let mut request = Request::get(format!("ws://localhost{}", path(Operation::ExecSandbox, id, &[])))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .body(())
            .map_err(|e| Error::invalid("The sandbox's name cannot be sent").because(e))?;
        target.sign(request.headers_mut());
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let (mut socket, _) = client_async_with_config(request, wire, Some(config)).await.map_err(|e| match e {
            SocketError::Http(response) => {
                refusal(response.status().as_u16(), response.body().as_deref().unwrap_or_default())
            }
            other => cut().because(other),
        })?;
        socket.send(Message::text(first)).await.map_err(|e| cut().because(e))?;
        Ok::<Socket, Error>(socket)
    };
    let socket: Socket = tokio::time::timeout(START, opening)
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "The server did not start the process in time"))??;
    let (sink, stream) = socket.split();
    Ok(Exec { input: Box::new(Input(sink)), output: Box::new(Heard { stream, over: false }) })
}

fn cut() -> Error {
    Error::new(ErrorKind::Interrupted, "The connection to the process broke")
}

struct Input(SplitSink<Socket, Message>);

impl Input {
    async fn say(&mut self, message: Message) -> Result<()> {
        self.0.send(message).await.map_err(|e| cut().because(e))
    }

    async fn control(&mut self, control: ExecControl) -> Result<()> {
        let text = serde_json::to_string(&control).map_err(|e| cut().because(e))?;
        self.say(Message::text(text)).await
    }
}

#[async_trait]
impl ExecInput for Input {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(PIECE) {
            let mut message = Vec::with_capacity(piece.len() + 1);
            message.push(STDIN);
            message.extend_from_slice(piece);
            self.say(Message::binary(message)).await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        // A process that is over needs no end of its stdin.
        let _ = self.control(ExecControl::Eof).await;
        Ok(())
    }

    async fn resize(&mut self, size: PtySize) -> Result<()> {
        self.control(ExecControl::Resize(size)).await
    }

    async fn signal(&mut self, signal: i32) -> Result<()> {
        self.control(ExecControl::Signal(signal)).await
    }
}

struct Heard {
    stream: SplitStream<Socket>,
    over: bool,
}

#[async_trait]
impl ExecOutput for Heard {
    async fn next(&mut self) -> Result<Option<Output>> {
        while !self.over {
            let message = match self.stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(e)) => return Err(cut().because(e)),
                None => return Err(cut()),
            };
            match message {
                Message::Binary(bytes) => {
                    if let Some(output) = piece(&bytes) {
                        return Ok(Some(output));
                    }
                }
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(ExecNews::Exit(exit)) => {
                        self.over = true;
                        return Ok(Some(Output::Exit(exit)));
                    }
                    Ok(ExecNews::Error(problem)) => {
                        self.over = true;
                        return Err(problem.into());
                    }
                    Err(e) => return Err(Error::internal("The server's message cannot be understood").because(e)),
                },
                Message::Close(_) => return Err(cut()),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(None)
    }
}

fn piece(bytes: &Bytes) -> Option<Output> {
    match bytes.split_first() {
        Some((&STDOUT, rest)) => Some(Output::Stdout(rest.to_vec())),
        Some((&STDERR, rest)) => Some(Output::Stderr(rest.to_vec())),
        _ => None,
    }
}
