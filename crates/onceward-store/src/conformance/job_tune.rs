//! What queues are tuned by: waiting that counts as priority (J15), and how long what is over is kept (J16).

use core::time::Duration;

use onceward_core::job::limit::Limits;
use onceward_core::job::tuning::Tuning;
use onceward_core::job::{Ending, New, State};
use onceward_core::{JobId, Namespace, Queue};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{ClaimJobs, LimitQueue, PruneJobs, PruneOnly, PrunedJobs, TuneQueue, Want};

const HOUR: Duration = Duration::from_secs(3_600);

async fn tune(hand: &Hand, text: &str, tuning: Tuning) {
    let ask = TuneQueue { namespace: Namespace::default(), queue: queue(text), tuning, actor: owner("ops") };
    hand.ask(|| hand.store.queue_tune(&ask)).await;
}

fn ageing(span: Duration) -> Tuning {
    Tuning { ageing: Some(span), ..Tuning::default() }
}

fn of(priority: i16, text: &str) -> New {
    New { priority, ..work(text) }
}

/// What a claim of so many gives, one after the other, in the order in which it is to be started: sent again it is the
/// same.
async fn taken(worker: &Worker, wants: &[Want], limit: usize) -> Vec<JobId> {
    let wish = worker.wish(wants, limit);
    let taken = ids(&worker.hand.claim_jobs(&wish).await.jobs);
    assert_eq!(ids(&worker.hand.claim_jobs(&wish).await.jobs), taken);
    taken
}

/// J15: without ageing a lower priority waits for as long as there is a higher one; with it, no longer than it takes to
/// have gained on it.
pub async fn j15_waiting_counts_as_priority_where_a_queue_says_so(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let old = hand.create_all(&[of(0, "mail"), of(-1, "mail"), of(0, "mail")]).await;
    harness.advance(secs(25)).await;
    let young = hand.create_all(&[of(1, "mail"), of(3, "mail"), of(2, "mail")]).await;
    tune(&hand, "default", ageing(secs(10))).await;
    let worker = Worker::of(&hand).await;
    // Two steps have been waited: 0 counts as 2, and -1 as 1; what counts the same goes by the time it was due.
    assert_eq!(taken(&worker, &[lane("mail")], 2).await, [young[1], old[0]]);
    assert_eq!(taken(&worker, &[lane("mail")], 3).await, [old[2], young[2], old[1]]);
    assert_eq!(taken(&worker, &[lane("mail")], ALL).await, [young[0]]);
    assert!(taken(&worker, &[lane("mail")], ALL).await.is_empty());
}

pub async fn j15_priorities_are_strict_again_once_waiting_does_not_count(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    tune(&hand, "default", ageing(secs(1))).await;
    let old = hand.create_all(&[of(0, "mail"), of(0, "mail")]).await;
    harness.advance(secs(60)).await;
    let young = hand.create_all(&[of(9, "mail"), of(8, "mail")]).await;
    let worker = Worker::of(&hand).await;
    assert_eq!(taken(&worker, &[lane("mail")], 1).await, [old[0]]);
    tune(&other, "default", Tuning::default()).await;
    assert_eq!(taken(&worker, &[lane("mail")], 1).await, [young[0]]);
    assert_eq!(taken(&worker, &[lane("mail")], ALL).await, [young[1], old[1]]);
}

/// J15: waiting makes no job higher than the highest.
pub async fn j15_waiting_counts_up_to_the_highest_priority(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    tune(&hand, "default", ageing(secs(1))).await;
    let old = hand.create(&of(-1_000, "mail")).await;
    harness.advance(HOUR).await;
    let first = hand.create(&of(1_000, "mail")).await;
    harness.advance(secs(1)).await;
    let second = hand.create(&of(1_000, "mail")).await;
    let worker = Worker::of(&hand).await;
    assert_eq!(taken(&worker, &[lane("mail")], ALL).await, [old, first, second]);
}

