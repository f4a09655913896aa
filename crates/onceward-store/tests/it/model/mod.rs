//! Random histories: the memory model keeps the invariants, and every other store answers as the model does.
//!
//! Three callers, two keys, two places; or three workers, and jobs of two kinds. All stores read the same clock, which
//! stands still between the steps, and are sent the same sessions, so that their answers and rows must be equal to the
//! last token.

mod job_watch;
mod jobs;
#[cfg(feature = "postgres")]
mod postgres;
mod steps;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use onceward_store::Store;
use onceward_store::clock::ManualClock;
use onceward_store::memory::MemoryStore;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use self::steps::{Follow, History, World};

/// How many histories are tried: some seconds' worth, or with `ONCEWARD_PROVE=long` some minutes'.
fn cases(few: u32, many: u32) -> Config {
    let long = std::env::var("ONCEWARD_PROVE").is_ok_and(|how| how == "long");
    let cases = if long { many } else { few };
    Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() }
}

/// What stands beside the model in one history, on the same clock.
#[derive(Default)]
struct Beside {
    stores: Vec<Arc<dyn Store>>,
    follow: Option<Follow>,
}

/// Runs random histories on the model and on what `beside` opens.
fn prove<H: History, F: Future<Output = Beside>>(config: Config, beside: impl Fn(ManualClock) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let histories = (any::<bool>(), prop::collection::vec(H::step(), 10..70));
    let seen = Mutex::new(BTreeMap::<&str, u32>::new());
    let many = config.cases >= 1000;
    let proved = TestRunner::new(config).run(&histories, |(kind, history)| {
        runtime.block_on(async {
            let clock = ManualClock::default();
            let mut stores: Vec<Arc<dyn Store>> = vec![Arc::new(MemoryStore::new(Arc::new(clock.clone())))];
            let beside = beside(clock.clone()).await;
            stores.extend(beside.stores);
            let mut world = H::new(clock, stores, beside.follow, kind);
            for (at, step) in history.iter().enumerate() {
                world.take(step).await?;
                if at % 8 == 7 || at + 1 == history.len() {
                    world.compare_all().await?;
                }
            }
            let mut seen = seen.lock().unwrap();
            for (what, count) in world.seen() {
                *seen.entry(what).or_default() += count;
            }
            Ok(())
        })
    });
    if let Err(failed) = proved {
        panic!("{failed}");
    }
    let seen = seen.into_inner().unwrap();
    // A few histories may miss what many can't.
    let vacuous = many && !H::WANTED.iter().all(|what| seen.contains_key(what));
    assert!(!vacuous, "a vacuous proof: {seen:?}");
    println!("{seen:?}");
}

#[test]
fn proof_l1_l2_o1_o2_o6_the_model_keeps_the_invariants_in_every_history() {
    prove::<World, _>(cases(1_500, 80_000), async |_| Beside::default());
}

#[test]
fn proof_j2_j3_j4_j6_j10_the_model_keeps_the_invariants_of_jobs_in_every_history() {
    prove::<jobs::World, _>(cases(1_000, 40_000), async |_| Beside::default());
}

#[cfg(feature = "sqlite")]
#[test]
fn proof_sqlite_answers_as_the_model_in_every_history() {
    on_sqlite::<World>(200, 16_000);
}

#[cfg(feature = "sqlite")]
#[test]
fn proof_sqlite_answers_as_the_model_in_every_history_of_jobs() {
    on_sqlite::<jobs::World>(80, 12_000);
}

#[cfg(feature = "sqlite")]
fn on_sqlite<H: History>(few: u32, many: u32) {
    use onceward_store::OpenOptions;
    use onceward_store::sqlite::SqliteStore;
    use onceward_store::url::SqliteAt;

    prove::<H, _>(cases(few, many), async |clock| {
        let ttl_min = onceward_core::limits::TTL_MIN_IN_TESTS;
        let options = OpenOptions { clock: Arc::new(clock), ttl_min, ..OpenOptions::default() };
        let store = SqliteStore::open(&SqliteAt { path: None }, options).await.unwrap();
        Beside { stores: vec![Arc::new(store)], follow: None }
    });
}

#[cfg(feature = "postgres")]
#[test]
fn proof_postgres_answers_as_the_model_in_every_history() {
    on_postgres::<World>(18, 720);
}

#[cfg(feature = "postgres")]
#[test]
fn proof_postgres_answers_as_the_model_in_every_history_of_jobs() {
    on_postgres::<jobs::World>(18, 720);
}

/// One schema for all histories: emptied before each, its clock set to the model's.
#[cfg(feature = "postgres")]
fn on_postgres<H: History>(few: u32, many: u32) {
    use onceward_store::Clock;

    let server = tokio::sync::OnceCell::new();
    prove::<H, _>(cases(few, many), async |clock| {
        let server = server.get_or_init(postgres::Frozen::new).await;
        server.start_over(clock.wall()).await;
        Beside { stores: vec![server.store()], follow: Some(server.follow()) }
    });
}
