//! What the proxy itself answers.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::reach::Failure;

/// An answer of ours: a refusal, a malformed request, an unreachable host.
pub(crate) struct Answer {
    pub status: u16,
    /// One or two sentences for whoever reads the client's output.
    pub text: String,
    /// Whether the connection stays for a further request.
    pub keep: bool,
    /// The request was HEAD: no body.
    pub head_only: bool,
}

impl Answer {
    pub(crate) fn malformed(problem: &str) -> Self {
        Self {
            status: 400,
            text: format!("Cove's proxy cannot read the request. {problem}."),
            keep: false,
            head_only: false,
        }
    }

    pub(crate) fn failure(failure: &Failure, host: &str, port: u16) -> Self {
        let (status, text) = match failure {
            Failure::Refused(refusal) => (403, format!("Refused by Cove. {refusal}.")),
            Failure::Unreachable(why) => (502, format!("Cove could not reach {host}:{port}. {why}.")),
            Failure::TimedOut => (504, format!("Cove could not reach {host}:{port} in time.")),
        };
        Self { status, text, keep: false, head_only: false }
    }

    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let phrase = match self.status {
            400 => "Bad Request",
            403 => "Forbidden",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            502 => "Bad Gateway",
            _ => "Gateway Timeout",
        };
        // The reason also as a header: what a client shows of a failed CONNECT is its head.
        let line: String =
            self.text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(600).collect();
        let connection = if self.keep { "keep-alive" } else { "close" };
        let mut out = format!(
            "HTTP/1.1 {} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             X-Cove-Reason: {line}\r\nConnection: {connection}\r\n\r\n",
            self.status,
            self.text.len() + 1,
        );
        if !self.head_only {
            out.push_str(&self.text);
            out.push('\n');
        }
        to.write_all(out.as_bytes()).await?;
        to.flush().await
    }
}