/// J15: of several lanes, in queues where waiting counts and in others, the best of all are taken; no lane gives more
/// than was asked of it.
pub async fn j15_lanes_with_and_without_ageing_are_claimed_together(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let front = |new: New| New { queue: queue("front"), ..new };
    let slow = hand.create_all(&[of(0, "mail"), of(0, "mail"), of(0, "post")]).await;
    let strict = hand.create_all(&[front(of(0, "mail")), front(of(4, "mail"))]).await;
    harness.advance(secs(31)).await;
    tune(&hand, "default", ageing(secs(10))).await;
    let worker = Worker::of(&hand).await;
    let wants = |most| {
        [
            Want { limit: most, ..lane("mail") },
            Want { limit: most, ..lane("post") },
            Want { queue: queue("front"), limit: most, ..lane("mail") },
        ]
    };
    assert_eq!(taken(&worker, &wants(1), ALL).await, [strict[1], slow[0], slow[2]]);
    assert_eq!(taken(&worker, &wants(ALL), 1).await, [slow[1]]);
    assert_eq!(taken(&worker, &wants(ALL), ALL).await, [strict[0]]);
}

/// J11, J15: a queue that is limited as well gives nothing without permits, and says so; paused, it gives nothing.
pub async fn j15_ageing_leaves_limits_and_pauses_as_they_are(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 3)).await;
    tune(&hand, "default", ageing(secs(10))).await;
    let limits = Limits { concurrency: Some(2), ..Limits::default() };
    let (namespace, queue) = (Namespace::default(), Queue::default());
    let limit = LimitQueue { namespace, queue: queue.clone(), limits, actor: owner("ops") };
    hand.ask(|| hand.store.queue_limit(&limit)).await;
    harness.advance(secs(2)).await;
    for permitted in [false, true] {
        let wish = ClaimJobs { permitted, ..worker.wish(&[lane("mail")], ALL) };
        let claimed = hand.claim_jobs(&wish).await;
        assert_eq!((claimed.jobs.len(), claimed.limited), (0, vec![queue.clone()]), "{permitted}");
    }
    let ask = crate::AskPermits {
        namespace: Namespace::default(),
        queue: queue.clone(),
        session: worker.session.id,
        wanted: 2,
        starts: 2,
    };
    hand.ask(|| hand.store.queue_permits(core::slice::from_ref(&ask))).await;
    let wish = ClaimJobs { permitted: true, ..worker.wish(&[lane("mail")], ALL) };
    assert_eq!(hand.claim_jobs(&wish).await.jobs.len(), 2);
    hand.pause("default", true).await;
    let wish = ClaimJobs { permitted: true, ..worker.wish(&[lane("mail")], ALL) };
    assert!(hand.claim_jobs(&wish).await.jobs.is_empty());
}

pub async fn what_a_queue_is_tuned_by_tells_who_and_since_when(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let tuning = Tuning { ageing: Some(secs(90)), retain: Some(Duration::ZERO), retain_dead: Some(HOUR) };
    tune(&hand, "Ünused", tuning).await;
    tune(&hand, "default", Tuning { retain_dead: None, ..tuning }).await;
    let line = hand.queues().await.into_iter().find(|line| line.queue == queue("Ünused")).unwrap();
    assert_eq!((line.tuning, line.tuned_by), (tuning, Some(owner("ops"))));
    assert!(line.tuned_at.is_some() && line.limits_at.is_none() && line.paused_at.is_none());
    let namespace = Namespace::default();
    let tunings = hand.ask(|| hand.store.queue_tunings(&namespace)).await;
    let both = [(queue("default"), Tuning { retain_dead: None, ..tuning }), (queue("Ünused"), tuning)];
    assert_eq!(tunings, both);
    tune(&hand, "default", Tuning::default()).await;
    assert_eq!(hand.ask(|| hand.store.queue_tunings(&namespace)).await, both[1..]);
    let theirs = self::namespace("theirs");
    assert!(hand.ask(|| hand.store.queue_tunings(&theirs)).await.is_empty());
}

/// Dead jobs in two queues and of two kinds, and one that has succeeded and may be forgotten.
async fn over(harness: &dyn Harness, hand: &Hand) -> Vec<JobId> {
    let worker = Worker::of(hand).await;
    let slow = |new: New| New { queue: queue("slow"), ..new };
    let jobs = [work("mail"), slow(work("mail")), slow(work("post"))];
    let created = hand.create_all(&jobs).await;
    let mut policy = work("done").policy;
    policy.retain = secs(1);
    let done = hand.create(&New { policy, ..work("done") }).await;
    let wants = [
        lane("mail"),
        Want { queue: queue("slow"), ..lane("mail") },
        Want { queue: queue("slow"), ..lane("post") },
    ];
    let claimed = hand.claim_jobs(&worker.wish(&wants, ALL)).await.jobs;
    worker.end_all(&claimed, &Ending::Dead("no".to_owned())).await;
    worker.end_all(&worker.take("done", 1).await, &succeeded()).await;
    harness.advance(HOUR).await;
    created.into_iter().chain([done]).collect()
}

