//! Triggers: what they hear is written down with the end of a job; what follows from it, under their version.

use async_trait::async_trait;
use onceward_core::job::{Spec, State};
use onceward_core::trigger::{Heard, Outcome, Trigger};
use onceward_core::{JobId, Kind, Namespace, Queue, Result as Answer, Timestamp, Token, TriggerName};
use rusqlite::{Result, Row, params};

use super::super::SqliteStore;
use super::super::failure::unreadable;
use super::super::statements::SQL;
use super::{Jobs, rows};
use crate::{HeardOutcomes, HeardTriggers, ListTriggers, ListedTriggers, TriggerStore, WriteTrigger};

impl Jobs<'_> {
    /// Whether any trigger listens.
    pub(super) fn is_overheard(&self) -> Result<bool> {
        self.at.prepare_cached(SQL.trigger_anybody)?.query_row([], |row| row.get(0))
    }

    /// Writes down what triggers want to hear of the end of a job, before its row goes.
    pub(super) fn overhear(&self, place: i64, token: Token, state: State, error: Option<&str>) -> Result<()> {
        let mut overhear = self.at.prepare_cached(SQL.trigger_overheard)?;
        let at = self.now.wall.as_micros();
        overhear.execute(params![place, token.get(), at, state.as_str(), error]).map(drop)
    }

    fn list_triggers(&self, ask: &ListTriggers) -> Result<ListedTriggers> {
        let mut names: Vec<Option<&str>> = vec![None];
        if let Some(asked) = &ask.names {
            names = asked.iter().map(|name| Some(name.as_str())).collect();
            names.sort_unstable();
            names.dedup();
        }
        let after = ask.after.as_ref().map(TriggerName::as_str);
        let mut page = ListedTriggers { now: self.now.wall, ..ListedTriggers::default() };
        let mut list = self.at.prepare_cached(SQL.trigger_list)?;
        for name in names {
            let left = ask.limit - page.rows.len().saturating_add(page.unreadable.len()).min(ask.limit);
            let limit = i64::try_from(left).unwrap_or(i64::MAX);
            let found = list.query_map(params![ask.namespace.as_str(), name, after, limit], |row| {
                let (name, version) = (TriggerName::from_row(rows::text(row, 0)?), row.get(1)?);
                let text = rows::text(row, 2)?;
                let read = Trigger::from_row(ask.namespace.clone(), name.clone(), version, text, row.get(3)?);
                Ok(read.ok_or((name, version)))
            })?;
            for row in found {
                match row? {
                    Ok(row) => page.rows.push(row),
                    Err(unreadable) => page.unreadable.push(unreadable),
                }
            }
        }
        Ok(page)
    }

    fn heard_triggers(&self, ask: &HeardTriggers) -> Result<HeardOutcomes> {
        // A name has no line breaks.
        let except = ask.except.iter().fold("\n".to_owned(), |all, name| all + name.as_str() + "\n");
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        let mut seen = self.at.prepare_cached(SQL.trigger_seen)?;
        let found = seen.query_map(params![ask.namespace.as_str(), except, limit], heard)?;
        let rows = found.collect::<Result<_>>()?;
        let mut listening = self.at.prepare_cached(SQL.trigger_listening)?;
        let listening = listening.query_row([ask.namespace.as_str()], |row| row.get(0))?;
        Ok(HeardOutcomes { rows, listening })
    }

    fn write_trigger(&mut self, ask: &WriteTrigger) -> Result<bool> {
        let row = &ask.row;
        let (namespace, name, text) = (row.namespace.as_str(), row.name.as_str(), row.to_text());
        let payload = &row.definition.target.payload.bytes;
        let written = match row.version {
            0 => {
                self.at.prepare_cached(SQL.trigger_make)?.execute(params![namespace, name, text, payload])?
            }
            version => self
                .at
                .prepare_cached(SQL.trigger_change)?
                .execute(params![namespace, name, text, payload, version])?,
        };
        if written != 1 {
            return Ok(false);
        }
        if ask.listens {
            self.listen(row)?;
        }
        for number in &ask.heard {
            self.at.prepare_cached(SQL.trigger_acted_on)?.execute(params![number, namespace, name])?;
        }
        for new in &ask.jobs {
            self.enqueue(new)?;
        }
        Ok(true)
    }

    fn listen(&self, row: &Trigger) -> Result<()> {
        let (namespace, name) = (row.namespace.as_str(), row.name.as_str());
        self.at.prepare_cached(SQL.trigger_unlistened)?.execute([namespace, name])?;
        for watch in row.watches() {
            let kind = watch.kind.as_ref().map(Kind::as_str);
            let queue = watch.queue.as_ref().map(Queue::as_str);
            let listened = params![namespace, name, watch.state, kind, queue, watch.body];
            self.at.prepare_cached(SQL.trigger_listened)?.execute(listened)?;
        }
        Ok(())
    }

    fn remove_trigger(&self, namespace: &Namespace, name: &TriggerName, version: i64) -> Result<bool> {
        let of = [namespace.as_str(), name.as_str()];
        let gone = params![of[0], of[1], version];
        let gone = self.at.prepare_cached(SQL.trigger_gone)?.execute(gone)? == 1;
        let absent: bool = self.at.prepare_cached(SQL.trigger_absent)?.query_row(of, |row| row.get(0))?;
        if absent {
            self.at.prepare_cached(SQL.trigger_unlistened)?.execute(of)?;
            self.at.prepare_cached(SQL.trigger_unheard)?.execute(of)?;
        }
        Ok(gone)
    }
}

fn heard(row: &Row<'_>) -> Result<Heard> {
    let job: [u8; 16] = row.get(2)?;
    let outcome = Outcome::of(rows::state(row, 5)?);
    let spec: Option<String> = row.get(8)?;
    Ok(Heard {
        number: row.get(0)?,
        trigger: TriggerName::from_row(rows::text(row, 1)?),
        job: JobId::from_uuid(uuid::Uuid::from_bytes(job)),
        token: Token::from_row(row.get(3)?),
        at: Timestamp::from_micros(row.get(4)?),
        outcome: outcome.ok_or_else(|| unreadable(5, "the outcome of a job".to_owned()))?,
        kind: Kind::from_row(rows::text(row, 6)?),
        queue: Queue::from_row(rows::text(row, 7)?),
        spec: Spec::from_text(spec.as_deref()),
        error: row.get(9)?,
        body: row.get(10)?,
    })
}

#[async_trait]
impl TriggerStore for SqliteStore {
    async fn trigger_list(&self, ask: &ListTriggers) -> Answer<ListedTriggers> {
        let ask = ask.clone();
        self.look("trigger.list", move |jobs| jobs.list_triggers(&ask)).await
    }

    async fn trigger_heard(&self, ask: &HeardTriggers) -> Answer<HeardOutcomes> {
        let ask = ask.clone();
        self.look("trigger.heard", move |jobs| jobs.heard_triggers(&ask)).await
    }

    async fn trigger_write(&self, ask: &WriteTrigger) -> Answer<bool> {
        let ask = ask.clone();
        let rows = 1 + ask.jobs.len() + ask.heard.len();
        self.jobs("trigger.write", rows, move |jobs| jobs.write_trigger(&ask)).await
    }

    async fn trigger_remove(&self, namespace: &Namespace, name: &TriggerName, version: i64) -> Answer<bool> {
        let (namespace, name) = (namespace.clone(), name.clone());
        let remove = move |jobs: &mut Jobs<'_>| jobs.remove_trigger(&namespace, &name, version);
        self.jobs("trigger.remove", 1, remove).await
    }
}
