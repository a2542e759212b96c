//! The head of a request, read strictly: one meaning or none.
//!
//! Stricter than RFC 9112 allows, because two readers of the same bytes must never differ: lines end
//! in CRLF only, no folding, no space around names, one `Host`, one of `Content-Length` and
//! `Transfer-Encoding: chunked`, and the authority that is judged is the one that `Host` says.

use crate::verdict::Host;

/// Largest head in bytes.
pub(crate) const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub method: String,
    pub target: Target,
    /// Minor version of HTTP/1.
    pub minor: u8,
    /// Names in lowercase, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Framing,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `CONNECT host:port`.
    Tunnel { host: Host, port: u16 },
    /// `http://host:port/path`.
    Forward { host: Host, port: u16, path: String },
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Why a head is refused; each is a sentence without a final stop.
pub(crate) type Problem = &'static str;

impl Head {
    /// Reads a head, the empty line at its end included.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let text = bytes.strip_suffix(b"\r\n\r\n").ok_or("The head is not complete")?;
        let mut lines = Vec::new();
        for line in split_crlf(text) {
            if line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                return Err("The head has a line end or nul byte of its own");
            }
            lines.push(line);
        }
        let (first, rest) = lines.split_first().ok_or("The head is empty")?;
        if rest.len() > MAX_HEADERS {
            return Err("The head has too many lines");
        }
        let (method, target, minor) = request_line(first)?;
        let headers = rest.iter().map(|line| header(line)).collect::<Result<Vec<_>, _>>()?;
        let body = framing(&headers, minor)?;
        let target = parse_target(method, target)?;
        if method == "CONNECT" && body != Framing::None {
            return Err("CONNECT has no body");
        }
        check_host(&headers, &target, minor)?;
        Ok(Self { method: method.to_owned(), target, minor, headers, body })
    }

    /// Whether another request may follow on the same connection.
    pub(crate) fn keeps_alive(&self) -> bool {
        let says = |word: &str| {
            self.headers
                .iter()
                .filter(|(name, _)| name == "connection" || name == "proxy-connection")
                .any(|(_, value)| tokens(value).any(|token| token == word))
        };
        if self.minor == 0 { says("keep-alive") } else { !says("close") }
    }

    /// Whether the client waits for `100 Continue` before the body.
    pub(crate) fn expects_continue(&self) -> bool {
        self.minor == 1 && self.headers.iter().any(|(n, v)| n == "expect" && v.eq_ignore_ascii_case(b"100-continue"))
    }
}

/// Lowercase words of a comma-separated value.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = String> {
    value.split(|b| *b == b',').map(|token| String::from_utf8_lossy(token).trim().to_ascii_lowercase())
}

fn split_crlf(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        match text.windows(2).position(|pair| pair == b"\r\n") {
            Some(at) => {
                let line = &text[..at];
                text = &text[at + 2..];
                Some(line)
            }
            None => {
                done = true;
                Some(text)
            }
        }
    })
}

fn request_line(line: &[u8]) -> Result<(&str, &str, u8), Problem> {
    const BAD: Problem = "The request line is malformed";
    let line = std::str::from_utf8(line).map_err(|_| BAD)?;
    let mut parts = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BAD);
    };
    if method.is_empty() || method.len() > 32 || !method.bytes().all(is_token) {
        return Err("The method is malformed");
    }
    if target.is_empty() || !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("The request target is malformed");
    }
    match version {
        "HTTP/1.1" => Ok((method, target, 1)),
        "HTTP/1.0" => Ok((method, target, 0)),
        _ => Err("The version is not HTTP/1.1 or HTTP/1.0"),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn header(line: &[u8]) -> Result<(String, Vec<u8>), Problem> {
    let colon = line.iter().position(|b| *b == b':').ok_or("A header has no colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        return Err("A header's name is malformed");
    }
    let value = value.trim_ascii();
    if value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
        return Err("A header's value has control characters");
    }
    Ok((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

fn framing(headers: &[(String, Vec<u8>)], minor: u8) -> Result<Framing, Problem> {
    let all = |wanted: &str| headers.iter().filter(|(n, _)| n == wanted).map(|(_, v)| v.as_slice()).collect::<Vec<_>>();
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Framing::None),
        ([length], []) => {
            let fine = !length.is_empty() && length.len() <= 18 && length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok().filter(|_| fine).and_then(|l| l.parse().ok());
            match length.ok_or("Content-Length is malformed")? {
                0 => Ok(Framing::None),
                length => Ok(Framing::Length(length)),
            }
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], [_]) => Err("Transfer-Encoding is not exactly chunked"),
        ([], _) => Err("There are several Transfer-Encoding headers"),
        (_, []) => Err("There are several Content-Length headers"),
        _ => Err("There are both Content-Length and Transfer-Encoding"),
    }
}

