//! Rescue: what sessions that have run out still hold becomes ready again, or ends (J7).

use onceward_core::job::{self, Ended, Ending, State};
use onceward_core::{Owner, Result, Token};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::Inner;
use super::super::link::{Call, seed};
use super::super::live::Param;
use super::super::row::Columns;
use super::rows::Names;
use super::settle::{Entry, Lost};
use crate::store::{JobRef, Rescued, RescuedJob, SettleJob};

const VERB: &str = "job.rescue";

/// A job whose session has run out, and what core makes of it.
struct Found {
    ask: SettleJob,
    lost: Lost,
    queue: onceward_core::Queue,
}

impl Inner {
    pub(super) async fn job_rescue(&self, limit: usize) -> Result<Rescued> {
        let params: &[Param<'_>] = &[&super::super::limit(limit)];
        let call = Call { verb: VERB, statement: &self.sql.rescue_lost, params, rows: 1 };
        let mut names = Names::default();
        let rows = self.admin.read(&call).await?;
        let mut found = rows.iter().map(|row| found(row, &mut names)).collect::<Result<Vec<_>>>()?;
        found.sort_by(|a, b| a.ask.job.cmp(&b.ask.job));
        let mut rescued = Rescued { more: found.len() >= limit, ..Rescued::default() };
        if !found.is_empty() {
            let entries: Vec<Entry<'_>> = found
                .iter()
                .enumerate()
                .map(|(at, found)| Entry { at, ask: &found.ask, rescue: Some(found.lost) })
                .collect();
            let recorded = self.settle_any(VERB, &entries).await?;
            for (at, state) in &recorded.states {
                if let Some(found) = found.get(*at) {
                    let (job, queue) = (found.ask.job.clone(), found.queue.clone());
                    rescued.jobs.push(RescuedJob { job, queue, state: *state });
                }
            }
            self.tell_queues(recorded.ready);
            if recorded.frees {
                self.admit_soon().await;
            }
        }
        let call = Call { verb: VERB, statement: &self.sql.rescue_clear, params: &[], rows: 1 };
        if let Some(row) = self.admin.write(&call).await?.first() {
            let mut columns = Columns::of(row);
            let sessions: i64 = columns.get()?;
            rescued.sessions = u64::try_from(sessions).unwrap_or(0);
            // What somebody has locked is not worth asking for again at once.
            rescued.more &= columns.get::<bool>()?;
            if columns.get()? {
                self.forget_permits(VERB).await?;
            }
        }
        Ok(rescued)
    }

    /// Removes permits of sessions that are gone and of which nothing is left to rescue.
    pub(super) async fn forget_permits(&self, verb: &'static str) -> Result<()> {
        let call = Call { verb, statement: &self.sql.rescue_permits, params: &[], rows: 1 };
        self.admin.write(&call).await.map(drop)
    }
}

fn found(row: &Row, names: &mut Names) -> Result<Found> {
    let mut columns = Columns::of(row);
    let session: Option<Uuid> = columns.get()?;
    let owner = Owner::from_row(columns.get::<Option<&str>>()?.unwrap_or_default());
    columns.skip(1);
    let (token, started_at, now) = (columns.token()?, columns.time()?, columns.time()?);
    let called_off = columns.get()?;
    let job = columns.job(names)?;
    // The start of a handler is written down only where it matters: everything else may have been started.
    let begun = !job.policy.at_most_once || job.begun == Some(token);
    let ended = Ended { token, started_at, worker: owner.clone(), http: None };
    // Whoever is called off from now on is seen by the statement that writes this, once it has locked the row.
    let next = job::end(job.facts(), &ended, Ending::Lost { begun }, now, called_off, seed());
    // An uncertain job keeps the token, so that its worker, should it come back, can still say how it was.
    let written = if next.state == State::Uncertain { token } else { Token::next(Some(token), now) };
    Ok(Found {
        queue: job.queue.clone(),
        lost: Lost { session, begun: job.begun },
        ask: SettleJob {
            job: JobRef { namespace: job.namespace.clone(), id: job.id },
            place: job.place,
            fence: token,
            token: written,
            started_at,
            worker: owner,
            next,
            retain: job.policy.kept_for(),
            parent: job.parent,
        },
    })
}
