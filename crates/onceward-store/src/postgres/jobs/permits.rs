//! Limits of queues, and the permits that sessions hold of them (J11). Core decides over what was read; what it has
//! decided is written if nobody was given a permit meanwhile.

use core::time::Duration;

use onceward_core::job::limit::{Bucket, Limits, Rate};
use onceward_core::job::permit::{Granted, Permit, Standing, grant};
use onceward_core::{Result, SessionId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::Inner;
use super::super::lease::in_the_way;
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, Instant};
use crate::store::{AskPermits, LimitQueue, Permits};

const VERB: &str = "queue.permits";

/// After this time no claim is under way any more that did not see the limits: it is one statement, which waits for
/// nobody.
const SETTLES: Duration = Duration::from_secs(1);
/// How often one asks again because somebody else was first.
const ROUNDS: usize = 20;

/// A limited queue as it was read.
struct Seen {
    standing: Standing,
    /// Which state of it.
    version: i64,
    /// Whether the session lasts that asks.
    lasts: bool,
}

impl Inner {
    pub(super) async fn queue_limit(&self, ask: &LimitQueue) -> Result<()> {
        let number = |number: Option<u32>| number.and_then(|number| i32::try_from(number).ok());
        let (limits, any) = (ask.limits, ask.limits.any());
        let call = Call {
            verb: "queue.limit",
            statement: &self.sql.queue_limit,
            params: &[
                &ask.namespace.as_str(),
                &ask.queue.as_str(),
                &number(limits.concurrency),
                &number(limits.rate.map(|rate| rate.count)),
                &limits.rate.and_then(|rate| i64::try_from(rate.per.as_micros()).ok()),
                &number(limits.burst),
                &ask.actor.as_str(),
                &any,
            ],
            rows: 1,
        };
        self.admin.write(&call).await?;
        self.wakes.tell_jobs(&ask.namespace, &ask.queue);
        Ok(())
    }

    pub(super) async fn queue_permits(&self, batch: &[AskPermits]) -> Result<Vec<Permits>> {
        let mut permits = Vec::with_capacity(batch.len());
        for ask in batch {
            permits.push(self.permits(ask).await?);
        }
        Ok(permits)
    }

    async fn permits(&self, ask: &AskPermits) -> Result<Permits> {
        let params: &[Param<'_>] = &[&ask.namespace.as_str(), &ask.queue.as_str(), &ask.session.as_uuid()];
        for _ in 0..ROUNDS {
            let call = Call { verb: VERB, statement: &self.sql.permits_read, params, rows: 1 };
            let Some(seen) = seen(&self.end_link().read(&call).await?)? else {
                return Ok(Permits::default());
            };
            let limits = seen.standing.limits;
            if !seen.lasts {
                return Ok(Permits::none(limits));
            }
            let granted = grant(&seen.standing, &ask.wish());
            if self.write_permit(ask, &seen, &granted).await? {
                return Ok(Permits::of(limits, &granted, seen.standing.now));
            }
        }
        Err(in_the_way(VERB))
    }

    /// Writes what was decided; `false` if somebody else was first.
    async fn write_permit(&self, ask: &AskPermits, seen: &Seen, granted: &Granted) -> Result<bool> {
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let Granted { permit, bucket, .. } = granted;
        let params: &[Param<'_>] = &[
            &ask.namespace.as_str(),
            &ask.queue.as_str(),
            &seen.version,
            &bucket.tokens,
            &Instant(bucket.at),
            &number(bucket.lent),
            &seen.standing.is_unsettled_after(),
            &permit.session.as_uuid(),
            &permit.setting,
            &number(permit.wanted),
            &number(permit.share),
            &number(permit.held),
            &number(permit.starts),
            &Instant(permit.starts_until),
            &Instant(permit.asked_at),
        ];
        let call = Call { verb: VERB, statement: &self.sql.permits_grant, params, rows: 1 };
        Ok(!self.end_link().write(&call).await?.is_empty())
    }
}

/// The columns of limits.
pub(super) fn limits(columns: &mut Columns<'_>) -> Result<Limits> {
    let concurrency = columns.get::<Option<i32>>()?.map(count);
    let (rate, per) = (columns.get::<Option<i32>>()?, columns.get::<Option<i64>>()?);
    let per = per.map(|per| Duration::from_micros(u64::try_from(per).unwrap_or(0)));
    let rate = rate.zip(per).map(|(rate, per)| Rate { count: count(rate), per });
    Ok(Limits { concurrency, rate, burst: columns.get::<Option<i32>>()?.map(count) })
}

fn count(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}

/// The rows of the step read; nothing if the queue is not limited.
fn seen(rows: &[Row]) -> Result<Option<Seen>> {
    let mut seen: Option<Seen> = None;
    for row in rows {
        let mut columns = Columns::of(row);
        let limits = limits(&mut columns)?;
        let (setting, limits_at, version) = (columns.get()?, columns.time()?, columns.get()?);
        let bucket =
            Bucket { tokens: columns.get()?, at: columns.time()?, lent: columns.get::<i32>().map(count)? };
        let jobs = |jobs: i64| u32::try_from(jobs).unwrap_or(u32::MAX);
        let (strays, running) = (jobs(columns.get()?), jobs(columns.get()?));
        let (lasts, now) = (columns.get()?, columns.time()?);
        let seen = seen.get_or_insert_with(|| Seen {
            standing: Standing {
                limits,
                setting,
                limits_at,
                bucket,
                permits: Vec::with_capacity(rows.len()),
                strays,
                running,
                now,
                settles: SETTLES,
            },
            version,
            lasts,
        });
        let Some(holder) = columns.get::<Option<Uuid>>()? else { continue };
        seen.standing.permits.push(Permit {
            session: SessionId::from_uuid(holder),
            setting,
            wanted: columns.get::<i32>().map(count)?,
            share: columns.get::<i32>().map(count)?,
            held: columns.get::<i32>().map(count)?,
            starts: columns.get::<i32>().map(count)?,
            starts_until: columns.time()?,
            asked_at: columns.time()?,
        });
    }
    Ok(seen)
}
