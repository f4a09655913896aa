//! Triggers: what has ended enqueues something else, once, whoever dies.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::store::{ListJobs, Store};
use onceward::trigger::{By, Cause, Outcome};
use onceward::worker::{JobContext, Outcome as Ending};
use onceward::{Code, ConnectOptions, Job, Onceward, TriggerName, durable};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::places::{Place, on_each_store};

on_each_store! {
    an_end_that_is_listened_to_in_several_ways_is_acted_on_once,
    a_loop_through_a_handler_is_stopped_as_well,
    what_another_one_has_acted_on_between_two_reads_is_not_acted_on_again,
}

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "import", max_attempts = 1)]
struct Import {
    fails: bool,
}

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "mourn", queue = "letters")]
struct Mourn(Cause);

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "report")]
struct Report {
    of: String,
}

fn report() -> Report {
    Report { of: "imports".to_owned() }
}

fn name(text: &str) -> TriggerName {
    TriggerName::new(text).unwrap()
}

fn client(store: &Arc<dyn Store>) -> Onceward {
    ConnectOptions::new().short_ttls_for_tests().build(Arc::clone(store)).unwrap()
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(20), async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

async fn count(ow: &Onceward, kind: &str) -> usize {
    let jobs = ow.store().job_list(&ListJobs { limit: 500, ..ListJobs::default() }).await.unwrap().rows;
    jobs.iter().filter(|row| row.kind.as_str() == kind).count()
}

/// From end to end, on any store: outcomes of two kinds, a job that is told, another that has its own payload.
async fn from_end_to_end(ow: &Onceward) {
    ow.trigger("mourn").on(Outcome::Dead).kind("import").tell::<Mourn>().await.unwrap();
    let any = ow.trigger("report").on(Outcome::Succeeded).kind("import").on(Outcome::Dead).kind("import");
    any.enqueue(ow.enqueue(report()).priority(7)).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    let import =
        async |job: Import| if job.fails { Ending::dead("the disk is full") } else { Ending::done(&()) };
    let mourn = move |job: Mourn| {
        kept.lock().unwrap().push(job.0);
        async {}
    };
    let worker = ow.worker().job(import).job(mourn).queues(["default", "letters"]).scheduler();
    let worker = worker.start().await.unwrap();
    let died = ow.enqueue(Import { fails: true }).metadata(&serde_json::json!({ "file": 7 })).await.unwrap();
    ow.enqueue(Import { fails: false }).await.unwrap();
    until("told", async || !told.lock().unwrap().is_empty()).await;
    until("reports", async || count(ow, "report").await == 2).await;
    worker.shutdown().await;
    let told = told.lock().unwrap().clone();
    let [cause] = &told[..] else { panic!("{told:?}") };
    let [happened] = &cause.outcomes[..] else { panic!("{cause:?}") };
    assert_eq!(
        (cause.trigger.as_str(), happened.job, happened.outcome),
        ("mourn", died.id.as_uuid(), Outcome::Dead)
    );
    assert_eq!(happened.error.as_deref(), Some("the disk is full"));
    assert_eq!(happened.metadata, Some(serde_json::json!({ "file": 7 })));
    let row = ow.admin().trigger(&name("report")).await.unwrap();
    assert_eq!((row.fired, row.waiting(), row.stopped), (2, 0, None));
    let job = ow.admin().job(row.last.unwrap().job).await.unwrap();
    assert_eq!((job.priority, job.payload.bytes.as_slice()), (7, &br#"{"of":"imports"}"#[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_enqueues_something_else_in_memory() {
    from_end_to_end(&client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>))).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_enqueues_something_else_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("ow.db").display());
    let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
    from_end_to_end(&ow).await;
    ow.shutdown().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_enqueues_something_else_on_postgres() {
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
    from_end_to_end(&ow).await;
    ow.shutdown().await;
}

/// Conditions that overlap, and more ends than a page has.
async fn an_end_that_is_listened_to_in_several_ways_is_acted_on_once(place: &Place) {
    let ow = place.client("ops").await;
    let any = ow.trigger("report").on(Outcome::Succeeded).kind("import").on(Outcome::Succeeded);
    let any = any.on(Outcome::Succeeded).queue("default");
    any.enqueue(report()).await.unwrap();
    let ends = 150;
    ow.enqueue_many((0..ends).map(|_| ow.enqueue(Import { fails: false }))).await.unwrap();
    let worker = ow.worker().job(async |_: Import| ()).start().await.unwrap();
    until("heard", async || {
        while onceward::testing::fire_heard(&ow).await.unwrap() {}
        count(&ow, "report").await == ends
    })
    .await;
    worker.shutdown().await;
    while onceward::testing::fire_heard(&ow).await.unwrap() {}
    let row = ow.admin().trigger(&name("report")).await.unwrap();
    assert_eq!((row.fired, count(&ow, "report").await), (ends as u64, ends));
}

/// What a handler enqueues because of a trigger is as deep as its own job: such a loop ends after sixteen as well.
async fn a_loop_through_a_handler_is_stopped_as_well(place: &Place) {
    let ow = place.client("ops").await;
    ow.trigger("again").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    let client = ow.clone();
    let look = move |_: Report| {
        let ow = client.clone();
        async move {
            ow.enqueue(Import { fails: false }).await.unwrap();
        }
    };
    let worker = ow.worker().job(async |_: Import| ()).job(look).start().await.unwrap();
    ow.enqueue(Import { fails: false }).await.unwrap();
    until("stopped", async || {
        onceward::testing::fire_heard(&ow).await.unwrap();
        ow.admin().trigger(&name("again")).await.unwrap().stopped.is_some()
    })
    .await;
    worker.shutdown().await;
    let row = ow.admin().trigger(&name("again")).await.unwrap();
    assert_eq!((row.fired, row.stopped.unwrap().count), (16, 1));
    assert_eq!((count(&ow, "report").await, count(&ow, "import").await), (16, 17));
}

/// One that reads what was heard, and only then the trigger, which somebody else has written meanwhile.
async fn what_another_one_has_acted_on_between_two_reads_is_not_acted_on_again(place: &Place) {
    let ow = place.client("ops").await;
    ow.trigger("report").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    let job = ow.enqueue(Import { fails: false }).await.unwrap();
    let worker = ow.worker().job(async |_: Import| ()).start().await.unwrap();
    until("done", async || ow.admin().job(job.id).await.unwrap().state.is_final()).await;
    worker.shutdown().await;
    let faulty = Faulty::new(Arc::clone(place.client("late").await.store()));
    let late = client(&(Arc::clone(&faulty) as Arc<dyn Store>));
    faulty.next(Verb::TriggerList, Fault::Slow(Duration::from_secs(1)));
    let firing = tokio::spawn(async move { onceward::testing::fire_heard(&late).await.unwrap() });
    until("it has read", async || faulty.calls(Verb::TriggerList) == 1).await;
    while onceward::testing::fire_heard(&ow).await.unwrap() {}
    firing.await.unwrap();
    assert_eq!(ow.admin().trigger(&name("report")).await.unwrap().fired, 1);
}

/// The same by way of a named event, in many at once, and of a durable function that is started.
#[cfg(feature = "http-jobs")]
#[tokio::test(flavor = "multi_thread")]
async fn events_and_runs_that_a_handler_begins_are_as_deep_as_its_job() {
    #[durable]
    async fn ship(order: u64) -> Result<u64, durable::AnyError> {
        Ok(order)
    }
    let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
    ow.trigger("first").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    let client = ow.clone();
    let look = move |_: Report| {
        let ow = client.clone();
        async move {
            ow.event("order.shipped").send().await.unwrap();
            ow.enqueue_many([ow.enqueue(Import { fails: true }).key("many")]).await.unwrap();
            ow.start(ship(7)).await.unwrap();
            ow.start_named("ship", &serde_json::json!({ "order": 8 })).await.unwrap();
        }
    };
    let worker = ow.worker().job(async |_: Import| ()).job(look).scheduler().start().await.unwrap();
    ow.enqueue(Import { fails: false }).await.unwrap();
    until("all", async || count(&ow, "ship").await >= 2).await;
    ow.admin().pause_trigger(&name("first"), None).await.unwrap();
    worker.shutdown().await;
    let jobs = ow.store().job_list(&ListJobs { limit: 500, ..ListJobs::default() }).await.unwrap().rows;
    let mut deep = 0;
    for row in jobs.iter().filter(|row| row.kind.as_str() != "import") {
        assert!(ow.admin().job(row.id).await.unwrap().depth > 0, "{}", row.kind);
        deep += 1;
    }
    assert!(deep >= 4, "{jobs:?}");
}

/// Two that both believe to lead act on what is heard, over stores that fail: each outcome is acted on once, and so are
/// those that are needed together, and named events.
#[cfg(feature = "http-jobs")]
async fn each_outcome_once(place: &Place, rounds: usize) {
    let ow = place.client("ops").await;
    ow.trigger("report").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    let both = ow.trigger("both").on(Outcome::Succeeded).kind("import").on(Outcome::Succeeded).kind("pick");
    both.all(By::Metadata("order".to_owned())).tell_kind("ship").await.unwrap();
    ow.trigger("told").on_event("order.*").tell::<Mourn>().await.unwrap();
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let faults = [Fault::ReplyLost, Fault::RequestLost, Fault::Late(Duration::from_millis(3)), Fault::Away];
    let worker = ow.worker().job(async |_: Import| ()).raw("pick", async |_: JobContext| {});
    let worker = worker.http(onceward::http_jobs::HttpDelivery::new()).start().await.unwrap();
    let (one, other) = (place.client("one").await, place.client("other").await);
    for round in 0..rounds {
        for n in 0..5 {
            let order = serde_json::json!({ "order": round * 5 + n });
            ow.enqueue(Import { fails: false }).metadata(&order).await.unwrap();
            ow.enqueue_raw("pick", b"{}".to_vec(), "application/json").metadata(&order).await.unwrap();
        }
        ow.event("order.paid").send().await.unwrap();
        let racing = [&one, &other].into_iter().enumerate().map(|(n, client)| {
            let faulty = Faulty::new(Arc::clone(client.store()));
            faulty.random(seed ^ (round as u64 * 2 + n as u64), 4, faults);
            let store = faulty as Arc<dyn Store>;
            let ow = ConnectOptions::new().short_ttls_for_tests().build(store).unwrap();
            async move { drop(onceward::testing::fire_heard(&ow).await) }
        });
        futures_util::future::join_all(racing).await;
    }
    let expected =
        [("report", "report", rounds * 5), ("both", "ship", rounds * 5), ("told", "mourn", rounds)];
    let mut seen = Vec::new();
    let all = timeout(Duration::from_secs(20), async {
        while seen != expected.map(|(.., times)| times as u64) {
            while onceward::testing::fire_heard(&ow).await.unwrap() {}
            seen.clear();
            for (trigger, ..) in expected {
                seen.push(ow.admin().trigger(&name(trigger)).await.unwrap().fired);
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(all.await.is_ok(), "{seen:?} of {expected:?}, seed {seed}");
    worker.shutdown().await;
    let mut jobs = std::collections::BTreeMap::<String, usize>::new();
    let mut after = None;
    loop {
        let ask = ListJobs { after, limit: 500, ..ListJobs::default() };
        let page = ow.store().job_list(&ask).await.unwrap().rows;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        page.iter().for_each(|row| *jobs.entry(row.kind.as_str().to_owned()).or_default() += 1);
    }
    for (trigger, kind, times) in expected {
        assert_eq!(jobs.get(kind), Some(&times), "{trigger}: none twice, none lost, seed {seed}");
    }
}

#[cfg(feature = "http-jobs")]
fn rounds(short: usize) -> usize {
    if std::env::var_os("ONCEWARD_PROVE").is_some() { 300 } else { short }
}

#[cfg(feature = "http-jobs")]
#[tokio::test(flavor = "multi_thread")]
async fn proof_each_outcome_is_acted_on_once_whoever_dies() {
    each_outcome_once(&Place::memory(), rounds(40)).await;
}

#[cfg(all(feature = "http-jobs", feature = "sqlite"))]
#[tokio::test(flavor = "multi_thread")]
async fn proof_each_outcome_is_acted_on_once_on_sqlite() {
    each_outcome_once(&Place::sqlite(), rounds(8)).await;
}

#[cfg(all(feature = "http-jobs", feature = "postgres"))]
#[tokio::test(flavor = "multi_thread")]
async fn proof_each_outcome_is_acted_on_once_on_postgres() {
    each_outcome_once(&Place::postgres().await, rounds(8)).await;
}

/// The process dies between the end and what follows, and between what follows and its answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_waits_for_the_next_scheduler() {
    for fault in [Fault::RequestLost, Fault::ReplyLost] {
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let faulty = Faulty::new(Arc::clone(&inner));
        let (ow, dying) = (client(&inner), client(&(Arc::clone(&faulty) as Arc<dyn Store>)));
        ow.trigger("report").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
        let job = ow.enqueue(Import { fails: false }).await.unwrap();
        let worker = ow.worker().job(async |_: Import| ()).start().await.unwrap();
        until("done", async || ow.admin().job(job.id).await.unwrap().state.is_final()).await;
        worker.shutdown().await;
        faulty.next(Verb::TriggerWrite, fault);
        onceward::testing::fire_heard(&dying).await.unwrap_err();
        while onceward::testing::fire_heard(&ow).await.unwrap() {}
        assert_eq!(count(&ow, "report").await, 1, "{fault:?}");
    }
}

/// A trigger that can't be written stands before no other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_whose_write_fails_keeps_no_other_from_acting() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let faulty = Faulty::new(Arc::clone(&inner));
    let (ow, failing) = (client(&inner), client(&(Arc::clone(&faulty) as Arc<dyn Store>)));
    for trigger in ["a", "b", "c"] {
        ow.trigger(trigger).on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    }
    let job = ow.enqueue(Import { fails: false }).await.unwrap();
    let worker = ow.worker().job(async |_: Import| ()).start().await.unwrap();
    until("done", async || ow.admin().job(job.id).await.unwrap().state.is_final()).await;
    worker.shutdown().await;
    faulty.next(Verb::TriggerWrite, Fault::RequestLost);
    onceward::testing::fire_heard(&failing).await.unwrap_err();
    assert_eq!(count(&ow, "report").await, 2);
    while onceward::testing::fire_heard(&ow).await.unwrap() {}
    assert_eq!(count(&ow, "report").await, 3);
}

/// Nor does one that fails again and again and has heard more than a page.
#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_always_fails_fills_no_page_for_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ow.db");
    let url = format!("sqlite://{}", file.display());
    let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
    ow.trigger("bad").on(Outcome::Succeeded).kind("import").tell::<Mourn>().await.unwrap();
    ow.trigger("other").on(Outcome::Succeeded).kind("nothing").enqueue(report()).await.unwrap();
    let fails = "CREATE UNIQUE INDEX fails ON onceward_trigger (version * 0)
                 WHERE (name = 'bad' AND version > 1) OR name = 'other'";
    rusqlite::Connection::open(&file).unwrap().execute_batch(fails).unwrap();
    let heard = 210;
    ow.enqueue_many((0..heard).map(|_| ow.enqueue(Import { fails: false }))).await.unwrap();
    let worker = ow.worker().job(async |_: Import| ()).start().await.unwrap();
    let running = async || {
        let jobs = ow.store().job_list(&ListJobs { limit: 500, ..ListJobs::default() }).await.unwrap().rows;
        jobs.iter().filter(|row| row.kind.as_str() == "import" && !row.state.is_final()).count()
    };
    until("heard", async || running().await == 0).await;
    ow.trigger("good").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    ow.enqueue(Import { fails: false }).await.unwrap();
    let scheduler = ow.runner().scheduler().start().await.unwrap();
    until("the other one acts", async || count(&ow, "report").await == 1).await;
    assert_eq!(count(&ow, "mourn").await, 0);
    rusqlite::Connection::open(&file).unwrap().execute_batch("DROP INDEX fails").unwrap();
    until("the first one acts", async || count(&ow, "mourn").await == heard + 1).await;
    scheduler.shutdown().await;
    worker.shutdown().await;
}

/// Of what belongs together, by a field of the metadata; and a durable function that follows.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_have_happened_a_durable_function_is_started() {
    #[durable]
    async fn ship(
        trigger: String,
        outcomes: Vec<onceward::trigger::Happened>,
    ) -> Result<usize, durable::AnyError> {
        drop(trigger);
        Ok(outcomes.len())
    }
    let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
    let both = ow.trigger("ship").on(Outcome::Succeeded).kind("import").on(Outcome::Dead).kind("import");
    let start =
        onceward::jobs::IntoEnqueue::into_enqueue(ow.start_named("ship", &serde_json::json!({})), &ow);
    both.all(By::Metadata("order".to_owned())).telling(start).await.unwrap();
    let import = async |job: Import| if job.fails { Ending::dead("no") } else { Ending::done(&()) };
    let worker = ow.worker().job(import).durable(ship).scheduler().start().await.unwrap();
    for (order, fails) in [(1, true), (2, false), (1, false), (3, true)] {
        ow.enqueue(Import { fails }).metadata(&serde_json::json!({ "order": order })).await.unwrap();
    }
    until("shipped", async || {
        let row = ow.admin().trigger(&name("ship")).await.unwrap();
        let Some(last) = row.last else { return false };
        // The others may be heard of a little later.
        row.waiting() == 2 && ow.admin().job(last.job).await.unwrap().result.is_some()
    })
    .await;
    worker.shutdown().await;
    let row = ow.admin().trigger(&name("ship")).await.unwrap();
    let run = ow.admin().job(row.last.unwrap().job).await.unwrap();
    let result = run.result.unwrap().bytes.unwrap();
    assert_eq!((row.fired, row.waiting(), result.as_slice()), (1, 2, &b"2"[..]));
}

/// A trigger that hears of what it has enqueued itself stops after sixteen.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_stopped_with_a_code() {
    let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
    ow.trigger("again").on(Outcome::Succeeded).kind("report").enqueue(report()).await.unwrap();
    let worker = ow.worker().job(async |_: Report| ()).start().await.unwrap();
    ow.enqueue(report()).await.unwrap();
    until("stopped", async || {
        onceward::testing::fire_heard(&ow).await.unwrap();
        ow.admin().trigger(&name("again")).await.unwrap().stopped.is_some()
    })
    .await;
    worker.shutdown().await;
    assert!(!onceward::testing::fire_heard(&ow).await.unwrap());
    let row = ow.admin().trigger(&name("again")).await.unwrap();
    assert_eq!((row.fired, row.stopped.unwrap().count), (16, 1));
    assert_eq!(count(&ow, "report").await, 17);
}

