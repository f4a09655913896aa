//! Taking runs out of a store with their journals, and into another one.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use onceward_core::job::{self, Ending, Facts, State};
use onceward_core::once::Body;
use onceward_core::session::{About, Open};
use onceward_core::{ClaimId, Code, Error, JobId, Result, SessionId, Timestamp, Token};
use onceward_store::{AppendRun, AppendRuns, ForkRun, HandOver, JobRef, SessionRef, SettleJob, SettleJobs};
use uuid::Uuid;

use super::Admin;
use crate::client::new_session;
use crate::durable::RecordedRun;
use crate::jobs::JSON;

/// For how long a run that is taken in is held at the most.
const SESSION_TTL: Duration = Duration::from_secs(60);
/// How many entries are written at once.
const PAGE: usize = 500;

impl Admin {
    /// Takes a run out of the store, with its journal. It stays where it is.
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown); those of an unreachable store.
    pub async fn export_run(&self, id: JobId) -> Result<RecordedRun> {
        let (row, entries) = self.run_with_journal(id).await?;
        Ok(RecordedRun::of(&row, entries))
    }

    /// Takes a run out of the store together with those that it has started, and those that these have started, as far
    /// as they are still known; itself first.
    ///
    /// # Errors
    /// As [`export_run`](Self::export_run).
    pub async fn export_runs(&self, id: JobId) -> Result<Vec<RecordedRun>> {
        let mut runs = vec![self.export_run(id).await?];
        let mut open: VecDeque<JobId> = runs[0].children().collect();
        let mut met = BTreeSet::from([id]);
        while let Some(child) = open.pop_front() {
            if !met.insert(child) {
                continue;
            }
            match self.export_run(child).await {
                Ok(run) => {
                    open.extend(run.children());
                    runs.push(run);
                }
                // It is kept no longer than it has to be: its end stands in the journal of its parent.
                Err(error) if error.code() == Code::RunUnknown => {}
                Err(error) => return Err(error),
            }
        }
        Ok(runs)
    }

    /// Takes a recorded run in, with its journal and under its own id; `false` where the store has it already. One that
    /// had ended has ended here as well. Another one goes on here, as soon as a worker knows its function: it waits for
    /// its children, which are to be taken in after it.
    ///
    /// Dropping the future leaves it open whether it was taken in. A process that dies in the middle of it leaves a run
    /// that had ended as one whose time is over, and that nobody takes up.
    ///
    /// # Errors
    /// [`RecordingRefused`](Code::RecordingRefused) where its queue takes nothing now; those of an unreachable store.
    pub async fn import_run(&self, run: &RecordedRun) -> Result<bool> {
        let (client, store) = (&self.client, self.client.store());
        let job = JobRef { namespace: client.namespace.clone(), id: run.id };
        let there = store.job_lookup(core::slice::from_ref(&job)).await?;
        if there.rows.iter().any(Option::is_some) {
            return Ok(false);
        }
        if !run.state.is_final() {
            return self.go_on_here(run).await.map(|()| true);
        }
        let about = About { kinds: vec![run.kind.as_str().to_owned()], ..About::default() };
        let ask = Open { id: new_session(), owner: client.owner.clone(), ttl: SESSION_TTL, about };
        let session = store.session_open(&ask).await?;
        let taken = self.take_in(run, session.id, session.started_at).await;
        let closed = store.session_close(&SessionRef { id: session.id, token: session.token }).await;
        taken?;
        closed?;
        Ok(true)
    }

    /// One that had not ended is there with its whole journal, or not at all: nobody takes up a part of it.
    async fn go_on_here(&self, run: &RecordedRun) -> Result<()> {
        let fork = ForkRun {
            run: run.to_new(self.client.namespace.clone()),
            of: run.id,
            until: 0,
            by: Token::from_row(0),
            without: Vec::new(),
            instead: Vec::new(),
            more: run.entries.clone(),
        };
        if !self.client.store().run_fork(&[fork]).await? {
            return Err(Error::new(Code::RecordingRefused, format!("the store has another run {}", run.id)));
        }
        self.announce_queue(run.queue.clone()).await;
        Ok(())
    }

    async fn take_in(&self, run: &RecordedRun, session: SessionId, now: Timestamp) -> Result<()> {
        let (namespace, store) = (self.client.namespace.clone(), self.client.store());
        let job = JobRef { namespace: namespace.clone(), id: run.id };
        let claim = ClaimId::from_uuid(Uuid::now_v7());
        let mut new = run.to_new(namespace.clone());
        // Should this process die in the middle: it is over, and nobody runs it with a part of its journal.
        new.policy.deadline = Some(now);
        let jobs = vec![new];
        let ask = HandOver { namespace, session, claim, jobs };
        let handed = store.job_hand_over(&ask).await?;
        let claimed = handed.claimed.jobs.into_iter().next().ok_or_else(|| {
            let why = format!(
                "queue {:?} is paused or limited: the run waits there without its journal",
                run.queue
            );
            Error::new(Code::RecordingRefused, why)
        })?;
        for entries in run.entries.chunks(PAGE) {
            let entries = entries
                .iter()
                .map(|entry| onceward_core::run::Entry { token: claimed.token, ..entry.clone() });
            let append = AppendRun {
                run: job.clone(),
                session,
                token: claimed.token,
                entries: entries.collect(),
                children: Vec::new(),
                taken: Vec::new(),
                ended: Vec::new(),
            };
            let append = AppendRuns { runs: vec![append], hand: None, finished: Vec::new() };
            if store.run_append(&append).await?.added != [true] {
                return Err(Error::new(Code::SessionLost, "the run was taken away while it was taken in"));
            }
        }
        let row = ending(run, &claimed, handed.claimed.now, &self.client);
        store.job_settle(&SettleJobs { jobs: vec![row], finished: vec![claim] }).await.map(drop)
    }
}

/// How the run stands from now on.
fn ending(run: &RecordedRun, claimed: &job::Claimed, now: Timestamp, client: &crate::Onceward) -> SettleJob {
    let words = || run.error.clone().unwrap_or_default();
    let body = || run.result.clone().map(|bytes| Body::new(bytes, JSON));
    let ending = match run.state {
        State::Succeeded => Ending::Done(body()),
        State::Dead => Ending::Dead(words()),
        State::Cancelled => Ending::Cancelled(words()),
        State::Uncertain => Ending::Uncertain(words()),
        _ => Ending::Snoozed(Duration::from_millis(1)),
    };
    let row = &claimed.job;
    let facts = Facts {
        attempt: row.attempt,
        lost: row.lost,
        policy: &row.policy,
        state: row.state,
        past: &row.past,
    };
    let ended =
        job::Ended { token: claimed.token, started_at: now, worker: client.owner.clone(), http: None };
    let mut next = job::end(facts, &ended, ending, now, false, 0);
    if run.state == State::Dead {
        next.result = body();
    }
    SettleJob {
        job: JobRef { namespace: row.namespace.clone(), id: row.id },
        place: row.place,
        fence: claimed.token,
        token: claimed.token,
        started_at: now,
        worker: client.owner.clone(),
        next,
        retain: row.policy.kept_for(),
        // Its parent has its end in its own journal, or waits for it here.
        parent: run.parent,
    }
}
