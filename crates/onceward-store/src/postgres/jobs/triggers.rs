//! Triggers: rows that are written under a version, with what follows from what they have heard.

use async_trait::async_trait;
use onceward_core::job::{self, Spec, State};
use onceward_core::trigger::{Heard, Outcome, Trigger};
use onceward_core::{Code, Error, JobId, Kind, Namespace, Queue, Result, TriggerName};

use super::super::link::Call;
use super::super::live::Param;
use super::super::row::Columns;
use super::super::{Inner, PostgresStore, limit};
use super::enqueue::due;
use super::rows::kept_type;
use crate::store::{HeardOutcomes, HeardTriggers, ListTriggers, ListedTriggers, TriggerStore, WriteTrigger};

impl Inner {
    async fn trigger_list(&self, ask: &ListTriggers) -> Result<ListedTriggers> {
        let names = ask.names.as_ref();
        let names: Option<Vec<&str>> = names.map(|names| names.iter().map(TriggerName::as_str).collect());
        let after = ask.after.as_ref().map(TriggerName::as_str);
        let params: &[Param<'_>] = &[&ask.namespace.as_str(), &names, &after, &limit(ask.limit)];
        let call = Call { verb: "trigger.list", statement: &self.sql.trigger_list, params, rows: 1 };
        let mut page = ListedTriggers::default();
        for row in self.admin.read(&call).await? {
            let mut columns = Columns::of(&row);
            page.now = columns.time()?;
            let Some(name) = columns.get::<Option<&str>>()?.map(TriggerName::from_row) else { continue };
            let (version, text, payload) = (columns.get()?, columns.get::<&str>()?, columns.get()?);
            match Trigger::from_row(ask.namespace.clone(), name.clone(), version, text, payload) {
                Some(row) => page.rows.push(row),
                None => page.unreadable.push((name, version)),
            }
        }
        Ok(page)
    }

    async fn trigger_heard(&self, ask: &HeardTriggers) -> Result<HeardOutcomes> {
        let except: Vec<&str> = ask.except.iter().map(TriggerName::as_str).collect();
        let params: &[Param<'_>] = &[&ask.namespace.as_str(), &except, &limit(ask.limit)];
        let call = Call { verb: "trigger.heard", statement: &self.sql.trigger_heard, params, rows: 1 };
        let mut heard = HeardOutcomes::default();
        for row in self.read.read(&call).await? {
            let mut columns = Columns::of(&row);
            heard.listening = columns.get()?;
            heard.rows.extend(outcome(&mut columns)?);
        }
        Ok(heard)
    }

    async fn trigger_write(&self, ask: &WriteTrigger) -> Result<bool> {
        let mut jobs: Vec<&job::New> = ask.jobs.iter().collect();
        jobs.sort_by_key(|new| new.id);
        let row = &ask.row;
        let watches = if ask.listens { row.watches() } else { Vec::new() };
        let params: &[Param<'_>] = &[
            &row.namespace.as_str(),
            &row.name.as_str(),
            &row.version,
            &row.to_text(),
            &row.definition.target.payload.bytes.as_slice(),
            &ask.listens,
            &column(&watches, |watch| watch.state),
            &column(&watches, |watch| watch.kind.as_ref().map(|kind| kind.as_str())),
            &column(&watches, |watch| watch.queue.as_ref().map(|queue| queue.as_str())),
            &column(&watches, |watch| watch.body),
            &ask.heard,
            &column(&jobs, |new| new.id.as_uuid()),
            &column(&jobs, |new| new.kind.as_str()),
            &column(&jobs, |new| new.queue.as_str()),
            &column(&jobs, |new| new.priority),
            &column(&jobs, |new| new.payload.bytes.as_slice()),
            &column(&jobs, |new| kept_type(&new.payload.content_type)),
            &column(&jobs, |new| new.spec().to_text()),
            &column(&jobs, |new| (!new.tags.is_empty()).then(|| job::route(&new.tags))),
            &column(&jobs, |new| new.ordering_key.as_ref().map(|key| key.as_str())),
            &column(&jobs, |new| due(new)),
        ];
        let rows = 1 + jobs.len();
        let call = Call { verb: "trigger.write", statement: &self.sql.trigger_write, params, rows };
        let written = !self.apart.write(&call).await?.is_empty();
        if written {
            self.tell_of(&ask.jobs);
            if jobs.iter().any(|new| new.ordering_key.is_some()) {
                self.admit_soon().await;
            }
        }
        Ok(written)
    }

    async fn trigger_remove(&self, namespace: &Namespace, name: &TriggerName, version: i64) -> Result<bool> {
        let params: &[Param<'_>] = &[&namespace.as_str(), &name.as_str(), &version];
        let call = Call { verb: "trigger.remove", statement: &self.sql.trigger_remove, params, rows: 1 };
        Ok(!self.admin.write(&call).await?.is_empty())
    }
}

fn column<'a, T, V>(batch: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    batch.iter().map(value).collect()
}

/// What was heard, unless the row has none.
fn outcome(columns: &mut Columns<'_>) -> Result<Option<Heard>> {
    let Some(number) = columns.get::<Option<i64>>()? else { return Ok(None) };
    let unreadable =
        || Error::new(Code::RowUnreadable, "what a trigger has heard is no outcome that is known");
    Ok(Some(Heard {
        number,
        trigger: TriggerName::from_row(columns.get::<&str>()?),
        job: JobId::from_uuid(columns.get()?),
        token: columns.token()?,
        at: columns.time()?,
        outcome: Outcome::of(columns.word(State::from_word)?).ok_or_else(unreadable)?,
        kind: Kind::from_row(columns.get::<&str>()?),
        queue: Queue::from_row(columns.get::<&str>()?),
        spec: Spec::from_text(columns.get()?),
        error: columns.get()?,
        body: columns.get()?,
    }))
}

#[async_trait]
impl TriggerStore for PostgresStore {
    async fn trigger_list(&self, ask: &ListTriggers) -> Result<ListedTriggers> {
        self.inner.trigger_list(ask).await
    }

    async fn trigger_heard(&self, ask: &HeardTriggers) -> Result<HeardOutcomes> {
        self.inner.trigger_heard(ask).await
    }

    async fn trigger_write(&self, ask: &WriteTrigger) -> Result<bool> {
        self.inner.trigger_write(ask).await
    }

    async fn trigger_remove(&self, namespace: &Namespace, name: &TriggerName, version: i64) -> Result<bool> {
        self.inner.trigger_remove(namespace, name, version).await
    }
}
