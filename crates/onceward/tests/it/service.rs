//! Services on every store: cycles, leaders, and what becomes of work that has to stop.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use onceward::service::{OnMissed, Outcome, Stopped, Term};
use onceward::store::Store;
use onceward::store::memory::MemoryStore;
use onceward::{Code, ConnectOptions, Onceward, ServiceName};
use tokio::time::{Instant, sleep, timeout};

use crate::places::{Place, on_each_store};

on_each_store! {
    a1_each_cycle_is_run_once_by_one_of_the_runners,
    a7_a_leader_that_leaves_is_followed_at_once,
    a7_a_cycle_in_the_middle_is_handed_over,
    a3_work_whose_lease_is_lost_is_stopped,
    a5_a_leader_that_stalls_resigns_and_one_that_gets_on_does_not,
    failures_and_panics_are_kept_with_their_terms_and_the_next_cycle_runs,
    a_paused_service_runs_only_what_is_asked_for,
    an_overrun_is_recorded_and_made_up_for_by_policy,
}

fn client(store: &Arc<dyn Store>, owner: &str) -> Onceward {
    ConnectOptions::new().owner(owner).short_ttls_for_tests().build(Arc::clone(store)).unwrap()
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// Waits for a state, for as long as a slow machine may take.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(20), async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

/// A1: several runners, one store: each cycle is run once, with growing tokens, and everybody has a turn.
async fn a1_each_cycle_is_run_once_by_one_of_the_runners(place: &Place) {
    let (ran, inside) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let mut runners = Vec::new();
    for n in 0..4 {
        let (ran, inside) = (Arc::clone(&ran), Arc::clone(&inside));
        let service =
            place.client(&format!("host:{n}")).await.service("tick").interval(Duration::from_millis(300));
        let work = move |term: Term| {
            let (ran, inside) = (Arc::clone(&ran), Arc::clone(&inside));
            async move {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                ran.lock().unwrap().push((term.cycle(), term.token(), n));
                sleep(Duration::from_millis(5)).await;
                inside.fetch_sub(1, Ordering::SeqCst);
            }
        };
        runners.push(service.start(work).await.unwrap());
    }
    until("10 cycles", async || ran.lock().unwrap().len() >= 10).await;
    for runner in runners {
        runner.shutdown().await;
    }
    let ran = ran.lock().unwrap().clone();
    let mut cycles: Vec<i64> = ran.iter().map(|(cycle, ..)| *cycle).collect();
    cycles.dedup();
    assert_eq!(cycles.len(), ran.len(), "a cycle was run twice: {ran:?}");
    assert!(ran.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{ran:?}");
    let who: std::collections::BTreeSet<usize> = ran.iter().map(|(.., n)| *n).collect();
    assert!(who.len() >= 2, "the turn goes round: {ran:?}");
    let terms = place.client("ops").await.admin().service_history(&name("tick"), 500).await.unwrap();
    let covered: i64 = terms.iter().map(|term| term.cycles).sum();
    let span = terms[0].cycle + terms[0].cycles - terms.last().unwrap().cycle;
    assert_eq!(covered, span, "each cycle was run or recorded: {terms:?}");
}

/// A7: a leader that leaves is followed at once, and one cycle of work is handed over.
async fn a7_a_leader_that_leaves_is_followed_at_once(place: &Place) {
    let leading = Arc::new(Mutex::new(Vec::new()));
    let start = async |n: usize| {
        let leading = Arc::clone(&leading);
        let service = place.client(&format!("host:{n}")).await.service("leader").always_on();
        let work = move |term: Term| {
            let leading = Arc::clone(&leading);
            async move {
                leading.lock().unwrap().push((n, term.token()));
                assert_eq!(term.cancelled().await, Stopped::Leaving);
            }
        };
        service.start(work).await.unwrap()
    };
    let first = start(0).await;
    until("a leader", async || leading.lock().unwrap().len() == 1).await;
    let second = start(1).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(leading.lock().unwrap().len(), 1, "one at a time");
    let left = Instant::now();
    first.shutdown().await;
    until("a second leader", async || leading.lock().unwrap().len() == 2).await;
    assert!(left.elapsed() < Duration::from_secs(8), "far below the ttl of 15 s: {:?}", left.elapsed());
    let seen = leading.lock().unwrap().clone();
    assert!(seen[0].0 == 0 && seen[1].0 == 1 && seen[0].1 < seen[1].1, "{seen:?}");
    second.shutdown().await;
    let terms = place.client("ops").await.admin().service_history(&name("leader"), 9).await.unwrap();
    let outcomes: Vec<Outcome> = terms.iter().map(|term| term.outcome).collect();
    assert_eq!(outcomes, [Outcome::HandedOver, Outcome::HandedOver]);
}

/// A7: the cycle of a runner that leaves in the middle is gone on with, in the same cycle.
async fn a7_a_cycle_in_the_middle_is_handed_over(place: &Place) {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let start = async |n: usize, waits: bool| {
        let ran = Arc::clone(&ran);
        let service =
            place.client(&format!("host:{n}")).await.service("slow").every("1h").grace(Duration::ZERO);
        let work = move |term: Term| {
            let ran = Arc::clone(&ran);
            async move {
                ran.lock().unwrap().push((n, term.cycle(), term.token()));
                if waits {
                    core::future::pending::<()>().await;
                }
            }
        };
        service.start(work).await.unwrap()
    };
    let first = start(0, true).await;
    until("the first", async || ran.lock().unwrap().len() == 1).await;
    let second = start(1, false).await;
    first.shutdown().await;
    until("the second", async || ran.lock().unwrap().len() == 2).await;
    let seen = ran.lock().unwrap().clone();
    assert!(seen[0].1 == seen[1].1 && seen[0].2 < seen[1].2, "{seen:?}");
    let admin = place.client("ops").await.admin();
    until("its end", async || {
        admin.service_history(&name("slow"), 9).await.unwrap()[0].outcome == Outcome::Done
    })
    .await;
    assert_eq!(admin.service_history(&name("slow"), 9).await.unwrap().len(), 1);
    second.shutdown().await;
}

/// A3: whose lease is broken is told so, and dropped where he stands; the term counts as lost.
async fn a3_work_whose_lease_is_lost_is_stopped(place: &Place) {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let ow = place.client("host:1").await;
    let (begun, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let work = {
        let (begun, dropped) = (Arc::clone(&begun), Arc::clone(&dropped));
        move |term: Term| {
            let (begun, dropped) = (Arc::clone(&begun), Arc::clone(&dropped));
            async move {
                let _dropped = Dropped(dropped);
                begun.fetch_add(1, Ordering::SeqCst);
                assert!(matches!(term.cancelled().await, Stopped::Lost(_)));
                assert_eq!(term.check().unwrap_err().code(), Code::TermLost);
                core::future::pending::<()>().await;
            }
        }
    };
    let service = ow.service("job").every("1h").ttl(Duration::from_millis(400));
    let runner = service.start(work).await.unwrap();
    until("begun", async || begun.load(Ordering::SeqCst) == 1).await;
    ow.admin().break_lease("service:job", None, "the test wants it").await.unwrap();
    until("dropped", async || dropped.load(Ordering::SeqCst)).await;
    let admin = ow.admin();
    until("lost", async || admin.service_history(&name("job"), 9).await.unwrap()[0].outcome == Outcome::Lost)
        .await;
    assert!(runner.is_healthy());
    runner.shutdown().await;
}

/// A3: work that blocks its thread can't be dropped; the runner says that it is not healthy.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a3_work_that_ignores_its_end_makes_the_runner_unhealthy() {
    blocks(|blocking| async move { blocking() }).await;
}

/// A3: so does work that blocks before it returns its future.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a3_work_that_blocks_before_it_is_awaited_makes_the_runner_unhealthy() {
    blocks(|blocking| {
        blocking();
        core::future::ready(())
    })
    .await;
}

async fn blocks<F: Future<Output = ()> + Send + 'static>(
    run: impl Fn(Box<dyn FnOnce() + Send>) -> F + Send + Sync + 'static,
) {
    let store = memory();
    let (begun, goes_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let work = {
        let (begun, goes_on) = (Arc::clone(&begun), Arc::clone(&goes_on));
        move |_: Term| {
            let (begun, goes_on) = (Arc::clone(&begun), Arc::clone(&goes_on));
            run(Box::new(move || {
                begun.store(true, Ordering::SeqCst);
                while goes_on.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }))
        }
    };
    let ow = client(&store, "host:1");
    let service = ow.service("stuck").every("1h").stall_after(Duration::from_millis(100));
    let runner = service.start(work).await.unwrap();
    until("begun", async || begun.load(Ordering::SeqCst)).await;
    until("unhealthy", async || !runner.is_healthy()).await;
    ow.admin().run_service_now(&name("stuck")).await.unwrap();
    begun.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(500)).await;
    assert!(!begun.load(Ordering::SeqCst), "nothing else begins beside it");
    goes_on.store(false, Ordering::SeqCst);
    until("healthy again", async || runner.is_healthy()).await;
    until("what was asked for", async || begun.load(Ordering::SeqCst)).await;
    runner.shutdown().await;
}

