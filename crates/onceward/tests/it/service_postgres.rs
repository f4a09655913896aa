//! Services and schedules on PostgreSQL: guarded transactions, wake-ups between processes, and what waiting costs.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use onceward::service::{Outcome, Term};
use onceward::store::clock::LeapingClock;
use onceward::{Code, Job, Onceward, ScheduleName, ServiceName};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "report")]
struct Report {
    of: u32,
}

async fn connect(url: &str) -> Onceward {
    Onceward::options().short_ttls_for_tests().connect(url).await.unwrap()
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(30), async {
        while !is().await {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

/// A1, L4: what a term guards can't be committed once another one has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a1_a_term_that_is_over_commits_nothing_it_guards() {
    let schema = crate::pg::Schema::migrated().await;
    let ow = connect(schema.url()).await;
    let kept: Arc<Mutex<Option<Term>>> = Arc::default();
    let slot = Arc::clone(&kept);
    let work = move |term: Term| {
        *slot.lock().unwrap() = Some(term.clone());
        async move {
            term.cancelled().await;
        }
    };
    let runner = ow.service("leader").always_on().start(work).await.unwrap();
    until("a term", async || kept.lock().unwrap().is_some()).await;
    let term = kept.lock().unwrap().take().unwrap();
    let mut client = schema.client().await;
    let mut tx = client.transaction().await.unwrap();
    term.guard(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    ow.admin().break_lease("service:leader", None, "the test wants it").await.unwrap();
    let mut tx = client.transaction().await.unwrap();
    let refused = term.guard(&mut tx).await.unwrap_err();
    assert!(matches!(refused.code(), Code::LeaseLost | Code::TokenStale), "{refused:?}");
    tx.rollback().await.unwrap();
    runner.shutdown().await;
}

/// A7: a runner in another process is told, and does not wait for its poll.
#[tokio::test(flavor = "multi_thread")]
async fn a7_a_hand_over_wakes_the_runner_of_another_process() {
    let schema = crate::pg::Schema::migrated().await;
    let ran = Arc::new(Mutex::new(Vec::new()));
    let start = async |n: usize| {
        let ow = connect(schema.url()).await;
        let ran = Arc::clone(&ran);
        let work = move |term: Term| {
            ran.lock().unwrap().push((n, term.cycle()));
            async move {
                if n == 0 {
                    core::future::pending::<()>().await;
                }
            }
        };
        let service = ow.service("slow").every("1h").grace(Duration::ZERO);
        (service.start(work).await.unwrap(), ow)
    };
    let (first, _ow) = start(0).await;
    until("the first", async || ran.lock().unwrap().len() == 1).await;
    let (second, other) = start(1).await;
    sleep(Duration::from_millis(500)).await;
    let left = Instant::now();
    first.shutdown().await;
    until("the second", async || ran.lock().unwrap().len() == 2).await;
    assert!(left.elapsed() < Duration::from_secs(5), "an hour is not waited for: {:?}", left.elapsed());
    until("done", async || {
        let terms = other.admin().service_history(&ServiceName::new("slow").unwrap(), 9).await.unwrap();
        terms.len() == 1 && terms[0].outcome == Outcome::Done
    })
    .await;
    second.shutdown().await;
}

/// Less than half a statement a second per runner, and less than twenty for ten thousand schedules.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_costs_next_to_nothing() {
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::connect(schema.url()).await.unwrap();
    let far = ow.schedule("far", "at 2200-01-01T00:00:00Z", Report { of: 1 }).await.unwrap();
    assert!(far.next_at.is_some());
    let copies = format!(
        "INSERT INTO \"{0}\".schedule (version, next_at, namespace, name, definition, payload)
         SELECT version, next_at, namespace, name || n, definition, payload
         FROM \"{0}\".schedule, generate_series(1, 10000) n",
        schema.name()
    );
    schema.client().await.batch_execute(&copies).await.unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let work = move |_: Term| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    };
    let waiting = ow.service("hourly").every("1h").start(work).await.unwrap();
    until("its first term", async || ran.load(Ordering::SeqCst) == 1).await;
    sleep(Duration::from_millis(500)).await;
    let per_second = async || {
        let (before, began) = (ow.store().counters().statements, Instant::now());
        sleep(Duration::from_secs(6)).await;
        (ow.store().counters().statements - before) as f64 / began.elapsed().as_secs_f64()
    };
    let idle = per_second().await;
    let scheduler = ow.runner().scheduler().start().await.unwrap();
    sleep(Duration::from_millis(1_500)).await;
    let scheduling = per_second().await;
    println!("a runner: {idle:.2} statements/s; with 10,000 schedules: {scheduling:.2} statements/s");
    assert!(idle < 0.5, "{idle} statements/s");
    assert!(scheduling < 20.0, "{scheduling} statements/s");
    assert_eq!(ow.admin().schedules(None, 500).await.unwrap().rows.len(), 500);
    waiting.shutdown().await;
    scheduler.shutdown().await;
}

/// As little for one that stands by for what the store needs itself, also where it hears nothing. Thirty seconds hold
/// whole numbers of its renewals and looks.
#[tokio::test(flavor = "multi_thread")]
async fn standing_by_costs_next_to_nothing() {
    let schema = crate::pg::Schema::migrated().await;
    let leader = Onceward::connect(schema.url()).await.unwrap();
    let leads = leader.runner().scheduler().upkeep().start().await.unwrap();
    until("a scheduler and upkeep", async || {
        let terms =
            async |name| leader.admin().service_history(&ServiceName::new(name).unwrap(), 1).await.unwrap();
        !terms("onceward.scheduler").await.is_empty() && !terms("onceward.upkeep").await.is_empty()
    })
    .await;
    let pooled = format!("{}&pooler=transaction", schema.url());
    let places = [
        ("hearing", Onceward::connect(schema.url()).await),
        ("hearing nothing", Onceward::connect(&pooled).await),
    ];
    let places = places.map(|(place, client)| (place, client.unwrap()));
    let mut runners = Vec::new();
    for (_, client) in &places {
        runners.push(client.runner().scheduler().upkeep().start().await.unwrap());
    }
    sleep(Duration::from_secs(3)).await;
    let before = places.each_ref().map(|(_, client)| client.store().counters().statements);
    sleep(Duration::from_secs(30)).await;
    for ((place, client), before) in places.iter().zip(before) {
        let statements = client.store().counters().statements - before;
        println!("a runner that stands by, {place}: {:.2} statements/s", statements as f64 / 30.0);
        assert!(statements <= 15, "{statements} statements in 30 s, {place}");
    }
    for runner in runners {
        runner.shutdown().await;
    }
    leads.shutdown().await;
}

/// Upkeep makes the partitions of the coming days, and drops those whose day has passed.
#[tokio::test(flavor = "multi_thread")]
async fn upkeep_makes_and_drops_the_partitions_of_what_is_over() {
    let schema = crate::pg::Schema::migrated().await;
    let (client, of) = (schema.client().await, schema.name());
    let days = async || {
        let ask = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = $1::text::regnamespace
                   AND c.relkind = 'r' AND c.relname ~ '^job_done_[0-9]{8}$' ORDER BY 1";
        let rows = client.query(ask, &[&format!("\"{of}\"")]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let gone = days().await.pop().unwrap_or_default();
    let drop_last = if gone.is_empty() { String::new() } else { format!("DROP TABLE \"{of}\".{gone};") };
    let change = format!(
        "{drop_last} CREATE TABLE \"{of}\".job_done_20010101 PARTITION OF \"{of}\".job_done
         FOR VALUES FROM ('2001-01-01 00:00:00+00') TO ('2001-01-02 00:00:00+00')"
    );
    client.batch_execute(&change).await.unwrap();
    let ow = connect(schema.url()).await;
    let upkeep = ow.runner().upkeep().start().await.unwrap();
    until("dropped and made", async || {
        let days = days().await;
        days.first().is_some_and(|day| day != "job_done_20010101")
            && days.len() >= 10
            && (gone.is_empty() || days.contains(&gone))
    })
    .await;
    upkeep.shutdown().await;
    let terms = ow.admin().service_history(&ServiceName::new("onceward.upkeep").unwrap(), 1).await.unwrap();
    assert_eq!(terms[0].outcome, Outcome::Done, "{terms:?}");
}

/// G1, W78: the clock is the database's. That of one runner jumps a month ahead: it begins and ends nothing for that.
#[tokio::test(flavor = "multi_thread")]
async fn g1_a_runner_whose_clock_jumps_ahead_begins_and_ends_no_term() {
    let schema = crate::pg::Schema::migrated().await;
    let clock = LeapingClock::default();
    let options = Onceward::options().short_ttls_for_tests().clock(Arc::new(clock.clone()));
    let ow = options.connect(schema.url()).await.unwrap();
    let other = connect(schema.url()).await;
    let begun = Arc::new(AtomicUsize::new(0));
    let work = |leads: bool| {
        let begun = Arc::clone(&begun);
        move |term: Term| {
            begun.fetch_add(1, Ordering::SeqCst);
            async move {
                if leads {
                    term.cancelled().await;
                }
            }
        }
    };
    let start = async |ow: &Onceward| {
        let ttl = Duration::from_millis(600);
        let leader = ow.service("leader").always_on().ttl(ttl).does(work(true)).unwrap();
        let daily = ow.service("daily").every("7 days").ttl(ttl).does(work(false)).unwrap();
        ow.runner().service(leader).service(daily).start().await.unwrap()
    };
    let first = start(&ow).await;
    until("both", async || begun.load(Ordering::SeqCst) == 2).await;
    let second = start(&other).await;
    clock.leap(Duration::from_secs(30 * 86_400));
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(begun.load(Ordering::SeqCst), 2);
    let terms =
        async |name| other.admin().service_history(&ServiceName::new(name).unwrap(), 9).await.unwrap();
    assert_eq!(terms("leader").await.iter().map(|term| term.outcome).collect::<Vec<_>>(), [Outcome::Running]);
    assert_eq!(terms("daily").await.iter().map(|term| term.outcome).collect::<Vec<_>>(), [Outcome::Done]);
    first.shutdown().await;
    until("the second leader", async || begun.load(Ordering::SeqCst) == 3).await;
    second.shutdown().await;
}

/// A schedule that can't be read stops nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_cannot_be_read_is_passed_over() {
    let schema = crate::pg::Schema::migrated().await;
    let ow = connect(schema.url()).await;
    ow.schedule("bad", "every 1h", Report { of: 1 }).await.unwrap();
    let spoil = format!(
        "UPDATE \"{}\".schedule SET definition = '{{}}', next_at = now() - interval '1 day'",
        schema.name()
    );
    schema.client().await.batch_execute(&spoil).await.unwrap();
    ow.schedule("often", "every 100ms", Report { of: 2 }).await.unwrap();
    let scheduler = ow.runner().scheduler().start().await.unwrap();
    let often = ScheduleName::new("often").unwrap();
    until("a tick", async || ow.admin().schedule(&often).await.unwrap().last.is_some()).await;
    scheduler.shutdown().await;
    let page = ow.admin().schedules(None, 9).await.unwrap();
    assert_eq!((page.rows.len(), page.unreadable.len()), (1, 1));
    ow.admin().remove_schedule(&ScheduleName::new("bad").unwrap()).await.unwrap();
}

/// J12: workers of this namespace run what a schedule enqueues, on PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn j12_a_schedule_reaches_its_worker() {
    let schema = crate::pg::Schema::migrated().await;
    let (ow, other) = (connect(schema.url()).await, connect(schema.url()).await);
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let handler = move |_: Report| {
        let counted = Arc::clone(&counted);
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    };
    let worker = other.worker().job(handler).start().await.unwrap();
    // Before anybody could fire it: this is its first tick.
    let row = ow.schedule("often", "every 200ms", Report { of: 2 }).await.unwrap();
    let schedulers =
        [ow.runner().scheduler().start().await.unwrap(), other.runner().scheduler().start().await.unwrap()];
    until("five are run", async || ran.load(Ordering::SeqCst) >= 5).await;
    ow.admin().pause_schedule(&row.name, None).await.unwrap();
    for scheduler in schedulers {
        scheduler.shutdown().await;
    }
    worker.shutdown().await;
    let last = ow.admin().schedule(&row.name).await.unwrap().last.unwrap();
    let ticks = last.tick.since(row.next_at.unwrap()).as_millis() / 200 + 1;
    assert!(ran.load(Ordering::SeqCst) as u128 <= ticks, "no tick twice");
}
