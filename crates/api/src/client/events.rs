//! Following a run's ledger.

use std::time::Duration;

use cove_core::{Entry, Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::transport::{Target, path};
use crate::HEARTBEAT_SECONDS;
use crate::operation::Operation;

/// Bytes that one event may have.
const MAX_EVENT: usize = 16 << 20;

/// A connection without any sign of life for so long counts as broken.
const SILENCE: Duration = Duration::from_secs(4 * HEARTBEAT_SECONDS);

/// How long a server may be away before following gives up.
const OUTAGE: Duration = Duration::from_secs(60);

/// Entries of a run as they come; see [`crate::Client::follow`].
#[derive(Debug)]
pub struct Follow {
    target: Target,
    run: String,
    after: u64,
    connection: Option<Connection>,
    /// Since when nothing was heard, and how long to wait before the next try.
    away: Option<(Instant, Duration)>,
    over: bool,
}

#[derive(Debug)]
struct Connection {
    body: Incoming,
    _driver: AbortOnDropHandle<()>,
    reader: Reader,
}

impl Follow {
    pub(super) fn new(target: Target, run: &str, after: u64) -> Self {
        Self { target, run: run.to_owned(), after, connection: None, away: None, over: false }
    }

    /// The position of the last entry given out.
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next entry; `None` once the run is over and every entry was given out. Safe to cancel.
    ///
    /// # Errors
    /// The server's refusal; `Unavailable` when it stays away for a minute. Calling again tries again.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        while !self.over {
            let heard = match &mut self.connection {
                Some(connection) => connection.event().await,
                None => match self.connect().await {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            match heard {
                Ok(event) => {
                    self.away = None;
                    if event.name == "end" {
                        self.over = true;
                    } else if event.name == "entry" {
                        let entry: Entry = serde_json::from_str(&event.data)
                            .map_err(|e| Error::internal("The server's event cannot be understood").because(e))?;
                        // What a resumed stream repeats was given out before.
                        if entry.seq > self.after {
                            self.after = entry.seq;
                            return Ok(Some(entry));
                        }
                    }
                }
                Err(error) => self.broken(error).await?,
            }
        }
        Ok(None)
    }

    /// The entries as a stream; after an error it goes on trying as [`next`](Self::next) does.
    pub fn into_stream(self) -> impl futures_util::Stream<Item = Result<Entry>> + Send {
        futures_util::stream::unfold(self, |mut follow| async move {
            let item = follow.next().await.transpose()?;
            Some((item, follow))
        })
    }

    async fn connect(&self) -> Result<Connection> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("last-event-id"), HeaderValue::from(self.after));
        let path = path(Operation::FollowEntries, &self.run, &[("after", self.after.to_string())]);
        let opening = self.target.open(Method::GET, &path, headers, None);
        let (response, driver) = tokio::time::timeout(SILENCE, opening)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "The server did not answer in time"))??;
        Ok(Connection { body: response.into_body(), _driver: driver, reader: Reader::default() })
    }

    /// Waits before the next try, or gives up. Waiting can be cancelled and is then begun anew.
    async fn broken(&mut self, error: Error) -> Result<()> {
        self.connection = None;
        if !error.kind().retryable() {
            return Err(error);
        }
        let (since, pause) = *self.away.get_or_insert((Instant::now(), Duration::from_millis(100)));
        if since.elapsed() > OUTAGE {
            self.away = None;
            return Err(error);
        }
        self.away = Some((since, (pause * 2).min(Duration::from_secs(5))));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

impl Connection {
    /// The next event that is not a sign of life only.
    async fn event(&mut self) -> Result<Event> {
        let cut = || Error::new(ErrorKind::Interrupted, "The stream of events was cut off");
        loop {
            if let Some(event) = self.reader.take()? {
                return Ok(event);
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await.map_err(|_| cut())?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.reader.bytes.extend_from_slice(&bytes);
                    }
                }
                Some(Err(e)) => return Err(cut().because(e)),
                None => return Err(cut()),
            }
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    data: String,
}

/// Takes server-sent events apart, <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
#[derive(Debug, Default)]
struct Reader {
    bytes: Vec<u8>,
    event: Event,
}

impl Reader {
    /// The next whole event with data.
    fn take(&mut self) -> Result<Option<Event>> {
        while let Some(end) = self.bytes.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if event != Event::default() {
                    return Ok(Some(event));
                }
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event.name),
                "data" => {
                    if !self.event.data.is_empty() {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                }
                _ => {}
            }
        }
        if self.bytes.len() + self.event.data.len() > MAX_EVENT {
            return Err(Error::internal("The server's event is too large"));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_cut_anywhere_are_put_together() {
        let text = b": beat\n\nid: 1\nevent: entry\ndata: {\"a\":\ndata: 1}\n\n:\n\r\nevent: end\r\ndata: {}\r\n\r\n";
        for cut in 0..text.len() {
            let mut reader = Reader::default();
            let mut events = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                reader.bytes.extend_from_slice(part);
                while let Some(event) = reader.take().unwrap() {
                    events.push((event.name, event.data));
                }
            }
            let expected = [("entry".to_owned(), "{\"a\":\n1}".to_owned()), ("end".to_owned(), "{}".to_owned())];
            assert_eq!(events, expected, "cut at {cut}");
        }
        let mut reader = Reader { bytes: vec![b'x'; MAX_EVENT + 1], ..Reader::default() };
        assert!(reader.take().is_err());
    }
}
