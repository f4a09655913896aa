//! Nasty cases for those who hold leases and run things once: clocks that step, machines that sleep, crowds, rows that
//! are gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onceward::lease::fence;
use onceward::store::Store;
use onceward::store::clock::ManualClock;
use onceward::store::faulty::{Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::{Lost, Onceward, Outcome};
use tokio::time::{sleep, timeout};

use crate::stores::each_place;

const HOUR: i64 = 3_600_000_000;

/// A client whose time stands still until it is told otherwise.
fn on_a_clock() -> (Onceward, ManualClock) {
    let clock = ManualClock::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    (Onceward::options().cache_bytes(0).build(store).unwrap(), clock)
}

/// The header a holder sends is the one a receiver reads; the one of the holder before is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_fence_header_of_a_holder_is_what_a_receiver_checks() {
    let ow = Onceward::connect("memory:").await.unwrap();
    let receiver = fence::Checker::default();
    let arrives = |(name, value): (&str, String)| {
        assert_eq!(name, fence::HEADER);
        receiver.check("account", fence::token_of(Some(&value))?)
    };
    let first = ow.lease("account").acquire().await.unwrap().unwrap();
    let header = first.fence_header();
    assert_eq!(header, ("X-Fence-Token", first.token().to_string()));
    arrives(header.clone()).unwrap();
    first.release().await.unwrap();
    let second = ow.lease("account").acquire().await.unwrap().unwrap();
    arrives(second.fence_header()).unwrap();
    assert_eq!(arrives(header).unwrap_err().code(), onceward::Code::TokenStale);
    let sent = ow.once("k").run(async |attempt| Ok((attempt.fence_header().1, attempt.token().to_string())));
    let (value, token) = sent.await.unwrap().done().unwrap();
    assert_eq!(value, token);
}

/// N14: the store's clock steps an hour ahead under live claims. Leases run out early and the next holder has a larger
/// token; a key that runs reads as uncertain, and its runner may still say how it ended.
#[tokio::test(flavor = "multi_thread")]
async fn n14_a_clock_that_steps_ahead_ends_leases_early_and_loses_no_outcome() {
    let (ow, clock) = on_a_clock();
    let held = ow.lease("l").ttl(Duration::from_secs(60)).acquire().await.unwrap().unwrap();
    let (tell, wait) = tokio::sync::oneshot::channel::<i32>();
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn({
        let ow = ow.clone();
        async move {
            let run = ow.once("k").ttl(Duration::from_secs(60)).no_hard_ttl().run(async |_| {
                begun.send(()).unwrap();
                Ok(wait.await.unwrap())
            });
            run.await.unwrap()
        }
    });
    has_begun.await.unwrap();
    clock.step_wall(HOUR);
    let next = ow.lease("l").acquire().await.unwrap().expect("it has run out by the store's clock");
    assert!(next.token() > held.token());
    assert_eq!(held.renew().await.unwrap_err().code(), onceward::Code::LeaseLost);
    assert!(!held.release().await.unwrap() && next.is_valid(), "the old holder frees nothing");
    assert!(ow.once("k").peek::<i32>().await.unwrap().unwrap().is_uncertain());
    tell.send(7).unwrap();
    assert_eq!(running.await.unwrap().done(), Some(7));
    assert_eq!(ow.once("k").peek::<i32>().await.unwrap().unwrap().done(), Some(7), "late evidence counts");
}

