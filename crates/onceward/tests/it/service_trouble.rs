//! Services and schedules where something is wrong: clocks that were set, rows that can't be read, a scheduler
//! that dies between two writes, more runs asked for than a look shows.

use core::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use onceward::jobs::State;
use onceward::schedule::{OnMissed, Overlap};
use onceward::service::{Outcome, RunnerHandle, Term};
use onceward::store::clock::{Clock, ManualClock, SystemClock};
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::store::{ListJobs, Store};
use onceward::{Code, ConnectOptions, Job, Onceward, ScheduleName, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "report")]
struct Report;

/// The clocks of this host, with a wall clock that is set to and fro.
#[derive(Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn boottime(&self) -> Timestamp {
        SystemClock.boottime()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(SystemClock.wall().as_micros() + self.0.load(Ordering::SeqCst))
    }

    fn boot_id(&self) -> &str {
        SystemClock.boot_id()
    }
}

const YEAR: i64 = 366 * 86_400 * 1_000_000;

fn client(store: &Arc<dyn Store>) -> Onceward {
    ConnectOptions::new().short_ttls_for_tests().build(Arc::clone(store)).unwrap()
}

fn service(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn schedule(text: &str) -> ScheduleName {
    ScheduleName::new(text).unwrap()
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(20), async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

async fn states(ow: &Onceward) -> Vec<State> {
    let jobs = ow.store().job_list(&ListJobs { limit: 500, ..ListJobs::default() }).await.unwrap().rows;
    jobs.iter().map(|row| row.state).collect()
}

/// What was told, as lines.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// W76: an event tells at four fifths of the slot that it gets short, and another one when it is over; all while the
/// work still goes on. The row of its end keeps it.
#[tokio::test]
async fn w76_a_term_that_gets_long_is_told_of_while_it_runs() {
    let told = Told::default();
    let writer = told.clone();
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(lines);
    let ow = client(&(Arc::new(MemoryStore::new(Arc::new(SystemClock))) as Arc<dyn Store>));
    let (open, gate) = tokio::sync::watch::channel(false);
    let work = move |_: Term| {
        let mut gate = gate.clone();
        async move {
            drop(gate.wait_for(|open| *open).await);
        }
    };
    let runner = ow.service("slow").every("1s").start(work).await.unwrap();
    until("near the end of its slot", async || told.text().contains("a term nears the end of its slot"))
        .await;
    assert!(!told.text().contains("overruns"), "{}", told.text());
    until("over it", async || told.text().contains("a term overruns its slot")).await;
    assert!(told.text().contains("service=slow"), "{}", told.text());
    open.send_replace(true);
    let terms = async || ow.admin().service_history(&service("slow"), 9).await.unwrap();
    let kept = "it overran its slot";
    let is_kept = |reason: &Option<String>| reason.as_ref().is_some_and(|reason| reason.contains(kept));
    until("its end", async || terms().await.iter().any(|term| is_kept(&term.reason))).await;
    runner.shutdown().await;
}

/// N17: the store's clock was ten years ahead for a moment, and a runner died with the lease it got then.
#[tokio::test(flavor = "multi_thread")]
async fn n17_a_lease_of_a_service_that_was_poisoned_is_taken_over() {
    let clock = Arc::new(SetClock::default());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
    let ow = client(&store);
    clock.0.store(10 * YEAR, Ordering::SeqCst);
    for name in ["service:hourly", "service:leader"] {
        let lease = ow.lease(name).ttl(Duration::from_millis(300)).auto_renew(false).auto_release(false);
        drop(lease.acquire().await.unwrap().unwrap());
    }
    clock.0.store(0, Ordering::SeqCst);
    let ran = Arc::new(AtomicUsize::new(0));
    let work = || {
        let ran = Arc::clone(&ran);
        move |term: Term| {
            ran.fetch_add(1, Ordering::SeqCst);
            async move {
                term.cancelled().await;
            }
        }
    };
    let hourly = ow.service("hourly").every("1h").ttl(Duration::from_millis(300)).does(work()).unwrap();
    let leader = ow.service("leader").always_on().ttl(Duration::from_millis(300)).does(work()).unwrap();
    let runner = ow.runner().service(hourly).service(leader).start().await.unwrap();
    until("both begun", async || ran.load(Ordering::SeqCst) == 2).await;
    runner.shutdown().await;
}

/// Who, whether his work begins or is dropped, and when, by the boot clock.
type Marks = Arc<Mutex<Vec<(usize, bool, Timestamp)>>>;

/// A runner of a leader that says when its work begins, and when it is dropped.
async fn marked(ow: &Onceward, n: usize, marks: &Marks, lock_delay: Duration) -> RunnerHandle {
    struct Inside(Marks, usize);
    impl Drop for Inside {
        fn drop(&mut self) {
            self.0.lock().unwrap().push((self.1, false, SystemClock.boottime()));
        }
    }
    let marks = Arc::clone(marks);
    let work = move |_: Term| {
        let marks = Arc::clone(&marks);
        async move {
            marks.lock().unwrap().push((n, true, SystemClock.boottime()));
            let _inside = Inside(marks, n);
            core::future::pending::<()>().await;
        }
    };
    let service = ow.service("leader").always_on().grace(Duration::ZERO).lock_delay(lock_delay);
    service.ttl(Duration::from_millis(800)).start(work).await.unwrap()
}

/// The longest time for which nothing was done in this process although it was due, in microseconds.
fn longest_pause() -> Arc<AtomicI64> {
    let longest = Arc::new(AtomicI64::new(0));
    let kept = Arc::clone(&longest);
    tokio::spawn(async move {
        loop {
            let due = SystemClock.boottime().after(Duration::from_millis(10));
            sleep(Duration::from_millis(10)).await;
            let late = SystemClock.boottime().since(due).as_micros();
            kept.fetch_max(i64::try_from(late).unwrap(), Ordering::SeqCst);
        }
    });
    longest
}

/// A2: a runner that does not reach the store any more has stopped its work before another one begins.
#[tokio::test(flavor = "multi_thread")]
async fn a2_work_that_lost_its_store_is_dropped_before_the_next_one_begins() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let faulty = Faulty::new(Arc::clone(&inner));
    let (cut, other) = (client(&(Arc::clone(&faulty) as Arc<dyn Store>)), client(&inner));
    let marks = Marks::default();
    let first = marked(&cut, 1, &marks, Duration::ZERO).await;
    until("a leader", async || marks.lock().unwrap().len() == 1).await;
    let second = marked(&other, 2, &marks, Duration::ZERO).await;
    let (longest, mut judged) = (longest_pause(), 0);
    for round in 0.. {
        longest.store(0, Ordering::SeqCst);
        faulty.random(7, 1, [Fault::Away]);
        until("the next one", async || {
            marks.lock().unwrap().last().is_some_and(|last| last.0 == 2 && last.1)
        })
        .await;
        let seen = marks.lock().unwrap().clone();
        // Promised where no pause is longer than the margin: on a machine that has too much to do others don't count.
        if longest.load(Ordering::SeqCst) < 40_000 {
            judged += 1;
            let [.., begun, dropped, next] = &seen[..] else { panic!("{seen:?}") };
            assert_eq!([(begun.0, begun.1), (dropped.0, dropped.1)], [(1, true), (1, false)], "{seen:?}");
            assert!(dropped.2 <= next.2, "round {round}: {seen:?}");
        }
        if judged == 3 || (judged > 0 && round >= 15) {
            break;
        }
        assert!(round < 100, "this machine is too busy to judge any round");
        faulty.heal();
        // Back to the first one, for another round.
        let lease = ServiceName::new("leader").unwrap();
        let runner = second.session().unwrap();
        other.admin().drain_runner(runner, true).await.unwrap();
        other.admin().break_lease(&format!("service:{lease}"), None, "the next round").await.unwrap();
        until("the first one", async || {
            marks.lock().unwrap().last().is_some_and(|last| last.0 == 1 && last.1)
        })
        .await;
        // Whose lease was broken finds that out a little later: nobody was asked to wait for him.
        let count =
            |begins| marks.lock().unwrap().iter().filter(|mark| mark.0 == 2 && mark.1 == begins).count();
        until("the second one is over", async || count(true) == count(false)).await;
        marks.lock().unwrap().retain(|mark| mark.0 == 1);
        other.admin().drain_runner(runner, false).await.unwrap();
    }
    println!("{judged} rounds without a pause");
    faulty.heal();
    second.shutdown().await;
    first.shutdown().await;
}

/// Nobody begins within the lock delay of a term that was lost, and somebody does after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_term_keeps_others_away_for_its_lock_delay() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let faulty = Faulty::new(Arc::clone(&inner));
    let marks = Marks::default();
    let delay = Duration::from_secs(2);
    let first = marked(&client(&(Arc::clone(&faulty) as Arc<dyn Store>)), 1, &marks, delay).await;
    until("a leader", async || marks.lock().unwrap().len() == 1).await;
    let second = marked(&client(&inner), 2, &marks, delay).await;
    let cut = SystemClock.boottime();
    faulty.random(7, 1, [Fault::Away]);
    until("the next one", async || marks.lock().unwrap().len() == 3).await;
    let began = marks.lock().unwrap()[2];
    assert_eq!((began.0, began.1), (2, true));
    assert!((delay..Duration::from_secs(9)).contains(&began.2.since(cut)), "{:?}", began.2.since(cut));
    faulty.heal();
    second.shutdown().await;
    first.shutdown().await;
}

