//! Requests taken apart and answers put together, problems included.

use axum::Json;
use axum::body::{Body as HttpBody, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use cove_api::{MAX_BODY, MAX_PAGE, Operation, Problem};
use cove_core::{Error, ErrorKind};
use http::header::{CONTENT_TYPE, LINK, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An error as an answer.
#[derive(Debug)]
pub(crate) struct Failure(Box<Problem>);

/// What a handler returns.
pub(crate) type Answer<T> = Result<T, Failure>;

impl Failure {
    /// An error whose status is not that of its kind.
    pub(crate) fn with_status(error: &Error, status: StatusCode) -> Self {
        Self(Box::new(Problem::from(error).status(status.as_u16())))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if matches!(error.kind(), ErrorKind::Internal | ErrorKind::NotStarted) {
            tracing::warn!(error = %error.chain().join(": "), "request failed");
        }
        Self(Box::new(Problem::from(&error)))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retryable = self.0.retryable;
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if retryable && status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// A body in JSON, of bounded size and said to be JSON (which a form of another site cannot say).
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let media = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") {
            let error = Error::invalid("The body is not application/json").next("Send content-type: application/json");
            return Err(Failure::with_status(&error, StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let bytes = read(request.into_body()).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|e| {
            Error::invalid(format!("The body cannot be understood: {e}"))
                .next("/openapi.json describes what is expected")
                .into()
        })
    }
}

async fn read(body: HttpBody) -> Result<bytes::Bytes, Failure> {
    to_bytes(body, MAX_BODY).await.map_err(|_| {
        let error = Error::invalid(format!("The body was cut off or is larger than {MAX_BODY} bytes"));
        Failure::with_status(&error, StatusCode::PAYLOAD_TOO_LARGE)
    })
}

/// The query's parameters.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(value)| Self(value))
            .map_err(|e| Error::invalid(format!("The query cannot be understood: {}", e.body_text())).into())
    }
}

/// What stands for `{id}` in the path.
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Path::<String>::from_request_parts(parts, state)
            .await
            .map(|Path(text)| Self(text))
            .map_err(|e| Error::invalid(format!("The path cannot be understood: {}", e.body_text())).into())
    }
}

/// Which page of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cursor<Id> {
    limit: Option<usize>,
    /// The last one of the page before.
    pub(crate) cursor: Option<Id>,
}

impl<Id> Cursor<Id> {
    /// How many to answer with.
    pub(crate) fn limit(&self, default: usize) -> Result<usize, Failure> {
        match self.limit {
            Some(0) => Err(Error::invalid("The limit is 0").next(format!("Ask for 1 to {MAX_PAGE}")).into()),
            limit => Ok(limit.unwrap_or(default).min(MAX_PAGE)),
        }
    }
}

/// A page as an array; where there is a next one, the `Link` header (RFC 8288) leads to it.
pub(crate) fn paged<T: Serialize>(operation: Operation, limit: usize, next: Option<String>, items: Vec<T>) -> Response {
    let mut response = Json(items).into_response();
    let link = next.map(|id| format!("<{}?limit={limit}&cursor={id}>; rel=\"next\"", operation.path()));
    if let Some(value) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(LINK, value);
    }
    response
}
