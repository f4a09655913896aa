//! Handing jobs over: enqueued and claimed in one statement, for a worker that starts them at once.

use std::collections::HashMap;

use onceward_core::job::{Claimed, New, Record};
use onceward_core::{JobId, Result};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::Inner;
use super::super::link::Link;
use super::super::live::Param;
use super::super::row::Columns;
use super::claim::edge_of;
use super::enqueue::{Entry, Sending};
use crate::store::{ClaimedJobs, Enqueued, HandOver, HandedOver};

impl Inner {
    pub(super) async fn job_hand_over(&self, ask: &HandOver) -> Result<HandedOver> {
        let entries = ask.jobs.iter().enumerate().map(|(at, new)| Entry { at, new }).collect();
        let (mut first, heard) = self.partition(entries);
        if first.is_empty() && heard.is_empty() {
            return Ok(HandedOver::default());
        }
        if heard.is_empty() {
            first.sort_by_key(|entry| entry.new.id);
            let more: &[Param<'_>] = &[&ask.session.as_uuid(), &ask.claim.as_uuid(), &ask.namespace.as_str()];
            let link = Link::idlest(&self.begin);
            let sending = Sending { statement: &self.sql.enqueue_handed, link, now: None };
            if let Some(rows) = self.write_new(&sending, &first, more, &mut None).await? {
                return self.handed(ask, &rows);
            }
        }
        // Sent before, or perhaps: what is not there yet waits in its lane, what was claimed is found.
        let enqueued = self.job_enqueue(&ask.jobs).await?;
        let claimed = self.claimed_again(ask.claim).await?;
        Ok(HandedOver { enqueued, claimed })
    }

    fn handed(&self, ask: &HandOver, rows: &[Row]) -> Result<HandedOver> {
        let mut claimed = ClaimedJobs::default();
        let mut open: HashMap<JobId, &New> = ask.jobs.iter().map(|new| (new.id, new)).collect();
        for row in rows {
            let mut columns = Columns::of(row);
            let token = columns.token()?;
            claimed.now = columns.time()?;
            let id = JobId::from_uuid(columns.get::<Uuid>()?);
            if let Some(new) = open.remove(&id) {
                let row = Record::of_new(new, claimed.now);
                claimed.jobs.push(Claimed { job: Record { place: columns.place()?, ..row }, token });
            }
        }
        claimed.jobs.sort_by_key(|claimed| edge_of(&claimed.job));
        self.tell_of(open.into_values());
        let enqueued = ask.jobs.iter().map(|new| Enqueued::Created(new.id)).collect();
        Ok(HandedOver { enqueued, claimed })
    }
}
