//! Terms that are asked for, left, lost and spoiled in other ways than usual; and runners that have to wait.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use onceward::service::{Outcome, RunnerHandle, Stopped, Term};
use onceward::store::Store;
use onceward::store::clock::{Clock, SystemClock};
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::{ConnectOptions, Onceward, ServiceName};
use tokio::time::{sleep, timeout};

use crate::places::{Place, on_each_store};

on_each_store! {
    a_run_that_was_asked_for_is_run_though_its_lease_was_lost_on_the_way,
    a_service_that_another_program_declares_otherwise_is_left_alone,
    a_term_that_is_lost_while_its_runner_leaves_is_lost_and_stays_closed,
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(20), async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

/// A client of the place whose store fails as it is told.
async fn failing(place: &Place, owner: &str) -> (Arc<Faulty>, Onceward) {
    let faulty = Faulty::new(Arc::clone(place.client(owner).await.store()));
    let store = Arc::clone(&faulty) as Arc<dyn Store>;
    let ow = ConnectOptions::new().owner(owner).short_ttls_for_tests().build(store).unwrap();
    (faulty, ow)
}

/// A runner that counts its terms.
async fn counting(ow: &Onceward, interval: Duration, ran: &Arc<AtomicUsize>) -> RunnerHandle {
    let ran = Arc::clone(ran);
    let work = move |_: Term| {
        ran.fetch_add(1, Ordering::SeqCst);
        async {}
    };
    ow.service("tick").interval(interval).start(work).await.unwrap()
}

/// A6: its row was not written, so it was not run, and nobody takes it off the list.
async fn a_run_that_was_asked_for_is_run_though_its_lease_was_lost_on_the_way(place: &Place) {
    let (faulty, ow) = failing(place, "host:1").await;
    let admin = place.client("ops").await.admin();
    let ran = Arc::new(AtomicUsize::new(0));
    let runner = counting(&ow, Duration::from_secs(7 * 86_400), &ran).await;
    until("the cycle", async || ran.load(Ordering::SeqCst) == 1).await;
    let begun = faulty.calls(Verb::ServiceBegin);
    faulty.next(Verb::ServiceBegin, Fault::Slow(Duration::from_secs(1)));
    admin.run_service_now(&name("tick")).await.unwrap();
    until("on its way", async || faulty.calls(Verb::ServiceBegin) > begun).await;
    admin.break_lease("service:tick", None, "the test wants it").await.unwrap();
    until("run", async || ran.load(Ordering::SeqCst) == 2).await;
    until("taken off the list", async || {
        admin.service(&name("tick"), 9).await.unwrap().record.unwrap().setting.asked.is_empty()
    })
    .await;
    runner.shutdown().await;
}

/// Two programs, one name: the numbers of cycles mean something else to each, so only the last declaration is served.
async fn a_service_that_another_program_declares_otherwise_is_left_alone(place: &Place) {
    let every = Duration::from_millis(200);
    let (mine, theirs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (one, other) = (place.client("host:1").await, place.client("host:2").await);
    let first = counting(&one, every, &mine).await;
    until("a cycle", async || mine.load(Ordering::SeqCst) > 0).await;
    let leading = Arc::new(AtomicBool::new(false));
    let leads = Arc::clone(&leading);
    let work = move |term: Term| {
        leads.store(true, Ordering::SeqCst);
        async move {
            term.cancelled().await;
        }
    };
    let leader = other.service("tick").always_on().start(work).await.unwrap();
    until("a leader", async || leading.load(Ordering::SeqCst)).await;
    leader.shutdown().await;
    let before = mine.load(Ordering::SeqCst);
    sleep(Duration::from_millis(1_200)).await;
    assert_eq!(mine.load(Ordering::SeqCst), before, "it is a leader's by now");
    let again = counting(&other, every, &theirs).await;
    until("cycles of both", async || {
        theirs.load(Ordering::SeqCst) > 0 && mine.load(Ordering::SeqCst) > before
    })
    .await;
    first.shutdown().await;
    again.shutdown().await;
    let terms = other.admin().service_history(&name("tick"), 500).await.unwrap();
    assert!(terms.iter().all(|term| term.cycle > 0), "{terms:?}");
    let led = terms.iter().filter(|term| term.was_begun() && term.cycle == term.token.get()).count();
    assert_eq!(led, 1, "{terms:?}");
}

/// A runner of a leader that goes on until it is dropped, and says when it begins, is told to leave, and is dropped.
async fn stubborn(ow: &Onceward, marks: &Arc<Mutex<Vec<&'static str>>>, grace: Duration) -> RunnerHandle {
    struct Inside(Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Inside {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("dropped");
        }
    }
    let marks = Arc::clone(marks);
    let work = move |term: Term| {
        let marks = Arc::clone(&marks);
        async move {
            marks.lock().unwrap().push("begun");
            let _inside = Inside(Arc::clone(&marks));
            if term.cancelled().await == Stopped::Leaving {
                marks.lock().unwrap().push("leaving");
            }
            core::future::pending::<()>().await;
        }
    };
    let service = ow.service("leader").always_on().grace(grace).lock_delay(DELAY);
    service.ttl(Duration::from_millis(800)).start(work).await.unwrap()
}

const DELAY: Duration = Duration::from_secs(2);

/// A3: the store goes away while the work has its grace. Nobody knows what it did after that: it is not handed over.
async fn a_term_that_is_lost_while_its_runner_leaves_is_lost_and_stays_closed(place: &Place) {
    let (faulty, ow) = failing(place, "host:1").await;
    let other = place.client("host:2").await;
    let marks = Arc::new(Mutex::new(Vec::new()));
    let has = |mark: &str| marks.lock().unwrap().contains(&mark);
    let first = stubborn(&ow, &marks, Duration::from_secs(30)).await;
    until("a leader", async || has("begun")).await;
    let next = Arc::new(Mutex::new(Vec::new()));
    let second = stubborn(&other, &next, Duration::ZERO).await;
    let leaving = tokio::spawn(first.shutdown());
    until("told", async || has("leaving")).await;
    let cut = SystemClock.boottime();
    faulty.random(7, 1, [Fault::Away]);
    until("dropped", async || has("dropped")).await;
    faulty.heal();
    leaving.await.unwrap();
    until("the next one", async || !next.lock().unwrap().is_empty()).await;
    let waited = SystemClock.boottime().since(cut);
    assert!(waited >= DELAY, "{waited:?}");
    let terms = other.admin().service_history(&name("leader"), 9).await.unwrap();
    assert_eq!(terms.last().unwrap().outcome, Outcome::Lost, "{terms:?}");
    let after = terms[terms.len() - 2].started_at.since(terms.last().unwrap().started_at);
    assert!(after >= DELAY, "{terms:?}");
    second.shutdown().await;
}

/// A3: work that nothing can stop goes on beside the next term: that one begins after the lock delay, and not at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a3_work_that_ignores_its_end_keeps_others_away_for_its_lock_delay() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let client = |owner: &str| {
        ConnectOptions::new().owner(owner).short_ttls_for_tests().build(Arc::clone(&store)).unwrap()
    };
    let (stuck, other) = (client("host:1"), client("host:2"));
    let (begun, goes_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let service = |ow: &Onceward, blocks: bool| {
        let (begun, goes_on) = (Arc::clone(&begun), Arc::clone(&goes_on));
        let service = ow.service("leader").always_on().lock_delay(DELAY).ttl(Duration::from_millis(800));
        let service = if blocks { service.stall_after(Duration::from_millis(100)) } else { service };
        service.start(move |term: Term| {
            begun.fetch_add(1, Ordering::SeqCst);
            let goes_on = Arc::clone(&goes_on);
            async move {
                while blocks && goes_on.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                term.cancelled().await;
            }
        })
    };
    let first = service(&stuck, true).await.unwrap();
    until("begun", async || begun.load(Ordering::SeqCst) == 1).await;
    let second = service(&other, false).await.unwrap();
    until("the next one", async || begun.load(Ordering::SeqCst) == 2).await;
    assert!(!first.is_healthy());
    let terms = other.admin().service_history(&name("leader"), 9).await.unwrap();
    let [next, ended] = &terms[..] else { panic!("{terms:?}") };
    assert_eq!(ended.outcome, Outcome::Failed, "{terms:?}");
    let waited = next.started_at.since(ended.ended_at.unwrap());
    assert!(waited >= DELAY, "{waited:?}");
    goes_on.store(false, Ordering::SeqCst);
    first.shutdown().await;
    second.shutdown().await;
}

/// One that was asked to begin nothing has nothing to look for.
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_runner_looks_seldom_and_finds_out_that_it_may_begin_again() {
    let place = Place::memory();
    let (faulty, ow) = failing(&place, "host:1").await;
    let ran = Arc::new(AtomicUsize::new(0));
    let runner = counting(&ow, Duration::from_millis(200), &ran).await;
    until("a cycle", async || ran.load(Ordering::SeqCst) > 0).await;
    let admin = place.client("ops").await.admin();
    assert!(admin.drain_runner(runner.session().unwrap(), true).await.unwrap());
    sleep(Duration::from_millis(600)).await;
    let (looks, terms) = (faulty.calls(Verb::ServiceLook), ran.load(Ordering::SeqCst));
    sleep(Duration::from_millis(2_200)).await;
    let more = faulty.calls(Verb::ServiceLook) - looks;
    assert!(more <= 1 && ran.load(Ordering::SeqCst) == terms, "{more} looks");
    assert!(admin.drain_runner(runner.session().unwrap(), false).await.unwrap());
    until("it begins again", async || ran.load(Ordering::SeqCst) > terms).await;
    runner.shutdown().await;
}