/// A6: while the store is away nobody leads, and once it is there again exactly one does.
#[tokio::test(flavor = "multi_thread")]
async fn a6_nobody_leads_while_the_store_is_away_and_one_does_afterwards() {
    let faulty = Faulty::new(Arc::new(MemoryStore::default()) as Arc<dyn Store>);
    let ow = || client(&(Arc::clone(&faulty) as Arc<dyn Store>));
    let marks = Marks::default();
    let inside = || {
        let marks = marks.lock().unwrap();
        marks.iter().filter(|mark| mark.1).count() - marks.iter().filter(|mark| !mark.1).count()
    };
    let mut runners = Vec::new();
    for n in 0..3 {
        runners.push(marked(&ow(), n, &marks, Duration::ZERO).await);
    }
    until("a leader", async || inside() == 1).await;
    for _ in 0..2 {
        faulty.random(7, 1, [Fault::Away]);
        until("nobody", async || inside() == 0).await;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(inside(), 0, "nobody runs what nobody can fence");
        faulty.heal();
        until("a leader again", async || inside() == 1).await;
        sleep(Duration::from_millis(300)).await;
        assert_eq!(inside(), 1, "exactly one");
    }
    for runner in runners {
        runner.shutdown().await;
    }
}

/// A3, N64: work that nothing can stop ends the process, where that was asked for. It is this program that dies, run
/// once more with a word that says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a3_a_process_whose_work_is_stuck_aborts_where_that_is_wanted() {
    use std::os::unix::process::ExitStatusExt;
    const DIES: &str = "ONCEWARD_TEST_DIES";
    if std::env::var_os(DIES).is_some() {
        let ow = client(&(Arc::new(MemoryStore::default()) as Arc<dyn Store>));
        let work = |_: Term| async { std::thread::sleep(Duration::from_secs(60)) };
        let service = ow.service("stuck").every("1h").stall_after(Duration::from_millis(100));
        let _runner = service.abort_when_stuck().start(work).await.unwrap();
        return sleep(Duration::from_secs(30)).await;
    }
    let name = "service_trouble::a3_a_process_whose_work_is_stuck_aborts_where_that_is_wanted";
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", name, "--nocapture"]).env(DIES, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
}

