//! What every request passes: who asks, from where, how many at once, for how long.

use std::net::IpAddr;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cove_api::Operation;
use cove_core::{Error, ErrorKind};
use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::answer::{Answer, Failure};
use crate::app::{App, Shared};

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Over the socket; the peer is this user.
    Unix,
    /// Over TCP; the peer has to show the token.
    Tcp,
}

/// Wraps a handler.
pub(crate) async fn guard(
    State((app, operation)): State<(Shared, Operation)>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = format!("req_{:016x}", rand::random::<u64>());
    let mut response = match admit(&app, operation, &request) {
        Ok(()) => serve(&app, operation, request, next).await,
        Err(refusal) => refusal.into_response(),
    };
    let (status, elapsed) = (response.status(), begun.elapsed());
    tracing::debug!(request = id, operation = operation.id(), status = status.as_u16(), ?elapsed, "served");
    app.metrics.served(operation, status.as_u16(), elapsed);
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

async fn serve(app: &App, operation: Operation, request: Request, next: Next) -> Response {
    let _place = match app.places.try_acquire() {
        Ok(place) => place,
        Err(_) => {
            let error = Error::new(ErrorKind::Exhausted, "Too many requests are worked on").next("Send it again later");
            return Failure::from(error).into_response();
        }
    };
    match tokio::time::timeout(operation.deadline(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let error = Error::new(ErrorKind::Timeout, "The request took too long; a change it began still goes on")
                .with("seconds", operation.deadline().as_secs());
            Failure::from(error).into_response()
        }
    }
}

fn admit(app: &App, operation: Operation, request: &Request) -> Answer<()> {
    // What did not come through our own listeners has shown nothing.
    let transport = request.extensions().get::<Transport>().copied().unwrap_or(Transport::Tcp);
    let headers = request.headers();
    if transport == Transport::Unix {
        return if headers.contains_key(ORIGIN) { Err(foreign_site()) } else { Ok(()) };
    }
    let hosts = app.options.tcp.as_ref().map(|tcp| tcp.hosts.as_slice()).unwrap_or_default();
    addressed(headers, hosts)?;
    if operation.open() || app.token.as_ref().is_some_and(|token| shown(headers).is_some_and(|s| token.is(s))) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Denied, "The request shows no valid token")
        .next("Set COVE_TOKEN to the server's token (the file `token` in its state directory)");
    Err(Failure::with_status(&error, StatusCode::UNAUTHORIZED))
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// A name that a foreign site's DNS answers for is not ours (DNS rebinding), and neither is a page of
/// another origin.
fn addressed(headers: &HeaderMap, ours: &[String]) -> Answer<()> {
    let host = headers.get(HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = host_name(host);
    let known = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || ours.iter().any(|own| own.eq_ignore_ascii_case(name));
    if !known {
        let error = Error::new(ErrorKind::Denied, format!("{host:?} is not a name of this server"))
            .next("Use its address, or start it with this name allowed");
        return Err(Failure::with_status(&error, StatusCode::MISDIRECTED_REQUEST));
    }
    match headers.get(ORIGIN).map(|v| v.to_str().unwrap_or_default()) {
        None => Ok(()),
        Some(origin) => {
            let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if site.is_some_and(|site| site.eq_ignore_ascii_case(host)) { Ok(()) } else { Err(foreign_site()) }
        }
    }
}

fn foreign_site() -> Failure {
    Error::new(ErrorKind::Denied, "Requests of other sites are refused").into()
}

/// A `Host` header without its port and brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_origins() {
        let ours = ["cove.example".to_owned()];
        for (host, origin, fits) in [
            ("127.0.0.1:3000", None, true),
            ("[::1]:3000", None, true),
            ("localhost", None, true),
            ("Cove.Example:80", None, true),
            ("evil.example:3000", None, false),
            ("127.0.0.1.evil.example", None, false),
            ("", None, false),
            ("127.0.0.1:3000", Some("http://127.0.0.1:3000"), true),
            ("127.0.0.1:3000", Some("http://127.0.0.1:4000"), false),
            ("127.0.0.1:3000", Some("https://evil.example"), false),
            ("127.0.0.1:3000", Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(addressed(&headers, &ours).is_ok(), fits, "{host} {origin:?}");
        }
    }
}
