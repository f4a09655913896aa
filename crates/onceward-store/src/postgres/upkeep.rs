//! History and pruning.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use onceward_core::history::{Entry, Event, Row as HistoryRow};
use onceward_core::{Code, Result, Timestamp, once};
use tokio::time::Instant;

use super::Inner;
use super::lease::only;
use super::link::Call;
use super::live::Param;
use super::row::Columns;
use super::statements::Statement;
use crate::store::{HistoryOf, Prune, Pruned};
use crate::wall::WallClock;

const HOUR: i64 = 3_600 * 1_000_000;
/// How long the sweep may take. The first one reads the whole table, the others what was claimed since.
pub(super) const SWEEP_TIMEOUT: Duration = Duration::from_secs(600);
/// How many pages of a table one statement reads: 8 MiB. That takes milliseconds, however large the table is.
const WINDOW_PAGES: i64 = 1_024;
/// How long one prune reads a table; the next one goes on there.
const READ_FOR: Duration = Duration::from_secs(3);

/// The pages where upkeep goes on, by what it looks for.
#[derive(Default)]
pub(super) struct Places {
    once: Mutex<i64>,
    untold: Mutex<i64>,
    leases: Mutex<i64>,
}

/// A round through the pages of a table, from where the last one ended.
#[derive(Debug)]
struct Walk {
    began: i64,
    at: i64,
    pages: i64,
    /// Whether it has come to the end, and went on at the beginning.
    wrapped: bool,
}

impl Walk {
    fn new(place: i64, pages: i64) -> Self {
        let at = if place < pages { place } else { 0 };
        Self { began: at, at, pages, wrapped: false }
    }

    /// The first place of the pages that are next, and the one behind the last.
    fn window(&self) -> (String, String) {
        (format!("({},0)", self.at), format!("({},0)", self.at + WINDOW_PAGES))
    }

    /// Goes on; `false` where all pages have been read.
    fn go_on(&mut self) -> bool {
        self.at += WINDOW_PAGES;
        if self.at >= self.pages {
            (self.at, self.wrapped) = (0, true);
        }
        !self.wrapped || self.at < self.began
    }
}

