//! Clocks: a host that was started again, a boot clock that runs backwards, a wall clock that jumps.

use core::time::Duration;

use onceward_core::once::State;
use onceward_core::{Code, Timestamp};
use onceward_store::clock::ManualClock;
use onceward_store::sqlite::SqliteStore;
use onceward_store::{Acquired, Clock, ListOnce, Prune, Severity, Store};

use super::asks::*;
use super::file::{File, options};

/// A host that was started anew: another boot id, and a boot clock from the beginning.
#[derive(Clone)]
struct Restarted {
    wall: ManualClock,
    boottime: Duration,
}

impl Clock for Restarted {
    fn boottime(&self) -> Timestamp {
        Timestamp::default().after(self.boottime)
    }

    fn wall(&self) -> Timestamp {
        self.wall.wall()
    }

    fn boot_id(&self) -> &str {
        "after the restart"
    }
}

/// N51: nobody survives a restart of the host, so nothing is held after it, and tokens go on growing.
#[tokio::test(flavor = "multi_thread")]
async fn n51_after_a_restart_of_the_host_nothing_is_held() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let (held, running) = (grant(store.as_ref(), "k").await, begin(store.as_ref(), "pay").await);
    let closed = grant_with_delay(store.as_ref()).await;
    store.close().await;

    let restarted = Restarted { wall: clock.clone(), boottime: Duration::from_secs(1) };
    let store = file.open(&restarted).await;
    let snapshot = store.lease_lookup(&name("k")).await.unwrap();
    assert!(snapshot.rows[0].expires_at <= snapshot.now, "{snapshot:?}");
    let next = grant(store.as_ref(), "k").await;
    assert!(next.token > held.token);
    let doubted = existing(store.as_ref(), "pay").await;
    assert_eq!((doubted.state, doubted.token), (State::Uncertain, running.token));
    let uncertain = ListOnce { state: Some(State::Uncertain), limit: 10, ..ListOnce::default() };
    assert_eq!(store.once_list(&uncertain).await.unwrap().rows.len(), 1);

    // A lock delay counts from the restart at the latest.
    let ask = lease("delayed");
    assert!(matches!(acquire(store.as_ref(), ask.clone()).await.unwrap(), Acquired::Held { .. }));
    clock.advance(Duration::from_secs(60));
    let later = Restarted { wall: clock, boottime: Duration::from_secs(61) };
    let store = file.open(&later).await;
    let Acquired::Granted(row) = acquire(store.as_ref(), ask).await.unwrap() else { panic!("closed") };
    assert!(row.token > closed);
}

async fn grant_with_delay(store: &dyn Store) -> onceward_core::Token {
    let ask = onceward_core::lease::Ask { lock_delay: Duration::from_secs(60), ..lease("delayed") };
    let Acquired::Granted(row) = acquire(store, ask).await.unwrap() else { panic!("held") };
    row.token
}

/// N52: processes in different time namespaces don't share a boot clock.
#[tokio::test]
async fn n52_a_boot_clock_behind_the_last_openers_is_refused() {
    let (file, clock) = (File::new(), ManualClock::default());
    clock.advance(Duration::from_secs(60));
    drop(file.open(&clock).await);
    let error = SqliteStore::open(&file.at(), options(&ManualClock::default())).await.err().unwrap();
    assert_eq!(error.code(), Code::ClockInconsistent);
    clock.advance(Duration::from_secs(86_400));
    drop(file.open(&clock).await);
}

/// A step of the wall clock neither ends a claim nor prolongs it.
#[tokio::test(flavor = "multi_thread")]
async fn claims_last_as_long_whatever_the_wall_clock_does() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    for step in [86_400_000_000, -172_800_000_000] {
        let key = step.to_string();
        let (held, running) = (grant(store.as_ref(), &key).await, begin(store.as_ref(), &key).await);
        clock.step_wall(step);
        clock.advance(TTL - Duration::from_millis(1));
        assert!(matches!(acquire(store.as_ref(), lease(&key)).await.unwrap(), Acquired::Held { .. }));
        assert_eq!(existing(store.as_ref(), &key).await.state, State::Running);
        clock.advance(Duration::from_millis(1));
        assert!(grant(store.as_ref(), &key).await.token > held.token);
        let doubted = existing(store.as_ref(), &key).await;
        assert_eq!((doubted.state, doubted.token), (State::Uncertain, running.token));
    }
}

/// O14, N16: a wall clock that is a month ahead for ten seconds makes nothing forgotten, and nothing run
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn o14_a_wall_clock_that_jumps_ahead_forgets_nothing() {
    const MONTH: i64 = 30 * 86_400_000_000;
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    finish(store.as_ref(), "pay").await;
    let prune = Prune { leases_older_than: RETAIN, history_older_than: RETAIN, limit: 100 };
    clock.step_wall(MONTH);
    assert_eq!(store.prune(&prune).await.unwrap().once, 0);
    assert_eq!(existing(store.as_ref(), "pay").await.state, State::Done, "it did not run again");
    let findings = store.check().await.unwrap();
    assert!(
        findings.iter().any(|it| it.check == "clock" && it.severity == Severity::Warning),
        "{findings:?}"
    );
    clock.advance(Duration::from_secs(10));
    clock.step_wall(-MONTH);
    assert_eq!(store.prune(&prune).await.unwrap().once, 0, "its retention has not ended");
    clock.advance(RETAIN);
    assert_eq!(store.prune(&prune).await.unwrap().once, 1);
    begin(store.as_ref(), "pay").await;
}

/// A step that stays is believed after an hour: somebody has set the clock right.
#[tokio::test(flavor = "multi_thread")]
async fn o14_a_wall_clock_that_stays_is_believed() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    finish(store.as_ref(), "pay").await;
    let prune = Prune { leases_older_than: RETAIN, history_older_than: RETAIN, limit: 100 };
    clock.step_wall(2 * 3_600_000_000);
    assert_eq!(store.prune(&prune).await.unwrap().once, 0);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(store.prune(&prune).await.unwrap().once, 1);
}

/// N18: a clock behind the last grant is warned of.
#[tokio::test]
async fn n18_a_wall_clock_behind_the_last_grant_is_warned_of() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let row = grant(store.as_ref(), "k").await;
    clock.step_wall(-3_600_000_000);
    let findings = store.check().await.unwrap();
    let warned = findings.iter().find(|finding| finding.check == "clock").unwrap();
    assert_eq!((warned.severity, warned.code), (Severity::Warning, Some(Code::ClockBehind)));
    assert!(release(store.as_ref(), &row).await);
    assert!(grant(store.as_ref(), "k").await.token > row.token, "tokens grow all the same");
}
