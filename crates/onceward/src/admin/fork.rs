//! Doing once more what a run has done: from a place in its code on, or only what has failed. Its journal stays as it
//! is: another run begins with a copy of a part of it.

use std::collections::VecDeque;

use onceward_core::job::{Move, Origin, Record, State};
use onceward_core::once::check_reason;
use onceward_core::run::fork::{self, OpenChild, Part};
use onceward_core::run::generation::generation;
use onceward_core::run::{Entry, Op, Outcome, Phase, Start};
use onceward_core::{Code, Error, JobId, Result, Timestamp, Token};
use onceward_store::{ForkRun, JobRef};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::Admin;
use super::jobs::{named, successor};
use crate::durable::{absent, began, load, seed};

/// How a run is forked.
#[derive(Clone, Debug, Default)]
pub struct RunFork {
    /// Other arguments, by their names: `{"order": 789}`. What stands in the copied part of the journal was done with
    /// the old ones.
    pub args: Option<Value>,
    /// What the request is called by whoever makes it: two forks of one run by one name make one run.
    pub request: Option<String>,
}

/// What came of forking a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ForkedRun {
    /// The new run.
    pub id: JobId,
    /// Whose journal it begins with.
    pub fork_of: JobId,
    /// How many entries of that it has.
    pub kept: u32,
}

/// What came of retrying a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RetriedRun {
    /// The run that goes on: itself, or its fork.
    pub id: JobId,
    /// What it repeats.
    pub retry_of: JobId,
}

impl RetriedRun {
    /// Whether another run goes on in its place.
    pub fn is_fork(&self) -> bool {
        self.id != self.retry_of
    }
}

/// A run that is to go on as another one.
struct Again {
    row: Record,
    new: JobId,
    parent: Option<JobId>,
    part: Part,
    /// When the last thing was written into its journal, and by which attempt.
    last: (Timestamp, Token),
}

impl Admin {
    /// Starts another run of the same function that begins with what this one had done before a place: a position of
    /// its journal (`5.1.0`), or the first step, child or signal of that name. From there on everything is done once
    /// more, by today's code, with the same arguments or others. What was done before is not: its values are those in
    /// the journal. Children that had not ended by then are begun anew.
    ///
    /// The run that is forked stays as it is, under way or not. The new one names it
    /// ([`replay_of`](onceward_core::job::Record::replay_of)); it has no parent, no expiry, and nothing that has
    /// arrived.
    ///
    /// ```
    /// # use onceward::{JobId, Onceward, RunFork};
    /// # async fn example(ow: Onceward, run: JobId) -> onceward::Result<()> {
    /// let fork = ow.admin().fork_run(run, "charge", &RunFork::default()).await?;
    /// println!("{} goes on with the {} entries that {run} had before", fork.id, fork.kept);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown); [`RunForkRefused`](Code::RunForkRefused) where its journal has no such place,
    /// or was called off before it; [`PayloadUnwritable`](Code::PayloadUnwritable) for arguments without names; those
    /// of an unreachable store.
    pub async fn fork_run(&self, id: JobId, from: &str, how: &RunFork) -> Result<ForkedRun> {
        let (row, entries) = self.run_with_journal(id).await?;
        let part = fork::fork(&entries, from).map_err(|refused| refuse(id, &refused))?;
        let kept = part.until - count(&part.without);
        let new =
            how.request.as_ref().map_or_else(Uuid::now_v7, |request| named(id, &format!("fork {request}")));
        let mut fork = forking(&row, JobId::from_uuid(new), part, last(&entries).1);
        if let Some(args) = &how.args {
            fork.run.payload.bytes = crate::durable::named_args(args)?;
        }
        let forked = ForkedRun { id: fork.run.id, fork_of: id, kept };
        self.send_forks(id, vec![fork]).await?;
        Ok(forked)
    }

