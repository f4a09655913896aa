//! Jobs in a caller's transaction: enqueued with the caller's commit, or ended with it. One dialect a database.

mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use onceward_core::job::State;
use onceward_core::{JobId, Result, SessionId, job};

use super::columns::Columns;
use super::verbs::{check_kind, no_enlist};
use super::{Enlist, EnlistSql, Param};
use crate::{Clock, Enqueued, SettleJob, SettledJob, StoreKind};

/// What came of enqueueing a job in the caller's transaction: nothing of it is there before the caller commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnqueuedIn {
    /// The answer, which holds if the caller commits.
    pub enqueued: Enqueued,
    /// The state of the job that was there before, as the transaction sees it; a job that runs is what it was before.
    /// `None` where there was none, or is none any more.
    pub existing: Option<State>,
    /// The number by which [`transactions`](crate::JobStore::transactions) tells what became of the transaction.
    pub transaction: Option<u64>,
}

/// Enqueues a job in the caller's transaction (J1).
///
/// # Errors
/// [`Code::KeyLocked`](onceward_core::Code::KeyLocked) if another open transaction has taken one of its keys; the
/// driver's error otherwise.
#[cfg_attr(not(feature = "sqlite"), expect(unused_variables, reason = "PostgreSQL has a clock of its own"))]
pub async fn enqueue_in(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    new: &job::New,
) -> Result<EnqueuedIn> {
    check_kind(sql, tx)?;
    let enqueued = match sql.kind {
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => {
            let enqueued = sqlite::enqueue(sql, clock, tx, new).await;
            enqueued.map(|enqueued| EnqueuedIn { enqueued, existing: None, transaction: None })
        }
        StoreKind::Postgres => postgres::enqueue(sql, tx, new).await,
        _ => Err(no_enlist()),
    };
    let with_state = async {
        let mut done = enqueued?;
        if let Enqueued::Existing(id) = done.enqueued {
            done.existing = existing(sql, tx, new, id).await?;
        }
        Ok(done)
    };
    with_state.await.map_err(|error: onceward_core::Error| error.at("job.enqueue_in"))
}

/// The state of a job that was found by a key.
async fn existing(sql: &EnlistSql, tx: &mut impl Enlist, new: &job::New, id: JobId) -> Result<Option<State>> {
    let (statement, namespace) = (sql.jobs.get("existing").ok_or_else(no_enlist)?, new.namespace.as_str());
    let (uuid, written) = (id.as_uuid(), id.to_string());
    let id = match sql.kind {
        StoreKind::Postgres => Param::Text(Some(&written)),
        _ => Param::Bytes(Some(uuid.as_bytes())),
    };
    let rows = tx.query(statement, &[Param::Text(Some(namespace)), id]).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    Ok(Columns::of(row).text_or_null()?.as_deref().and_then(State::from_word))
}

/// Records how an attempt ended in the caller's transaction: a rescue does not come between as long as that is open.
///
/// # Errors
/// The driver's.
#[cfg_attr(not(feature = "sqlite"), expect(unused_variables, reason = "PostgreSQL has a clock of its own"))]
pub async fn settle_job_in(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    session: SessionId,
    ask: &SettleJob,
) -> Result<SettledJob> {
    check_kind(sql, tx)?;
    let settled = match sql.kind {
        // Whoever has the write lock holds rescuers off: the session plays no part.
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => sqlite::settle(sql, clock, tx, ask).await,
        StoreKind::Postgres => postgres::settle(sql, tx, session, ask).await,
        _ => Err(no_enlist()),
    };
    settled.map_err(|error| error.at("job.settle_in"))
}
