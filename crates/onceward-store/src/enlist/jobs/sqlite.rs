//! Jobs in a caller's SQLite transaction: the steps of the store's own verbs, statement by statement, on a
//! connection that knows nothing of us. The write lock is taken first, so nobody comes between them.

use onceward_core::job::keys::{KEY_CONCURRENCY_MAX, may_pass};
use onceward_core::job::{self, Dedupe, DedupeScope, Move, New, OnConflict, Payload, Record, Spec, State};
use onceward_core::once::{self, Fingerprint};
use onceward_core::{JobId, Key, Kind, Namespace, Owner, Place, Queue, Result, Timestamp, Token};

use super::super::columns::Columns;
use super::super::verbs::no_enlist;
use super::super::{Enlist, EnlistSql, Param};
use crate::sqlite::job_slots;
use crate::store::result_columns;
use crate::{Clock, Enqueued, SettleJob, SettledJob};

/// A job of the caller's transaction.
struct Desk<'a, T> {
    sql: &'a EnlistSql,
    tx: &'a mut T,
    namespace: &'a str,
    wall: Timestamp,
}

fn rank(row: &Record) -> Param<'static> {
    int(-i64::from(row.priority))
}

fn place(row: &Record) -> Param<'static> {
    int(row.place.0.and_then(|place| i64::try_from(place).ok()).unwrap_or_default())
}

fn text(text: &str) -> Param<'_> {
    Param::Text(Some(text))
}

fn int(number: i64) -> Param<'static> {
    Param::Int(Some(number))
}

fn time(at: Timestamp) -> Param<'static> {
    int(at.as_micros())
}

/// Enqueues a job.
pub(super) async fn enqueue<T: Enlist>(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut T,
    new: &New,
) -> Result<Enqueued> {
    let mut desk = Desk::locked(sql, clock, tx, new.namespace.as_str(), new.id).await?;
    let created = Enqueued::Created(new.id);
    if desk.is("over", &[text(desk.namespace), id(&new.id.as_uuid())]).await? {
        return Ok(created);
    }
    // Its keys may have run out since the first send, and belong to another job by now.
    let has_keys = new.key.is_some() || new.dedupe.is_some();
    if has_keys && desk.is("known", &[text(desk.namespace), id(&new.id.as_uuid())]).await? {
        return Ok(created);
    }
    if let Some(answer) = desk.same_request(new).await? {
        return Ok(answer);
    }
    if let Some(answer) = desk.duplicate(new).await? {
        return Ok(answer);
    }
    // The first one under an id stays as it is, whatever the second one says (N70).
    let Some(waiting) = desk.insert(new).await? else { return Ok(created) };
    desk.take_keys(new).await?;
    desk.place(&waiting, false).await?;
    Ok(created)
}

/// Records how an attempt ended.
pub(super) async fn settle<T: Enlist>(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut T,
    ask: &SettleJob,
) -> Result<SettledJob> {
    let mut desk = Desk::locked(sql, clock, tx, ask.job.namespace.as_str(), ask.job.id).await?;
    let Some(mut row) = desk.waiting(ask.job.id).await? else { return desk.settled_before(ask).await };
    if !job::may_end(row.state, row.token, ask.fence, &ask.next) {
        let already = row.token == ask.token;
        return Ok(if already { SettledJob::Already(row.state) } else { SettledJob::Stale });
    }
    let called_off = desk.take_note(ask).await?.filter(|_| !ask.next.state.is_final());
    row.state = if called_off.is_some() { State::Cancelled } else { ask.next.state };
    if let Some(delay) = ask.next.delay.filter(|_| !row.state.is_final()) {
        row.run_at = desk.wall.after(delay);
    }
    desk.write(&row, ask, called_off.as_deref()).await?;
    let error = ask.next.error.as_deref().or(called_off.as_deref());
    desk.overhear(&row, ask.token, error).await?;
    if row.state.is_final() {
        desk.rest(&row, ask).await?;
    } else {
        desk.place(&row, ask.next.alone).await?;
    }
    Ok(SettledJob::Applied(row.state))
}

fn id(uuid: &uuid::Uuid) -> Param<'_> {
    Param::Bytes(Some(uuid.as_bytes()))
}

impl<'a, T: Enlist> Desk<'a, T> {
    /// Takes the write lock, and reads the clock then.
    async fn locked(
        sql: &'a EnlistSql,
        clock: &dyn Clock,
        tx: &'a mut T,
        namespace: &'a str,
        job: JobId,
    ) -> Result<Self> {
        let mut desk = Self { sql, tx, namespace, wall: Timestamp::default() };
        desk.run("lock", &[text(namespace), id(&job.as_uuid())]).await?;
        desk.wall = clock.wall();
        Ok(desk)
    }