/// A5: who does not get on gives the term up; who says so keeps it.
async fn a5_a_leader_that_stalls_resigns_and_one_that_gets_on_does_not(place: &Place) {
    let ow = place.client("host:1").await;
    let terms = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&terms);
    let work = move |term: Term| {
        let nth = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            for _ in 0..6 {
                sleep(Duration::from_millis(100)).await;
                if nth > 0 {
                    term.progress();
                }
            }
            term.cancelled().await;
        }
    };
    let service = ow.service("leader").always_on().stall_after(Duration::from_millis(400));
    let runner = service.start(work).await.unwrap();
    let admin = ow.admin();
    let history = async || admin.service_history(&name("leader"), 9).await.unwrap();
    until("the second term", async || history().await.len() >= 2).await;
    let seen = history().await;
    let first = seen.last().unwrap();
    assert_eq!(first.outcome, Outcome::Failed);
    assert!(first.reason.as_deref().unwrap().contains("got on"), "{first:?}");
    // It begins again a second after the first, not at once.
    let second = &seen[seen.len() - 2];
    assert!(second.started_at.since(first.ended_at.unwrap()) >= Duration::from_millis(900), "{seen:?}");
    runner.shutdown().await;
}

async fn failures_and_panics_are_kept_with_their_terms_and_the_next_cycle_runs(place: &Place) {
    let ow = place.client("host:1").await;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let work = move |_: Term| {
        let nth = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match nth {
                0 => Err("the disk is full".to_owned()),
                1 => panic!("this is a test"),
                _ => Ok(()),
            }
        }
    };
    let runner = ow.service("odd").interval(Duration::from_millis(200)).start(work).await.unwrap();
    until("three", async || count.load(Ordering::SeqCst) >= 3).await;
    runner.shutdown().await;
    let mut terms = ow.admin().service_history(&name("odd"), 50).await.unwrap();
    terms.reverse();
    terms.retain(|term| term.was_begun());
    assert_eq!(terms[0].reason.as_deref(), Some("the disk is full"));
    assert_eq!((terms[0].outcome, terms[1].outcome), (Outcome::Failed, Outcome::Failed));
    // On a busy machine it may have overrun its slot as well.
    let reason = terms[1].reason.as_deref().unwrap();
    assert!(reason.starts_with("its work panicked") && terms[2].outcome == Outcome::Done, "{terms:?}");
}

