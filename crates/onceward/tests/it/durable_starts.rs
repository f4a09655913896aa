//! What is said about a run at its start, and what becomes of that: in its children, in its code, in another store.

use std::sync::Arc;
use std::time::Duration;

use crate::durable_kit::{Place, each};
use crate::pg;
use onceward::durable::{AnyError, Failure, RecordedRun, Standing, durable, now, signal, sleep, step, trace};
use onceward::jobs::Retry;
use onceward::store::clock::LeapingClock;
use onceward::worker::State;
use onceward::{Job, JobFilter, JobId, Onceward};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const HOUR: Duration = Duration::from_secs(3_600);

#[durable]
async fn traced() -> Result<Option<String>, AnyError> {
    Ok(trace()?)
}

#[derive(serde::Serialize, serde::Deserialize, Job)]
#[job(kind = "mail")]
struct Mail(u32);

#[durable]
async fn parent(ow: State<Onceward>) -> Result<Option<String>, AnyError> {
    let of_child = traced().await?;
    let own = trace()?;
    assert_eq!(of_child, own);
    let mail = || async {
        ow.enqueue(Mail(1)).trace(own.clone().unwrap_or_default()).await?;
        Ok::<(), AnyError>(())
    };
    step("mail", mail).await?;
    sleep(Duration::from_millis(1)).await?;
    Ok(trace()?)
}

/// The trace of a run is that of its children, and its code can give it to others.
#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_start_goes_along() {
    assert!(trace().is_err(), "there is no run here");
    each(async |Place { ow, .. }| {
        let base = ow.worker().state(ow.clone()).durable(parent).durable(traced);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let run = ow.start(parent()).trace(TRACE).await.unwrap();
        assert_eq!(run.result().await, Ok(Some(TRACE.to_owned())), "on {}", ow.store().url());
        let named = ow.start_named("traced", &serde_json::json!({})).trace(TRACE).await.unwrap();
        assert_eq!(ow.run::<traced>(named.id).result().await, Ok(Some(TRACE.to_owned())));
        let rows = ow.admin().jobs(&JobFilter::default(), None, 10).await.unwrap().rows;
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.trace.as_deref() == Some(TRACE)), "{rows:?}");
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn waits() -> Result<u32, Failure> {
    signal::<u32>("go").await
}

#[durable]
async fn waits_for_a_child() -> Result<u32, AnyError> {
    Ok(waits().expiry(HOUR).await?)
}

/// W43, G1: how long a run may take is counted by the clock of the store, whatever time its maker believes it is.
#[tokio::test(flavor = "multi_thread")]
async fn w43_an_expiry_counts_by_the_clock_of_the_store() {
    let schema = pg::Schema::migrated().await;
    let clock = LeapingClock::default();
    clock.leap(HOUR);
    let ahead = Onceward::options().short_ttls_for_tests().clock(Arc::new(clock));
    let ahead = ahead.connect(schema.url()).await.unwrap();
    let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
    let expires = async |id: JobId| {
        let row = ow.admin().job(id).await.unwrap();
        row.policy.deadline.unwrap().since(row.enqueued_at)
    };
    let typed = ahead.start(waits()).expiry(Duration::from_secs(60)).await.unwrap();
    assert_eq!(expires(typed.id()).await, Duration::from_secs(60));
    let none = serde_json::json!({});
    let named = ahead.start_named("waits", &none).expiry(Duration::from_secs(60)).await.unwrap();
    assert_eq!(expires(named.id).await, Duration::from_secs(60));
    // So with a child, whose worker is the one that is ahead; and it expires when it should.
    let worker = ahead.worker().durable(waits_for_a_child).durable(waits).start().await.unwrap();
    let parent = ahead.start(waits_for_a_child()).expiry(Duration::from_millis(900)).await.unwrap();
    let child = async || {
        let rows = ow.admin().jobs(&JobFilter::default(), None, 10).await.unwrap().rows;
        rows.into_iter().find(|row| row.parent == Some(parent.id()))
    };
    let found = loop {
        match child().await {
            Some(row) => break row,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let of_parent = ow.admin().job(parent.id()).await.unwrap().policy.deadline;
    assert_eq!(found.policy.deadline, of_parent, "nobody waits for it any longer");
    assert_eq!(parent.result().await, Err(Failure::TimedOut));
    assert_eq!(parent.standing().await.unwrap(), Standing::Expired);
    worker.shutdown().await;
    ahead.shutdown().await;
    ow.shutdown().await;
}

#[durable]
async fn when() -> Result<i64, AnyError> {
    let began = now()?;
    sleep(Duration::from_millis(5)).await?;
    Ok(began.as_micros())
}

/// D8: a run that begins later begins at its time, for its code as well; each time it comes by.
#[tokio::test(flavor = "multi_thread")]
async fn d8_a_delayed_run_begins_at_its_time() {
    each(async |Place { ow, .. }| {
        let worker = ow.worker().durable(when).park_after(Duration::ZERO).start().await.unwrap();
        let run = ow.start(when()).delay(Duration::from_millis(150)).await.unwrap();
        let began = run.result().await.unwrap();
        let row = ow.admin().job(run.id()).await.unwrap();
        let due = row.enqueued_at.after(Duration::from_millis(150)).as_micros();
        assert_eq!(began, due, "on {}", ow.store().url());
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn told(number: u32) -> Result<u32, AnyError> {
    Ok(signal::<u32>("go").await? + number)
}

/// A run that goes on in another store is what was said about it there, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_about_a_run_goes_along_to_another_store() {
    let retry: Retry = "fixed 7s".parse().unwrap();
    each(async |place| {
        let worker = place.ow.worker().durable(told).park_after(Duration::ZERO).start().await.unwrap();
        let call = told(1).max_attempts(7).retry(retry).timeout(HOUR).at_most_once();
        let run = place.ow.start(call).ordering_key("customer 1").trace(TRACE).expiry(HOUR).await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        worker.shutdown().await;
        let was = place.ow.admin().job(run.id()).await.unwrap();
        let file = place.ow.admin().export_run(run.id()).await.unwrap().to_lines().unwrap();
        let recorded = RecordedRun::read(&file).unwrap().remove(0);
        assert_eq!(recorded.to_lines().unwrap(), file);
        let there = Onceward::connect("memory:").await.unwrap();
        assert!(there.admin().import_run(&recorded).await.unwrap());
        let is = there.admin().job(run.id()).await.unwrap();
        let said = |row: &onceward::jobs::Record| {
            let policy = &row.policy;
            let how = (policy.max_attempts, policy.retry, policy.timeout, policy.at_most_once);
            (how, policy.deadline, row.ordering_key.clone(), row.trace.clone())
        };
        assert_eq!(said(&is), said(&was), "from {}", place.ow.store().url());
        let worker = there.worker().durable(told).start().await.unwrap();
        there.run::<told>(run.id()).signal("go", &2_u32).await.unwrap();
        assert_eq!(there.run::<told>(run.id()).result().await, Ok(3));
        worker.shutdown().await;
        there.shutdown().await;
    })
    .await;
}
