//! History and pruning.

use onceward_core::history::{Entry, Event, Row as HistoryRow};
use onceward_core::{Result, Timestamp};

use super::Inner;
use super::lease::only;
use super::link::Call;
use super::live::Param;
use super::row::Columns;
use super::statements::Statement;
use crate::store::{HistoryOf, Prune, Pruned};

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
        let limit = super::limit(ask.limit);
        let at = now.as_micros();
        let leases_until = now.before(ask.leases_older_than).as_micros();
        let history_until = now.before(ask.history_older_than).as_micros();
        let pruned = Pruned {
            once: self.forget(&self.sql.prune_once, &[&limit, &at]).await?,
            leases: self.forget(&self.sql.prune_leases, &[&limit, &leases_until, &at]).await?,
            history: self.forget(&self.sql.prune_history, &[&limit, &history_until]).await?,
        };
        self.forget(&self.sql.prune_waiters, &[&limit, &at]).await?;
        Ok(pruned)
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