    /// Runs a step; its first row, if it has one.
    async fn run(&mut self, step: &str, params: &[Param<'_>]) -> Result<Option<Columns>> {
        let text = self.sql.jobs.get(step).ok_or_else(no_enlist)?;
        Ok(self.tx.query(text, params).await?.into_iter().next().map(Columns::of))
    }

    /// Runs a step; all of its rows.
    async fn all(&mut self, step: &str, params: &[Param<'_>]) -> Result<Vec<Columns>> {
        let text = self.sql.jobs.get(step).ok_or_else(no_enlist)?;
        Ok(self.tx.query(text, params).await?.into_iter().map(Columns::of).collect())
    }

    async fn is(&mut self, step: &str, params: &[Param<'_>]) -> Result<bool> {
        match self.run(step, params).await? {
            Some(mut row) => Ok(row.bool_or_null()?.unwrap_or(false)),
            None => Ok(false),
        }
    }

    /// The answer of an idempotency key that is taken.
    async fn same_request(&mut self, new: &New) -> Result<Option<Enqueued>> {
        let Some(key) = &new.key else { return Ok(None) };
        let holder = self.holder("idempotency", &key.key).await?;
        Ok(holder.map(|(id, fingerprint)| match id {
            id if id == new.id => Enqueued::Created(id),
            // Who enqueues by plain SQL leaves no fingerprint.
            id if once::mismatched(fingerprint, Some(key.fingerprint)) => Enqueued::Mismatch(id),
            id => Enqueued::Existing(id),
        }))
    }

    /// The answer of a dedupe key that is taken, after what the newcomer wants of the job that has it.
    async fn duplicate(&mut self, new: &New) -> Result<Option<Enqueued>> {
        let Some(Dedupe { key, on_conflict, .. }) = &new.dedupe else { return Ok(None) };
        let Some((id, _)) = self.holder("dedupe", key).await? else { return Ok(None) };
        if id == new.id {
            return Ok(Some(Enqueued::Created(id)));
        }
        if *on_conflict != OnConflict::Existing
            && let Some(row) = self.waiting(id).await?
            && let Some(alone) = self.unplace(&row).await?
        {
            let row = match on_conflict {
                OnConflict::Replace => self.replace(&row, new).await?,
                OnConflict::PushOut | OnConflict::Existing => self.push_out(row, new.due(self.wall)).await?,
            };
            self.place(&row, alone).await?;
            if let Some(key) = &row.ordering_key {
                // It may have stood before others.
                self.let_in(key).await?;
            }
        }
        Ok(Some(Enqueued::Existing(id)))
    }

    async fn holder(&mut self, purpose: &str, key: &Key) -> Result<Option<(JobId, Option<Fingerprint>)>> {
        let params = [text(self.namespace), text(purpose), text(key.as_str()), time(self.wall)];
        let Some(mut row) = self.run("holder", &params).await? else { return Ok(None) };
        Ok(Some((row.job_id()?, row.fingerprint()?)))
    }

    async fn insert(&mut self, new: &New) -> Result<Option<Record>> {
        let run_at = new.due(self.wall);
        let state = if run_at > self.wall { State::Scheduled } else { State::Ready };
        let (spec, uuid) = (new.spec().to_text(), new.id.as_uuid());
        let params = [
            text(self.namespace),
            id(&uuid),
            text(new.kind.as_str()),
            text(new.queue.as_str()),
            int(new.priority.into()),
            text(state.as_str()),
            time(self.wall),
            time(run_at),
            Param::Bytes(Some(&new.payload.bytes)),
            text(&new.payload.content_type),
            Param::Text(spec.as_deref()),
        ];
        let Some(mut row) = self.run("insert", &params).await? else { return Ok(None) };
        Ok(Some(Record { place: row.place()?, ..Record::of_new(new, self.wall) }))
    }

    async fn take_keys(&mut self, new: &New) -> Result<()> {
        if let Some(key) = &new.key {
            let expires_at = Some(self.wall.after(key.ttl));
            self.take_key(new, ("idempotency", &key.key), Some(&key.fingerprint), expires_at).await?;
        }
        if let Some(Dedupe { key, scope, .. }) = &new.dedupe {
            let expires_at = match scope {
                DedupeScope::Window(window) => Some(self.wall.after(*window)),
                DedupeScope::UntilStarted | DedupeScope::UntilDone => None,
            };
            self.take_key(new, ("dedupe", key), None, expires_at).await?;
        }
        Ok(())
    }

    async fn take_key(
        &mut self,
        new: &New,
        (purpose, key): (&str, &Key),
        fingerprint: Option<&Fingerprint>,
        expires_at: Option<Timestamp>,
    ) -> Result<()> {
        let uuid = new.id.as_uuid();
        let params = [
            text(self.namespace),
            text(purpose),
            text(key.as_str()),
            id(&uuid),
            Param::Bytes(fingerprint.map(|it| it.0.as_slice())),
            Param::Int(expires_at.map(Timestamp::as_micros)),
            Param::Bool(purpose == "dedupe" && new.is_until_started()),
        ];
        self.run("key", &params).await.map(drop)
    }

    /// A job that is not over, as far as it is needed to put it where it waits.
    async fn waiting(&mut self, job: JobId) -> Result<Option<Record>> {
        let found = self.run("waiting", &[text(self.namespace), id(&job.as_uuid())]).await?;
        let Some(mut row) = found else { return Ok(None) };
        let (place, kind) = (row.place()?, Kind::from_row(row.text()?));
        let new = New::of_kind(Namespace::from_row(self.namespace), job, kind, Payload::default());
        let record = Record {
            place,
            queue: Queue::from_row(row.text()?),
            priority: i16::try_from(row.int()?).unwrap_or_default(),
            state: row.job_state()?,
            token: Token::from_row(row.int()?),
            attempt: u32::try_from(row.int()?).unwrap_or_default(),
            run_at: row.time()?,
            ..Record::of_new(&new, self.wall)
        };
        Ok(Some(record.with_spec(Spec::from_text(row.text_or_null()?.as_deref()))))
    }

    /// Puts a job where it waits: for its time, for its turn, or in its lane.
    async fn place(&mut self, row: &Record, alone: bool) -> Result<()> {
        let uuid = row.id.as_uuid();
        if row.state.is_later() && row.run_at > self.wall {
            let (namespace, queue) = (text(self.namespace), text(row.queue.as_str()));
            let params = [time(row.run_at), id(&uuid), namespace, queue, place(row)];
            return self.run("later", &params).await.map(drop);
        }
        let Some(key) = &row.ordering_key else { return self.place_in_lane(row, alone).await };
        let key = key.clone();
        if self.is("seated", &[text(self.namespace), text(key.as_str()), id(&uuid)]).await? {
            return self.place_in_lane(row, alone).await;
        }
        let namespace = text(self.namespace);
        let params = [
            namespace,
            text(key.as_str()),
            rank(row),
            time(row.run_at),
            id(&uuid),
            Param::Bool(alone),
            place(row),
        ];
        self.run("held", &params).await?;
        self.let_in(&key).await
    }

    async fn place_in_lane(&mut self, row: &Record, alone: bool) -> Result<()> {
        let (uuid, route) = (row.id.as_uuid(), job::route(&row.tags));
        let params = [
            text(self.namespace),
            text(row.queue.as_str()),
            text(row.kind.as_str()),
            text(&route),
            Param::Bool(alone),
            rank(row),
            time(row.run_at),
            id(&uuid),
            place(row),
        ];
        self.run("ready", &params).await.map(drop)
    }

    /// Lets the next jobs of an ordering key in, as many as its queues allow (J10).
    async fn let_in(&mut self, key: &Key) -> Result<()> {
        let line = [text(self.namespace), text(key.as_str())];
        let mut seats = Vec::new();
        for mut row in self.all("seats", &line).await? {
            seats.push(row.count()?);
        }
        while may_pass(seats.iter().copied(), KEY_CONCURRENCY_MAX) {
            let Some(mut next) = self.run("next", &line).await? else { break };
            let (rank, run_at) = (int(next.int()?), int(next.int()?));
            let (job, most) = (next.job_id()?, next.count()?);
            if !may_pass(seats.iter().copied(), most) {
                break;
            }
            let uuid = job.as_uuid();
            let [namespace, key] = line;
            let held = self.run("move_held", &[namespace, key, rank, run_at, id(&uuid)]).await?;
            let alone = held.map(|mut row| row.bool_or_null()).transpose()?.flatten().unwrap_or(false);
            // One that somebody else's SQL has removed is passed over.
            if let Some(row) = self.waiting(job).await? {
                self.run("let_in", &[namespace, key, id(&uuid)]).await?;
                self.place_in_lane(&row, alone).await?;
                seats.push(most);
            }
        }
        Ok(())
    }

    /// Takes a job from where it waits. Whether it was to be claimed alone; nothing if it waits nowhere.
    async fn unplace(&mut self, row: &Record) -> Result<Option<bool>> {
        let (uuid, route) = (row.id.as_uuid(), job::route(&row.tags));
        let (namespace, run_at) = (text(self.namespace), time(row.run_at));
        let lane = [
            namespace,
            text(row.queue.as_str()),
            text(row.kind.as_str()),
            text(&route),
            rank(row),
            run_at,
            id(&uuid),
        ];
        let mut found = self.run("move_ready", &lane).await?;
        if found.is_none() {
            found = self.run("move_later", &[run_at, id(&uuid), namespace]).await?;
        }
        if let (None, Some(key)) = (&found, &row.ordering_key) {
            let line = [namespace, text(key.as_str()), rank(row), run_at, id(&uuid)];
            found = self.run("move_held", &line).await?;
        }
        match found {
            Some(mut row) => row.bool_or_null(),
            None => Ok(None),
        }
    }

    async fn replace(&mut self, row: &Record, new: &New) -> Result<Record> {
        let row = new.onto(row);
        let (spec, payload) = (row.spec().to_text(), &row.payload);
        let (bytes, content_type) = (Param::Bytes(Some(&payload.bytes)), text(&payload.content_type));
        self.run("replace", &[place(&row), bytes, content_type, Param::Text(spec.as_deref())]).await?;
        Ok(row)
    }

    async fn push_out(&mut self, row: Record, due: Timestamp) -> Result<Record> {
        let state = job::pushed_out(row.state, due, self.wall);
        self.run("push_out", &[place(&row), text(state.as_str()), time(due)]).await?;
        Ok(Record { state, run_at: due, ..row })
    }

    async fn settled_before(&mut self, ask: &SettleJob) -> Result<SettledJob> {
        let found = self.run("settled", &[text(self.namespace), id(&ask.job.id.as_uuid())]).await?;
        let Some(mut row) = found else { return Ok(SettledJob::Gone) };
        let (state, token) = (row.job_state()?, row.int()?);
        Ok(if token == ask.token.get() { SettledJob::Already(state) } else { SettledJob::Stale })
    }

    /// Who has called the job off, in words.
    async fn take_note(&mut self, ask: &SettleJob) -> Result<Option<String>> {
        let note = self.run("note", &[text(self.namespace), id(&ask.job.id.as_uuid())]).await?;
        let Some(mut row) = note else { return Ok(None) };
        let (actor, reason) = (Owner::from_row(row.text()?), row.text_or_null()?);
        Ok(Some(Move::Cancel.note(&actor, reason.as_deref())))
    }

    async fn write(&mut self, row: &Record, ask: &SettleJob, called_off: Option<&str>) -> Result<()> {
        let next = &ask.next;
        let (result, result_type, result_size) = result_columns(next.result.as_ref());
        let past = job::past_to_text(&next.past);
        let finished_at = row.state.is_final().then(|| self.wall.as_micros());
        let params = [
            place(row),
            text(row.state.as_str()),
            int(ask.token.get()),
            int(next.attempt.into()),
            int(next.lost.into()),
            time(ask.started_at),
            Param::Int(finished_at),
            text(ask.worker.as_str()),
            Param::Text(next.error.as_deref().or(called_off)),
            Param::Bytes(result),
            Param::Text(result_type),
            Param::Int(result_size),
            Param::Text(past.as_deref()),
            time(row.run_at),
        ];
        self.run("write", &params).await.map(drop)
    }

    /// Writes down what triggers want to hear of it.
    async fn overhear(&mut self, row: &Record, token: Token, error: Option<&str>) -> Result<()> {
        let (at, state) = (time(self.wall), text(row.state.as_str()));
        let params = [place(row), int(token.get()), at, state, Param::Text(error)];
        self.run("overheard", &params).await.map(drop)
    }

    /// What follows from the end of a job that was written.
    async fn rest(&mut self, row: &Record, ask: &SettleJob) -> Result<()> {
        let uuid = row.id.as_uuid();
        self.run("free", &[text(self.namespace), id(&uuid)]).await?;
        if row.state.is_history() {
            if !ask.retain.is_zero() {
                let slot = job_slots(self.wall.after(ask.retain));
                let last = self.run("slot", &[int(slot.start), int(slot.end)]).await?;
                let last = last.map(|mut row| row.int_or_null()).transpose()?.flatten();
                let number = last.map_or(slot.start, |last| last.saturating_add(1));
                self.run("move", &[int(number), place(row)]).await?;
            }
            self.run("delete", &[place(row)]).await?;
        }
        let Some(key) = &row.ordering_key else { return Ok(()) };
        let key = key.clone();
        if self.run("leave", &[text(self.namespace), text(key.as_str()), id(&uuid)]).await?.is_some() {
            self.let_in(&key).await?;
        }
        Ok(())
    }
}

impl Columns {
    fn job_id(&mut self) -> Result<JobId> {
        let uuid = self.bytes_or_null()?.and_then(|bytes| uuid::Uuid::from_slice(&bytes).ok());
        uuid.map(JobId::from_uuid).ok_or_else(|| Self::unreadable("the id of a job"))
    }

    fn place(&mut self) -> Result<Place> {
        Ok(Place(u64::try_from(self.int()?).ok()))
    }

    fn job_state(&mut self) -> Result<State> {
        State::from_word(&self.text()?).ok_or_else(|| Self::unreadable("the state of a job"))
    }
}
