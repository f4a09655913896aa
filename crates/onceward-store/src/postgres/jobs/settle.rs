//! Settling: how attempts ended, by the worker that ran them or by a rescue.

use core::time::Duration;

use onceward_core::job::{State, past_to_text};
use onceward_core::{Code, Error, Namespace, Queue, Result, Token};
use tokio::time::sleep;
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::Inner;
use super::super::lease::ROUNDS;
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, Instant, Tid, micros};
use super::super::statements::Statement;
use super::claim::unasked;
use crate::store::{SettleJob, SettleJobs, SettledJob, result_columns};

const VERB: &str = "job.settle";

/// How long a row that somebody has locked is left alone before it is looked at again.
const PAUSE: Duration = Duration::from_millis(10);

/// One ending of a batch, and where its answer belongs.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) at: usize,
    pub(super) ask: &'a SettleJob,
    /// What a rescue goes by; `None` of a worker.
    pub(super) rescue: Option<Lost>,
}

/// What a rescue has seen: it applies only as long as that holds.
#[derive(Clone, Copy)]
pub(super) struct Lost {
    /// The session that has run out; `None` if it is gone.
    pub(super) session: Option<Uuid>,
    pub(super) begun: Option<Token>,
}

/// What was recorded.
#[derive(Default)]
pub(super) struct Recorded {
    /// By the place in the batch: the state now.
    pub(super) states: Vec<(usize, State)>,
    /// The queues in which something is ready now.
    pub(super) ready: Vec<(Namespace, Queue)>,
    /// Whether jobs of an ordering key may have become free.
    pub(super) frees: bool,
}

/// The successes that go a short way.
#[derive(Clone, Copy)]
enum Plain {
    /// Those that are kept.
    Kept,
    /// Those that are not.
    Gone,
    /// Those that a run waits for.
    Child,
}

