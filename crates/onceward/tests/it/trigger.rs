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

/// Two that both believe to lead act on what is heard, over stores that fail: each outcome is acted on once.
#[tokio::test(flavor = "multi_thread")]
async fn proof_each_outcome_is_acted_on_once_whoever_dies() {
    let rounds = if std::env::var_os("ONCEWARD_PROVE").is_some() { 300 } else { 40 };
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let ow = client(&inner);
    ow.trigger("report").on(Outcome::Succeeded).kind("import").enqueue(report()).await.unwrap();
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let faults = [Fault::ReplyLost, Fault::RequestLost, Fault::Late(Duration::from_millis(3)), Fault::Away];
    let worker = ow.worker().job(async |_: Import| ()).start().await.unwrap();
    for round in 0..rounds {
        let jobs = (0..5).map(|_| ow.enqueue(Import { fails: false }));
        ow.enqueue_many(jobs).await.unwrap();
        let racing = (0..2_u64).map(|n| {
            let faulty = Faulty::new(Arc::clone(&inner));
            faulty.random(seed ^ (round as u64 * 2 + n), 4, faults);
            let ow = client(&(faulty as Arc<dyn Store>));
            async move { drop(onceward::testing::fire_heard(&ow).await) }
        });
        futures_util::future::join_all(racing).await;
    }
    let done = rounds * 5;
    until("all", async || {
        while onceward::testing::fire_heard(&ow).await.unwrap() {}
        ow.admin().trigger(&name("report")).await.unwrap().fired == done as u64
    })
    .await;
    worker.shutdown().await;
    let (mut jobs, mut after) = (0, None);
    loop {
        let page = inner.job_list(&ListJobs { after, limit: 500, ..ListJobs::default() }).await.unwrap().rows;
        let Some(last) = page.last() else { break };
        (after, jobs) =
            (Some(last.id), jobs + page.iter().filter(|row| row.kind.as_str() == "report").count());
    }
    assert_eq!(jobs, done, "none twice, none lost, seed {seed}");
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

/// A context as handlers see it carries nothing over: what a handler enqueues itself begins a line of its own.
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