async fn a_paused_service_runs_only_what_is_asked_for(place: &Place) {
    let ow = place.client("host:1").await;
    let ran = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&ran);
    let work = move |term: Term| {
        kept.lock().unwrap().push(term.is_asked_for());
        async {}
    };
    let admin = ow.admin();
    assert_eq!(admin.pause_service(&name("tick"), None).await.unwrap_err().code(), Code::ServiceUnknown);
    let runner = ow.service("tick").interval(Duration::from_millis(200)).start(work).await.unwrap();
    until("one", async || !ran.lock().unwrap().is_empty()).await;
    assert!(admin.pause_service(&name("tick"), Some("maintenance")).await.unwrap());
    assert!(!admin.pause_service(&name("tick"), None).await.unwrap());
    sleep(Duration::from_millis(300)).await;
    let before = ran.lock().unwrap().len();
    sleep(Duration::from_millis(500)).await;
    assert_eq!(ran.lock().unwrap().len(), before);
    admin.run_service_now(&name("tick")).await.unwrap();
    until("asked for", async || ran.lock().unwrap().last() == Some(&true)).await;
    assert_eq!(ran.lock().unwrap().len(), before + 1);
    assert!(admin.resume_service(&name("tick")).await.unwrap());
    until("resumed", async || ran.lock().unwrap().len() > before + 1).await;
    runner.shutdown().await;
    let terms = admin.service_history(&name("tick"), 50).await.unwrap();
    let paused = terms.iter().filter(|term| term.reason.as_deref() == Some("paused")).count();
    assert!(paused >= 1, "{terms:?}");
}

/// W76: an overrun keeps the next cycle away, is recorded, and is made up for where that is wanted.
async fn an_overrun_is_recorded_and_made_up_for_by_policy(place: &Place) {
    let ow = place.client("host:1").await;
    let cycles = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&cycles);
    let work = move |term: Term| {
        let first = {
            let mut cycles = kept.lock().unwrap();
            cycles.push(term.cycle());
            cycles.len() == 1
        };
        async move {
            if first {
                sleep(Duration::from_millis(900)).await
            }
        }
    };
    let service = ow.service("slow").interval(Duration::from_millis(200)).on_missed(OnMissed::One);
    let runner = service.start(work).await.unwrap();
    until("two more", async || cycles.lock().unwrap().len() >= 3).await;
    runner.shutdown().await;
    let cycles = cycles.lock().unwrap().clone();
    assert!(cycles[1] > cycles[0] + 1 && cycles[2] > cycles[1], "{cycles:?}");
    let terms = ow.admin().service_history(&name("slow"), 50).await.unwrap();
    let why = format!("the term of cycle {} was still running", cycles[0]);
    assert!(terms.iter().any(|term| term.reason.as_deref() == Some(&why)), "{terms:?}");
    // That it overran is kept with it, for whoever looks at the history.
    let long = terms.iter().find(|term| term.cycle == cycles[0]).unwrap();
    let kept = long.reason.as_deref().unwrap();
    assert!(
        long.outcome == Outcome::Done && kept.starts_with("it overran its slot of 200ms by "),
        "{long:?}"
    );
}

