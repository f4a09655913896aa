//! Single jobs: looking, calling off, trying again, doing once more, saying how an uncertain one was.

use onceward_core::job::{self, Move, Moved, New, State};
use onceward_core::once::{Body, check_reason};
use onceward_core::{Code, Error, JobId, Queue, Result, Token, limits};
use onceward_store::{JobRef, MoveJob};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Admin;
use crate::durable::{seed, uuid_of};
use crate::jobs::send;

/// How an uncertain job was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResolution {
    /// It did its work; this is its result.
    Done(Option<Body>),
    /// It did not, and shall not any more.
    Dead,
    /// It did not: safe to run again.
    RunAgain,
}

/// How a job is done once more.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Also a job that has succeeded: its work is done twice then.
    pub force: bool,
    /// What the request is called by whoever makes it: two replays of one job by one name make one job (J13).
    pub request: Option<String>,
}

/// What came of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The new job.
    pub id: JobId,
    /// What it repeats.
    pub replay_of: JobId,
}

impl Admin {
    fn job_ref(&self, id: JobId) -> JobRef {
        JobRef { namespace: self.client.namespace.clone(), id }
    }

    /// One job with its payload, its result, its attempts, and who runs it.
    ///
    /// # Errors
    /// [`JobAbsent`](Code::JobAbsent), and those of an unreachable store.
    pub async fn job(&self, id: JobId) -> Result<job::Record> {
        let seen = self.client.store().job_lookup(&[self.job_ref(id)]).await?;
        seen.rows.into_iter().next().flatten().ok_or_else(|| self.absent(id))
    }

    fn absent(&self, id: JobId) -> Error {
        let namespace = self.client.namespace.as_str();
        Error::new(Code::JobAbsent, format!("there is no job {id} in the namespace {namespace:?}"))
    }

    /// Calls a job off: what waits never runs (any more), what runs is told at the next renewal of its worker's session
    /// and not retried (J8), and a dead or uncertain one is put away. `true` if it is over already, `false` if its
    /// worker still has to hear of it.
    ///
    /// The run of a durable function that has begun is asked to end, and may undo what it has done: see
    /// [`Onceward::cancel_run`](crate::Onceward::cancel_run).
    ///
    /// With `token`, only if it is still as it was looked at.
    ///
    /// # Errors
    /// [`JobAbsent`](Code::JobAbsent), [`JobStateWrong`](Code::JobStateWrong) where it has ended,
    /// [`TokenStale`](Code::TokenStale).
    pub async fn cancel_job(&self, id: JobId, token: Option<Token>, reason: Option<&str>) -> Result<bool> {
        match self.move_job(id, token, Move::Cancel, reason, false).await? {
            Moved::Begun => {
                let reason = Move::Cancel.note(&self.actor, reason);
                self.client.ask_run_to_end(id, reason).await.map(|()| false)
            }
            moved => Ok(moved != Moved::Noted),
        }
    }

    /// Has a run never begin that has not begun; another one is left to what has arrived for it.
    pub(crate) async fn forestall_run(&self, id: JobId, reason: &str) -> Result<()> {
        self.ask_to_move(id, None, Move::Cancel, Some(reason), false).await.map(drop)
    }

    /// Makes a job ready now, with one more attempt if it has none left: one that waits, that is dead, or that is
    /// uncertain and known not to have happened. One that has ended takes the dedupe key again that it had until then.
    ///
    /// # Errors
    /// As [`cancel_job`](Self::cancel_job); a job that runs or has ended well is in the wrong state.
    /// [`JobKeyTaken`](Code::JobKeyTaken) where another job has its dedupe key.
    pub async fn retry_job(&self, id: JobId, token: Option<Token>, reason: Option<&str>) -> Result<()> {
        self.move_job(id, token, Move::RunNow, reason, false).await.map(drop)
    }