/// Our own upkeep forgets what may be forgotten: terms of cycles that lie more than a week back.
#[tokio::test(flavor = "multi_thread")]
async fn upkeep_forgets_old_terms_and_keeps_young_ones() {
    let clock = Arc::new(SetClock::default());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
    let ow = client(&store);
    let tick = |interval| ow.service("tick").interval(interval).start(|_| async {});
    let terms = async || ow.admin().service_history(&service("tick"), 100).await.unwrap();
    let runner = tick(Duration::from_millis(200)).await.unwrap();
    until("old terms", async || terms().await.len() >= 3).await;
    runner.shutdown().await;
    let old = terms().await.len();
    clock.0.store(8 * 86_400_000_000, Ordering::SeqCst);
    let runner = tick(Duration::from_secs(3_600)).await.unwrap();
    until("a young term", async || terms().await.len() > old).await;
    let upkeep = ow.runner().upkeep().start().await.unwrap();
    until("only the young ones are left", async || {
        let week = ow
            .admin()
            .service(&service("tick"), 1)
            .await
            .unwrap()
            .now
            .before(Duration::from_secs(7 * 86_400));
        let left = terms().await;
        !left.is_empty() && left.iter().all(|term| term.started_at > week)
    })
    .await;
    let ran = ow.admin().service_history(&service("onceward.upkeep"), 9).await.unwrap();
    assert!(ran.iter().any(|term| term.was_begun()), "{ran:?}");
    upkeep.shutdown().await;
    runner.shutdown().await;
}