/// What is to be done on the way through a table.
struct Errand<'a> {
    statement: &'a Statement,
    place: &'a Mutex<i64>,
    pages: i64,
    until: i64,
    /// The clock, where the statement wants to know.
    now: Option<i64>,
    /// What is looked for on the same pages beside.
    beside: Option<&'a Statement>,
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
        if !self.may_forget(now) {
            return Ok(Pruned::default());
        }
        let (limit, at) = (super::limit(ask.limit), now.as_micros());
        let history_until = now.before(ask.history_older_than).as_micros();
        let old = self.forget(&self.sql.prune_history, &[&limit, &history_until]).await?;
        let sizes = only(self.upkeep(&self.sql.prune_pages, &[]).await?)?;
        let mut sizes = Columns::of(&sizes);
        let (pages, lease_pages) = (sizes.get()?, sizes.get()?);
        let (statement, place) = (&self.sql.prune_once, &self.places.once);
        let once =
            Errand { statement, place, pages, until: at, now: None, beside: Some(&self.sql.sweep_hidden) };
        // What stands in the rows of once keys is history as well.
        let left = ask.limit.saturating_sub(usize::try_from(old).unwrap_or(usize::MAX));
        let (statement, place) = (&self.sql.prune_untold, &self.places.untold);
        let untold = Errand { statement, place, until: history_until, beside: None, ..once };
        let leases = Errand {
            statement: &self.sql.prune_leases,
            place: &self.places.leases,
            pages: lease_pages,
            until: now.before(ask.leases_older_than).as_micros(),
            now: Some(at),
            beside: None,
        };
        let (untold, told_all) = self.walk(&untold, left).await?;
        let (once, once_all) = self.walk(&once, ask.limit).await?;
        let (leases, leases_all) = self.walk(&leases, ask.limit).await?;
        self.forget(&self.sql.prune_waiters, &[&limit, &at]).await?;
        let more = !(told_all && once_all && leases_all);
        let pruned = Pruned { once, leases, history: old + untold, more };
        // Whoever prunes round by round sweeps in the last one.
        if pruned.is_last_of(ask) {
            self.sweep(limit, at).await?;
        }
        Ok(pruned)
    }

    /// Whether the server's time may decide what is forgotten (O14, N16); says so if it may not.
    pub(super) fn may_forget(&self, now: Timestamp) -> bool {
        let ahead = (now.as_micros() - self.clock.wall().as_micros()) / 1_000_000;
        let why = match self.trust.may_forget(now, &*self.clock) {
            WallClock::Trusted => return true,
            _ if ahead.abs() > 60 => format!("it is {ahead} s ahead of this host's"),
            _ => "it has jumped".to_owned(),
        };
        tracing::warn!(
            code = Code::ClockInconsistent.as_str(),
            "nothing is forgotten by the database's clock: {why}. If it is right: onceward prune --trust-clock"
        );
        false
    }

    /// Writes down which claims have run out, and how far that has been done.
    async fn sweep(&self, limit: i64, now: i64) -> Result<()> {
        let since = self.swept_until("upkeep.prune").await?;
        let params: &[Param<'_>] = &[&limit, &now, &once::EXPIRED, &since];
        let call = Call { verb: "upkeep.prune", statement: &self.sql.sweep, params, rows: 1 };
        let swept = self.sweeper.write(&call).await;
        // It is wanted every ten minutes at the most.
        self.sweeper.close().await;
        swept.map(drop)
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

    /// Does an errand for at most `limit` rows, a few pages at a time, from where it was left the last time. Says for
    /// how many rows, and whether there was time to read all pages, or as many as it took.
    async fn walk(&self, errand: &Errand<'_>, limit: usize) -> Result<(u64, bool)> {
        let place = || errand.place.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut walk, began, mut done) = (Walk::new(*place(), errand.pages), Instant::now(), 0);
        if limit == 0 || errand.pages == 0 {
            return Ok((0, true));
        }
        loop {
            let (from, to) = walk.window();
            let left = super::limit(limit) - i64::try_from(done).unwrap_or(i64::MAX);
            let mut params: Vec<Param<'_>> = vec![&left, &errand.until, &from, &to];
            params.extend(errand.now.as_ref().map(|now| now as Param<'_>));
            let count = self.forget(errand.statement, &params).await?;
            done += count;
            if i64::try_from(count).is_ok_and(|count| count >= left) {
                return Ok((done, true));
            }
            if let Some(beside) = errand.beside {
                self.forget(beside, &[&from, &to]).await?;
            }
            let goes_on = walk.go_on();
            *place() = walk.at;
            if !goes_on || began.elapsed() > READ_FOR {
                return Ok((done, !goes_on));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a walk reads from here on.
    fn read(place: i64, pages: i64) -> Vec<i64> {
        let (mut walk, mut read) = (Walk::new(place, pages), Vec::new());
        loop {
            read.push(walk.at / WINDOW_PAGES);
            if !walk.go_on() {
                return read;
            }
        }
    }

    #[test]
    fn a_walk_reads_every_page_once_from_wherever_it_begins() {
        assert_eq!(read(0, 1), [0]);
        assert_eq!(read(0, WINDOW_PAGES * 3), [0, 1, 2]);
        assert_eq!(read(WINDOW_PAGES * 2, WINDOW_PAGES * 3 + 1), [2, 3, 0, 1]);
        assert_eq!(read(WINDOW_PAGES * 7, WINDOW_PAGES * 2), [0, 1], "the table has become smaller");
        let mut walk = Walk::new(0, WINDOW_PAGES * 2);
        assert!(walk.go_on());
        assert_eq!(walk.window(), ("(1024,0)".to_owned(), "(2048,0)".to_owned()));
    }
}
