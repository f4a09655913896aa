//! Leases with several holders: one ask, one statement, the lowest place that is free.

use onceward_core::Result;
use onceward_core::lease::Ask;

use super::Inner;
use super::lease::{Met, met};
use super::link::{Call, Link};
use super::row::{Columns, millis};
use crate::store::Acquired;

/// How often an ask is sent again while there are places, but others are taking them.
const ROUNDS: usize = 16;

impl Inner {
    pub(super) async fn acquire_counted(&self, ask: &Ask) -> Result<Acquired> {
        let mut met = Met::Nothing;
        for _ in 0..ROUNDS {
            let busy;
            (met, busy) = self.counted_round(ask).await?;
            // A place counts as taken only while it is held: fewer than there are places means that one was free, but
            // locked. Whether it was the one shown does not matter.
            if let Some(answer) = met.answer(ask, 0) {
                match &answer {
                    Acquired::Held { by: Some(_), .. }
                        if busy < i64::from(ask.capacity) && !met.is_ahead() => {}
                    _ => return Ok(answer),
                }
            }
        }
        met.last_answer()
    }

    async fn counted_round(&self, ask: &Ask) -> Result<(Met, i64)> {
        let call = Call {
            verb: "lease.acquire",
            statement: &self.sql.acquire_counted,
            params: &[
                &ask.namespace.as_str(),
                &ask.key.as_str(),
                &ask.owner.as_str(),
                &ask.session.as_uuid(),
                &millis(ask.ttl),
                &ask.hard_ttl.map(millis),
                &millis(ask.lock_delay),
                &ask.metadata,
                &ask.watched.map(|watched| watched.token.get()),
                &ask.watched.map(|watched| watched.heartbeats),
                &i64::from(ask.capacity),
            ],
            rows: 1,
        };
        let (mut seen, mut busy) = (Met::Nothing, 0);
        for row in Link::idlest(&self.begin).write(&call).await? {
            let mut columns = Columns::of(&row);
            let granted = columns.get()?;
            columns.skip(2);
            seen = met(ask, granted, &mut columns)?;
            if granted {
                break;
            }
            busy = Columns::last(&row)?;
        }
        Ok((seen, busy))
    }
}
