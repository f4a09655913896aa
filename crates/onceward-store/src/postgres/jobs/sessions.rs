//! Sessions: one row per worker.

use onceward_core::{Code, Error, JobId, Namespace, Result, SessionId, Timestamp, session};
use uuid::Uuid;

use super::super::Inner;
use super::super::lease::{ROUNDS, in_the_way};
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, millis};
use crate::store::{JobRef, Renew, SessionRef, SessionRenewed, Snapshot};

impl Inner {
    pub(super) async fn session_open(&self, ask: &session::Open) -> Result<session::Record> {
        let about = ask.about.to_text();
        let call = Call {
            verb: "session.open",
            statement: &self.sql.session_open,
            params: &[&ask.id.as_uuid(), &ask.owner.as_str(), &millis(ask.ttl), &about],
            rows: 1,
        };
        for _ in 0..ROUNDS {
            if let Some(row) = self.end_link().write(&call).await?.first() {
                let (row, now) = Columns::of(row).worker()?;
                if row.is_lost(now) {
                    let why = "a session of this id has run out";
                    return Err(Error::new(Code::SessionLost, why).at("session.open"));
                }
                return Ok(row);
            }
        }
        Err(in_the_way("session.open"))
    }

    pub(super) async fn session_renew(&self, ask: &SessionRef) -> Result<SessionRenewed> {
        let params: &[Param<'_>] = &[&ask.id.as_uuid(), &ask.token.get()];
        let verb = "session.renew";
        let call = Call { verb, statement: &self.sql.session_renew, params, rows: 1 };
        let (called_off, paused) = (Vec::new(), Vec::new());
        let mut renewed = SessionRenewed { renew: Renew::Lost, called_off, paused, draining: false };
        for row in self.renew.write(&call).await? {
            let mut columns = Columns::of(&row);
            renewed.renew = Renew::Until(columns.time()?);
            renewed.draining = columns.get()?;
            if let Some(namespace) = columns.get::<Option<&str>>()? {
                let namespace = Namespace::from_row(namespace);
                let job = JobRef { namespace, id: JobId::from_uuid(columns.get::<Uuid>()?) };
                let is_pause = columns.get::<&str>()? == "pause";
                if is_pause { &mut renewed.paused } else { &mut renewed.called_off }.push(job);
            }
        }
        renewed.called_off.sort();
        renewed.paused.sort();
        if renewed.renew == Renew::Lost {
            // Lost, or passed over because somebody had locked the row: a fresh look tells.
            let call = Call { verb, statement: &self.sql.session_renew_seen, params, rows: 1 };
            if !self.renew.read(&call).await?.is_empty() {
                renewed.renew = Renew::Busy;
            }
        }
        Ok(renewed)
    }

    pub(super) async fn session_close(&self, ask: &SessionRef) -> Result<bool> {
        let call = Call {
            verb: "session.close",
            statement: &self.sql.session_close,
            params: &[&ask.id.as_uuid(), &ask.token.get()],
            rows: 1,
        };
        let rows = self.end_link().write(&call).await?;
        let Some(row) = rows.first() else { return Ok(false) };
        let mut columns = Columns::of(row);
        let (was_alive, has_permits) = (columns.get()?, columns.get()?);
        if has_permits {
            self.forget_permits("session.close").await?;
        }
        Ok(was_alive)
    }

    pub(super) async fn session_list(&self) -> Result<Snapshot<session::Record>> {
        let call = Call { verb: "session.list", statement: &self.sql.session_list, params: &[], rows: 1 };
        let mut page = Snapshot { now: Timestamp::default(), rows: Vec::new() };
        for row in self.admin.read(&call).await? {
            let mut columns = Columns::of(&row);
            if columns.at_null() {
                columns.skip(9);
                page.now = columns.time()?;
                continue;
            }
            let (record, now) = columns.worker()?;
            let running: i64 = columns.get()?;
            page.now = now;
            page.rows.push(session::Record { running: u64::try_from(running).unwrap_or(0), ..record });
        }
        Ok(page)
    }

    pub(super) async fn session_drain(&self, id: SessionId, draining: bool) -> Result<bool> {
        let call = Call {
            verb: "session.drain",
            statement: &self.sql.session_drain,
            params: &[&id.as_uuid(), &draining],
            rows: 1,
        };
        Ok(!self.end_link().write(&call).await?.is_empty())
    }
}