/// A5: work that panics before it returns its future has failed like any other, and a leader's is followed later.
#[tokio::test(flavor = "multi_thread")]
async fn a5_work_that_panics_before_it_is_awaited_has_failed() {
    fn falls(_: Term) -> core::future::Ready<()> {
        panic!("this is a test")
    }
    let ow = client(&memory(), "host:1");
    let leader = ow.service("leader").always_on().does(falls).unwrap();
    let often = ow.service("often").interval(Duration::from_millis(200)).does(falls).unwrap();
    let runner = ow.runner().service(leader).service(often).start().await.unwrap();
    let admin = ow.admin();
    let ended = async |service| {
        let mut terms = admin.service_history(&name(service), 50).await.unwrap();
        terms.retain(|term| term.was_begun() && term.ended_at.is_some());
        terms
    };
    until("two terms of each", async || ended("leader").await.len() >= 2 && ended("often").await.len() >= 2)
        .await;
    runner.shutdown().await;
    for term in ended("often").await.into_iter().chain(ended("leader").await) {
        let reason = term.reason.as_deref().unwrap();
        assert!(term.outcome == Outcome::Failed && reason.starts_with("its work panicked"), "{term:?}");
    }
    let terms = ended("leader").await;
    let [.., second, first] = &terms[..] else { panic!("{terms:?}") };
    assert!(second.started_at.since(first.ended_at.unwrap()) >= Duration::from_millis(900), "{terms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_service_can_be_is_refused_at_once() {
    let ow = ConnectOptions::new().build(memory()).unwrap();
    let code = |service: onceward::service::ServiceBuilder| service.does(|_| async {}).unwrap_err().code();
    assert_eq!(code(ow.service("").every("5m")), Code::ServiceNameInvalid);
    assert_eq!(code(ow.service("x")), Code::IntervalInvalid);
    assert_eq!(code(ow.service("x").every("0s")), Code::IntervalInvalid);
    assert_eq!(code(ow.service("x").every("10ms")), Code::IntervalInvalid);
    assert_eq!(code(ow.service("x").every("-5m")), Code::DurationInvalid);
    assert_eq!(code(ow.service("x").every("9999 years")), Code::DurationInvalid);
    assert_eq!(code(ow.service("x").every("5m").spread_margin("5m")), Code::MarginInvalid);
    assert_eq!(code(ow.service("x").every("5m").catch_up(Duration::ZERO)), Code::CatchUpInvalid);
    assert_eq!(code(ow.service("x").every("5m").ttl(Duration::ZERO)), Code::TtlInvalid);
    let hours = Duration::from_secs(2 * 3_600);
    assert_eq!(code(ow.service("x").every("5m").lock_delay(hours)), Code::LockDelayInvalid);
    assert_eq!(code(ow.service("x").every("5m").stall_after(Duration::ZERO)), Code::ServiceInvalid);
    assert_eq!(code(ow.service("x").every("5m").per_runner().on_missed(OnMissed::One)), Code::ServiceInvalid);
    assert_eq!(code(ow.service("x").every("5m").per_runner().catch_up(hours)), Code::ServiceInvalid);
    assert_eq!(code(ow.service("x").every("5m").per_runner().sticky()), Code::ServiceInvalid);
    assert_eq!(code(ow.service("x").always_on().every("5m")), Code::ServiceInvalid);
    assert_eq!(code(ow.service("x").always_on().spread_margin("1s")), Code::ServiceInvalid);
    assert_eq!(code(ow.service("x").always_on().on_missed(OnMissed::All)), Code::ServiceInvalid);
    let one = || ow.service("x").every("5m").does(|_| async {}).unwrap();
    assert_eq!(ow.runner().start().await.unwrap_err().code(), Code::RunnerIdle);
    let twice = ow.runner().service(one()).service(one()).start().await;
    assert_eq!(twice.unwrap_err().code(), Code::ServiceTwice);
    assert!(ow.admin().services().await.unwrap().rows.is_empty(), "nothing was written");
}
