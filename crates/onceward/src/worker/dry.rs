//! Holding the journals of runs against the functions of a worker, which takes nothing and does nothing.

use core::sync::atomic::{AtomicBool, AtomicUsize};
use core::time::Duration;
use std::collections::HashSet;
use std::sync::Arc;

use onceward_core::job::{Claimed, Record, State};
use onceward_core::{ClaimId, Code, Result, Token, limits};
use onceward_store::memory::MemoryStore;
use onceward_store::{JobRef, ListJobs};

use super::WorkerBuilder;
use super::attempt::{Attempt, Claim};
use super::context::{JobContext, Surroundings};
use super::session::Session;
use crate::client::{Onceward, new_session};
use crate::durable::{Checked, RecordedRun, Verdict};
use crate::hold::Hold;

/// In which states a run has not ended: what has ended is mostly most of what there is. In the order in which runs go
/// from one to the next, and on: one that moves meanwhile is seen once more, not missed.
const OPEN: [State; 6] =
    [State::Scheduled, State::Ready, State::Retrying, State::Running, State::Scheduled, State::Ready];

impl WorkerBuilder {
    /// Holds the journal of every run of the namespace that has not ended against the functions of this worker: which
    /// of them would not go on with this program? To be asked before it is deployed. No step is run, and nothing is
    /// written: the code is only taken as far as the journal goes.
    ///
    /// ```
    /// use onceward::Onceward;
    /// use onceward::durable::{AnyError, durable, sleep, step};
    /// use std::time::Duration;
    ///
    /// #[durable]
    /// async fn remind(user: u64) -> Result<(), AnyError> {
    ///     sleep(Duration::from_secs(86_400)).await?;
    ///     step("mail", || async move { Ok::<_, AnyError>(user) }).await?;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ow = Onceward::connect("memory:").await?;
    /// ow.start(remind(42)).await?;
    /// let runs = ow.worker().durable(remind).check().await?;
    /// assert!(runs.iter().all(|run| run.replays()), "{}", runs[0]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What was said wrong, as at [`start`](Self::start); those of an unreachable store.
    pub async fn check(mut self) -> Result<Vec<Checked>> {
        self.check_functions()?;
        let client = self.client().clone();
        let (mut checked, mut seen) = (Vec::new(), HashSet::new());
        for state in OPEN {
            let mut ask = ListJobs {
                namespace: Some(client.namespace.clone()),
                state: Some(state),
                limit: limits::PAGE_ROWS_MAX,
                ..ListJobs::default()
            };
            loop {
                let page = client.store().job_list(&ask).await?.rows;
                ask.after = page.last().map(|row| row.id);
                let last = page.len() < ask.limit;
                for row in page.into_iter().filter(|row| row.policy.durable && seen.insert(row.id)) {
                    checked.extend(self.check_open(&client, row).await?);
                }
                if last {
                    break;
                }
            }
        }
        Ok(checked)
    }

    /// Holds one run of the store against the functions; nothing where it has ended.
    async fn check_open(&self, client: &Onceward, row: Record) -> Result<Option<Checked>> {
        let (run, function) = (row.id, row.kind);
        match client.admin().export_run(run).await {
            Ok(run) if !run.state.is_final() => self.check_one(run).await.map(Some),
            // It has ended meanwhile, or was forgotten.
            Ok(_) => Ok(None),
            Err(error) if error.code() == Code::RunUnknown => Ok(None),
            Err(error) if error.is_retryable() => Err(error),
            // A newer program has written it, or it is damaged.
            Err(error) => {
                let verdict = Verdict::Fails(error.to_string());
                Ok(Some(Checked { run, function, verdict, entries: 0, journal: Vec::new() }))
            }
        }
    }

    /// Holds recorded runs against the functions of this worker, as [`check`](Self::check) does with those of the
    /// store: for a test that keeps the journals of yesterday's code beside today's.
    ///
    /// # Errors
    /// What was said wrong, as at [`start`](Self::start).
    pub async fn check_recorded(mut self, runs: Vec<RecordedRun>) -> Result<Vec<Checked>> {
        self.check_functions()?;
        let mut checked = Vec::with_capacity(runs.len());
        for run in runs {
            checked.push(self.check_one(run).await?);
        }
        Ok(checked)
    }

    async fn check_one(&self, run: RecordedRun) -> Result<Checked> {
        let (id, function, entries) = (run.id, run.kind.clone(), run.entries.len());
        let mut journal = run.entries.clone();
        let verdict = match self.checks().get(&function) {
            None => Verdict::Unknown,
            Some(check) => {
                // What the code may reach is a store of its own: nothing comes of what it does there.
                let nowhere = Onceward::options().build(Arc::new(MemoryStore::default()))?;
                let context = context(nowhere, self.states().clone(), &run).await?;
                check(&context, run.entries)
            }
        };
        if matches!(verdict, Verdict::Replays | Verdict::Unknown) {
            // There may be many runs, and nobody looks at these.
            journal = Vec::new();
        }
        Ok(Checked { run: id, function, verdict, entries, journal })
    }
}

/// What an attempt of the run would know.
async fn context(client: Onceward, states: super::context::States, run: &RecordedRun) -> Result<JobContext> {
    let store = client.store();
    let new = run.to_new(client.namespace.clone());
    let job = JobRef { namespace: new.namespace.clone(), id: new.id };
    store.job_enqueue(&[new]).await?;
    let seen = store.job_lookup(&[job]).await?;
    // invariant: it was put there just now, and nobody else knows this store.
    let row = seen.rows.into_iter().flatten().next().ok_or_else(|| crate::durable::absent(run.id))?;
    let row = Record { enqueued_at: run.enqueued_at, state: State::Ready, ..row };
    let (now, token) = (store.clock().boottime(), Token::from_row(i64::MAX));
    let hold = Hold::new(token, seen.now, Arc::clone(store.clock()), now, Duration::ZERO, None);
    let session = Session { id: new_session(), token, hold: Arc::new(hold) };
    let claim = Claim {
        id: ClaimId::from_uuid(uuid::Uuid::now_v7()),
        session: Arc::new(session),
        alone: false,
        at: seen.now,
        seen_at: now,
        left: AtomicUsize::new(1),
        closes: AtomicBool::new(false),
    };
    let attempt = Attempt::new(Claimed { job: row, token }, &Arc::new(claim));
    Ok(JobContext::new(attempt, Arc::new(Surroundings::new(client, states))))
}
