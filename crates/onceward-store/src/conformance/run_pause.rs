//! Runs that are paused: they wait nowhere, and lose nothing.

use core::time::Duration;

use onceward_core::job::{Claimed, Ending, Move, Moved, New, Policy, State};
use onceward_core::run::{Arrived, PARK_MAX, Standing};
use onceward_core::{JobId, Key, Queue};
use uuid::Uuid;

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{ListJobs, SettledJob, TellRun, Told};

const HOUR: Duration = Duration::from_secs(3_600);

fn run(text: &str) -> New {
    New { policy: Policy { durable: true, ..Policy::default() }, ..work(text) }
}

async fn running(hand: &Hand) -> (Worker, Claimed) {
    let worker = Worker::of(hand).await;
    hand.create(&run("checkout")).await;
    let claimed = worker.take_one("checkout").await;
    (worker, claimed)
}

/// A run that waits in the middle of its way.
async fn parked(hand: &Hand, span: Duration) -> (Worker, JobId) {
    let (worker, claimed) = running(hand).await;
    let id = claimed.job.id;
    worker.end_all(&[claimed], &Ending::Snoozed(span)).await;
    (worker, id)
}

impl Hand {
    async fn standing(&self, id: JobId) -> Standing {
        Standing::of(&self.job(id).await)
    }

    async fn paused(&self) -> Vec<JobId> {
        let ask = ListJobs { paused: true, limit: ALL / 2, ..ListJobs::default() };
        self.list_jobs(&ask).await.iter().map(|row| row.id).collect()
    }

    /// Tells it something.
    async fn go(&self, id: JobId) -> Told {
        let what = Arrived::Signal { name: "go".to_owned(), value: b"1".to_vec() };
        let ask = [TellRun { run: job_ref(id), id: Uuid::now_v7(), what }];
        only(self.ask(|| self.store.run_tell(&ask)).await)
    }

    /// How much has arrived for it.
    async fn arrivals(&self, id: JobId) -> usize {
        let run = [job_ref(id)];
        only(self.ask(|| self.store.run_arrived(&run)).await).len()
    }

    async fn queues_woken(&self) -> usize {
        self.ask(|| self.store.run_wake()).await.queues.len()
    }
}

/// The paused runs that a renewal tells of.
async fn hears(worker: &Worker) -> Vec<JobId> {
    worker.renew().await.paused.into_iter().map(|run| run.id).collect()
}

/// A run that is paused is not claimed, and is told apart; one that is resumed is claimed.
pub async fn a_paused_run_waits_nowhere(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let worker = Worker::of(&hand).await;
    let [id, next] = [hand.create(&run("checkout")).await, hand.create(&run("checkout")).await];
    assert_eq!(other.intervene(id, Move::Pause).await, Moved::Applied { from: State::Ready });
    let pause = hand.job(id).await.paused.unwrap();
    assert_eq!((pause.by, pause.reason.as_deref()), (owner("ops"), Some("looked at the log")));
    assert_eq!(hand.intervene(id, Move::Pause).await, Moved::Unchanged, "the first pause stays");
    assert_eq!(hand.job(id).await.paused.map(|pause| pause.at), Some(pause.at));
    assert_eq!((hand.standing(id).await, hand.standing(next).await), (Standing::Paused, Standing::Pending));
    assert_eq!(hand.paused().await, [id]);
    assert_eq!(ids(&worker.take("checkout", ALL).await), [next]);
    assert!(!hand.outstanding("nothing", &[], Duration::ZERO).await);
    assert_eq!(hand.moved(id, Move::Resume).await, State::Ready);
    assert_eq!(hand.intervene(id, Move::Resume).await, Moved::Unchanged);
    assert_eq!((hand.standing(id).await, hand.job(id).await.paused), (Standing::Pending, None));
    assert_eq!((hand.paused().await, ids(&worker.take("checkout", ALL).await)), (vec![], vec![id]));
}

/// Nobody waits for a run that is paused.
pub async fn a_paused_run_is_not_outstanding(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let id = hand.create(&run("checkout")).await;
    assert!(hand.outstanding("checkout", &[], Duration::ZERO).await);
    hand.moved(id, Move::Pause).await;
    assert!(!hand.outstanding("checkout", &[], HOUR).await);
    hand.moved(id, Move::Resume).await;
    assert!(hand.outstanding("checkout", &[], Duration::ZERO).await);
}

/// D6. What arrives for a paused run wakes nobody, and is there when it goes on.
pub async fn d6_what_arrives_for_a_paused_run_waits_for_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, id) = parked(&hand, PARK_MAX).await;
    hand.moved(id, Move::Pause).await;
    assert_eq!(hand.standing(id).await, Standing::Paused);
    assert_eq!(hand.go(id).await, Told::Paused(Queue::default()));
    assert_eq!((hand.queues_woken().await, hand.queues_woken().await), (0, 0));
    assert_eq!(hand.promote().await.moved, 0);
    assert!(worker.take("checkout", ALL).await.is_empty());
    assert_eq!(hand.moved(id, Move::Resume).await, State::Scheduled);
    let again = worker.take_one("checkout").await;
    assert_eq!((again.job.id, again.job.attempt), (id, 0));
    assert_eq!(hand.arrivals(id).await, 1);
    assert_eq!(hand.go(id).await, Told::Waits(Queue::default()));
}

