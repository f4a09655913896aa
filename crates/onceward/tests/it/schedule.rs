//! Schedules: each tick once, whatever becomes of the scheduler.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use onceward::durable::{AnyError, durable, step};
use onceward::jobs::State;
use onceward::schedule::{OnMissed, Overlap};
use onceward::store::clock::{Clock, ManualClock};
use onceward::store::faulty::{Fault, Faulty};
use onceward::store::memory::MemoryStore;
use onceward::store::{ListJobs, Store};
use onceward::{Code, ConnectOptions, Job, Onceward, ScheduleName, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::places::{Place, on_each_store};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "report")]
struct Report {
    of: String,
}

on_each_store! {
    j12_each_tick_is_enqueued_once_by_several_schedulers,
    a_tick_starts_a_durable_run_that_a_worker_finishes,
    a_declaration_twice_changes_nothing_and_another_one_does,
    overlap_policies_hold_on_every_store,
}

fn report() -> Report {
    Report { of: "sales".to_owned() }
}

fn client(store: &Arc<dyn Store>) -> Onceward {
    ConnectOptions::new().short_ttls_for_tests().build(Arc::clone(store)).unwrap()
}

fn name(text: &str) -> ScheduleName {
    ScheduleName::new(text).unwrap()
}

async fn jobs(ow: &Onceward) -> Vec<onceward::jobs::Record> {
    let ask = ListJobs { limit: 500, ..ListJobs::default() };
    ow.store().job_list(&ask).await.unwrap().rows
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(20), async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

/// J12: ticks are enqueued in their order, each once, by one of several schedulers.
async fn j12_each_tick_is_enqueued_once_by_several_schedulers(place: &Place) {
    let ow = place.client("ops").await;
    let row = ow.schedule("often", "every 100ms", report()).on_missed(OnMissed::All).await.unwrap();
    let mut runners = Vec::new();
    for _ in 0..3 {
        runners.push(place.client("scheduler").await.runner().scheduler().start().await.unwrap());
    }
    until("ten ticks", async || jobs(&ow).await.len() >= 10).await;
    for runner in runners {
        runner.shutdown().await;
    }
    let last = ow.admin().schedule(&name("often")).await.unwrap().last.unwrap();
    let jobs = jobs(&ow).await;
    let first = row.next_at.unwrap();
    let expected = (last.tick.since(first).as_millis() / 100) as usize + 1;
    assert_eq!(jobs.len(), expected, "none twice, none lost");
}

/// J12: the scheduler changes exactly at a tick, again and again, and its writes are cut off or late.
#[tokio::test(flavor = "multi_thread")]
async fn proof_j12_a_change_of_leader_at_a_tick_loses_none_and_repeats_none() {
    let rounds = if std::env::var_os("ONCEWARD_PROVE").is_some() { 500 } else { 60 };
    let clock = ManualClock::default();
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let ow = client(&inner);
    ow.schedule("minutely", "* * * * *", report()).on_missed(OnMissed::All).await.unwrap();
    let first = ow.admin().schedule(&name("minutely")).await.unwrap().next_at.unwrap();
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let faults = [Fault::ReplyLost, Fault::RequestLost, Fault::Late(Duration::from_millis(5)), Fault::Away];
    for round in 0..rounds {
        // Two schedulers that both believe to lead: each fires what it sees, over a store that fails.
        let racing = (0..2_u64).map(|n| {
            let faulty = Faulty::new(Arc::clone(&inner));
            faulty.random(seed ^ (round as u64 * 2 + n), 4, faults);
            let ow = client(&(faulty as Arc<dyn Store>));
            async move { drop(onceward::testing::fire_due(&ow).await) }
        });
        clock.advance(Duration::from_secs(60));
        futures_util::future::join_all(racing).await;
    }
    sleep(Duration::from_millis(50)).await;
    // What is left of the last tick.
    while onceward::testing::fire_due(&ow).await.unwrap() {}
    let row = ow.admin().schedule(&name("minutely")).await.unwrap();
    let now = clock.wall();
    assert!(row.next_at.unwrap() > now);
    let expected = now.since(first).as_secs() / 60 + 1;
    let mut count = 0;
    let mut after = None;
    loop {
        let page = inner.job_list(&ListJobs { after, limit: 500, ..ListJobs::default() }).await.unwrap().rows;
        let Some(last) = page.last() else { break };
        (after, count) = (Some(last.id), count + page.len() as u64);
    }
    assert_eq!((count, expected >= rounds as u64), (expected, true), "none twice, none lost, seed {seed}");
}

/// The states of jobs, by what they are about.
async fn states(ow: &Onceward) -> BTreeMap<String, Vec<State>> {
    let mut states: BTreeMap<String, Vec<State>> = BTreeMap::new();
    for row in jobs(ow).await {
        let full = ow.admin().job(row.id).await.unwrap();
        let of = serde_json::from_slice::<Report>(&full.payload.bytes).unwrap().of;
        states.entry(of).or_default().push(row.state);
    }
    states.values_mut().for_each(|states| states.sort_by_key(|state| state.as_str()));
    states
}

/// A schedule for each policy.
async fn of_each_policy(ow: &Onceward, when: &str) {
    for (text, policy) in [
        ("allow", Overlap::Allow),
        ("skip", Overlap::Skip),
        ("queue", Overlap::Queue),
        ("cancel", Overlap::CancelPrevious),
    ] {
        let job = ow.enqueue(Report { of: text.to_owned() });
        ow.schedule(text, when, job).overlap(policy).await.unwrap();
    }
}

/// Nobody runs the jobs: each tick meets the one before.
async fn overlap_policies_hold_on_every_store(place: &Place) {
    let ow = place.client("ops").await;
    of_each_policy(&ow, "every 200ms").await;
    let each = ["allow", "skip", "queue", "cancel"].map(name);
    let (first, mut last) = (ow.admin().schedule(&each[0]).await.unwrap().next_at, None);
    until("three ticks", async || {
        onceward::testing::fire_due(&ow).await.unwrap();
        last = ow.admin().schedule(&each[0]).await.unwrap().last;
        last.is_some_and(|last| last.tick.since(first.unwrap()) >= Duration::from_millis(400))
            && states(&ow).await.get("cancel").is_some_and(|jobs| jobs.len() >= 3)
    })
    .await;
    for schedule in &each {
        ow.admin().pause_schedule(schedule, None).await.unwrap();
    }
    while onceward::testing::fire_due(&ow).await.unwrap() {}
    let states = states(&ow).await;
    assert!(
        states["allow"].len() >= 2 && states["allow"].iter().all(|state| *state == State::Ready),
        "{states:?}"
    );
    assert_eq!(states["skip"], [State::Ready], "{states:?}");
    assert!(
        states["queue"].len() >= 2 && states["queue"].iter().all(|state| !state.is_final()),
        "{states:?}"
    );
    let cancelled = states["cancel"].iter().filter(|state| **state == State::Cancelled).count();
    assert_eq!(cancelled + 1, states["cancel"].len(), "{states:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlap_policies_do_what_they_say() {
    let clock = ManualClock::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let ow = client(&store);
    of_each_policy(&ow, "every 1m").await;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(60));
        while onceward::testing::fire_due(&ow).await.unwrap() {}
    }
    let states = states(&ow).await;
    assert_eq!(states["allow"], [State::Ready; 3]);
    assert_eq!(states["skip"], [State::Ready]);
    assert_eq!(states["queue"].len(), 3);
    let cancelled = states["cancel"].iter().filter(|state| **state == State::Cancelled).count();
    assert_eq!((states["cancel"].len(), cancelled), (3, 2), "{states:?}");
}

