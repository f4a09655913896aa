//! Telling of an event: its job becomes one delivery for each endpoint that wants it.

use onceward_core::endpoint::{self, Event};
use onceward_core::limits;
use serde_json::json;

use super::known::Known;
use crate::bells::News;
use crate::worker::{JobContext, Outcome};

/// How many deliveries are sent to the store at the same time: what they take of memory is the body, so many times.
const AT_ONCE: usize = limits::PAGE_ROWS_MAX;

/// One attempt. What is enqueued has ids that follow from the event: an attempt that is made again enqueues nothing
/// twice.
pub(super) async fn fan_out(known: &Known, job: &JobContext) -> Outcome {
    let event = match Event::from_payload(&job.payload().bytes) {
        Ok(event) => event,
        Err(error) => return Outcome::dead(error),
    };
    let client = job.client();
    let deliveries = match known.all(client, job.job().enqueued_at).await {
        Ok(endpoints) => endpoint::deliveries(&event, job.job(), endpoints.iter()),
        Err(error) => return Outcome::not_started(error),
    };
    let deliveries = match deliveries {
        Ok(deliveries) => deliveries,
        Err(error) => return Outcome::dead(error),
    };
    if let Some(error) = deliveries.iter().find_map(|new| new.check().err()) {
        return Outcome::dead(error);
    }
    let (count, now) = (deliveries.len(), client.clock().wall());
    for part in deliveries.chunks(AT_ONCE) {
        let mut news: Vec<News> = part.iter().map(|new| News::of(new, now)).collect();
        news.sort_unstable();
        news.dedup();
        if let Err(error) = client.inner.lanes.enqueue_many(part.to_vec()).await {
            return Outcome::not_started(error.at("event.fan_out"));
        }
        news.iter().for_each(|news| client.inner.bells.tell(news));
    }
    Outcome::done(&json!({ "deliveries": count }))
}
