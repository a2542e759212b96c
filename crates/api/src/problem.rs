//! Errors on the wire, RFC 9457.

use std::collections::BTreeMap;

use cove_core::{Error, ErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A problem document, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:cove:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The class of problem, for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, one sentence.
    pub detail: String,
    /// Further sentences of the same weight: each thing that is wrong with a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Names and values for whoever runs the server: engine, operation, sandbox.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
    /// Stable word: `invalid`, `not_found`, `conflict`, `denied`, `refused`, `unsupported`,
    /// `unavailable`, `timeout`, `exhausted`, `not_started`, `interrupted`, `internal`.
    pub code: String,
    /// Causes, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

/// The name of context that holds further sentences.
const ALSO: &str = "also";

/// Names of context that a client takes over; others stay in the document.
const NAMES: [&str; 8] = ["engine", "op", "sandbox", "control", "run", "gate", "path", "step"];

/// Every kind with its status and title.
const KINDS: [(ErrorKind, u16, &str); 12] = [
    (ErrorKind::Invalid, 400, "The request is wrong"),
    (ErrorKind::NotFound, 404, "There is no such thing"),
    (ErrorKind::Conflict, 409, "It exists already or changed meanwhile"),
    (ErrorKind::Denied, 403, "Not allowed"),
    (ErrorKind::Refused, 403, "Refused by policy"),
    (ErrorKind::Unsupported, 501, "Cannot be given on this host"),
    (ErrorKind::Unavailable, 503, "Not available"),
    (ErrorKind::Timeout, 504, "Took too long"),
    (ErrorKind::Exhausted, 503, "A bound was reached"),
    (ErrorKind::NotStarted, 500, "The sandbox could not be started"),
    (ErrorKind::Interrupted, 503, "Cut off in the middle"),
    (ErrorKind::Internal, 500, "Something failed inside"),
];

impl Problem {
    /// The same with another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let (_, status, title) = KINDS.into_iter().find(|(kind, ..)| *kind == error.kind()).unwrap_or(KINDS[11]);
        let code = error.kind().code();
        Self {
            kind: format!("urn:cove:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: error.message().to_owned(),
            also: error.context().iter().filter(|(name, _)| *name == ALSO).map(|(_, text)| text.clone()).collect(),
            context: error
                .context()
                .iter()
                .filter(|(name, _)| *name != ALSO)
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            code: code.to_owned(),
            causes: error.told().into_iter().skip(1).take(8).collect(),
            next: error.next_step().map(str::to_owned),
            retryable: error.kind().retryable(),
        }
    }
}

/// The error that a problem document tells of; a code of a newer server counts as `Internal`.
impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let kind = KINDS.into_iter().map(|(kind, ..)| kind).find(|kind| kind.code() == problem.code);
        let mut error = Self::new(kind.unwrap_or(ErrorKind::Internal), problem.detail);
        for text in problem.also {
            error = error.with(ALSO, text);
        }
        for (name, value) in problem.context {
            if let Some(known) = NAMES.into_iter().find(|known| *known == name) {
                error = error.with(known, value);
            }
        }
        if let Some(next) = problem.next {
            error = error.next(next);
        }
        let mut causes: Option<Self> = None;
        for cause in problem.causes.into_iter().rev() {
            let layer = Self::internal(cause);
            causes = Some(match causes.take() {
                Some(below) => layer.because(below),
                None => layer,
            });
        }
        match causes {
            Some(causes) => error.because(causes),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for (kind, ..) in KINDS {
            let error = Error::new(kind, "The thing broke")
                .with("also", "Another broke too")
                .with("sandbox", 7)
                .next("Mend it")
                .because(Error::internal("glass").because(std::io::Error::other("stone")));
            let text = serde_json::to_string(&Problem::from(&error)).unwrap();
            let back = Error::from(serde_json::from_str::<Problem>(&text).unwrap());
            assert_eq!(back.kind(), kind);
            assert_eq!((back.chain(), back.told()), (error.chain(), error.told()));
            assert_eq!(back.next_step(), Some("Mend it"));
        }
    }
}