/// J16: dead jobs are kept for as long as their queue says, and where it says nothing, as long as the prune does.
pub async fn j16_a_queue_says_how_long_its_dead_jobs_are_kept(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let created = over(harness, &hand).await;
    let kept = |span| Tuning { retain_dead: Some(span), ..Tuning::default() };
    tune(&hand, "slow", kept(HOUR * 24)).await;
    assert_eq!(hand.prune_jobs(HOUR / 2).await.dead, 1);
    assert_eq!(hand.find_job(created[0]).await, None);
    tune(&hand, "slow", kept(HOUR / 2)).await;
    assert_eq!(hand.prune_jobs(HOUR * 24).await.dead, 2);
}

/// J16: two prunes at the same time, and others who enqueue: each job is forgotten by one of them, and nothing else is.
pub async fn j16_two_prunes_at_once_forget_each_job_once(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let worker = Worker::of(&hand).await;
    let dead = hand.create_all(&works("mail", 200)).await;
    worker.end_all(&worker.take("mail", ALL).await, &Ending::Dead("no".to_owned())).await;
    harness.advance(secs(60)).await;
    let prune = async |hand: &Hand| {
        let (ask, mut gone) = (PruneJobs::all(secs(1), 20), 0);
        for _ in 0..15 {
            gone += hand.ask(|| hand.store.job_prune(&ask)).await.dead;
        }
        gone
    };
    let enqueue = async || {
        let mut young = Vec::new();
        for _ in 0..10 {
            young.extend(hand.create_all(&works("mail", 5)).await);
        }
        young
    };
    let (first, second, young) = tokio::join!(prune(&hand), prune(&other), enqueue());
    // What one of them just looked at, the other has passed over.
    let rest = prune(&hand).await;
    assert_eq!(first + second + rest, 200);
    assert!(hand.jobs(&dead).await.rows.iter().all(Option::is_none));
    assert_eq!(hand.states(&young).await, [State::Ready; 50]);
}

/// J16: a prune that is about some jobs leaves the others, and one that only counts leaves all.
pub async fn j16_a_prune_of_some_jobs_leaves_the_others(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let created = over(harness, &hand).await;
    let ask = |only: PruneOnly, dry_run| PruneJobs { only, dry_run, ..PruneJobs::all(secs(1), ALL) };
    let prune = async |only: &PruneOnly, dry_run| {
        let ask = ask(only.clone(), dry_run);
        let PrunedJobs { done, dead, .. } = hand.ask(|| hand.store.job_prune(&ask)).await;
        (done, dead)
    };
    let all = PruneOnly { namespace: Some(Namespace::default()), ..PruneOnly::default() };
    let slow = PruneOnly { queue: Some(queue("slow")), ..all.clone() };
    let post = PruneOnly { kind: Some(kind("post")), ..slow.clone() };
    let dead = PruneOnly { state: Some(State::Dead), ..all.clone() };
    let cancelled = PruneOnly { state: Some(State::Cancelled), ..all.clone() };
    let theirs = PruneOnly { namespace: Some(namespace("theirs")), ..PruneOnly::default() };
    let ready = PruneOnly { state: Some(State::Ready), ..all.clone() };
    for (only, counts) in [
        (&PruneOnly::default(), (1, 3)),
        (&all, (1, 3)),
        (&slow, (0, 2)),
        (&post, (0, 1)),
        (&dead, (0, 3)),
        (&cancelled, (0, 0)),
        (&theirs, (0, 0)),
        (&ready, (0, 0)),
    ] {
        assert_eq!(prune(only, true).await, counts, "{only:?}");
    }
    assert!(hand.jobs(&created).await.rows.iter().all(Option::is_some), "nothing was changed");
    for nobody in [&cancelled, &theirs, &ready] {
        assert_eq!(prune(nobody, false).await, (0, 0));
    }
    let there =
        async || -> Vec<bool> { hand.jobs(&created).await.rows.iter().map(Option::is_some).collect() };
    assert_eq!((prune(&post, false).await, there().await), ((0, 1), vec![true, true, false, true]));
    assert_eq!((prune(&slow, false).await, there().await), ((0, 1), vec![true, false, false, true]));
    let done = PruneOnly { state: Some(State::Succeeded), ..all };
    assert_eq!((prune(&done, false).await, there().await), ((1, 0), vec![true, false, false, false]));
    assert_eq!(prune(&PruneOnly::default(), false).await, (0, 1));
}
