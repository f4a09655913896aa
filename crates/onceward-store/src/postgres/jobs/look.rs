//! Looking at jobs.

use core::time::Duration;

use onceward_core::job::{self, State};
use onceward_core::{JobId, Kind, Queue, Result, Tag, Timestamp};

use super::super::Inner;
use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::{Columns, micros};
use super::rows::Names;
use crate::store::{CommitOutcome, JobRef, ListJobs, Outstanding, Snapshot};

/// The longest horizon that is told apart from for ever; an interval holds no more than some such.
const HORIZON_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

impl Inner {
    pub(super) async fn job_lookup(&self, jobs: &[JobRef]) -> Result<Snapshot<Option<job::Record>>> {
        self.lookup_jobs("job.lookup", &self.read, jobs).await
    }

    pub(super) async fn lookup_jobs(
        &self,
        verb: &'static str,
        link: &Link,
        jobs: &[JobRef],
    ) -> Result<Snapshot<Option<job::Record>>> {
        let namespaces: Vec<&str> = jobs.iter().map(|job| job.namespace.as_str()).collect();
        let ids: Vec<_> = jobs.iter().map(|job| job.id.as_uuid()).collect();
        let params: &[Param<'_>] = &[&namespaces, &ids];
        let call = Call { verb, statement: &self.sql.job_lookup, params, rows: jobs.len() };
        let mut seen = Snapshot { now: Timestamp::default(), rows: vec![None; jobs.len()] };
        let mut names = Names::default();
        for row in link.read(&call).await? {
            let mut columns = Columns::of(&row);
            let n: i64 = columns.get()?;
            let Some(at) = usize::try_from(n).ok().and_then(|n| n.checked_sub(1)) else {
                seen.now = columns.time()?;
                continue;
            };
            columns.skip(1);
            let record = columns.job(&mut names)?;
            let (running, paused) = (columns.running()?, columns.paused()?);
            if let Some(slot) = seen.rows.get_mut(at) {
                *slot = Some(job::Record { running, paused, ..record });
            }
        }
        Ok(seen)
    }

    pub(super) async fn job_list(&self, ask: &ListJobs) -> Result<Snapshot<job::Record>> {
        let params: &[Param<'_>] = &[
            &ask.namespace.as_ref().map(|namespace| namespace.as_str()),
            &ask.state.map(State::as_str),
            &ask.queue.as_ref().map(|queue| queue.as_str()),
            &ask.kind.as_ref().map(|kind| kind.as_str()),
            &ask.tag.as_ref().map(|tag| tag.as_str()),
            &ask.after.map(JobId::as_uuid),
            &super::super::limit(ask.limit),
        ];
        let statement = match ask.state {
            _ if ask.paused => &self.sql.job_list_paused,
            None => &self.sql.job_list,
            Some(State::Running) => &self.sql.job_list_running,
            Some(State::Dead | State::Uncertain) => &self.sql.job_list_wanted,
            Some(State::Succeeded | State::Cancelled) => &self.sql.job_list_over,
            Some(State::Scheduled | State::Ready | State::Retrying) => &self.sql.job_list_waiting,
        };
        let call = Call { verb: "job.list", statement, params, rows: 1 };
        let mut page = Snapshot { now: Timestamp::default(), rows: Vec::new() };
        let mut names = Names::default();
        for row in self.admin.read(&call).await? {
            let mut columns = Columns::of(&row);
            page.now = columns.time()?;
            if !columns.at_null() {
                let record = columns.job(&mut names)?;
                let (running, paused) = (columns.running()?, columns.paused()?);
                page.rows.push(job::Record { running, paused, ..record });
            }
        }
        Ok(page)
    }

    pub(super) async fn job_outstanding(&self, ask: &Outstanding) -> Result<bool> {
        let queues: Vec<&str> = ask.queues.iter().map(Queue::as_str).collect();
        let kinds: Vec<&str> = ask.kinds.iter().map(Kind::as_str).collect();
        let tags: Vec<&str> = ask.tags.iter().map(Tag::as_str).collect();
        let params: &[Param<'_>] =
            &[&ask.namespace.as_str(), &queues, &kinds, &tags, &micros(ask.horizon.min(HORIZON_MAX))];
        let call = Call { verb: "job.outstanding", statement: &self.sql.job_outstanding, params, rows: 1 };
        let rows = Link::idlest(&self.take).read(&call).await?;
        rows.first().map_or(Ok(false), |row| Columns::of(row).get())
    }

    pub(super) async fn transactions(&self, ids: &[u64]) -> Result<Vec<Option<CommitOutcome>>> {
        let numbers: Vec<String> = ids.iter().map(u64::to_string).collect();
        let params: &[Param<'_>] = &[&numbers];
        let call = Call { verb: "transactions", statement: &self.sql.transactions, params, rows: ids.len() };
        let rows = self.read.read(&call).await?;
        let outcome = |row| {
            let word: Option<&str> = Columns::of(row).get()?;
            Ok(match word {
                Some("committed") => Some(CommitOutcome::Committed),
                Some("aborted") => Some(CommitOutcome::RolledBack),
                _ => None,
            })
        };
        rows.iter().map(outcome).collect()
    }
}
