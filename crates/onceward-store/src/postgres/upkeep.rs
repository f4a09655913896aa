//! History and pruning.

use std::sync::{Mutex, PoisonError};

use onceward_core::history::{Entry, Event, Row as HistoryRow};
use onceward_core::{Result, Timestamp, once};

use super::Inner;
use super::lease::only;
use super::link::Call;
use super::live::Param;
use super::row::Columns;
use super::statements::Statement;
use crate::store::{HistoryOf, Prune, Pruned};
use crate::wall::WallClock;

const HOUR: i64 = 3_600 * 1_000_000;

/// The first place in a table.
const START: &str = "(0,0)";

/// Where in the tables upkeep goes on.
pub(super) struct Places {
    once: Mutex<String>,
    untold: Mutex<String>,
}

impl Default for Places {
    fn default() -> Self {
        Self { once: Mutex::new(START.to_owned()), untold: Mutex::new(START.to_owned()) }
    }
}

impl Inner {
    pub(super) async fn history(&self, ask: &HistoryOf) -> Result<Vec<HistoryRow>> {
        let call = Call {
            verb: "history.list",
            statement: &self.sql.history,
            params: &[
                &ask.subject.as_str(),
                &ask.namespace.as_str(),
                &ask.key.as_str(),
                &super::limit(ask.limit),
            ],
            rows: 1,
        };
        let rows = self.admin.read(&call).await?;
        rows.iter().map(|row| entry(ask, &mut Columns::of(row))).collect()
    }

    pub(super) async fn prune(&self, ask: &Prune) -> Result<Pruned> {
        let now = Columns::of(&only(self.upkeep(&self.sql.prune_now, &[]).await?)?).get()?;
        let now = Timestamp::from_micros(now);
        if self.trust.observe(now, self.clock.boottime()) != WallClock::Trusted {
            tracing::warn!("the server's clock jumped: nothing is forgotten until it is believed");
            return Ok(Pruned::default());
        }
        let limit = super::limit(ask.limit);
        let at = now.as_micros();
        let leases_until = now.before(ask.leases_older_than).as_micros();
        let history_until = now.before(ask.history_older_than).as_micros();
        let old = self.forget(&self.sql.prune_history, &[&limit, &history_until]).await?;
        // What stands in the rows of once keys is history as well.
        let left = ask.limit.saturating_sub(usize::try_from(old).unwrap_or(usize::MAX));
        let untold = self.walk(&self.sql.prune_untold, &self.places.untold, left, &history_until);
        let pruned = Pruned {
            history: old + untold.await?,
            once: self.walk(&self.sql.prune_once, &self.places.once, ask.limit, &at).await?,
            leases: self.forget(&self.sql.prune_leases, &[&limit, &leases_until, &at]).await?,
        };
        self.forget(&self.sql.prune_waiters, &[&limit, &at]).await?;
        self.sweep(limit, at).await?;
        Ok(pruned)
    }

    /// Writes down which claims have run out, and how far that has been done.
    async fn sweep(&self, limit: i64, now: i64) -> Result<()> {
        self.upkeep(&self.sql.sweep, &[&limit, &now, &once::EXPIRED]).await.map(drop)
    }

    /// How far upkeep has come with once keys, in microseconds since 1970; from the beginning where that can't be
    /// believed, because the clock has gone back since.
    pub(super) async fn swept_until(&self, verb: &'static str) -> Result<i64> {
        let call = Call { verb, statement: &self.sql.once_swept, params: &[], rows: 1 };
        // A table that was restored without its row tells nothing.
        let rows = self.admin.read(&call).await?;
        let Some(row) = rows.first() else { return Ok(0) };
        let mut columns = Columns::of(row);
        let (swept_until, now): (i64, i64) = (columns.get()?, columns.get()?);
        Ok(if swept_until <= now - HOUR { swept_until } else { 0 })
    }

    /// Does something to at most `limit` rows of a table, from where it was left the last time; when the end is
    /// reached, from the beginning.
    async fn walk(
        &self,
        statement: &Statement,
        from: &Mutex<String>,
        limit: usize,
        until: &i64,
    ) -> Result<u64> {
        let mut place = from.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut done = 0;
        loop {
            let left = super::limit(limit) - i64::try_from(done).unwrap_or(i64::MAX);
            let row = only(self.upkeep(statement, &[&left, until, &place]).await?)?;
            let mut columns = Columns::of(&row);
            let (count, last): (i64, Option<String>) = (columns.get()?, columns.get()?);
            done += u64::try_from(count).unwrap_or(0);
            let at_end = count < left;
            let began =
                core::mem::replace(&mut place, last.filter(|_| !at_end).unwrap_or_else(|| START.to_owned()));
            from.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&place);
            if !at_end || began == START {
                return Ok(done);
            }
        }
    }

    async fn forget(&self, statement: &Statement, params: &[Param<'_>]) -> Result<u64> {
        let count: i64 = Columns::of(&only(self.upkeep(statement, params).await?)?).get()?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn upkeep(&self, statement: &Statement, params: &[Param<'_>]) -> Result<Vec<tokio_postgres::Row>> {
        self.admin.write(&Call { verb: "upkeep.prune", statement, params, rows: 1 }).await
    }
}

fn entry(ask: &HistoryOf, columns: &mut Columns<'_>) -> Result<HistoryRow> {
    Ok(HistoryRow {
        entry: Entry {
            subject: ask.subject,
            namespace: ask.namespace.clone(),
            key: ask.key.clone(),
            event: columns.word(Event::from_word)?,
            token: columns.token()?,
            actor: columns.get()?,
            at: columns.time()?,
            reason: columns.get()?,
        },
        claimed_at: columns.maybe_time()?,
        claimed_by: columns.get()?,
    })
}