fn parse_target(method: &str, target: &str) -> Result<Target, Problem> {
    const BAD_HOST: Problem = "The host or port in the request cannot be read";
    if method == "CONNECT" {
        let (host, port) = Host::parse_with_port(target).map_err(|_| BAD_HOST)?;
        return Ok(Target::Tunnel { host, port: port.ok_or("CONNECT needs a port")? });
    }
    let (scheme, rest) = target.split_once("://").ok_or("This is a proxy: the request needs a full URL")?;
    if scheme.eq_ignore_ascii_case("https") {
        return Err("A proxy takes https through CONNECT only");
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err("Only http and CONNECT are proxied");
    }
    if target.contains(['#', '\\', '"', '<', '>', '^', '`', '{', '|', '}']) {
        return Err("The URL has a character that URLs cannot have");
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("The URL has user information");
    }
    let (host, port) = Host::parse_with_port(authority).map_err(|_| BAD_HOST)?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Target::Forward { host, port: port.unwrap_or(80), path })
}

/// `Host` must say what the target says; it may be absent from CONNECT and from HTTP/1.0.
fn check_host(headers: &[(String, Vec<u8>)], target: &Target, minor: u8) -> Result<(), Problem> {
    let mut hosts = headers.iter().filter(|(name, _)| name == "host").map(|(_, value)| value);
    let (host, port, default) = match target {
        Target::Tunnel { host, port } => (host, *port, *port),
        Target::Forward { host, port, .. } => (host, *port, 80),
    };
    let Some(said) = hosts.next() else {
        let optional = minor == 0 || matches!(target, Target::Tunnel { .. });
        return if optional { Ok(()) } else { Err("There is no Host header") };
    };
    if hosts.next().is_some() {
        return Err("There are several Host headers");
    }
    let said = std::str::from_utf8(said).ok().and_then(|said| Host::parse_with_port(said).ok());
    match said {
        Some((said, said_port)) if said == *host && said_port.unwrap_or(default) == port => Ok(()),
        Some(_) => Err("The Host header differs from the request's target"),
        None => Err("The Host header cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Head, Problem> {
        Head::parse(text.as_bytes())
    }

    #[test]
    fn good_heads() {
        let name = |n: &str| Host::Name(n.to_owned());
        let get = parse("GET http://A.example:8080/x?y=1 HTTP/1.1\r\nHost: a.Example.:8080\r\nX: a \r\n\r\n").unwrap();
        assert_eq!(get.target, Target::Forward { host: name("a.example"), port: 8080, path: "/x?y=1".into() });
        assert_eq!(get.headers[1], ("x".to_owned(), b"a".to_vec()));
        assert!(get.keeps_alive() && get.body == Framing::None);
        for (text, framing) in [
            ("POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Framing::Length(5)),
            ("POST http://a/ HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: Chunked\r\n\r\n", Framing::Chunked),
            ("GET http://a HTTP/1.0\r\n\r\n", Framing::None),
            ("GET http://a?q HTTP/1.1\r\nhost:a\r\n\r\n", Framing::None),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Framing::None),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
            ("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n", Framing::None),
            ("CONNECT 0x7f.1:443 HTTP/1.1\r\nHost: 127.0.0.1:443\r\n\r\n", Framing::None),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}")).body, framing, "{text:?}");
        }
    }

    #[test]
    fn doubtful_heads_are_refused() {
        for bad in [
            "",
            "\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/2\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET  http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\thttp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "G ET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n",
            "GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n",
            "GET http://a:b@c/ HTTP/1.1\r\nHost: c\r\n\r\n",
            "GET http://b\\@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a#@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/#x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a%00.b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a:0/ HTTP/1.1\r\nHost: a:0\r\n\r\n",
            "GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a:+80/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a:/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET http://a/ HTTP/1.1\nHost: a\n\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "POST http://a/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:80\r\n\r\n",
            "CONNECT http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT u@a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT :443 HTTP/1.1\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
            "CONNECT fe80::1%eth0:443 HTTP/1.1\r\n\r\n",
            "CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n\r\n",
            "CONNECT 2001:db8::1:443 HTTP/1.1\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn connections_stay_or_close() {
        for (text, keeps) in [
            ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET http://a HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false),
            ("GET http://a HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n", false),
            ("GET http://a HTTP/1.0\r\n\r\n", false),
            ("GET http://a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ] {
            assert_eq!(parse(text).unwrap().keeps_alive(), keeps, "{text:?}");
        }
    }
}
