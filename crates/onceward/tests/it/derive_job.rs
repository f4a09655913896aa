//! `#[derive(Job)]`: what it makes. What it refuses is tested beside the macro.

use std::time::Duration;

use onceward::jobs::JobOptions;
use onceward::{Job, Onceward};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "mail.welcome", queue = "mail", max_attempts = 8, timeout = "30s", priority = -5)]
#[job(retry = "exponential 2s max 15m", retain = "0s", at_most_once)]
struct Welcome<T: Send + Serialize + for<'a> Deserialize<'a> + 'static> {
    #[serde(bound = "")]
    to: T,
}

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "tick")]
enum Tick {
    Tock,
}

#[test]
fn a_derived_job_is_what_was_said() {
    let said = JobOptions::new()
        .queue("mail")
        .max_attempts(8)
        .timeout(Duration::from_secs(30))
        .priority(-5)
        .retry("exponential 2s max 15m")
        .retain(Duration::ZERO)
        .at_most_once();
    assert_eq!((Welcome::<u64>::KIND, Welcome::<u64>::OPTIONS), ("mail.welcome", said));
    assert_eq!((Tick::KIND, Tick::OPTIONS), ("tick", JobOptions::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_derived_is_what_is_enqueued() {
    let ow = Onceward::connect("memory:").await.unwrap();
    let enqueued = ow.enqueue(Welcome { to: 42_u64 }).priority(7).await.unwrap();
    let row = ow.admin().job(enqueued.id).await.unwrap();
    assert_eq!((row.kind.as_str(), row.queue.as_str(), row.priority), ("mail.welcome", "mail", 7));
    assert_eq!((row.policy.max_attempts, row.policy.at_most_once), (8, true));
    assert_eq!(row.payload.bytes, b"{\"to\":42}");
    let tick = ow.enqueue(Tick::Tock).await.unwrap();
    assert_eq!(ow.admin().job(tick.id).await.unwrap().payload.bytes, b"\"Tock\"");
}