/// J12: what was asked for by hand neither hides the job of the last tick from the next one, nor is hidden from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_finds_the_last_one_and_what_was_asked_for_by_hand_before_it() {
    let clock = ManualClock::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let ow = client(&store);
    let minute = async || {
        clock.advance(Duration::from_secs(60));
        while onceward::testing::fire_due(&ow).await.unwrap() {}
        jobs(&ow).await.len()
    };
    ow.schedule("skip", "every 1m", report()).overlap(Overlap::Skip).await.unwrap();
    assert_eq!(minute().await, 1);
    let tick = ow.admin().schedule(&name("skip")).await.unwrap().last.unwrap().job;
    let by_hand = ow.admin().trigger_schedule(&name("skip")).await.unwrap();
    ow.admin().cancel_job(by_hand, None, None).await.unwrap();
    assert_eq!(minute().await, 2, "the job of the last tick has not ended");
    ow.admin().cancel_job(tick, None, None).await.unwrap();
    let by_hand = ow.admin().trigger_schedule(&name("skip")).await.unwrap();
    assert_eq!(minute().await, 3, "nor has what was asked for by hand");
    ow.admin().cancel_job(by_hand, None, None).await.unwrap();
    assert_eq!(minute().await, 4);
    ow.admin().remove_schedule(&name("skip")).await.unwrap();
    ow.schedule("cancel", "every 1m", report()).overlap(Overlap::CancelPrevious).await.unwrap();
    assert_eq!(minute().await, 5);
    let tick = ow.admin().schedule(&name("cancel")).await.unwrap().last.unwrap().job;
    let by_hand = ow.admin().trigger_schedule(&name("cancel")).await.unwrap();
    assert_eq!(minute().await, 7);
    for job in [tick, by_hand] {
        assert_eq!(ow.admin().job(job).await.unwrap().state, State::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_paused_resumed_triggered_filled_in_and_removed() {
    let clock = ManualClock::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let ow = client(&store);
    let admin = ow.admin();
    let hourly = name("hourly");
    assert_eq!(admin.schedule(&hourly).await.unwrap_err().code(), Code::ScheduleUnknown);
    let row = ow.schedule("hourly", "0 * * * *", report()).await.unwrap();
    assert!(admin.pause_schedule(&hourly, Some("why")).await.unwrap());
    assert!(!admin.pause_schedule(&hourly, None).await.unwrap());
    clock.advance(Duration::from_secs(4 * 3_600));
    assert!(!onceward::testing::fire_due(&ow).await.unwrap() && jobs(&ow).await.is_empty());
    let job = admin.trigger_schedule(&hourly).await.unwrap();
    assert_eq!(jobs(&ow).await.iter().map(|row| row.id).collect::<Vec<_>>(), [job]);
    assert!(admin.resume_schedule(&hourly).await.unwrap());
    while onceward::testing::fire_due(&ow).await.unwrap() {}
    assert_eq!(jobs(&ow).await.len(), 1, "a pause is not made up for");
    let (from, now) = (row.next_at.unwrap(), clock.wall());
    let tried = admin.backfill_schedule(&hourly, from, now, true).await.unwrap();
    assert!(tried.enqueued.len() >= 3 && tried.dry_run && jobs(&ow).await.len() == 1);
    let done = admin.backfill_schedule(&hourly, from, now, false).await.unwrap();
    assert_eq!((&done.enqueued, jobs(&ow).await.len()), (&tried.enqueued, 1 + tried.ticks.len()));
    let again = admin.backfill_schedule(&hourly, from, now, false).await.unwrap();
    assert!(again.enqueued.is_empty(), "each tick once");
    for (from, until) in [(now, from), (from, now.after(Duration::from_secs(1))), (from, from)] {
        let refused = admin.backfill_schedule(&hourly, from, until, true).await.unwrap_err();
        assert_eq!(refused.code(), Code::BackfillInvalid);
    }
    let long_ago = Timestamp::from_micros(0);
    let refused = admin.backfill_schedule(&hourly, long_ago, now.before(Duration::from_secs(1)), true).await;
    assert!(refused.is_err() || now.as_micros() / 3_600_000_000 < 10_000);
    admin.remove_schedule(&hourly).await.unwrap();
    assert_eq!(admin.remove_schedule(&hourly).await.unwrap_err().code(), Code::ScheduleUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_schedule_can_be_is_refused_when_it_is_declared() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let ow = ConnectOptions::new().build(Arc::clone(&store)).unwrap();
    for (when, code) in [
        ("0 0 30 2 *", Code::CronInvalid),
        ("0 2 * * * Europe/Atlantis", Code::ZoneUnknown),
        ("every 10ms", Code::IntervalInvalid),
        ("at 9999-01-01T00:00:00Z", Code::CronInvalid),
        ("whenever", Code::CronInvalid),
    ] {
        assert_eq!(ow.schedule("x", when, report()).await.unwrap_err().code(), code, "{when}");
    }
    let past = ow.schedule("x", "at 2020-01-01T00:00:00Z", report()).await;
    assert_eq!(past.unwrap_err().code(), Code::CronInvalid, "nobody would ever enqueue it");
    let keyed = ow.enqueue(report()).key("mine");
    assert_eq!(ow.schedule("x", "every 5m", keyed).await.unwrap_err().code(), Code::KeyInvalid);
    assert_eq!(ow.schedule("", "every 5m", report()).await.unwrap_err().code(), Code::ScheduleNameInvalid);
    let far = ow.schedule("x", "every 5m", report()).within(Duration::ZERO);
    assert_eq!(far.await.unwrap_err().code(), Code::CatchUpInvalid);
    let shaky = ow.schedule("x", "every 5m", report()).jitter(Duration::from_secs(90_000));
    assert_eq!(shaky.await.unwrap_err().code(), Code::JitterInvalid);
    let loud = ow.enqueue(report()).priority(20_000);
    assert_eq!(ow.schedule("x", "every 5m", loud).await.unwrap_err().code(), Code::PriorityInvalid);
    assert!(ow.admin().schedules(None, 10).await.unwrap().rows.is_empty());
}

/// A tick starts a run of a durable function, and a worker brings it to its end; a tick by hand beside it.
async fn a_tick_starts_a_durable_run_that_a_worker_finishes(place: &Place) {
    #[durable]
    async fn audit(shop: u32) -> Result<u32, AnyError> {
        let counted = step("count", || async move { Ok::<_, AnyError>(shop * 2) }).await?;
        Ok(counted + 1)
    }
    let ow = place.client("host:1").await;
    ow.schedule("audit", "every 300ms", audit(21)).overlap(Overlap::Skip).await.unwrap();
    let worker = ow.worker().durable(audit).scheduler().start().await.unwrap();
    let finished =
        async || jobs(&ow).await.into_iter().filter(|row| row.state == State::Succeeded).collect::<Vec<_>>();
    until("two runs", async || finished().await.len() >= 2).await;
    let by_hand = ow.admin().trigger_schedule(&name("audit")).await.unwrap();
    until("one by hand", async || finished().await.iter().any(|row| row.id == by_hand)).await;
    ow.admin().pause_schedule(&name("audit"), None).await.unwrap();
    worker.shutdown().await;
    for row in finished().await {
        assert!(ow.admin().job(row.id).await.unwrap().result.is_some(), "what the function has come to");
    }
}

async fn a_declaration_twice_changes_nothing_and_another_one_does(place: &Place) {
    let ow = place.client("ops").await;
    let first = ow.schedule("x", "every 5m", report()).await.unwrap();
    assert_eq!(ow.schedule("x", "every 5m", report()).await.unwrap(), first);
    let other = ow.schedule("x", "every 7m", report()).overlap(Overlap::Skip).await.unwrap();
    assert_eq!((other.version, other.created_at), (2, first.created_at));
    assert_eq!(other.definition.when.to_string(), "every 7m");
}

/// A schedule that can't be written makes no other one late, and keeps nobody from finding those that are lost in a
/// time that has not come.
#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_always_fails_slows_no_other_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ow.db");
    let url = format!("sqlite://{}", file.display());
    let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
    for each in ["bad", "good"] {
        ow.schedule(each, "every 100ms", report()).on_missed(OnMissed::Skip).await.unwrap();
    }
    let far = ow.schedule("far", "every 1h", report()).await.unwrap();
    let fails = "UPDATE onceward_schedule SET next_at = next_at + 1000000000000000 WHERE name = 'far';
                 CREATE UNIQUE INDEX fails ON onceward_schedule (version * 0)
                 WHERE (name = 'bad' AND version > 1) OR name = 'far'";
    rusqlite::Connection::open(&file).unwrap().execute_batch(fails).unwrap();
    let next = async || ow.admin().schedule(&name("far")).await.unwrap().next_at.unwrap();
    let due = far.next_at.unwrap().after(Duration::from_secs(7_200));
    assert!(next().await > due);
    let scheduler = ow.runner().scheduler().start().await.unwrap();
    // Each look fires one tick of it: as many looks, about as often as it is due.
    until("twenty ticks", async || jobs(&ow).await.len() >= 20).await;
    until("found", async || next().await < due).await;
    assert!(ow.admin().schedule(&name("bad")).await.unwrap().last.is_none());
    rusqlite::Connection::open(&file).unwrap().execute_batch("DROP INDEX fails").unwrap();
    until("fired", async || ow.admin().schedule(&name("bad")).await.unwrap().last.is_some()).await;
    scheduler.shutdown().await;
}
