//! Joining the caller's own transaction.
//!
//! Guarding a lease and recording a once are each a statement or two on our own rows, so they can run inside a
//! transaction of the caller's, on the caller's connection, whatever the driver. The contract (one conformance file,
//! every driver): no lock beyond our own rows, no NOTIFY, no cache fill; we never commit, roll back or close what we
//! were lent, and never swallow an SQLSTATE.

mod columns;
mod driver;
mod jobs;
mod runs;
mod verbs;

use core::future::Future;
use std::collections::BTreeMap;
use std::sync::Arc;

use onceward_core::Result;

pub use self::jobs::{EnqueuedIn, enqueue_in, settle_job_in};
pub use self::runs::{ToldIn, WriteStep, tell_run_in, write_step_in};
pub use self::verbs::{ClaimedIn, DoneIn, claim_in, guard, settle_in};
use crate::StoreKind;
use crate::wall::Trust;

/// A value to bind. Four kinds are enough, and every driver knows them.
#[derive(Clone, Copy, Debug)]
pub enum Param<'a> {
    /// Text.
    Text(Option<&'a str>),
    /// A whole number of 64 bits.
    Int(Option<i64>),
    /// Bytes.
    Bytes(Option<&'a [u8]>),
    /// True or false; SQLite gets 1 or 0.
    Bool(bool),
}

/// A value read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// No value.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// True or false.
    Bool(bool),
}

/// A row read back.
pub type Row = Vec<Cell>;

/// A transaction of the caller's that our statements may join.
///
/// Implemented for `tokio_postgres::Transaction`, `sqlx::Transaction` (PostgreSQL and SQLite) and
/// `rusqlite::Transaction`; pools that dereference to one of them (deadpool) work as well.
pub trait Enlist {
    /// Which dialect it speaks.
    fn kind(&self) -> StoreKind;

    /// Runs one statement and reads all of its rows. An error is the driver's, with our verb around it; the
    /// transaction is then in whatever state the database left it.
    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> impl Future<Output = Result<Vec<Row>>>;
}

/// The statements of one store, as they run in a caller's transaction.
#[derive(Clone, Debug)]
pub struct EnlistSql {
    /// The dialect.
    pub kind: StoreKind,
    /// `lease/guard`: on SQLite the steps `lock` and `check`, on PostgreSQL one statement.
    pub guard: Vec<Arc<str>>,
    /// `once/claim_in`: on SQLite the steps `lock`, `clocks`, `ended`, `claim` and `read`, on PostgreSQL one
    /// statement.
    pub claim_in: Vec<Arc<str>>,
    /// `once/settle_in`: on SQLite the steps `settle` and `history`, on PostgreSQL one statement.
    pub settle_in: Vec<Arc<str>>,
    /// What is believed about the clock of a PostgreSQL server (N16). The file of SQLite knows itself.
    pub(crate) server_clock: Arc<Trust>,
    /// The statements about jobs and runs, by name: those of `job/enqueue_in`, `job/settle_in` and `run/tell_in`, and
    /// what runs between them.
    pub jobs: BTreeMap<&'static str, Arc<str>>,
}
