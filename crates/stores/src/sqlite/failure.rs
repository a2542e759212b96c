//! SQLite's failures as ours.

use std::error::Error as _;

use cove_core::{Error, ErrorKind};
use rusqlite::{ErrorCode, ffi};

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

/// Whether the disk did not keep what it was told to keep. Nobody knows then what of it is there, and
/// the same call may succeed when repeated without having kept anything (fsync(2), "EIO").
pub(super) fn unkept(error: &Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<rusqlite::Error>());
    cause.is_some_and(is_unkept)
}

/// The same of SQLite's own error.
pub(super) fn is_unkept(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC))
}

/// The answer to every write after such a failure.
pub(super) fn stopped() -> Error {
    Error::internal("Nothing more is written to the database: the disk failed to keep something before")
        .next("Check the disk of the data directory, then restart: cove daemon restart")
}
