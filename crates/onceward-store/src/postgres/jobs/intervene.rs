//! What somebody does to a job from outside: decided by core on the row as it was seen, written if it still is so.

use onceward_core::job::{self, Move, Moved, State, past_to_text};
use onceward_core::once::cut;
use onceward_core::{JobId, Key, Queue, Result, Timestamp, limits};

use super::super::Inner;
use super::super::lease::{ROUNDS, in_the_way};
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, Instant, micros};
use crate::store::{MoveJob, result_columns};

const VERB: &str = "job.move";

impl Inner {
    pub(super) async fn job_move(&self, ask: &MoveJob) -> Result<Moved> {
        for _ in 0..=ROUNDS {
            let seen = self.lookup_jobs(VERB, self.end_link(), core::slice::from_ref(&ask.job)).await?;
            let row = seen.rows.into_iter().next().flatten();
            let answer = match (job::intervene(row.as_ref(), ask.token, &ask.to), &row) {
                (applied @ Moved::Applied { .. }, Some(row)) => {
                    self.other_holder(row, &ask.to).await?.map_or(applied, Moved::KeyTaken)
                }
                (answer, _) => answer,
            };
            let Some(row) = row.filter(|_| !ask.dry_run) else { return Ok(answer) };
            let written = match answer {
                Moved::Applied { .. } => {
                    let next = job::moved(&row, &ask.to, &ask.actor, ask.reason.as_deref(), seen.now);
                    self.moved(&row, &next, job::key_again(&row, &ask.to)).await?
                }
                Moved::Noted if matches!(ask.to, Move::Pause | Move::Resume) => {
                    self.mark(&row, ask, seen.now).await?
                }
                Moved::Noted => self.note(&row, ask).await?,
                _ => true,
            };
            if written {
                return Ok(answer);
            }
        }
        Err(in_the_way(VERB))
    }

    /// The other job that has the dedupe key which a job would take again.
    async fn other_holder(&self, row: &job::Record, to: &Move) -> Result<Option<JobId>> {
        let Some(key) = job::key_again(row, to) else { return Ok(None) };
        let params: &[Param<'_>] = &[&row.namespace.as_str(), &key.as_str()];
        let call = Call { verb: VERB, statement: &self.sql.job_holder, params, rows: 1 };
        let rows = self.end_link().read(&call).await?;
        let holder = rows.first().map(|row| Columns::of(row).get()).transpose()?;
        Ok(holder.map(JobId::from_uuid).filter(|id| *id != row.id))
    }

    /// Writes the row as core wants it, which takes its dedupe key with it; `false` if it has moved on, or somebody has
    /// got the key.
    async fn moved(&self, row: &job::Record, next: &job::Record, key: Option<&Key>) -> Result<bool> {
        let failed = next.progress.as_ref().filter(|_| next.state == State::Dead);
        let (result, result_type, result_size) = result_columns(next.result.as_ref().or(failed));
        let call = Call {
            verb: VERB,
            statement: &self.sql.job_moved,
            params: &[
                &row.namespace.as_str(),
                &row.id.as_uuid(),
                &row.token.get(),
                &next.token.get(),
                &next.state.as_str(),
                &next.error,
                &next.finished_at.map(Instant),
                &Instant(next.run_at),
                &past_to_text(&next.past),
                &next.spec().to_text(),
                &result,
                &result_type,
                &result_size,
                &micros(next.policy.kept_for()),
                // One that has lost processes may lose the next as well.
                &row.runs_alone(),
                &row.parent.map(JobId::as_uuid),
                &next.paused.as_ref().map(|pause| Instant(pause.at)),
                &next.paused.as_ref().map(|pause| pause.by.as_str()),
                &next.paused.as_ref().and_then(|pause| pause.reason.as_deref()),
                &row.paused.is_some(),
                &key.map(Key::as_str),
                &row.until_started,
            ],
            rows: 1,
        };
        let rows = self.end_link().write(&call).await?;
        let Some(written) = rows.first() else { return Ok(false) };
        let mut columns = Columns::of(written);
        let queue = Queue::from_row(columns.get::<&str>()?);
        if columns.get()? {
            self.wakes.tell_jobs(&row.namespace, &queue);
        }
        if columns.get()? {
            self.admit_soon().await;
        }
        Ok(true)
    }

    /// Writes down that a run which somebody runs is paused, or not any more; `false` if it has moved on.
    async fn mark(&self, row: &job::Record, ask: &MoveJob, now: Timestamp) -> Result<bool> {
        let pause = ask.to.pause(&ask.actor, ask.reason.as_deref(), now);
        let call = Call {
            verb: VERB,
            statement: &self.sql.job_mark,
            params: &[
                &row.namespace.as_str(),
                &row.id.as_uuid(),
                &row.token.get(),
                &pause.as_ref().map(|pause| Instant(pause.at)),
                &pause.as_ref().map(|pause| pause.by.as_str()),
                &pause.as_ref().and_then(|pause| pause.reason.as_deref()),
            ],
            rows: 1,
        };
        Ok(!self.end_link().write(&call).await?.is_empty())
    }

    /// Writes down that a job that runs was called off; `false` if it has moved on.
    async fn note(&self, row: &job::Record, ask: &MoveJob) -> Result<bool> {
        let call = Call {
            verb: VERB,
            statement: &self.sql.job_note,
            params: &[
                &row.namespace.as_str(),
                &row.id.as_uuid(),
                &row.token.get(),
                &ask.actor.as_str(),
                &ask.reason.as_deref().map(|reason| cut(reason, limits::REASON_BYTES_MAX)),
                &ask.to.note(&ask.actor, ask.reason.as_deref()),
            ],
            rows: 1,
        };
        Ok(!self.end_link().write(&call).await?.is_empty())
    }
}