/// Whoever runs it is told until it was given back; it waits nowhere then, whatever its attempt has said.
pub async fn a_run_that_is_paused_while_it_runs_is_given_back(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let stranger = Worker::of(&other).await;
    let endings = [Ending::Snoozed(Duration::from_millis(1)), Ending::HandedBack, broken(Duration::ZERO)];
    for ending in endings {
        let (worker, claimed) = running(&hand).await;
        let id = claimed.job.id;
        assert!(hears(&worker).await.is_empty());
        assert_eq!(other.intervene(id, Move::Pause).await, Moved::Noted);
        assert_eq!((hand.standing(id).await, hand.paused().await), (Standing::Running, vec![id]));
        assert_eq!((hears(&worker).await, hears(&worker).await), (vec![id], vec![id]));
        assert!(hears(&stranger).await.is_empty());
        worker.end_all(&[claimed], &ending).await;
        assert!(hears(&worker).await.is_empty());
        harness.advance(TICK).await;
        assert_eq!(
            (hand.promote().await.moved, hand.standing(id).await),
            (0, Standing::Paused),
            "{ending:?}"
        );
        assert!(worker.take("checkout", ALL).await.is_empty(), "{ending:?}");
        hand.moved(id, Move::Resume).await;
        hand.promote().await;
        let again = worker.take_one("checkout").await;
        worker.end_all(&[again], &succeeded()).await;
    }
}

/// D7. Its process may die before it has heard of it: it is paused all the same.
pub async fn d7_a_paused_run_that_is_lost_stays_paused(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, claimed) = running(&hand).await;
    let id = claimed.job.id;
    assert_eq!(hand.intervene(id, Move::Pause).await, Moved::Noted);
    assert!(worker.close().await);
    assert_eq!(hand.rescue().await.jobs.len(), 1);
    assert_eq!(hand.standing(id).await, Standing::Paused);
    let next = Worker::of(&hand).await;
    assert!(next.take("checkout", ALL).await.is_empty());
    assert_eq!(worker.end(&claimed, succeeded()).await, SettledJob::Stale);
    hand.moved(id, Move::Resume).await;
    assert_eq!(next.take_one("checkout").await.job.id, id);
}

/// One that is resumed before it was given back goes on, and what arrives meanwhile is not lost on it.
pub async fn d6_a_pause_may_be_over_before_it_was_heard_of(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, claimed) = running(&hand).await;
    let id = claimed.job.id;
    hand.intervene(id, Move::Pause).await;
    hand.go(id).await;
    let unheard = || async { hand.ask(|| hand.store.run_wake()).await.unheard };
    assert_eq!(unheard().await, [job_ref(id)], "it runs, and may hear of it");
    assert_eq!(hand.intervene(id, Move::Resume).await, Moved::Noted);
    assert!(hears(&worker).await.is_empty());
    assert_eq!((hand.standing(id).await, unheard().await), (Standing::Running, vec![job_ref(id)]));
    worker.end_all(&[claimed], &Ending::Snoozed(PARK_MAX)).await;
    assert_eq!((hand.standing(id).await, hand.queues_woken().await), (Standing::Parked, 1));
}

/// One that ends although it was to be paused has ended.
pub async fn a_paused_run_that_ends_is_not_paused_any_more(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let endings = [
        (succeeded(), State::Succeeded),
        (Ending::Dead("no".to_owned()), State::Dead),
        (Ending::Cancelled("no".to_owned()), State::Cancelled),
    ];
    for (ending, state) in endings {
        let (worker, claimed) = running(&hand).await;
        hand.intervene(claimed.job.id, Move::Pause).await;
        worker.end_all(core::slice::from_ref(&claimed), &ending).await;
        let row = hand.job(claimed.job.id).await;
        assert_eq!((row.state, row.paused), (state, None));
        assert!(hand.paused().await.is_empty());
        assert_eq!(hand.intervene(claimed.job.id, Move::Pause).await, Moved::Wrong(state));
        assert_eq!(hand.intervene(claimed.job.id, Move::Resume).await, Moved::Wrong(state));
    }
}

/// A time that comes meanwhile has come when the run is resumed, and no other.
pub async fn times_of_a_paused_run_come_when_it_is_resumed(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let late = New { delay: Some(HOUR), ..run("late") };
    let [soon, later] = [hand.create(&late).await, hand.create(&New { id: job_id(), ..late.clone() }).await];
    for id in [soon, later] {
        assert_eq!(hand.moved(id, Move::Pause).await, State::Scheduled);
    }
    hand.moved(soon, Move::Resume).await;
    assert_eq!((hand.promote().await.moved, hand.state(soon).await), (0, State::Scheduled), "not yet");
    assert_eq!(hand.promote().await.next_due, Some(hand.job(soon).await.run_at));
    harness.advance(HOUR).await;
    assert_eq!(hand.promote().await.moved, 1);
    assert_eq!(ids(&worker.take("late", ALL).await), [soon]);
    hand.moved(later, Move::Resume).await;
    assert_eq!(ids(&worker.take("late", ALL).await), [later], "its time has come meanwhile");
}

