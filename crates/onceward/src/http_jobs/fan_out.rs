//! Telling of an event: its job becomes one delivery for each endpoint that wants it.

use core::time::Duration;

use onceward_core::endpoint::{self, Event};
use onceward_core::job::New;
use onceward_core::{Error, Result, limits};
use serde_json::json;

use super::known::Known;
use crate::bells::News;
use crate::endpoints::unreadable;
use crate::worker::{JobContext, Outcome};

/// How soon an event is looked at again of which an endpoint that can't be read may have to be told.
pub(super) const DAMAGED: Duration = Duration::from_secs(30);
/// What a delivery takes of memory beside its texts, about.
const ROW_BYTES: usize = 512;

/// One attempt. What is enqueued has ids that follow from the event: an attempt that is made again enqueues nothing
/// twice. An endpoint that can't be told keeps nobody else from it.
pub(super) async fn fan_out(known: &Known, job: &JobContext) -> Outcome {
    let event = match Event::from_payload(&job.payload().bytes) {
        Ok(event) => event,
        Err(error) => return Outcome::dead(error),
    };
    let client = job.client();
    let endpoints = match known.all(client, job.job().enqueued_at).await {
        Ok(endpoints) => endpoints,
        Err(error) => return Outcome::not_started(error),
    };
    let mut parts = Parts { made: endpoint::deliveries(&event, job.job(), &endpoints.rows), trouble: None };
    let (mut count, now) = (0, client.clock().wall());
    while let Some(part) = parts.next() {
        count += part.len();
        let mut news: Vec<News> = part.iter().map(|new| News::of(new, now)).collect();
        news.sort_unstable();
        news.dedup();
        if let Err(error) = client.inner.lanes.enqueue_many(part).await {
            return Outcome::not_started(error.at("event.fan_out"));
        }
        news.iter().for_each(|news| client.inner.bells.tell(news));
    }
    if let Some(error) = parts.trouble {
        return Outcome::dead(error);
    }
    // Nobody knows whether it wants this: it is looked at again, uncharged, until somebody has mended or removed it.
    if let Some((name, _)) = endpoints.unreadable.first() {
        job.is_stuck(unreadable(name).to_string());
        return Outcome::Snooze(DAMAGED);
    }
    Outcome::done(&json!({ "deliveries": count }))
}

/// The deliveries of an event, a part at a time: each of them holds the body, and there may be thousands.
struct Parts<I> {
    made: I,
    /// The first one that could not be made.
    trouble: Option<Error>,
}

impl<I: Iterator<Item = Result<New>>> Parts<I> {
    /// As much as goes to the store at the same time.
    fn next(&mut self) -> Option<Vec<New>> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while part.len() < limits::PAGE_ROWS_MAX && bytes < limits::BATCH_BYTES_MAX {
            match self.made.next() {
                Some(Ok(new)) => {
                    let metadata = new.metadata.as_ref().map_or(0, String::len);
                    bytes += new.payload.bytes.len() + metadata + ROW_BYTES;
                    part.push(new);
                }
                Some(Err(error)) => {
                    self.trouble.get_or_insert(error);
                }
                None => break,
            }
        }
        (!part.is_empty()).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use onceward_core::job::Payload;
    use onceward_core::{Code, JobId, Kind, Namespace};

    use super::*;

    fn delivery(bytes: usize) -> Result<New> {
        let payload = Payload { bytes: vec![0; bytes], content_type: "x".to_owned() };
        let id = JobId::from_uuid(uuid::Uuid::now_v7());
        Ok(New::of_kind(Namespace::default(), id, Kind::from_row("http"), payload))
    }

    /// However many endpoints there are and however large the body is, a few copies of it are in memory at a time.
    #[test]
    fn a_large_event_is_told_a_few_endpoints_at_a_time() {
        let made = Cell::new(0);
        let all = (0..100).map(|_| {
            made.set(made.get() + 1);
            delivery(1024 * 1024 - 1024)
        });
        let mut parts = Parts { made: all, trouble: None };
        let mut told = 0;
        while let Some(part) = parts.next() {
            let bytes: usize = part.iter().map(|new| new.payload.bytes.len()).sum();
            assert!(bytes <= limits::BATCH_BYTES_MAX + limits::PAYLOAD_BYTES_MAX, "{bytes}");
            told += part.len();
            assert_eq!(made.get(), told, "nothing is made before it is its turn");
        }
        assert_eq!(told, 100);
    }

    #[test]
    fn small_ones_go_in_large_parts_and_a_bad_one_is_passed_over() {
        let all = (0..1_000).map(|number| match number {
            7 => Err(Error::new(Code::EndpointInvalid, "odd")),
            _ => delivery(10),
        });
        let mut parts = Parts { made: all, trouble: None };
        let sizes: Vec<usize> = core::iter::from_fn(|| parts.next()).map(|part| part.len()).collect();
        assert_eq!(sizes, [limits::PAGE_ROWS_MAX, 999 - limits::PAGE_ROWS_MAX]);
        assert_eq!(parts.trouble.unwrap().code(), Code::EndpointInvalid);
    }
}