impl Inner {
    pub(super) async fn job_settle(&self, ask: &SettleJobs) -> Result<Vec<SettledJob>> {
        let mut entries: Vec<Entry<'_>> =
            ask.jobs.iter().enumerate().map(|(at, ask)| Entry { at, ask, rescue: None }).collect();
        entries.sort_by(|a, b| name_of(a).cmp(&name_of(b)));
        let (done, mut others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| is_plain(entry.ask));
        let (children, done): (Vec<_>, Vec<_>) =
            done.into_iter().partition(|entry| entry.ask.parent.is_some());
        let (kept, gone): (Vec<_>, Vec<_>) = done.into_iter().partition(|entry| !entry.ask.retain.is_zero());
        let parts = [(kept, Plain::Kept), (gone, Plain::Gone), (children, Plain::Child)];
        let mut answers = vec![SettledJob::Gone; ask.jobs.len()];
        // The claims go with the last of their jobs, and not before.
        let alone = others.is_empty() && parts.iter().filter(|(entries, _)| !entries.is_empty()).count() <= 1;
        let finished: Vec<Uuid> = ask.finished.iter().map(|claim| claim.as_uuid()).collect();
        let with = if alone { finished.as_slice() } else { &[] };
        for (entries, plain) in parts {
            if !entries.is_empty() {
                others.extend(self.settle_plain(&entries, plain, with, &mut answers).await?);
            }
        }
        let closed = alone && others.is_empty() && !ask.jobs.is_empty();
        if !others.is_empty() {
            others.sort_by(|a, b| name_of(a).cmp(&name_of(b)));
            self.settle_others(others, &mut answers).await?;
        }
        if !closed && !finished.is_empty() {
            let params: &[Param<'_>] = &[&finished];
            let call =
                Call { verb: VERB, statement: &self.sql.job_settle_closed, params, rows: finished.len() };
            self.end_link().write(&call).await?;
        }
        Ok(answers)
    }

    /// Records successes of jobs that lie where they were claimed, and returns those that don't.
    async fn settle_plain<'a>(
        &self,
        entries: &[Entry<'a>],
        plain: Plain,
        finished: &[Uuid],
        answers: &mut [SettledJob],
    ) -> Result<Vec<Entry<'a>>> {
        let groups = Groups::of(entries);
        let results = entries.iter().any(|entry| entry.ask.next.result.is_some());
        let result = |entry: &Entry<'a>| result_columns(entry.ask.next.result.as_ref());
        // Mostly there are no results, and then they need not be read either.
        let with_results: &[Entry<'a>] = if results { entries } else { &[] };
        let params: &[Param<'_>] = &[
            &groups.column(|ask| ask.job.namespace.as_str()),
            &groups.column(|ask| ask.fence.get()),
            &groups.column(|ask| ask.token.get()),
            &groups.column(|ask| Instant(ask.started_at)),
            &groups.column(|ask| ask.worker.as_str()),
            &groups.column(|ask| i32::try_from(ask.next.attempt).unwrap_or(i32::MAX)),
            &groups.column(|ask| i32::try_from(ask.next.lost).unwrap_or(i32::MAX)),
            &groups.column(|ask| micros(ask.retain)),
            &groups.of,
            &column(entries, |entry| entry.ask.job.id.as_uuid()),
            &column(entries, |entry| entry.ask.place.0.map(Tid)),
            &column(with_results, |entry| result(entry).0),
            &column(with_results, |entry| result(entry).1),
            &column(with_results, |entry| result(entry).2),
            &finished,
            &column(entries, |entry| entry.ask.parent.map(onceward_core::JobId::as_uuid)),
        ];
        let [namespace, fence, .., of, id, place, _, _, _, finished, _] = params else {
            return Ok(entries.to_vec());
        };
        let few: &[Param<'_>] = &[*namespace, *fence, *of, *id, *place, *finished];
        let (statement, params): (&Statement, _) = match plain {
            Plain::Kept => (&self.sql.job_settle_done, params.get(..params.len() - 1).unwrap_or_default()),
            Plain::Gone => (&self.sql.job_settle_gone, few),
            Plain::Child => (&self.sql.job_settle_child, params),
        };
        let call = Call { verb: VERB, statement, params, rows: entries.len() };
        let mut left: Vec<Option<Entry<'a>>> = entries.iter().copied().map(Some).collect();
        for row in self.end_link().write(&call).await? {
            let recorded: Option<Vec<i64>> = Columns::of(&row).get()?;
            for n in recorded.unwrap_or_default() {
                let slot = usize::try_from(n).ok().and_then(|n| left.get_mut(n.checked_sub(1)?));
                let entry = slot.and_then(Option::take).ok_or_else(|| unasked(VERB))?;
                if let Some(answer) = answers.get_mut(entry.at) {
                    *answer = SettledJob::Applied(State::Succeeded);
                }
            }
        }
        Ok(left.into_iter().flatten().collect())
    }

    async fn settle_others(&self, entries: Vec<Entry<'_>>, answers: &mut [SettledJob]) -> Result<()> {
        let mut open = entries;
        for round in 0..ROUNDS {
            if round > 1 {
                sleep(PAUSE).await;
            }
            let recorded = self.settle_any(VERB, &open).await?;
            for (at, state) in &recorded.states {
                if let Some(answer) = answers.get_mut(*at) {
                    *answer = SettledJob::Applied(*state);
                }
            }
            open.retain(|entry| recorded.states.iter().all(|(at, _)| *at != entry.at));
            self.tell_queues(recorded.ready);
            if recorded.frees {
                self.admit_soon().await;
            }
            if !open.is_empty() {
                open = self.settle_why(&open, answers).await?;
            }
            if open.is_empty() {
                return Ok(());
            }
        }
        // Whoever sent them can send all but these once more: a transaction may stay open for long.
        Err(Error::new(Code::KeyLocked, "a transaction that has not ended holds the row").at(VERB))
    }

    /// Records endings of every kind, as far as they apply and nobody has locked the row.
    pub(super) async fn settle_any(&self, verb: &'static str, entries: &[Entry<'_>]) -> Result<Recorded> {
        let next = |entry: &Entry<'_>| entry.ask.next.state;
        let results = column(entries, |entry| result_columns(entry.ask.next.result.as_ref()));
        let params: &[Param<'_>] = &[
            &column(entries, |entry| entry.ask.job.namespace.as_str()),
            &column(entries, |entry| entry.ask.job.id.as_uuid()),
            &column(entries, |entry| entry.ask.fence.get()),
            &column(entries, |entry| entry.ask.token.get()),
            &column(entries, |entry| Instant(entry.ask.started_at)),
            &column(entries, |entry| Some(entry.ask.worker.as_str()).filter(|worker| !worker.is_empty())),
            &column(entries, |entry| next(entry).as_str()),
            &column(entries, |entry| i32::try_from(entry.ask.next.attempt).unwrap_or(i32::MAX)),
            &column(entries, |entry| i32::try_from(entry.ask.next.lost).unwrap_or(i32::MAX)),
            &column(entries, |entry| entry.ask.next.delay.map(micros)),
            &column(entries, |entry| entry.ask.next.error.as_deref()),
            &results.iter().map(|(bytes, _, _)| *bytes).collect::<Vec<_>>(),
            &results.iter().map(|(_, kind, _)| *kind).collect::<Vec<_>>(),
            &results.iter().map(|(_, _, size)| *size).collect::<Vec<_>>(),
            &column(entries, |entry| past_to_text(&entry.ask.next.past)),
            &column(entries, |entry| entry.ask.next.alone),
            &column(entries, |entry| micros(entry.ask.retain)),
            &column(entries, |entry| entry.rescue.is_some()),
            &column(entries, |entry| entry.rescue.and_then(|lost| lost.session)),
            &column(entries, |entry| entry.rescue.and_then(|lost| lost.begun).map(Token::get)),
            &column(entries, |entry| entry.ask.parent.map(onceward_core::JobId::as_uuid)),
        ];
        let call = Call { verb, statement: &self.sql.job_settle, params, rows: entries.len() };
        let mut recorded = Recorded::default();
        for row in self.end_link().write(&call).await? {
            let mut columns = Columns::of(&row);
            let entry = entry_of(entries, &mut columns, verb)?;
            let state = columns.word(State::from_word)?;
            recorded.states.push((entry.at, state));
            let queue = columns.get::<&str>()?;
            if state == State::Ready {
                recorded.ready.push((entry.ask.job.namespace.clone(), Queue::from_row(queue)));
            }
            recorded.frees |= columns.get::<bool>()?;
        }
        Ok(recorded)
    }

    /// Finds out why these could not be recorded, and returns those that can be after all.
    async fn settle_why<'a>(
        &self,
        entries: &[Entry<'a>],
        answers: &mut [SettledJob],
    ) -> Result<Vec<Entry<'a>>> {
        let params: &[Param<'_>] = &[
            &column(entries, |entry| entry.ask.job.namespace.as_str()),
            &column(entries, |entry| entry.ask.job.id.as_uuid()),
        ];
        let call = Call { verb: VERB, statement: &self.sql.job_settle_why, params, rows: entries.len() };
        let mut again = Vec::new();
        for entry in entries {
            if let Some(answer) = answers.get_mut(entry.at) {
                *answer = SettledJob::Gone;
            }
        }
        for row in self.end_link().read(&call).await? {
            let mut columns = Columns::of(&row);
            let entry = entry_of(entries, &mut columns, VERB)?;
            let (token, state) = (columns.token()?, columns.word(State::from_word)?);
            let Some(answer) = answers.get_mut(entry.at) else { continue };
            let evidence = entry.ask.next.state.is_final() && entry.ask.next.state != State::Uncertain;
            let late = state == State::Uncertain && token == entry.ask.fence && evidence;
            if (token < entry.ask.fence && !state.is_final()) || late {
                // Somebody had it locked.
                again.push(*entry);
            } else if token == entry.ask.token {
                *answer = SettledJob::Already(state);
            } else {
                *answer = SettledJob::Stale;
            }
        }
        Ok(again)
    }
}

