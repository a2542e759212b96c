//! SQLite's failures as ours.

use cove_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Translates; `doing` is a sentence's beginning such as `Storing run X`.
pub(super) fn failed(doing: impl std::fmt::Display, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    let (kind, what, next) = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            "the database is locked by another process",
            "End the other process that uses this data directory, then try again",
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            ErrorKind::Internal,
            "the database is damaged",
            "Restore it from a backup, or move the file away to start with empty records",
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Exhausted, "the disk is full", "Make room on the disk of the data directory")
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => (
            ErrorKind::Internal,
            "the database cannot be opened for writing",
            "Check owner and permissions of the data directory",
        ),
        _ => (ErrorKind::Internal, "the database refused", ""),
    };
    let error = Error::new(kind, format!("{doing} failed: {what}")).because(error);
    if next.is_empty() { error } else { error.next(next) }
}

/// Whether a uniqueness rule refused.
pub(super) fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
