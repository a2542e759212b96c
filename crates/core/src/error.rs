//! The one error type that crosses a port.

use std::fmt;

/// Result of a port's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of thing went wrong. Closed: callers branch on it, and each kind has one exit code
/// and one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The caller's input is wrong; repeating it cannot help.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// The thing exists already, or changed under the caller.
    Conflict,
    /// Not signed in, or not allowed.
    Denied,
    /// A policy refuses it (scan, egress, mount, budget).
    Refused,
    /// A control, limit or feature was asked for that cannot be given here.
    Unsupported,
    /// No engine or server that works.
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// A bound was reached (queue full, too many sandboxes, disk full).
    Exhausted,
    /// The sandbox could not be built or its proof differs from its specification.
    NotStarted,
    /// Cut off in the middle; the other side is gone.
    Interrupted,
    /// A defect or a failing host.
    Internal,
}

impl ErrorKind {
    /// Process exit code of the CLI for this kind (`cove help exit-codes`).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Denied => 4,
            Self::Refused => 7,
            Self::Unsupported | Self::Unavailable => 9,
            Self::Timeout => 124,
            Self::NotStarted => 125,
            Self::Exhausted | Self::Interrupted | Self::Internal => 1,
        }
    }

    /// Stable word used as `code` in problem documents and by `cove explain`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Exhausted => "exhausted",
            Self::NotStarted => "not_started",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed later without any change by the caller.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Timeout | Self::Exhausted | Self::Interrupted | Self::Unavailable)
    }
}

/// An error with its kind, ordered context, cause and, where one exists, the next step for a person.
///
/// `Display` prints this layer only; [`Error::chain`] walks the causes.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    next: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error. `message` is a sentence without a final stop that names the thing.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), next: None, source: None }
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Shorthand for [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what a person should do next (a command where one exists).
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }

    /// Adds a name and value for operators, kept in the order added.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence for people, without context and causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The next step, where one is known.
    pub fn next_step(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// Names and values for operators.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }

    /// This error's sentence and that of each cause, outermost first, without the names and values
    /// that only operators need. A cause that the sentence before it holds already is left out.
    pub fn told(&self) -> Vec<String> {
        let mut out = vec![self.message.clone()];
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.downcast_ref::<Self>().map_or_else(|| error.to_string(), |known| known.message.clone());
            if out.last().is_none_or(|before| !before.contains(text.as_str())) {
                out.push(text);
            }
            cause = error.source();
        }
        out
    }

    /// This error's text and that of each cause, outermost first.
    pub fn chain(&self) -> Vec<String> {
        let mut out = vec![self.to_string()];
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            out.push(error.to_string());
            cause = error.source();
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        // What the sentence says already is not said again.
        let told = |(key, value): &&(&str, String)| !self.message.contains(&format!("{key} {value}"));
        let pairs: Vec<String> = self.context.iter().filter(told).map(|(k, v)| format!("{k}={v}")).collect();
        if !pairs.is_empty() {
            write!(f, " ({})", pairs.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

/// Adds an error's place to any result.
pub trait Context<T> {
    /// Wraps the failure as `kind` with `message`, keeping it as the cause.
    fn context(self, kind: ErrorKind, message: impl Into<String>) -> Result<T>;
}

impl<T, E> Context<T> for std::result::Result<T, E>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn context(self, kind: ErrorKind, message: impl Into<String>) -> Result<T> {
        self.map_err(|e| Error::new(kind, message).because(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_sentences_and_operators_everything() {
        let error = Error::internal("The file a cannot be read").with("op", "open").because(
            Error::internal("The disk failed").with("fd", 3).because(std::io::Error::other("The disk failed")),
        );
        assert_eq!(error.told(), ["The file a cannot be read", "The disk failed"]);
        assert_eq!(error.chain()[..2], ["The file a cannot be read (op=open)", "The disk failed (fd=3)"]);
    }
}