/// J12, N17: the store's clock was a day ahead for a while, and schedules were fired then: they go on once it is right.
#[tokio::test(flavor = "multi_thread")]
async fn n17_a_schedule_that_was_fired_by_a_clock_that_was_ahead_goes_on() {
    let clock = Arc::new(SetClock::default());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<dyn Clock>));
    let ow = client(&store);
    ow.schedule("often", "every 200ms", Report).await.unwrap();
    let row = async || ow.admin().schedule(&schedule("often")).await.unwrap();
    let scheduler = ow.runner().scheduler().start().await.unwrap();
    until("a tick", async || row().await.last.is_some()).await;
    clock.0.store(86_400_000_000, Ordering::SeqCst);
    let tomorrow = SystemClock.wall().after(Duration::from_secs(80_000));
    until("a tick of tomorrow", async || row().await.last.is_some_and(|last| last.tick > tomorrow)).await;
    clock.0.store(0, Ordering::SeqCst);
    // By who leads, or by who comes after: both have to find it.
    until("a tick of today", async || row().await.last.is_some_and(|last| last.tick < tomorrow)).await;
    scheduler.shutdown().await;
    let jobs = ow.store().job_list(&ListJobs { limit: 500, ..ListJobs::default() }).await.unwrap().rows;
    let ids: std::collections::BTreeSet<_> = jobs.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), jobs.len(), "none twice");
}