/// A job that is no run is not paused: its queue can be.
pub async fn only_runs_are_paused(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    assert_eq!(hand.intervene(id, Move::Pause).await, Moved::Wrong(State::Ready));
    assert_eq!(worker.take_one("mail").await.job.id, id);
    assert_eq!(hand.intervene(id, Move::Pause).await, Moved::Wrong(State::Running));
    assert_eq!(hand.intervene(job_id(), Move::Resume).await, Moved::Absent);
    let run = hand.create(&run("checkout")).await;
    let dry = crate::MoveJob { dry_run: true, ..moving(run, Move::Pause) };
    assert_eq!(hand.job_move(&dry).await, Moved::Applied { from: State::Ready });
    assert_eq!(hand.job(run).await.paused, None);
}

/// Whoever wants anything else of it than that wants it to go on, or to be over.
pub async fn a_paused_run_can_be_called_off_or_run_at_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, id) = parked(&hand, HOUR).await;
    hand.moved(id, Move::Pause).await;
    assert_eq!(hand.moved(id, Move::RunNow).await, State::Scheduled);
    assert_eq!(hand.job(id).await.paused, None);
    let again = worker.take_one("checkout").await;
    worker.end_all(&[again], &Ending::Snoozed(HOUR)).await;
    hand.moved(id, Move::Pause).await;
    // It may have something to undo: it is asked to end by what arrives for it.
    assert_eq!(hand.intervene(id, Move::Cancel).await, Moved::Begun);
    assert_eq!((hand.state(id).await, hand.paused().await), (State::Scheduled, vec![id]));
    // One that has not begun has nothing.
    let new = run("checkout");
    hand.create(&new).await;
    hand.moved(new.id, Move::Pause).await;
    assert_eq!(hand.moved(new.id, Move::Cancel).await, State::Ready);
    assert_eq!((hand.state(new.id).await, hand.paused().await), (State::Cancelled, vec![id]));
}

/// J10. A run that is paused keeps its turn under its ordering key; one that had none stands in line again.
pub async fn j10_a_paused_run_keeps_its_turn(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let keyed = || New { ordering_key: Some(Key::new("customer").unwrap()), ..run("checkout") };
    let [first, second, third] = [keyed(), keyed(), keyed()];
    let all = [first.id, second.id, third.id];
    for new in [&first, &second, &third] {
        hand.create(new).await;
        hand.promote().await;
    }
    hand.moved(first.id, Move::Pause).await;
    hand.moved(second.id, Move::Pause).await;
    hand.promote().await;
    assert!(worker.take("checkout", ALL).await.is_empty(), "the first has the turn");
    hand.moved(first.id, Move::Resume).await;
    hand.promote().await;
    let claimed = worker.take_one("checkout").await;
    assert_eq!(claimed.job.id, all[0]);
    worker.end_all(&[claimed], &succeeded()).await;
    hand.promote().await;
    let claimed = worker.take_one("checkout").await;
    assert_eq!(claimed.job.id, all[2], "the second has left the line");
    hand.moved(second.id, Move::Resume).await;
    worker.end_all(&[claimed], &succeeded()).await;
    hand.promote().await;
    assert_eq!(worker.take_one("checkout").await.job.id, all[1]);
}

/// J8. Of a pause and a claim either comes first, and nothing lies in between.
pub async fn j8_a_pause_and_a_claim_never_miss_each_other(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let worker = Worker::of(&hands[0]).await;
    for _ in 0..12 {
        let id = hands[0].create(&run("checkout")).await;
        let (moved, taken) = tokio::join!(hands[1].intervene(id, Move::Pause), worker.take("checkout", 1));
        match moved {
            Moved::Applied { .. } => assert!(taken.is_empty(), "it was paused before, and runs"),
            Moved::Noted => {
                let claimed = only(taken);
                assert_eq!(hears(&worker).await, [id]);
                worker.end_all(&[claimed], &Ending::Snoozed(TICK)).await;
            }
            answer => panic!("{answer:?}"),
        }
        assert_eq!(hands[0].standing(id).await, Standing::Paused);
        // Of a resume and the end of an attempt as well.
        hands[1].moved(id, Move::Resume).await;
        let claimed = worker.take_one("checkout").await;
        hands[1].intervene(id, Move::Pause).await;
        let (moved, _) = tokio::join!(
            hands[1].intervene(id, Move::Resume),
            worker.end(&claimed, Ending::Snoozed(Duration::from_millis(1)))
        );
        assert!(matches!(moved, Moved::Applied { .. } | Moved::Noted), "{moved:?}");
        harness.advance(TICK).await;
        hands[0].promote().await;
        let again = worker.take_one("checkout").await;
        worker.end_all(&[again], &succeeded()).await;
    }
}
