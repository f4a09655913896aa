//! What is written down of an attempt while it lasts: that its handler starts, and how far it is.

use onceward_core::Result;

use super::super::Inner;
use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::Columns;
use crate::store::{BeginJob, JobProgress, JobRef};

impl Inner {
    pub(super) async fn job_begin(&self, batch: &[BeginJob]) -> Result<Vec<bool>> {
        let sorted = Sorted::of(batch, |ask| &ask.job);
        let params: &[Param<'_>] = &[
            &sorted.column(|ask| ask.job.namespace.as_str()),
            &sorted.column(|ask| ask.job.id.as_uuid()),
            &sorted.column(|ask| ask.token.get()),
            &sorted.column(|ask| ask.session.as_uuid()),
        ];
        let call = Call { verb: "job.begin", statement: &self.sql.job_begin, params, rows: batch.len() };
        self.applied(&sorted, &call).await
    }

    pub(super) async fn job_progress(&self, batch: &[JobProgress]) -> Result<Vec<bool>> {
        let sorted = Sorted::of(batch, |ask| &ask.job);
        let params: &[Param<'_>] = &[
            &sorted.column(|ask| ask.job.namespace.as_str()),
            &sorted.column(|ask| ask.job.id.as_uuid()),
            &sorted.column(|ask| ask.token.get()),
            &sorted.column(|ask| ask.progress.bytes.as_deref()),
            &sorted.column(|ask| ask.progress.content_type.as_str()),
        ];
        let call =
            Call { verb: "job.progress", statement: &self.sql.job_progress, params, rows: batch.len() };
        self.applied(&sorted, &call).await
    }

    /// Sends a statement that answers with the places of the rows it was applied to.
    async fn applied<T>(&self, sorted: &Sorted<'_, T>, call: &Call<'_>) -> Result<Vec<bool>> {
        let mut applied = vec![false; sorted.batch.len()];
        if applied.is_empty() {
            return Ok(applied);
        }
        for row in Link::idlest(&self.begin).write(call).await? {
            let n: i64 = Columns::of(&row).get()?;
            let at = usize::try_from(n).ok().and_then(|n| sorted.order.get(n.checked_sub(1)?));
            if let Some(slot) = at.and_then(|at| applied.get_mut(*at)) {
                *slot = true;
            }
        }
        Ok(applied)
    }
}

/// A batch in the order in which rows are locked everywhere.
struct Sorted<'a, T> {
    batch: &'a [T],
    order: Vec<usize>,
}

impl<'a, T> Sorted<'a, T> {
    fn of(batch: &'a [T], job: impl Fn(&T) -> &JobRef) -> Self {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|at| batch.get(*at).map(&job));
        Self { batch, order }
    }

    fn column<V>(&self, value: impl Fn(&'a T) -> V) -> Vec<V> {
        self.order.iter().filter_map(|at| self.batch.get(*at)).map(value).collect()
    }
}
