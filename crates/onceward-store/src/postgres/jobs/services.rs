//! Services and schedules: rows that say what is to be run, under a version, and a row per cycle.

use async_trait::async_trait;
use onceward_core::job;
use onceward_core::schedule::Schedule;
use onceward_core::service::{Held, Outcome, Runner, Setting, Term, bell_key, lease_key};
use onceward_core::session::About;
use onceward_core::{Code, Error, Namespace, Owner, Result, ScheduleName, ServiceName, SessionId, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::lease::only;
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, Instant, micros};
use super::super::{Inner, PostgresStore, limit};
use super::enqueue::due;
use super::rows::kept_type;
use super::settle::number;
use crate::store::{
    BeginTerm, Begun, DueSchedules, EndTerm, ListSchedules, ListedSchedules, ListedServices, LookService,
    MissTerm, PruneTerms, ServiceRecord, ServiceStore, ServiceView, WriteSchedule, WriteService,
};

impl Inner {
    async fn service_look(&self, ask: &LookService) -> Result<ServiceView> {
        let said = About::service_text(&ask.namespace, &ask.name);
        let key = lease_key(&ask.name);
        let params: &[Param<'_>] =
            &[&ask.namespace.as_str(), &ask.name.as_str(), &key.as_str(), &said, &limit(ask.terms)];
        let call = Call { verb: "service.look", statement: &self.sql.service_look, params, rows: 1 };
        let mut view = ServiceView::default();
        for row in self.read.read(&call).await? {
            Seen::of(&row)?.into_view(&mut view, ask)?;
        }
        view.terms.sort_by(|a, b| (b.cycle, &b.part).cmp(&(a.cycle, &a.part)));
        Ok(view)
    }

    async fn service_list(&self, namespace: &Namespace) -> Result<ListedServices> {
        let params: &[Param<'_>] = &[&namespace.as_str()];
        let call = Call { verb: "service.list", statement: &self.sql.service_list, params, rows: 1 };
        let mut listed = ListedServices::default();
        for row in self.admin.read(&call).await? {
            let mut columns = Columns::of(&row);
            let name = ServiceName::from_row(columns.get::<&str>()?);
            let version = columns.get()?;
            match record_of(namespace, name.clone(), version, columns.get()?) {
                Ok(record) => listed.rows.push(record),
                Err(_) => listed.unreadable.push((name, version)),
            }
        }
        Ok(listed)
    }

    async fn service_write(&self, ask: &WriteService) -> Result<bool> {
        let ServiceRecord { namespace, name, version, setting } = &ask.record;
        let params: &[Param<'_>] = &[&namespace.as_str(), &name.as_str(), version, &setting.to_text()];
        let call = Call { verb: "service.write", statement: &self.sql.service_write, params, rows: 1 };
        let written = !self.admin.write(&call).await?.is_empty();
        if written {
            self.wakes.tell(namespace, &bell_key(name));
        }
        Ok(written)
    }

    async fn service_begin(&self, ask: &BeginTerm) -> Result<Begun> {
        let key = lease_key(&ask.service);
        let params: &[Param<'_>] = &[
            &ask.namespace.as_str(),
            &ask.service.as_str(),
            &ask.cycle,
            &ask.part,
            &Instant(ask.due_at),
            &Instant(latest(ask.not_after)),
            &ask.session.as_uuid(),
            &ask.owner.as_str(),
            &ask.token.get(),
            &key.as_str(),
        ];
        let call = Call { verb: "service.begin", statement: &self.sql.service_begin, params, rows: 1 };
        let row = only(self.end_link().write(&call).await?)?;
        let mut columns = Columns::of(&row);
        let (begun, is_current, is_late) = (columns.get()?, columns.get()?, columns.get()?);
        Ok(match (begun, is_current, is_late) {
            (true, true, _) => Begun::Begun,
            (_, false, _) => Begun::Fenced,
            (false, true, true) => Begun::Late,
            (false, true, false) => Begun::Taken,
        })
    }

    async fn service_end(&self, ask: &EndTerm) -> Result<bool> {
        let params: &[Param<'_>] = &[
            &ask.namespace.as_str(),
            &ask.service.as_str(),
            &ask.cycle,
            &ask.part,
            &ask.token.get(),
            &ask.outcome.as_str(),
            &ask.reason,
        ];
        let call = Call { verb: "service.end", statement: &self.sql.service_end, params, rows: 1 };
        Ok(!self.end_link().write(&call).await?.is_empty())
    }

    async fn service_miss(&self, batch: &[MissTerm]) -> Result<()> {
        let params: &[Param<'_>] = &[
            &column(batch, |ask| ask.namespace.as_str()),
            &column(batch, |ask| ask.service.as_str()),
            &column(batch, |ask| ask.miss.cycle),
            &column(batch, |ask| ask.miss.part.as_str()),
            &column(batch, |ask| ask.miss.cycles),
            &column(batch, |ask| Instant(ask.miss.due_at)),
            &column(batch, |ask| ask.miss.reason.as_str()),
        ];
        let call =
            Call { verb: "service.miss", statement: &self.sql.service_miss, params, rows: batch.len() };
        self.end_link().write(&call).await.map(drop)
    }

    async fn service_prune(&self, ask: &PruneTerms) -> Result<u64> {
        const VERB: &str = "service.prune";
        let call = Call { verb: VERB, statement: &self.sql.prune_now, params: &[], rows: 1 };
        let now = Columns::of(&only(self.admin.read(&call).await?)?).get()?;
        if !self.may_forget(Timestamp::from_micros(now)) {
            return Ok(0);
        }
        let (older_than, limit) = (micros(ask.older_than), limit(ask.limit));
        let call = match &ask.of {
            None => {
                let params: &[Param<'_>] = &[&older_than, &limit];
                self.admin
                    .write(&Call { verb: VERB, statement: &self.sql.service_prune, params, rows: 1 })
                    .await
            }
            Some((namespace, service)) => {
                let params: &[Param<'_>] = &[&older_than, &limit, &namespace.as_str(), &service.as_str()];
                let statement = &self.sql.service_prune_one;
                self.admin.write(&Call { verb: VERB, statement, params, rows: 1 }).await
            }
        };
        number(&call?)
    }

    async fn schedule_list(&self, ask: &ListSchedules) -> Result<ListedSchedules> {
        let name = ask.name.as_ref().map(ScheduleName::as_str);
        let after = ask.after.as_ref().map(ScheduleName::as_str);
        let params: &[Param<'_>] = &[&ask.namespace.as_str(), &name, &after, &limit(ask.limit)];
        let call = Call { verb: "schedule.list", statement: &self.sql.schedule_list, params, rows: 1 };
        let mut page = ListedSchedules::default();
        for row in self.admin.read(&call).await? {
            let mut columns = Columns::of(&row);
            page.now = columns.time()?;
            match schedule(&ask.namespace, &mut columns)? {
                Some(Ok(row)) => page.rows.push(row),
                Some(Err(unreadable)) => page.unreadable.push(unreadable),
                None => {}
            }
        }
        Ok(page)
    }

    async fn schedule_due(&self, namespace: &Namespace, rows: usize) -> Result<DueSchedules> {
        let params: &[Param<'_>] = &[&namespace.as_str(), &limit(rows)];
        let call = Call { verb: "schedule.due", statement: &self.sql.schedule_due, params, rows: 1 };
        let mut due = DueSchedules::default();
        for row in self.read.read(&call).await? {
            let mut columns = Columns::of(&row);
            due.now = columns.time()?;
            due.next_at = columns.maybe_time()?;
            match schedule(namespace, &mut columns)? {
                Some(Ok(row)) => due.rows.push(row),
                Some(Err((name, _))) => due.unreadable.push(name),
                None => {}
            }
        }
        Ok(due)
    }

    async fn schedule_write(&self, ask: &WriteSchedule) -> Result<bool> {
        let mut jobs: Vec<&job::New> = ask.jobs.iter().collect();
        jobs.sort_by_key(|new| new.id);
        let row = &ask.row;
        let next_at = row.next_at.map(Instant);
        let params: &[Param<'_>] = &[
            &row.namespace.as_str(),
            &row.name.as_str(),
            &row.version,
            &next_at,
            &row.to_text(),
            &row.definition.target.payload.bytes.as_slice(),
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
        let call = Call { verb: "schedule.write", statement: &self.sql.schedule_write, params, rows };
        let written = !self.apart.write(&call).await?.is_empty();
        if written {
            self.tell_of(&ask.jobs);
            if jobs.iter().any(|new| new.ordering_key.is_some()) {
                self.admit_soon().await;
            }
        }
        Ok(written)
    }

    async fn schedule_remove(
        &self,
        namespace: &Namespace,
        name: &ScheduleName,
        version: i64,
    ) -> Result<bool> {
        let params: &[Param<'_>] = &[&namespace.as_str(), &name.as_str(), &version];
        let call = Call { verb: "schedule.remove", statement: &self.sql.schedule_remove, params, rows: 1 };
        Ok(!self.admin.write(&call).await?.is_empty())
    }
}

fn column<'a, T, V>(batch: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    batch.iter().map(value).collect()
}

/// The end of time as a statement can compare it.
fn latest(at: Timestamp) -> Timestamp {
    at.min(Timestamp::from_micros(9_999_999_999_000_000))
}

fn record_of(namespace: &Namespace, name: ServiceName, version: i64, text: &str) -> Result<ServiceRecord> {
    let setting = Setting::from_text(text)
        .ok_or_else(|| Error::new(Code::RowUnreadable, "what a service is set to can't be read"))?;
    Ok(ServiceRecord { namespace: namespace.clone(), name, version, setting })
}

/// A schedule, or the name and the version of one that can't be read; unless the row has none.
type Found = Option<core::result::Result<Schedule, (ScheduleName, i64)>>;

fn schedule(namespace: &Namespace, columns: &mut Columns<'_>) -> Result<Found> {
    let Some(name) = columns.get::<Option<&str>>()?.map(ScheduleName::from_row) else { return Ok(None) };
    let (version, next_at) = (columns.get()?, columns.maybe_time()?);
    let (text, payload) = (columns.get::<&str>()?, columns.get()?);
    let row = Schedule::from_row(namespace.clone(), name.clone(), version, next_at, text, payload);
    Ok(Some(row.ok_or((name, version))))
}

/// A row of a look.
struct Seen<'a> {
    what: &'a str,
    numbers: [Option<i64>; 3],
    session: Option<Uuid>,
    texts: [Option<&'a str>; 4],
    times: [Option<Timestamp>; 3],
    flag: Option<bool>,
}

impl<'a> Seen<'a> {
    fn of(row: &'a Row) -> Result<Self> {
        let mut columns = Columns::of(row);
        Ok(Self {
            what: columns.get()?,
            numbers: [columns.get()?, columns.get()?, columns.get()?],
            session: columns.get()?,
            texts: [columns.get()?, columns.get()?, columns.get()?, columns.get()?],
            times: [columns.maybe_time()?, columns.maybe_time()?, columns.maybe_time()?],
            flag: columns.get()?,
        })
    }

    fn into_view(self, view: &mut ServiceView, ask: &LookService) -> Result<()> {
        let number = |at: usize| self.numbers.get(at).copied().flatten().unwrap_or_default();
        let text = |at: usize| self.texts.get(at).copied().flatten();
        let time = |at: usize| self.times.get(at).copied().flatten();
        let session = self.session.map(SessionId::from_uuid);
        match self.what {
            "now" => view.now = time(0).unwrap_or_default(),
            "service" => {
                let record =
                    record_of(&ask.namespace, ask.name.clone(), number(0), text(0).unwrap_or_default())?;
                view.record = Some(record);
            }
            "held" => {
                let token = onceward_core::Token::from_row(number(0));
                let is_poisoned = self.flag.unwrap_or_default();
                view.held = Some(Held { token, until: time(0).unwrap_or_default(), is_poisoned });
            }
            "runner" => view.runners.extend(session.map(|session| Runner {
                session,
                owner: Owner::from_row(text(0).unwrap_or_default()),
                started_at: time(0).unwrap_or_default(),
                seen_at: time(1).unwrap_or_default(),
                expires_at: time(2).unwrap_or_default(),
                draining: self.flag.unwrap_or_default(),
            })),
            _ => {
                let unreadable = || Error::new(Code::RowUnreadable, "a term has no outcome that is known");
                view.terms.push(Term {
                    service: ask.name.clone(),
                    cycle: number(0),
                    part: text(1).unwrap_or_default().to_owned(),
                    due_at: time(0).unwrap_or_default(),
                    cycles: number(1),
                    session,
                    owner: text(0).map(Owner::from_row),
                    token: onceward_core::Token::from_row(number(2)),
                    started_at: time(1).unwrap_or_default(),
                    ended_at: time(2),
                    outcome: text(2).and_then(Outcome::from_word).ok_or_else(unreadable)?,
                    reason: text(3).map(str::to_owned),
                });
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ServiceStore for PostgresStore {
    async fn service_look(&self, ask: &LookService) -> Result<ServiceView> {
        self.inner.service_look(ask).await
    }

    async fn service_list(&self, namespace: &Namespace) -> Result<ListedServices> {
        self.inner.service_list(namespace).await
    }

    async fn service_write(&self, ask: &WriteService) -> Result<bool> {
        self.inner.service_write(ask).await
    }

    async fn service_begin(&self, ask: &BeginTerm) -> Result<Begun> {
        self.inner.service_begin(ask).await
    }

    async fn service_end(&self, ask: &EndTerm) -> Result<bool> {
        self.inner.service_end(ask).await
    }

    async fn service_ring(&self, namespace: &Namespace, name: &ServiceName) -> Result<()> {
        self.inner.wakes.tell(namespace, &bell_key(name));
        // Who says this may be about to end: his hint leaves before he goes on.
        self.inner.wakes.leave().await;
        Ok(())
    }

    async fn service_miss(&self, batch: &[MissTerm]) -> Result<()> {
        self.inner.service_miss(batch).await
    }

    async fn service_prune(&self, ask: &PruneTerms) -> Result<u64> {
        self.inner.service_prune(ask).await
    }

    async fn schedule_list(&self, ask: &ListSchedules) -> Result<ListedSchedules> {
        self.inner.schedule_list(ask).await
    }

    async fn schedule_due(&self, namespace: &Namespace, limit: usize) -> Result<DueSchedules> {
        self.inner.schedule_due(namespace, limit).await
    }

    async fn schedule_write(&self, ask: &WriteSchedule) -> Result<bool> {
        self.inner.schedule_write(ask).await
    }

    async fn schedule_remove(
        &self,
        namespace: &Namespace,
        name: &ScheduleName,
        version: i64,
    ) -> Result<bool> {
        self.inner.schedule_remove(namespace, name, version).await
    }
}