/// Runs that are asked for while others wait are all run, or refused with a code; the cycle they belong to
/// stays what it is, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn forty_runs_asked_for_in_one_cycle_are_forty_runs() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let faulty = Faulty::new(Arc::clone(&inner));
    let ow = client(&(Arc::clone(&faulty) as Arc<dyn Store>));
    let ran = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&ran);
    let work = move |term: Term| {
        kept.lock().unwrap().push(term.is_asked_for());
        async {}
    };
    let runner = ow.service("daily").every("7 days").start(work).await.unwrap();
    until("the cycle", async || ran.lock().unwrap().len() == 1).await;
    let (mut asked, mut refused) = (0, 0);
    while asked < 40 {
        match ow.admin().run_service_now(&service("daily")).await {
            Ok(()) => asked += 1,
            Err(error) => {
                assert_eq!(error.code(), Code::RunsWaiting, "{error}");
                refused += 1;
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    println!("{refused} were refused");
    until("all", async || ran.lock().unwrap().len() == 41).await;
    assert_eq!(ran.lock().unwrap().iter().filter(|asked| **asked).count(), 40);
    until("taken off the list", async || {
        let view = ow.admin().service(&service("daily"), 100).await.unwrap();
        view.record.unwrap().setting.asked.is_empty()
    })
    .await;
    let begins = faulty.calls(Verb::ServiceBegin);
    sleep(Duration::from_millis(1_200)).await;
    assert_eq!(faulty.calls(Verb::ServiceBegin), begins, "nobody tries to begin the cycle again");
    assert_eq!(ran.lock().unwrap().len(), 41);
    runner.shutdown().await;
    let terms = ow.admin().service_history(&service("daily"), 100).await.unwrap();
    assert!(terms.len() == 41 && terms.iter().all(|term| term.outcome == Outcome::Done), "{terms:?}");
}

/// J12: a scheduler that dies after it has enqueued a tick, and before it has cancelled the job of the one before.
#[tokio::test(flavor = "multi_thread")]
async fn j12_what_was_to_be_cancelled_is_cancelled_by_the_next_scheduler() {
    let clock = ManualClock::default();
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    for fault in [Fault::RequestLost, Fault::ReplyLost] {
        for verb in [Verb::JobMove, Verb::ScheduleWrite] {
            let faulty = Faulty::new(Arc::clone(&inner));
            let (dying, other) = (client(&(Arc::clone(&faulty) as Arc<dyn Store>)), client(&inner));
            let name = format!("{fault:?} of {verb:?}");
            other.schedule(&name, "every 1h", Report).overlap(Overlap::CancelPrevious).await.unwrap();
            clock.advance(Duration::from_secs(3_600));
            assert!(onceward::testing::fire_due(&dying).await.unwrap());
            let first = other.admin().schedule(&schedule(&name)).await.unwrap().last.unwrap();
            clock.advance(Duration::from_secs(3_600));
            faulty.pass(usize::from(verb == Verb::ScheduleWrite), verb);
            faulty.next(verb, fault);
            onceward::testing::fire_due(&dying).await.unwrap_err();
            while onceward::testing::fire_due(&other).await.unwrap() {}
            let row = other.admin().schedule(&schedule(&name)).await.unwrap();
            assert_eq!(other.admin().job(first.job).await.unwrap().state, State::Cancelled, "{name}");
            assert_ne!(row.last.unwrap().job, first.job, "{name}");
            assert_eq!(
                (row.owed, row.next_at),
                (None, Some(row.last.unwrap().tick.after(Duration::from_secs(3_600))))
            );
            other.admin().remove_schedule(&row.name).await.unwrap();
        }
    }
    let states = states(&client(&inner)).await;
    let cancelled = states.iter().filter(|state| **state == State::Cancelled).count();
    assert_eq!((states.len(), cancelled), (8, 4), "each tick once: {states:?}");
}

#[cfg(feature = "sqlx-sqlite")]
async fn with_bad_rows(folder: &tempfile::TempDir) -> Onceward {
    let file = folder.path().join("ow.db");
    let ow = Onceward::options().short_ttls_for_tests();
    let ow = ow.connect(&format!("sqlite://{}", file.display())).await.unwrap();
    for name in ["bad", "good"] {
        ow.schedule(name, "at 2200-01-01T00:00:00Z", Report).await.unwrap();
    }
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query(
        "INSERT INTO onceward_schedule (namespace, name, version, next_at, definition, payload)
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 450)
         SELECT 'default', 'worse ' || n, 1, 5, '{}', x'' FROM n",
    )
    .execute(&database)
    .await
    .unwrap();
    sqlx::query("UPDATE onceward_schedule SET definition = '{}', next_at = 6 WHERE name = 'bad'")
        .execute(&database)
        .await
        .unwrap();
    ow
}

/// Rows that can't be read, more than a page of them and all due before the others, stop nobody but themselves.
#[cfg(feature = "sqlx-sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn schedules_that_cannot_be_read_are_passed_over_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let ow = with_bad_rows(&folder).await;
    let admin = ow.admin();
    ow.schedule("often", "every 100ms", Report).await.unwrap();
    let scheduler = ow.runner().scheduler().start().await.unwrap();
    until("ticks", async || states(&ow).await.len() >= 2).await;
    scheduler.shutdown().await;
    let page = admin.schedules(None, 500).await.unwrap();
    assert_eq!((page.rows.len(), page.unreadable.len()), (2, 451));
    assert_eq!(admin.schedule(&schedule("bad")).await.unwrap_err().code(), Code::RowUnreadable);
    assert_eq!(ow.schedule("bad", "every 1h", Report).await.unwrap_err().code(), Code::RowUnreadable);
    admin.remove_schedule(&schedule("bad")).await.unwrap();
    ow.schedule("bad", "every 1h", Report).await.unwrap();
    assert_eq!(admin.schedules(None, 500).await.unwrap().unreadable.len(), 450);
    ow.shutdown().await;
}