    /// Has a run go on that has come to a stop. One that waits runs at once. One that has failed without anything
    /// failing in its journal (it has panicked, it was lost again and again) goes on where that ends. Where something
    /// has failed in it, another run begins with a copy of the journal without that: it is done once more, and nothing
    /// that has succeeded is. So with children that have failed, and with theirs. One that was cancelled goes on where
    /// it was when it heard of that.
    ///
    /// Retrying the same failure twice is the same as retrying it once.
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown); [`RunEnded`](Code::RunEnded) where it has succeeded;
    /// [`RunForkRefused`](Code::RunForkRefused) where it has gone on after its failure, so that it may have undone
    /// what it had done before, or where a child of it is still under way; [`JobStateWrong`](Code::JobStateWrong)
    /// where it runs; [`ReasonMissing`](Code::ReasonMissing) for a reason that is empty or too long; those of an
    /// unreachable store.
    pub async fn retry_run(&self, id: JobId, reason: Option<&str>) -> Result<RetriedRun> {
        let row = self.run_row(id).await?;
        self.retry_row(&row, reason, false).await
    }

    pub(super) async fn retry_row(
        &self,
        row: &Record,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<RetriedRun> {
        let (id, state) = (row.id, row.state_now());
        if state == State::Succeeded {
            let why = format!("run {id} has succeeded: fork it from a place to have that done once more");
            return Err(Error::new(Code::RunEnded, why));
        }
        let entries = match state {
            State::Dead | State::Cancelled => self.entries(id).await?,
            _ => Vec::new(),
        };
        let part = fork::again(&entries).map_err(|refused| refuse(id, &refused))?;
        let expired = row.policy.deadline.is_some() && row.is_overdue(self.store_now(id).await?);
        if state != State::Cancelled && part.without.is_empty() && !expired {
            self.move_run(id, Some(row.token), Move::RunNow, reason, dry_run).await?;
            return Ok(RetriedRun { id, retry_of: id });
        }
        reason.map_or(Ok(()), check_reason)?;
        // Whoever retries the same end gets the same run.
        let new = JobId::from_uuid(named(id, &format!("retry {}", row.token)));
        let forks =
            self.plan(Again { row: row.clone(), new, parent: None, part, last: last(&entries) }).await?;
        if !dry_run {
            self.send_forks(id, forks).await?;
        }
        Ok(RetriedRun { id: new, retry_of: id })
    }

    /// The forks of a run and of its children that have failed, it first.
    async fn plan(&self, run: Again) -> Result<Vec<ForkRun>> {
        let (mut open, mut forks) = (VecDeque::from([run]), Vec::new());
        while let Some(run) = open.pop_front() {
            forks.push(self.plan_one(run, &mut open).await?);
        }
        Ok(forks)
    }

    async fn plan_one(&self, run: Again, open: &mut VecDeque<Again>) -> Result<ForkRun> {
        let Again { row, new, parent, mut part, last } = run;
        let children = core::mem::take(&mut part.children);
        let mut fork = forking(&row, new, part, last.1);
        fork.run.parent = parent;
        for child in children {
            match self.child(&row, &child).await? {
                Was::Succeeded(value) => fork.more.push(ended(&child, value, last)),
                Was::Failed(old) => {
                    let journal = self.entries(old.id).await?;
                    match fork::again(&journal) {
                        Ok(part) if !journal.is_empty() => {
                            let again = JobId::from_uuid(named(old.id, &format!("retry for {new}")));
                            let start = Start::Child { id: again, input: child.input };
                            fork.instead.push((child.seq, Phase::Started(start).data()));
                            let (parent, last) = (Some(new), self::last(&journal));
                            open.push_back(Again { row: *old, new: again, parent, part, last });
                        }
                        // It begins anew: it has done nothing, or has undone it.
                        _ => fork.without.push(child.seq),
                    }
                }
                Was::Forgotten => fork.without.push(child.seq),
            }
        }
        fork.without.sort_unstable();
        Ok(fork)
    }

    /// What has become of a child whose end does not stand in its run's journal, or is to be taken out of it.
    async fn child(&self, parent: &Record, child: &OpenChild) -> Result<Was> {
        let job = JobRef { namespace: parent.namespace.clone(), id: child.id };
        let row = self.client.store().job_lookup(core::slice::from_ref(&job)).await?.rows.pop().flatten();
        let Some(row) = row else { return Ok(Was::Forgotten) };
        match row.state_now() {
            State::Succeeded => {
                let value = row.said().and_then(|body| body.bytes.clone());
                Ok(Was::Succeeded(value.unwrap_or_else(|| b"null".to_vec())))
            }
            State::Dead | State::Cancelled => Ok(Was::Failed(Box::new(row))),
            state => {
                let why = format!(
                    "its child {} at {} is still {state}: have it end, and try again",
                    child.id, child.position
                );
                Err(Error::new(Code::RunForkRefused, format!("run {}: {why}", parent.id)))
            }
        }
    }

    async fn send_forks(&self, of: JobId, forks: Vec<ForkRun>) -> Result<()> {
        let queues: Vec<_> = forks.iter().map(|fork| fork.run.queue.clone()).collect();
        if !self.client.store().run_fork(&forks).await? {
            let why = format!(
                "the journal of run {of}, or of a child of it, was forgotten meanwhile, or has begun anew"
            );
            return Err(Error::new(Code::RunForkRefused, why));
        }
        for queue in queues {
            self.announce_queue(queue).await;
        }
        Ok(())
    }

    /// What time it is for the store, which alone says whether time is over (G1).
    async fn store_now(&self, run: JobId) -> Result<Timestamp> {
        let job = JobRef { namespace: self.client.namespace.clone(), id: run };
        self.client.store().job_lookup(&[job]).await.map(|seen| seen.now)
    }

    async fn run_row(&self, id: JobId) -> Result<Record> {
        let job = JobRef { namespace: self.client.namespace.clone(), id };
        let seen = self.client.store().job_lookup(core::slice::from_ref(&job)).await?.rows.pop().flatten();
        seen.filter(|row| row.policy.durable).ok_or_else(|| absent(id))
    }

    /// A run and its journal, both of the same generation, whatever it does meanwhile.
    pub(super) async fn run_with_journal(&self, id: JobId) -> Result<(Record, Vec<Entry>)> {
        loop {
            let entries = self.entries(id).await?;
            let row = self.run_row(id).await?;
            // Its arguments change with the first entry.
            if generation(&self.journal(id, 0, 1).await?) == generation(&entries) {
                return Ok((row, entries));
            }
        }
    }

    async fn entries(&self, id: JobId) -> Result<Vec<Entry>> {
        load(&self.client, &JobRef { namespace: self.client.namespace.clone(), id }).await
    }
}

