//! What SQLite says when something goes wrong, in our codes.

use onceward_core::{Code, Error};
use rusqlite::ErrorCode;

/// Whether somebody else's lock was in the way.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// A failure of SQLite as one of ours. Nothing was committed: see [`unknown`] for the other case.
pub(crate) fn failed(error: rusqlite::Error) -> Error {
    let (code, message) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return busy().with_source(error),
        Some(ErrorCode::ReadOnly) => (Code::StoreReadOnly, "the database file is read-only"),
        Some(ErrorCode::CannotOpen) => (Code::StoreUnavailable, "the database file can't be opened"),
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            (Code::RightsMissing, "the database file may not be used")
        }
        Some(ErrorCode::DiskFull) => (Code::StoreFailed, "the disk is full"),
        Some(ErrorCode::SystemIoFailure) => {
            (Code::StoreFailed, "the disk failed to read or write the database")
        }
        Some(ErrorCode::DatabaseCorrupt) => (Code::StoreFailed, "the database file is damaged"),
        Some(ErrorCode::NotADatabase) => (Code::StoreFailed, "the file is not a SQLite database"),
        Some(_) if is_schema_behind(&error) => {
            (Code::SchemaBehind, "the tables of the store are not there yet")
        }
        Some(_) => (Code::StoreFailed, "SQLite refused a statement"),
        None if is_unreadable(&error) => (Code::RowUnreadable, "a row of the store can't be read back"),
        None => (Code::StoreFailed, "a statement could not be run"),
    };
    Error::new(code, message).with_source(error)
}

fn is_schema_behind(error: &rusqlite::Error) -> bool {
    let starts = ["no such table: onceward_", "no such column: "];
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => {
            starts.iter().any(|start| message.starts_with(start))
        }
        rusqlite::Error::SqlInputError { msg, .. } => starts.iter().any(|start| msg.starts_with(start)),
        _ => false,
    }
}

fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(
        error,
        E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..)
    )
}

/// The write lock was not to be had in time.
pub(crate) fn busy() -> Error {
    Error::new(Code::StoreBusy, "another process or transaction holds the write lock of the database file")
}

/// A commit was begun, failed, and it is not known how far it got.
pub(crate) fn unknown(error: rusqlite::Error) -> Error {
    Error::new(Code::CommitUnknown, "the commit failed on its way to the disk").with_source(error).uncertain()
}

/// The store was closed, or its thread is gone.
pub(crate) fn closed() -> Error {
    Error::new(Code::StoreClosed, "the store has been closed")
}

/// A value in a row that is not one of ours.
pub(crate) fn unreadable(column: usize, what: impl Into<String>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into().into())
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn code(number: i32) -> Code {
        failed(rusqlite::Error::SqliteFailure(ffi::Error::new(number), None)).code()
    }

    #[test]
    fn every_kind_of_failure_has_its_code() {
        for (number, wanted) in [
            (ffi::SQLITE_BUSY, Code::StoreBusy),
            (ffi::SQLITE_BUSY_SNAPSHOT, Code::StoreBusy),
            (ffi::SQLITE_LOCKED, Code::StoreBusy),
            (ffi::SQLITE_READONLY, Code::StoreReadOnly),
            (ffi::SQLITE_READONLY_DIRECTORY, Code::StoreReadOnly),
            (ffi::SQLITE_CANTOPEN, Code::StoreUnavailable),
            (ffi::SQLITE_FULL, Code::StoreFailed),
            (ffi::SQLITE_IOERR_FSYNC, Code::StoreFailed),
            (ffi::SQLITE_CORRUPT, Code::StoreFailed),
            (ffi::SQLITE_NOTADB, Code::StoreFailed),
            (ffi::SQLITE_CONSTRAINT, Code::StoreFailed),
        ] {
            assert_eq!(code(number), wanted, "{number}");
        }
        assert_eq!(failed(unreadable(0, "x")).code(), Code::RowUnreadable);
        assert!(
            failed(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)).is_retryable()
        );
        assert!(unknown(rusqlite::Error::InvalidQuery).is_uncertain());
    }

    #[test]
    fn missing_tables_are_a_schema_that_is_behind() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let error = connection.prepare("SELECT 1 FROM onceward_lease").unwrap_err();
        assert_eq!(failed(error).code(), Code::SchemaBehind);
    }
}
