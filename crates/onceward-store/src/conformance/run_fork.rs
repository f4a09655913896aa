//! Runs that begin with a part of the journal of another one.

use onceward_core::job::{Claimed, Ending, New, Policy, State};
use onceward_core::run::{Entry, Op, Outcome, Phase, Position, Start};
use onceward_core::{JobId, Key, Token};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{AppendRun, AppendRuns, ForkRun, LoadRun};

fn run(text: &str) -> New {
    New { policy: Policy { durable: true, ..Policy::default() }, ..work(text) }
}

fn entry(claimed: &Claimed, seq: u32, phase: Phase) -> Entry {
    let (position, at) = (Position::from_row(seq.to_string()), claimed.token.as_timestamp());
    Entry { seq, position, op: Op::Step, name: format!("step {seq}"), phase, at, token: claimed.token }
}

fn value(text: &str) -> Phase {
    Phase::Ended(Outcome::Value(text.as_bytes().to_vec()))
}

/// A run that has failed after so many steps, and its journal.
async fn failed(hand: &Hand, steps: u32) -> (Worker, JobId, Vec<Entry>) {
    let worker = Worker::of(hand).await;
    hand.create(&run("checkout")).await;
    let claimed = worker.take_one("checkout").await;
    let entries: Vec<Entry> =
        (0..steps).map(|seq| entry(&claimed, seq, value(&format!("{seq}\u{0}")))).collect();
    let append = AppendRun {
        run: job_ref(claimed.job.id),
        session: worker.session.id,
        token: claimed.token,
        entries: entries.clone(),
        children: Vec::new(),
        taken: Vec::new(),
        ended: Vec::new(),
    };
    let ask = AppendRuns { runs: vec![append], hand: None, finished: Vec::new() };
    assert_eq!(hand.ask(|| hand.store.run_append(&ask)).await.added, [true]);
    worker.end_all(core::slice::from_ref(&claimed), &Ending::Dead("no".to_owned())).await;
    (worker, claimed.job.id, entries)
}

fn forking(of: JobId, until: u32) -> ForkRun {
    let (without, instead, more) = (Vec::new(), Vec::new(), Vec::new());
    let (run, by) = (New { replay_of: Some(of), ..run("checkout") }, Token::from_row(i64::MAX));
    ForkRun { run, of, until, by, without, instead, more }
}

impl Hand {
    async fn fork(&self, batch: &[ForkRun]) -> bool {
        self.ask(|| self.store.run_fork(batch)).await
    }

    async fn entries(&self, id: JobId) -> Vec<Entry> {
        let ask = [LoadRun { run: job_ref(id), from: 0, limit: 10_000 }];
        only(self.ask(|| self.store.run_load(&ask)).await)
    }
}

/// D1. The copy is what was asked for, and the journal it is of stays as it was.
pub async fn d1_a_fork_begins_with_a_part_of_a_journal(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let (worker, id, entries) = failed(&hand, 5).await;
    let child = Phase::Started(Start::Child { id: job_id(), input: 3 });
    let at = entries[0].at;
    let more = vec![Entry { op: Op::Child, ..Entry { at, ..entries[0].clone() } }];
    let ask = ForkRun { without: vec![1], instead: vec![(2, child.data())], more, ..forking(id, 4) };
    assert!(hand.fork(core::slice::from_ref(&ask)).await);
    assert_eq!(hand.entries(id).await, entries);
    let copy = other.entries(ask.run.id).await;
    assert_eq!(copy.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!((&copy[0], &copy[2]), (&entries[0], &Entry { seq: 2, ..entries[3].clone() }));
    assert_eq!((copy[1].name.as_str(), copy[1].phase.data()), ("step 2", child.data()));
    assert_eq!((copy[3].op, copy[3].at, &copy[3].phase), (Op::Child, at, &entries[0].phase));
    let claimed = worker.take_one("checkout").await;
    assert_eq!((claimed.job.id, claimed.job.replay_of, claimed.job.attempt), (ask.run.id, Some(id), 0));
    assert!(claimed.job.token.get() > 0, "whoever takes it up reads its journal");
    let row = hand.job(id).await;
    assert_eq!((row.state, row.error.as_deref()), (State::Dead, Some("no")));
}

/// Sent again it changes nothing, whatever has become of the first one meanwhile.
pub async fn a_fork_sent_again_is_the_same(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, id, entries) = failed(&hand, 3).await;
    let ask = [forking(id, 2)];
    assert!(hand.fork(&ask).await && hand.fork(&ask).await);
    let claimed = worker.take_one("checkout").await;
    assert!(worker.take("checkout", ALL).await.is_empty(), "one run, however often it is sent");
    assert!(hand.fork(&ask).await);
    assert_eq!(hand.entries(claimed.job.id).await, entries[..2]);
    worker.end_all(&[claimed], &succeeded()).await;
    assert!(hand.fork(&ask).await);
    assert!(worker.take("checkout", ALL).await.is_empty());
    assert_eq!(hand.state(ask[0].run.id).await, State::Succeeded);
}

/// Nothing begins with less than it was to begin with, and nothing of a batch is there without the rest.
pub async fn a_fork_is_whole_or_not_there(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, id, entries) = failed(&hand, 3).await;
    let (good, far, gone) = (forking(id, 3), forking(id, 4), forking(job_id(), 1));
    // By the time the journal was another one.
    let anew = ForkRun { by: Token::from_row(entries[2].token.get() - 1), ..forking(id, 3) };
    for bad in [far, gone, anew] {
        assert!(!hand.fork(&[good.clone(), bad.clone()]).await);
        assert_eq!((hand.find_job(good.run.id).await, hand.find_job(bad.run.id).await), (None, None));
        assert!(hand.entries(good.run.id).await.is_empty());
    }
    assert!(worker.take("checkout", ALL).await.is_empty());
    let blank = forking(job_id(), 0);
    assert!(hand.fork(&[good.clone(), blank.clone()]).await, "nothing is a part of any journal");
    assert_eq!((hand.entries(good.run.id).await, hand.entries(blank.run.id).await), (entries, vec![]));
    assert_eq!(worker.take("checkout", ALL).await.len(), 2);
}

/// A fork waits where its run would wait: behind a paused queue, and in the line of its ordering key.
pub async fn a_fork_waits_like_any_run(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, id, entries) = failed(&hand, 1_500).await;
    let keyed = |ask: ForkRun| ForkRun {
        run: New { ordering_key: Some(Key::new("customer").unwrap()), ..ask.run },
        ..ask
    };
    let (first, second) = (keyed(forking(id, 1_500)), keyed(forking(id, 1_500)));
    hand.pause("default", true).await;
    assert!(
        hand.fork(core::slice::from_ref(&first)).await && hand.fork(core::slice::from_ref(&second)).await
    );
    hand.promote().await;
    assert!(worker.take("checkout", ALL).await.is_empty());
    hand.pause("default", false).await;
    let claimed = worker.take_one("checkout").await;
    assert_eq!(claimed.job.id, first.run.id);
    assert_eq!(hand.entries(claimed.job.id).await, entries);
    worker.end_all(&[claimed], &succeeded()).await;
    hand.promote().await;
    assert_eq!(worker.take_one("checkout").await.job.id, second.run.id);
}