/// Whether an ending can go the short way.
fn is_plain(ask: &SettleJob) -> bool {
    let succeeded = ask.next.state == State::Succeeded && ask.next.error.is_none();
    succeeded && ask.place.0.is_some()
}

fn name_of<'a>(entry: &Entry<'a>) -> (&'a Namespace, onceward_core::JobId) {
    (&entry.ask.job.namespace, entry.ask.job.id)
}

fn column<'a, V>(entries: &[Entry<'a>], value: impl Fn(&Entry<'a>) -> V) -> Vec<V> {
    entries.iter().map(value).collect()
}

/// The entry in the place that a row names, counted from 1.
fn entry_of<'e, 'a>(
    entries: &'e [Entry<'a>],
    columns: &mut Columns<'_>,
    verb: &'static str,
) -> Result<&'e Entry<'a>> {
    let n: i64 = columns.get()?;
    let entry = usize::try_from(n).ok().and_then(|n| entries.get(n.checked_sub(1)?));
    entry.ok_or_else(|| unasked(verb))
}

/// What endings have in common, said once: of each group the first one, and to which each of them belongs.
struct Groups<'a> {
    first: Vec<&'a SettleJob>,
    of: Vec<i32>,
}

impl<'a> Groups<'a> {
    fn of(entries: &[Entry<'a>]) -> Self {
        let mut groups = Self { first: Vec::new(), of: Vec::with_capacity(entries.len()) };
        let mut last = 0;
        for entry in entries {
            let same = |first: &&SettleJob| alike(first, entry.ask);
            // Mostly the same as the one before, else one of the newest claims.
            if !groups.first.get(last).is_some_and(same) {
                last = groups.first.iter().rposition(same).unwrap_or_else(|| {
                    groups.first.push(entry.ask);
                    groups.first.len() - 1
                });
            }
            groups.of.push(i32::try_from(last + 1).unwrap_or(i32::MAX));
        }
        groups
    }

    fn column<V>(&self, value: impl Fn(&'a SettleJob) -> V) -> Vec<V> {
        self.first.iter().copied().map(value).collect()
    }
}

fn alike(a: &SettleJob, b: &SettleJob) -> bool {
    (a.fence, a.token, a.started_at, a.next.attempt, a.next.lost, a.retain)
        == (b.fence, b.token, b.started_at, b.next.attempt, b.next.lost, b.retain)
        && a.job.namespace == b.job.namespace
        && a.worker == b.worker
}

/// The rows of a statement that answers one number.
pub(super) fn number(rows: &[Row]) -> Result<u64> {
    let number: i64 = rows.first().map_or(Ok(0), |row| Columns::of(row).get())?;
    Ok(u64::try_from(number).unwrap_or(0))
}