/// N19, G10: a machine that slept. Timers stood still meanwhile, the boot clock did not: nothing from before is
/// trusted, and whoever waits for the loss hears of it soon, not when the rest of an old timer is over.
#[tokio::test(flavor = "multi_thread")]
async fn n19_a_machine_that_slept_trusts_nothing_from_before() {
    let (ow, clock) = on_a_clock();
    let ttl = Duration::from_secs(300);
    let lease = ow.lease("l").ttl(ttl).acquire().await.unwrap().unwrap();
    let (lost, ()) = tokio::join!(timeout(Duration::from_secs(20), lease.lost()), async {
        sleep(Duration::from_millis(50)).await;
        assert!(lease.is_valid());
        clock.advance(Duration::from_secs(600));
        assert!(!lease.is_valid());
    });
    assert_eq!(lost.expect("within moments"), Lost::NotRenewed);
    let once = ow.once("k").ttl(ttl).run(async |_| {
        clock.advance(Duration::from_secs(600));
        std::future::pending::<Result<i32, onceward::NotDone>>().await
    });
    let outcome = timeout(Duration::from_secs(20), once).await.expect("within moments").unwrap();
    assert!(matches!(outcome, Outcome::Uncertain { .. }), "{outcome:?}");
}

/// N12: five hundred wait for one key. While it is held they ask the store no more than one of them would, and when
/// it is released one of them has it.
#[tokio::test(flavor = "multi_thread")]
async fn n12_a_crowd_of_waiters_costs_what_one_costs() {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let ow = Onceward::options().build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let held = ow.lease("k").acquire().await.unwrap().unwrap();
    let holds = Arc::new(AtomicUsize::new(0));
    let waiters: Vec<_> = (0..500)
        .map(|_| {
            let (ow, holds) = (ow.clone(), Arc::clone(&holds));
            tokio::spawn(async move {
                let wait = ow.lease("k").wait(Duration::from_secs(60));
                let lease = wait.acquire().await.unwrap().expect("in its turn");
                assert_eq!(holds.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                tokio::task::yield_now().await;
                holds.fetch_sub(1, Ordering::SeqCst);
                lease.release().await.unwrap();
            })
        })
        .collect();
    // All of them have come, and asked for the first time.
    let mut before = 0;
    while before < 2 || store.calls(Verb::LeaseAcquire) > before {
        before = store.calls(Verb::LeaseAcquire);
        sleep(Duration::from_millis(500)).await;
    }
    sleep(Duration::from_secs(2)).await;
    let asked = store.calls(Verb::LeaseAcquire) - before;
    assert!(asked <= 10, "{asked} statements in two seconds in which nothing happened");
    let began = Instant::now();
    held.release().await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    println!("all have had it after {:?}", began.elapsed());
    let each = (store.calls(Verb::LeaseAcquire) - before - asked) / 500;
    assert!(each <= 4, "{each} statements for each who got it");
}

/// L1: many tries of many callers at one key: every grant has a larger token than all before.
#[tokio::test(flavor = "multi_thread")]
async fn proof_l1_tokens_of_one_key_only_grow() {
    let long = std::env::var("ONCEWARD_PROVE").is_ok_and(|value| value == "long");
    let (tries, wanted) = if long { (2_000, 1_000) } else { (10, 40) };
    each_place(async |at| {
        let mut clients = vec![at.client().await];
        while at.is_shared() && clients.len() < 4 {
            clients.push(at.client().await);
        }
        let granted = Arc::new(Mutex::new(Vec::new()));
        let callers: Vec<_> = (0..16)
            .map(|n| {
                let (ow, granted) = (clients[n % clients.len()].clone(), Arc::clone(&granted));
                tokio::spawn(async move {
                    for n in 0.. {
                        if n >= tries && granted.lock().unwrap().len() >= wanted {
                            break;
                        }
                        if let Some(lease) = ow.lease("k").acquire().await.unwrap() {
                            // Nobody else holds it now: so this is their order.
                            granted.lock().unwrap().push(lease.token());
                            lease.release().await.unwrap();
                        }
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let granted = granted.lock().unwrap();
        assert!(granted.is_sorted_by(|one, two| one < two), "{granted:?}");
        println!("{} grants on {}", granted.len(), at.url);
    })
    .await;
}

/// Decision 15, law 4, on the real stores: callers that leave before their answer leave nothing behind. What they would
/// have got is free soon, and not when a ttl has passed; a function that was not started can be started.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_leave_leave_nothing_behind() {
    each_place(async |at| {
        let ow = at.client().await;
        let (long, soon) = (Duration::from_secs(3600), Duration::from_secs(20));
        for n in 0..40 {
            let patience = Duration::from_micros(n * 150);
            // Whoever got it gives it back.
            drop(timeout(patience, ow.lease("k").ttl(long).acquire()).await);
        }
        let lease = ow.lease("k").ttl(long).wait(soon).acquire().await.unwrap();
        assert!(lease.is_some(), "somebody who has left holds it");
        let mut left = Vec::new();
        for n in 0..40 {
            let (key, started) = (format!("once {n}"), AtomicUsize::new(0));
            let run = ow.once(&key).ttl(long).no_hard_ttl().run(async |_| {
                started.fetch_add(1, Ordering::SeqCst);
                Ok(1)
            });
            let gone = timeout(Duration::from_micros(n * 150), run).await.is_err();
            if gone && started.load(Ordering::SeqCst) == 0 {
                left.push(key);
            }
        }
        // The store in memory answers before anybody can leave.
        assert!(!left.is_empty() || !at.is_shared(), "nobody left: nothing was proved");
        for key in left {
            let runs = async {
                while !ow.once(&key).run(async |_| Ok(2)).await.unwrap().is_done() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(soon, runs).await.unwrap_or_else(|_| panic!("{key} was not started, and can't be"));
        }
    })
    .await;
}

/// G9, N7: user code that blocks every thread of its runtime starves no renewal, on whatever store.
#[tokio::test(flavor = "multi_thread")]
async fn g9_a_blocked_runtime_starves_no_renewal() {
    const TTL: Duration = Duration::from_millis(1500);
    each_place(async |at| {
        let url = at.url.clone();
        let blocked = move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            let options = Onceward::options().short_ttls_for_tests();
            let ow = runtime.block_on(options.connect(&url)).unwrap();
            let lease = runtime.block_on(ow.lease("k").ttl(TTL).acquire()).unwrap().unwrap();
            let granted_until = lease.expires_at();
            runtime.spawn(async { std::thread::sleep(TTL * 3) });
            std::thread::sleep(TTL * 2);
            let seen = (lease.is_valid(), lease.lost_because(), lease.expires_at() > granted_until);
            runtime.shutdown_background();
            seen
        };
        let (is_valid, why, renewed) = tokio::task::spawn_blocking(blocked).await.unwrap();
        assert!(is_valid && renewed, "{}: {why:?}", at.url);
    })
    .await;
}

/// N12: a crowd waits for one key, in two processes. One of them at a time has it, all get it, and nobody asks the
/// store over and over while others are at it.
#[tokio::test(flavor = "multi_thread")]
async fn n12_a_crowd_that_waits_for_a_key_is_served_one_by_one() {
    const EACH: usize = 25;
    each_place(async |at| {
        let one = at.client().await;
        let two = if at.is_shared() { at.client().await } else { one.clone() };
        let held = one.lease("k").acquire().await.unwrap().unwrap();
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut crowd = Vec::new();
        for _ in 0..EACH {
            for ow in [&one, &two] {
                let (ow, inside, most) = (ow.clone(), Arc::clone(&inside), Arc::clone(&most));
                crowd.push(tokio::spawn(async move {
                    let lease = ow.lease("k").wait(Duration::from_secs(80)).acquire().await.unwrap().unwrap();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lease.release().await.unwrap();
                }));
            }
        }
        // All have asked, and stand in line.
        sleep(Duration::from_millis(300)).await;
        let statements = || one.store().counters().statements + two.store().counters().statements;
        let (before, began) = (statements(), Instant::now());
        held.release().await.unwrap();
        for waiter in crowd {
            waiter.await.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 1, "{}", at.url);
        // A place, an attempt or two, leaving and the release, and a look now and then: not one for each who waits.
        let spent = u128::from(statements() - before);
        let looks = began.elapsed().as_millis();
        assert!(spent < 2 * EACH as u128 * 20 + looks, "{}: {spent} statements", at.url);
    })
    .await;
}