/// The same of services: the others are shown, and the one that is damaged is named.
#[cfg(feature = "sqlx-sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_read_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let ow = with_bad_rows(&folder).await;
    let scheduler = ow.runner().scheduler().start().await.unwrap();
    scheduler.shutdown().await;
    let before = ow.admin().services().await.unwrap();
    assert!(!before.rows.is_empty() && before.unreadable.is_empty());
    let database = sqlx::SqlitePool::connect(ow.store().url()).await.unwrap();
    let bad = "INSERT INTO onceward_service (namespace, name, version, setting) VALUES ('default', 'bad', 3, '{\"')";
    sqlx::query(bad).execute(&database).await.unwrap();
    let listed = ow.admin().services().await.unwrap();
    assert_eq!(listed.rows, before.rows);
    let unreadable: Vec<_> =
        listed.unreadable.iter().map(|(name, version)| (name.as_str(), *version)).collect();
    assert_eq!(unreadable, [("bad", 3)]);
    let name = ServiceName::new("bad").unwrap();
    assert_eq!(ow.admin().service(&name, 1).await.unwrap_err().code(), Code::RowUnreadable);
    ow.shutdown().await;
}

/// J12: two processes that both believe to lead fire exactly at a tick, again and again, on a real database.
async fn change_the_leader_at_ticks(one: &Onceward, other: &Onceward) {
    let rounds = if std::env::var_os("ONCEWARD_PROVE").is_some() { 500 } else { 20 };
    let row = one.schedule("often", "every 100ms", Report).on_missed(OnMissed::All).await.unwrap();
    let (first, mut next) = (row.next_at.unwrap(), row.next_at.unwrap());
    for _ in 0..rounds {
        sleep(next.since(SystemClock.wall())).await;
        let fired = tokio::join!(onceward::testing::fire_due(one), onceward::testing::fire_due(other));
        assert!(fired.0.is_ok() && fired.1.is_ok(), "{fired:?}");
        next = other.admin().schedule(&row.name).await.unwrap().next_at.unwrap();
    }
    let last = one.admin().schedule(&row.name).await.unwrap().last.unwrap().tick;
    let expected = last.since(first).as_millis() / 100 + 1;
    let (mut count, mut after) = (0_u128, None);
    loop {
        let ask = ListJobs { after, limit: 500, ..ListJobs::default() };
        let page = one.store().job_list(&ask).await.unwrap().rows;
        let Some(last) = page.last() else { break };
        (after, count) = (Some(last.id), count + page.len() as u128);
    }
    println!("{rounds} changes of the leader at a tick: {count} jobs for {expected} ticks");
    assert_eq!((count, count >= rounds), (expected, true), "none twice, none lost");
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn proof_j12_the_leader_changes_at_each_tick_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("ow.db").display());
    let connect = async || Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
    let (one, other) = (connect().await, connect().await);
    change_the_leader_at_ticks(&one, &other).await;
    one.shutdown().await;
    other.shutdown().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn proof_j12_the_leader_changes_at_each_tick_on_postgres() {
    let schema = crate::pg::Schema::migrated().await;
    let connect = async || Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
    let (one, other) = (connect().await, connect().await);
    change_the_leader_at_ticks(&one, &other).await;
    one.shutdown().await;
    other.shutdown().await;
}
