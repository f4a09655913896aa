//! Joining the caller's own transaction.
