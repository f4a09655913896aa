//! Runs in a caller's transaction: told something with the caller's commit, or a step whose effects and whose value are
//! one commit.

use onceward_core::run::Position;
use onceward_core::{Queue, Result, SessionId, Token};
use uuid::Uuid;

use super::columns::Columns;
use super::verbs::{check_kind, no_enlist};
use super::{Enlist, EnlistSql, Param};
use crate::{Clock, JobRef, StoreKind, TellRun};

/// A run was told something in the caller's transaction: it hears of it if that commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldIn {
    /// The queue of the run.
    pub queue: Queue,
    /// The number by which [`transactions`](crate::JobStore::transactions) tells what became of the transaction.
    pub transaction: Option<u64>,
}

/// What a step of a run writes with its effects.
#[derive(Clone, Debug)]
pub struct WriteStep<'a> {
    /// Which run.
    pub run: &'a JobRef,
    /// The session that has it.
    pub session: SessionId,
    /// The token of its attempt.
    pub token: Token,
    /// Which writing, drawn by the caller: it is written once.
    pub id: Uuid,
    /// Where the step stands.
    pub position: &'a Position,
    /// Its value, as JSON.
    pub value: &'a [u8],
}

/// Tells a run something in the caller's transaction; `None` where there is no such run, it has ended, or it was told
/// the same before.
///
/// # Errors
/// The driver's.
#[cfg_attr(not(feature = "sqlite"), expect(unused_variables, reason = "PostgreSQL has a clock of its own"))]
pub async fn tell_run_in(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    ask: &TellRun,
) -> Result<Option<ToldIn>> {
    check_kind(sql, tx)?;
    let Some((word, name, data)) = ask.what.said() else { return Err(no_enlist()) };
    let mut desk = Desk { sql, tx, run: &ask.run };
    let told = match sql.kind {
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => desk.tell_sqlite(clock, ask.id, (word, name, data)).await,
        StoreKind::Postgres => {
            let (run, id) = (ask.run.id.to_string(), ask.id.to_string());
            let params = [
                Param::Text(Some(ask.run.namespace.as_str())),
                Param::Text(Some(&run)),
                Param::Text(Some(&id)),
                Param::Text(Some(word)),
                Param::Text(Some(name)),
                Param::Bytes(Some(data)),
            ];
            desk.run("run_tell", &params).await.and_then(|row| row.map(told).transpose())
        }
        _ => Err(no_enlist()),
    };
    told.map_err(|error| error.at("run.tell_in"))
}

fn told(mut row: Columns) -> Result<ToldIn> {
    let queue = Queue::from_row(row.text()?);
    Ok(ToldIn { queue, transaction: row.text_or_null()?.and_then(|number| number.parse().ok()) })
}

/// Writes what a step has done in the caller's transaction: nobody takes the run up as long as that is open. `false`,
/// and nothing is written, where the run is not this attempt's any more.
///
/// # Errors
/// The driver's.
#[cfg_attr(not(feature = "sqlite"), expect(unused_variables, reason = "PostgreSQL has a clock of its own"))]
pub async fn write_step_in(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    ask: &WriteStep<'_>,
) -> Result<bool> {
    check_kind(sql, tx)?;
    let mut desk = Desk { sql, tx, run: ask.run };
    let written = match sql.kind {
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => desk.write_sqlite(clock, ask).await,
        StoreKind::Postgres => {
            let (run, id, session) = (ask.run.id.to_string(), ask.id.to_string(), ask.session.to_string());
            let params = [
                Param::Text(Some(ask.run.namespace.as_str())),
                Param::Text(Some(&run)),
                Param::Text(Some(&id)),
                Param::Text(Some(ask.position.as_str())),
                Param::Bytes(Some(ask.value)),
                Param::Int(Some(ask.token.get())),
                Param::Text(Some(&session)),
            ];
            let row = desk.run("run_write", &params).await;
            row.and_then(|row| row.map_or(Ok(false), |mut row| Ok(row.int()? == 1)))
        }
        _ => Err(no_enlist()),
    };
    written.map_err(|error| error.at("run.write"))
}

/// The caller's transaction, and the run it is about.
struct Desk<'a, T> {
    sql: &'a EnlistSql,
    tx: &'a mut T,
    run: &'a JobRef,
}

impl<T: Enlist> Desk<'_, T> {
    /// Runs a step; its first row, if it has one.
    async fn run(&mut self, step: &str, params: &[Param<'_>]) -> Result<Option<Columns>> {
        let text = self.sql.jobs.get(step).ok_or_else(no_enlist)?;
        Ok(self.tx.query(text, params).await?.into_iter().next().map(Columns::of))
    }
}

#[cfg(feature = "sqlite")]
impl<T: Enlist> Desk<'_, T> {
    /// Takes the write lock: whoever has it holds everybody off who would take the run up.
    async fn lock(&mut self) -> Result<()> {
        let run = self.run.id.as_uuid();
        let params = [Param::Text(Some(self.run.namespace.as_str())), Param::Bytes(Some(run.as_bytes()))];
        self.run("lock", &params).await.map(drop)
    }

    async fn tell_sqlite(
        &mut self,
        clock: &dyn Clock,
        id: Uuid,
        (word, name, data): (&str, &str, &[u8]),
    ) -> Result<Option<ToldIn>> {
        self.lock().await?;
        let (namespace, run) = (self.run.namespace.as_str(), self.run.id.as_uuid());
        let (namespace, run) = (Param::Text(Some(namespace)), Param::Bytes(Some(run.as_bytes())));
        let Some(mut row) = self.run("run_queue", &[namespace, run]).await? else { return Ok(None) };
        let told = ToldIn { queue: Queue::from_row(row.text()?), transaction: None };
        let params = [
            namespace,
            run,
            Param::Bytes(Some(id.as_bytes())),
            Param::Int(Some(clock.wall().as_micros())),
            Param::Text(Some(word)),
            Param::Text(Some(name)),
            Param::Bytes(Some(data)),
        ];
        Ok(self.run("run_tell", &params).await?.map(|_| told))
    }

    async fn write_sqlite(&mut self, clock: &dyn Clock, ask: &WriteStep<'_>) -> Result<bool> {
        self.lock().await?;
        let run = self.run.id.as_uuid();
        let params = [
            Param::Text(Some(self.run.namespace.as_str())),
            Param::Bytes(Some(run.as_bytes())),
            Param::Bytes(Some(ask.id.as_bytes())),
            Param::Int(Some(clock.wall().as_micros())),
            Param::Text(Some(ask.position.as_str())),
            Param::Bytes(Some(ask.value)),
            Param::Int(Some(ask.token.get())),
        ];
        Ok(self.run("run_write", &params).await?.is_some())
    }
}