/// What has become of a child.
enum Was {
    Succeeded(Vec<u8>),
    Failed(Box<Record>),
    Forgotten,
}

fn refuse(id: JobId, refused: &fork::Refused) -> Error {
    Error::new(Code::RunForkRefused, format!("run {id}: {refused}"))
}

fn count(entries: &[u32]) -> u32 {
    u32::try_from(entries.len()).unwrap_or(u32::MAX)
}

fn forking(row: &Record, new: JobId, part: Part, by: Token) -> ForkRun {
    let Part { until, without, children: _ } = part;
    let (instead, more, mut run) = (Vec::new(), Vec::new(), successor(row, new));
    // What its code has from chance and from time stands in what is copied.
    run.policy.origin = Some(Origin { seed: seed(row), began: Some(began(row)) });
    ForkRun { run, of: row.id, until, by, without, instead, more }
}

fn last(entries: &[Entry]) -> (Timestamp, Token) {
    entries.last().map_or_else(|| (Timestamp::default(), Token::from_row(0)), |entry| (entry.at, entry.token))
}

/// The end of a child that has succeeded without its run. Time does not go back for the code.
fn ended(child: &OpenChild, value: Vec<u8>, (at, token): (Timestamp, Token)) -> Entry {
    let (position, name) = (child.position.clone(), child.name.clone());
    Entry { seq: 0, position, op: Op::Child, name, phase: Phase::Ended(Outcome::Value(value)), at, token }
}
