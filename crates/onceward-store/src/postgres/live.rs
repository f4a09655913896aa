//! One connection: its prepared statements, and the sending of one statement.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use onceward_core::{Code, Error};
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::error::{self, Failed};
use super::statements::{Statement, Statements};

/// A parameter as the driver takes it.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// A connection.
pub(super) struct Live {
    client: Client,
    driver: AbortHandle,
    prepared: Vec<OnceCell<tokio_postgres::Statement>>,
    pooled: bool,
    /// One statement at a time behind a pooler.
    turn: tokio::sync::Mutex<()>,
    /// Counts the warnings after which a commit is not sure.
    doubts: Arc<AtomicU64>,
    ended: AtomicBool,
    asked_lineage: Mutex<Instant>,
}

impl Live {
    pub(super) fn new(client: Client, driver: AbortHandle, doubts: Arc<AtomicU64>, pooled: bool) -> Self {
        let prepared = (0..Statements::COUNT).map(|_| OnceCell::new()).collect();
        let asked_lineage = Mutex::new(Instant::now());
        Self {
            client,
            driver,
            prepared,
            pooled,
            turn: tokio::sync::Mutex::default(),
            doubts,
            ended: AtomicBool::new(false),
            asked_lineage,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    #[cfg(feature = "bench")]
    pub(super) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Whether it can still be used. A connection ends with the runtime it was made on as well.
    pub(super) fn is_usable(&self) -> bool {
        !self.ended.load(Ordering::SeqCst) && !self.client.is_closed()
    }

    /// Waits until nothing is under way behind a pooler; anywhere else there is nothing to wait for.
    ///
    /// The driver sends what comes while an answer is under way behind it. A pooler that switches servers between two
    /// transactions need not survive that: pgbouncer 1.18 garbles the stream.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let guard = if self.pooled { Some(self.turn.lock().await) } else { None };
        Turn { live: self, over: guard.is_none(), _guard: guard }
    }

    /// Lets go of it at once, whatever is under way.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.driver.abort();
    }

    /// How long ago it was asked which cluster it leads to; asking resets it.
    pub(super) fn lineage_age(&self) -> core::time::Duration {
        self.asked_lineage.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Notes that the question was asked.
    pub(super) fn note_lineage(&self) {
        *self.asked_lineage.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Sends a statement and reads all of its rows. Done means committed: the driver reads up to the server's
    /// ReadyForQuery, which follows the commit (E16).
    pub(super) async fn run(
        &self,
        statement: &Statement,
        params: &[Param<'_>],
        until: Instant,
    ) -> Result<Vec<Row>, Failed> {
        // A pooler hands every transaction another server, which knows nothing of what was prepared on this one.
        let prepared = match statement.prepared && !self.pooled {
            true => Some(self.prepare(statement, until).await?),
            false => None,
        };
        let doubts = self.doubts.load(Ordering::SeqCst);
        let answer = timeout_at(until, async {
            let turn = self.turn().await;
            let answer = match &prepared {
                Some(prepared) => self.client.query(prepared, params).await,
                None => {
                    let types = statement.types.iter().cloned();
                    let typed: Vec<(Param<'_>, Type)> = params.iter().copied().zip(types).collect();
                    self.client.query_typed(&statement.text, &typed).await
                }
            };
            turn.over();
            answer
        });
        match answer.await {
            Ok(Ok(rows)) if self.doubts.load(Ordering::SeqCst) == doubts => Ok(rows),
            Ok(Ok(_)) => {
                let why = "PostgreSQL committed, but stopped waiting for its standby";
                Err(Failed::Lost(Error::new(Code::StoreUnavailable, why)))
            }
            Ok(Err(error)) => Err(error::of_statement(error)),
            Err(_) => Err(Failed::Lost(no_answer())),
        }
    }

    /// Whether a statement is sent without another one before it.
    pub(super) fn is_prepared(&self, statement: &Statement) -> bool {
        !self.pooled && self.prepared.get(statement.index).is_some_and(OnceCell::initialized)
    }

    /// Sends a statement that nobody depends on, on a connection that no pooler stands before. The first poll sends it:
    /// what is not prepared yet is sent as it is, and prepared for the next time.
    pub(super) async fn run_at_once(
        &self,
        statement: &Statement,
        params: &[Param<'_>],
    ) -> Result<(), tokio_postgres::Error> {
        let cell = self.prepared.get(statement.index);
        if let Some(prepared) = cell.and_then(OnceCell::get) {
            return self.client.query(prepared, params).await.map(drop);
        }
        let types = statement.types.iter().cloned();
        let typed: Vec<(Param<'_>, Type)> = params.iter().copied().zip(types).collect();
        self.client.query_typed(&statement.text, &typed).await?;
        if let Some(cell) = cell {
            let prepare = || self.client.prepare_typed(&statement.text, statement.types);
            cell.get_or_try_init(prepare).await?;
        }
        Ok(())
    }

    async fn prepare(
        &self,
        statement: &Statement,
        until: Instant,
    ) -> Result<tokio_postgres::Statement, Failed> {
        let Some(cell) = self.prepared.get(statement.index) else {
            return Err(Failed::Refused(Error::new(Code::StoreFailed, "an unknown statement")));
        };
        let prepare = cell.get_or_try_init(|| self.client.prepare_typed(&statement.text, statement.types));
        match timeout_at(until, prepare).await {
            Ok(Ok(prepared)) => Ok(prepared.clone()),
            Ok(Err(error)) => match error::of_statement(error) {
                // Nothing but the text was sent.
                Failed::Lost(error) => Err(Failed::Before(error)),
                failed => Err(failed),
            },
            Err(_) => Err(Failed::Before(no_answer())),
        }
    }
}

/// The right to send a statement behind a pooler.
pub(super) struct Turn<'a> {
    live: &'a Live,
    over: bool,
    _guard: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Turn<'_> {
    /// The statement was answered.
    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The caller has gone, its statement is still under way: nobody may send another one behind it.
        if !self.over {
            self.live.end();
        }
    }
}

fn no_answer() -> Error {
    Error::new(Code::StoreUnavailable, "PostgreSQL did not answer in time")
}