    /// Says how an uncertain job was. The worker that may still be at it can't record anything any more.
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing), and as [`cancel_job`](Self::cancel_job).
    pub async fn resolve_job(
        &self,
        id: JobId,
        token: Option<Token>,
        how: JobResolution,
        reason: &str,
    ) -> Result<()> {
        check_reason(reason)?;
        let row = self.job(id).await?;
        if row.state_now() != State::Uncertain {
            return Err(wrong(row.state_now()));
        }
        let to = match how {
            JobResolution::Done(result) => Move::Done(result),
            JobResolution::Dead => Move::Dead,
            JobResolution::RunAgain => Move::RunNow,
        };
        // By the token that was looked at here: between the two it may have been resolved by somebody else.
        self.move_job(id, token.or(Some(row.token)), to, Some(reason), false).await.map(drop)
    }

    pub(super) async fn move_job(
        &self,
        id: JobId,
        token: Option<Token>,
        to: Move,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<Moved> {
        let runs_again = to == Move::RunNow;
        match self.ask_to_move(id, token, to, reason, dry_run).await? {
            moved @ (Moved::Applied { .. } | Moved::Noted | Moved::Unchanged | Moved::Begun) => Ok(moved),
            Moved::Running => Err(wrong(State::Running)),
            Moved::Absent => Err(self.absent(id)),
            Moved::Wrong(state @ (State::Dead | State::Uncertain)) if runs_again => {
                let most = limits::ATTEMPTS_MAX;
                let why =
                    format!("the job is {state} and has had {most} attempts, the most there are: replay it");
                Err(Error::new(Code::JobStateWrong, why))
            }
            Moved::Wrong(state) => Err(wrong(state)),
            Moved::KeyTaken(other) => Err(key_taken(other)),
            Moved::Stale(token) => {
                let why = format!("the job has moved on: its token is {token} now");
                Err(Error::new(Code::TokenStale, why))
            }
        }
    }

    /// Moves a job, and tells workers if it may run from then on.
    pub(super) async fn ask_to_move(
        &self,
        id: JobId,
        token: Option<Token>,
        to: Move,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<Moved> {
        reason.map_or(Ok(()), check_reason)?;
        let (job, actor) = (self.job_ref(id), self.actor.clone());
        let goes_on = matches!(to, Move::RunNow | Move::Resume) && !dry_run;
        let ask = MoveJob { job, token, to, actor, reason: reason.map(str::to_owned), dry_run };
        let moved = self.client.store().job_move(&ask).await?;
        if goes_on && matches!(moved, Moved::Applied { .. }) {
            self.announce(id).await;
        }
        Ok(moved)
    }

    /// Does a job once more: a new job with the same kind, payload, policy and root, linked to the old one. It takes no
    /// idempotency key; whoever receives the work recognises it by its root. Under a request's name the new job is kept
    /// for a day at least, so that the same request finds it.
    ///
    /// # Errors
    /// [`JobAbsent`](Code::JobAbsent); [`JobStateWrong`](Code::JobStateWrong) where the job has not ended, is
    /// uncertain, or has succeeded and `force` was not said.
    pub async fn replay_job(&self, id: JobId, how: &Replay) -> Result<Replayed> {
        let row = self.job(id).await?;
        let new = replay(&row, how)?;
        let replayed = Replayed { id: new.id, replay_of: row.id };
        // An enqueue leaves open whether it has made the job or found it; here nothing is sent for one that is there.
        let seen = match how.request {
            Some(_) => self.client.store().job_lookup(&[self.job_ref(new.id)]).await?.rows,
            None => Vec::new(),
        };
        if seen.into_iter().flatten().next().is_none() {
            send(&self.client, new).await?;
        }
        Ok(replayed)
    }

    /// Tells workers that a job has become ready. They would find it anyway.
    async fn announce(&self, id: JobId) {
        let Ok(row) = self.job(id).await else { return };
        self.announce_queue(row.queue).await;
    }

    pub(super) async fn announce_queue(&self, queue: Queue) {
        self.client.tell_workers(&[(self.client.namespace.clone(), queue)]).await;
    }
}

/// The job that repeats another one.
pub(super) fn replay(row: &job::Record, how: &Replay) -> Result<New> {
    match row.state_now() {
        State::Dead | State::Cancelled => {}
        State::Succeeded if how.force => {}
        State::Succeeded => {
            let why = "the job has succeeded; replaying it does its work once more";
            return Err(Error::new(Code::JobStateWrong, why));
        }
        state => return Err(wrong(state)),
    }
    let Some(request) = &how.request else {
        return Ok(successor(row, JobId::from_uuid(uuid::Uuid::now_v7())));
    };
    let mut new = successor(row, JobId::from_uuid(named(row.id, request)));
    new.policy.retain = new.policy.retain.max(limits::REPLAY_KEPT_MIN);
    Ok(new)
}

/// Whether a job is itself what a request of this name has made of another one.
pub(super) fn is_made_by(row: &job::Record, how: &Replay) -> bool {
    let (Some(of), Some(request)) = (row.replay_of, &how.request) else { return false };
    named(of, request) == row.id.as_uuid()
}

/// The same work as another job, which names the one it repeats. The keys that a run gives to others are the same ones.
pub(super) fn successor(row: &job::Record, id: JobId) -> New {
    let origin = row.policy.durable.then(|| job::Origin { seed: seed(row), began: None });
    New {
        queue: row.queue.clone(),
        priority: row.priority,
        policy: job::Policy { deadline: None, origin, ..row.policy.clone() },
        ordering_key: row.ordering_key.clone(),
        tags: row.tags.clone(),
        metadata: row.metadata.clone(),
        trace: row.trace.clone(),
        replay_of: Some(row.id),
        root: row.root,
        depth: row.depth,
        ..New::of_kind(row.namespace.clone(), id, row.kind.clone(), row.payload.clone())
    }
}

/// The id that a replay by this name has, whoever asks and how often.
pub(super) fn named(job: JobId, request: &str) -> uuid::Uuid {
    uuid_of(Sha256::new().chain_update(job.as_uuid().as_bytes()).chain_update(request).finalize().into())
}

/// A job that would be alive again, and another one is that has its dedupe key.
pub(super) fn key_taken(other: JobId) -> Error {
    Error::new(Code::JobKeyTaken, format!("job {other} has its dedupe key and is alive"))
}

fn wrong(state: State) -> Error {
    let what = match state {
        State::Running => "the job runs: wait for its end, or cancel it".to_owned(),
        State::Uncertain => "the job is uncertain: say how it was before anything else".to_owned(),
        state => format!("the job is {state}"),
    };
    Error::new(Code::JobStateWrong, what)
}
