//! Rows of jobs and sessions as PostgreSQL sends them.

use core::time::Duration;

use onceward_core::job::{self, Pause, Payload, Record, Running, Spec, State};
use onceward_core::{
    ClaimId, JobId, Kind, Namespace, Owner, Queue, Result, SessionId, Timestamp, Token, session,
};
use uuid::Uuid;

use super::super::row::Columns;
use crate::store::USUAL_TYPE;

/// The content type as a row keeps it.
pub(super) fn kept_type(content_type: &str) -> Option<&str> {
    Some(content_type).filter(|content_type| *content_type != USUAL_TYPE)
}

/// The names of the row before: most rows have the same.
#[derive(Default)]
pub(super) struct Names {
    namespace: Option<Namespace>,
    kind: Option<Kind>,
    queue: Option<Queue>,
}

macro_rules! same {
    ($last:expr, $text:expr, $type:ident) => {{
        let text: &str = $text;
        match &$last {
            Some(last) if last.as_str() == text => last.clone(),
            _ => $last.insert($type::from_row(text)).clone(),
        }
    }};
}

impl Columns<'_> {
    fn count(&mut self) -> Result<u32> {
        Ok(u32::try_from(self.get::<i32>()?).unwrap_or(0))
    }

    /// The columns of a job from `namespace` to `place`.
    pub(super) fn job(&mut self, names: &mut Names) -> Result<Record> {
        let namespace = same!(names.namespace, self.get::<&str>()?, Namespace);
        let id = JobId::from_uuid(self.get::<Uuid>()?);
        let kind = same!(names.kind, self.get::<&str>()?, Kind);
        let queue = same!(names.queue, self.get::<&str>()?, Queue);
        let priority = self.get()?;
        let state = self.word(State::from_word)?;
        let token = self.token()?;
        let (attempt, lost) = (self.count()?, self.count()?);
        let (enqueued_at, run_at) = (self.time()?, self.time()?);
        let bytes = self.get()?;
        let content_type: Option<String> = self.get()?;
        let payload = Payload { bytes, content_type: content_type.unwrap_or_else(|| USUAL_TYPE.to_owned()) };
        let spec = Spec::from_text(self.get::<Option<&str>>()?);
        let mut record = Record {
            namespace,
            id,
            kind,
            queue,
            priority,
            state,
            token,
            attempt,
            lost,
            policy: job::Policy::default(),
            enqueued_at,
            run_at,
            payload,
            ordering_key: None,
            tags: Vec::new(),
            metadata: None,
            trace: None,
            replay_of: None,
            parent: None,
            depth: 0,
            lines: Vec::new(),
            root: id,
            until_started: false,
            dedupe_key: None,
            begun: self.get::<Option<i64>>()?.map(Token::from_row),
            attempted_at: self.maybe_time()?,
            finished_at: self.maybe_time()?,
            worker: self.get::<Option<&str>>()?.map(Owner::from_row),
            error: self.get()?,
            result: self.body()?,
            progress: None,
            past: job::past_from_text(self.get::<Option<&str>>()?),
            running: None,
            paused: None,
            place: self.place()?,
        };
        let said = record.result.take();
        Ok(record.with_spec(spec).with_said(said))
    }

    /// The columns of whoever runs a job.
    pub(super) fn running(&mut self) -> Result<Option<Running>> {
        let claim: Option<Uuid> = self.get()?;
        let Some(claim) = claim else {
            self.skip(4);
            return Ok(None);
        };
        Ok(Some(Running {
            claim: ClaimId::from_uuid(claim),
            session: SessionId::from_uuid(self.get()?),
            token: self.token()?,
            since: self.time()?,
            owner: Owner::from_row(self.get::<&str>()?),
        }))
    }

    /// The columns of whoever has paused a run.
    pub(super) fn paused(&mut self) -> Result<Option<Pause>> {
        let Some(at) = self.maybe_time()? else {
            self.skip(2);
            return Ok(None);
        };
        Ok(Some(Pause { at, by: Owner::from_row(self.get::<&str>()?), reason: self.get()? }))
    }

    /// The columns of a session from `id` to `now`, and that.
    pub(super) fn worker(&mut self) -> Result<(session::Record, Timestamp)> {
        let row = session::Record {
            id: SessionId::from_uuid(self.get()?),
            owner: Owner::from_row(self.get::<&str>()?),
            token: self.token()?,
            started_at: self.time()?,
            seen_at: self.time()?,
            expires_at: self.time()?,
            ttl: self.millis()?,
            draining: self.get()?,
            running: 0,
            about: session::About::from_text(self.get()?),
        };
        Ok((row, self.time()?))
    }

    /// Seconds, as a span.
    pub(super) fn seconds(&mut self) -> Result<Duration> {
        Ok(Duration::try_from_secs_f64(self.get::<f64>()?).unwrap_or_default())
    }
}
