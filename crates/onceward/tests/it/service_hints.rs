//! Services where hints get lost, never come, or come all the time: looking is the guarantee, and costs little (G13).

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use onceward::service::{RunnerHandle, Term};
use onceward::store::faulty::{Faulty, Verb};
use onceward::store::{Store, Wake};
use onceward::{ConnectOptions, Onceward, ServiceName};
use tokio::time::{Instant, sleep, timeout};

use crate::places::Place;

/// What is found by looking is found within this: a look every five seconds, and time for a slow machine.
const BY_LOOKING: Duration = Duration::from_secs(8);

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(30), async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

/// A runner of an hourly service that counts its terms, and stays in them where it is to.
async fn hourly(ow: &Onceward, ran: &Arc<AtomicUsize>, stays: bool) -> RunnerHandle {
    let ran = Arc::clone(ran);
    let work = move |_: Term| {
        ran.fetch_add(1, Ordering::SeqCst);
        async move {
            if stays {
                core::future::pending::<()>().await;
            }
        }
    };
    ow.service("hourly").every("1h").grace(Duration::ZERO).start(work).await.unwrap()
}

async fn within(what: &str, at_most: Duration, ran: &AtomicUsize, count: usize) {
    let began = Instant::now();
    until(what, async || ran.load(Ordering::SeqCst) >= count).await;
    println!("{what} after {:?}", began.elapsed());
    assert!(began.elapsed() < at_most, "{what} after {:?}", began.elapsed());
}

/// One look in five seconds; with the renewals of the session, as many, that is less than half a statement a second.
async fn looks_rarely(place: &str, counted: &Faulty) {
    let (before, began) = (counted.calls(Verb::ServiceLook), Instant::now());
    sleep(Duration::from_secs(6)).await;
    let looks = counted.calls(Verb::ServiceLook) - before;
    println!("a runner {place}: {looks} looks in {:?}", began.elapsed());
    assert!(looks as f64 <= began.elapsed().as_secs_f64() / 5.0 + 1.0, "{looks} looks {place}");
}

/// G13, A7: behind a pooler, and without Redis, nothing is heard.
#[tokio::test(flavor = "multi_thread")]
async fn g13_without_hints_a_hand_over_and_a_run_that_was_asked_for_are_found_by_looking() {
    let place = Place::pooled().await;
    let ran = Arc::new(AtomicUsize::new(0));
    let (one, other) = (place.client("host:1").await, place.client("host:2").await);
    assert!(!one.store().capabilities().is_heard);
    let first = hourly(&one, &ran, true).await;
    until("begun", async || ran.load(Ordering::SeqCst) == 1).await;
    let second = hourly(&other, &ran, false).await;
    sleep(Duration::from_millis(500)).await;
    first.shutdown().await;
    within("the hand-over", BY_LOOKING, &ran, 2).await;
    place.client("ops").await.admin().run_service_now(&name("hourly")).await.unwrap();
    within("what was asked for", BY_LOOKING, &ran, 3).await;
    second.shutdown().await;
}

/// G13: what a process tells last leaves with it: the hint of a command that asks for a run.
#[tokio::test(flavor = "multi_thread")]
async fn g13_the_last_hint_of_a_process_that_ends_leaves_with_it() {
    let place = Place::postgres().await;
    let ran = Arc::new(AtomicUsize::new(0));
    let ow = place.client("host:1").await;
    let runner = hourly(&ow, &ran, false).await;
    until("its first term", async || ran.load(Ordering::SeqCst) == 1).await;
    let mut heard = ow.store().subscribe();
    // Until somebody listens.
    sleep(Duration::from_millis(500)).await;
    let key = onceward_core::service::bell_key(&name("hourly"));
    for round in 0..5 {
        let command = place.client("ops").await;
        command.admin().run_service_now(&name("hourly")).await.unwrap();
        command.shutdown().await;
        let told = async {
            loop {
                if matches!(heard.recv().await, Ok(Wake::Lease(_, told)) if told == key) {
                    return;
                }
            }
        };
        assert!(timeout(Duration::from_secs(4), told).await.is_ok(), "the hint of command {round} was lost");
        until("it was run", async || ran.load(Ordering::SeqCst) == round + 2).await;
        // What the runner tells of its own.
        sleep(Duration::from_millis(300)).await;
        while heard.try_recv().is_ok() {}
    }
    runner.shutdown().await;
}

/// Commits of others are rumours on SQLite, and nearly none of them is about a service: a runner that waits looks less
/// than once in two seconds, however many there are, and still finds what is about it.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_beside_busy_writers_costs_next_to_nothing_on_sqlite() {
    let place = Place::sqlite();
    let counted = Faulty::new(Arc::clone(place.client("host:1").await.store()));
    let store = Arc::clone(&counted) as Arc<dyn Store>;
    let ow = ConnectOptions::new().owner("host:1").build(store).unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let runner = hourly(&ow, &ran, false).await;
    until("its first term", async || ran.load(Ordering::SeqCst) == 1).await;
    let other = place.client("host:2").await;
    let busy = other.clone();
    let busy = tokio::spawn(async move {
        loop {
            drop(busy.lease("noise").acquire().await.unwrap());
            sleep(Duration::from_millis(40)).await;
        }
    });
    // Some rumours in a row are followed.
    sleep(Duration::from_secs(2)).await;
    looks_rarely("beside a busy writer", &counted).await;
    other.admin().run_service_now(&name("hourly")).await.unwrap();
    within("what was asked for", BY_LOOKING, &ran, 2).await;
    busy.abort();
    runner.shutdown().await;
}

/// What it costs to stand by: a follower of a leader, on a database and on a file.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_to_follow_a_leader_costs_next_to_nothing() {
    for place in [Place::sqlite(), Place::postgres().await] {
        let lead = async |ow: &Onceward| {
            let work = |term: Term| async move {
                term.cancelled().await;
            };
            ow.service("leader").always_on().start(work).await.unwrap()
        };
        let connect = async |owner: &str| {
            let inner = Arc::clone(place.client(owner).await.store());
            ConnectOptions::new().owner(owner).build(inner).unwrap()
        };
        let (one, other) = (connect("host:1").await, connect("host:2").await);
        let leader = lead(&one).await;
        until("a leader", async || {
            one.admin().service_history(&name("leader"), 1).await.is_ok_and(|terms| !terms.is_empty())
        })
        .await;
        let counted = Faulty::new(Arc::clone(other.store()));
        let counting = ConnectOptions::new().owner("host:2").build(Arc::clone(&counted) as Arc<dyn Store>);
        let follower = lead(&counting.unwrap()).await;
        for _ in 0..8 {
            drop(one.lease("noise").acquire().await.unwrap());
            sleep(Duration::from_millis(150)).await;
        }
        looks_rarely(&format!("at a leader on {:?}", one.store().capabilities().kind), &counted).await;
        follower.shutdown().await;
        leader.shutdown().await;
    }
}