/// Named events: when a worker has told of them, also where no endpoint wants them.
#[cfg(feature = "http-jobs")]
#[tokio::test(flavor = "multi_thread")]
async fn a_named_event_is_heard() {
    let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
    ow.trigger("paid").on_event("order.*").tell::<Mourn>().await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    let mourn = move |job: Mourn| {
        kept.lock().unwrap().push(job.0);
        async {}
    };
    let worker = ow.worker().job(mourn).http(onceward::http_jobs::HttpDelivery::new());
    let worker = worker.queues(["default", "letters"]).scheduler().start().await.unwrap();
    ow.event("order.paid").json(&serde_json::json!({ "order": 17 })).send().await.unwrap();
    ow.event("user.left").send().await.unwrap();
    until("told", async || !told.lock().unwrap().is_empty()).await;
    worker.shutdown().await;
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].outcomes[0].event.as_ref().unwrap().as_str(), "order.paid");
    assert_eq!(told[0].outcomes[0].body, Some(serde_json::json!({ "order": 17 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_paused_resumed_changed_and_removed() {
    let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
    let (admin, mourn) = (ow.admin(), name("mourn"));
    assert_eq!(admin.trigger(&mourn).await.unwrap_err().code(), Code::TriggerUnknown);
    let first = ow.trigger("mourn").on(Outcome::Succeeded).kind("import").tell::<Mourn>().await.unwrap();
    assert_eq!(first.definition.target.queue.as_str(), "letters");
    assert_eq!(
        ow.trigger("mourn").on(Outcome::Succeeded).kind("import").tell::<Mourn>().await.unwrap(),
        first
    );
    let worker = ow.worker().job(async |_: Import| ()).start().await.unwrap();
    let run = async || {
        let job = ow.enqueue(Import { fails: false }).await.unwrap();
        until("done", async || ow.admin().job(job.id).await.unwrap().state.is_final()).await;
    };
    run().await;
    assert!(admin.pause_trigger(&mourn, Some("why")).await.unwrap());
    assert!(!admin.pause_trigger(&mourn, None).await.unwrap());
    run().await;
    while onceward::testing::fire_heard(&ow).await.unwrap() {}
    assert_eq!(count(&ow, "mourn").await, 1, "what was heard before the pause is acted on, and nothing else");
    assert!(admin.resume_trigger(&mourn).await.unwrap() && !admin.resume_trigger(&mourn).await.unwrap());
    run().await;
    while onceward::testing::fire_heard(&ow).await.unwrap() {}
    assert_eq!(count(&ow, "mourn").await, 2);
    let other = ow.trigger("mourn").on(Outcome::Dead).enqueue(report()).await.unwrap();
    assert_eq!((other.created_at, other.fired), (first.created_at, 2));
    admin.remove_trigger(&mourn).await.unwrap();
    assert_eq!(admin.remove_trigger(&mourn).await.unwrap_err().code(), Code::TriggerUnknown);
    run().await;
    worker.shutdown().await;
    assert!(
        !onceward::testing::fire_heard(&ow).await.unwrap()
            && admin.triggers(None, 9).await.unwrap().rows.is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_trigger_can_be_is_refused_before_anything_is_written() {
    let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
    let code = async |trigger: onceward::trigger::TriggerBuilder| trigger.await.unwrap_err().code();
    let on = || ow.trigger("x").on(Outcome::Dead);
    assert_eq!(code(ow.trigger("").on(Outcome::Dead).enqueue(report())).await, Code::TriggerNameInvalid);
    assert_eq!(code(ow.trigger("x").enqueue(report())).await, Code::TriggerInvalid);
    assert_eq!(code(on()).await, Code::TriggerInvalid);
    assert_eq!(code(ow.trigger("x").kind("import").enqueue(report())).await, Code::TriggerInvalid);
    assert_eq!(code(ow.trigger("x").on_event("a").kind("b").enqueue(report())).await, Code::TriggerInvalid);
    assert_eq!(code(ow.trigger("x").on_event("..").enqueue(report())).await, Code::EventTypeInvalid);
    assert_eq!(code(on().kind("").enqueue(report())).await, Code::KindInvalid);
    assert_eq!(code(on().on(Outcome::Dead).all(By::Anything).enqueue(report())).await, Code::TriggerInvalid);
    let never = on().all(By::Anything).within(Duration::ZERO).enqueue(report());
    assert_eq!(code(never).await, Code::CatchUpInvalid);
    assert_eq!(code(on().enqueue(ow.enqueue(report()).key("mine"))).await, Code::KeyInvalid);
    assert_eq!(
        code(on().enqueue(ow.enqueue(report()).delay(Duration::from_secs(1)))).await,
        Code::KeyInvalid
    );
    assert_eq!(code(on().enqueue(ow.enqueue(report()).priority(20_000))).await, Code::PriorityInvalid);
    assert_eq!(code(on().tell_kind("")).await, Code::KindInvalid);
    assert!(ow.admin().triggers(None, 10).await.unwrap().rows.is_empty());
}

/// A context as handlers see it carries how deep the job is.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_enqueues_says_how_deep_it_is() {
    let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
    ow.trigger("report").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    let depth = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&depth);
    let look = move |_: Report, job: JobContext| {
        kept.lock().unwrap().push((job.job().depth, job.job().metadata.clone()));
        async {}
    };
    let worker = ow.worker().job(async |_: Import| ()).job(look).scheduler().start().await.unwrap();
    let job = ow.enqueue(Import { fails: false }).await.unwrap();
    until("run", async || !depth.lock().unwrap().is_empty()).await;
    worker.shutdown().await;
    let metadata = format!(r#"{{"outcomes":["{}"],"trigger":"report"}}"#, job.id);
    assert_eq!(*depth.lock().unwrap(), [(1, Some(metadata))]);
}
