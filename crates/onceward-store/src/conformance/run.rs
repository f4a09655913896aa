//! Journals of runs, and what arrives for them.

use core::time::Duration;
use std::collections::BTreeSet;

use onceward_core::job::{Claimed, Ending, Move, New, Policy, State};
use onceward_core::once::Body;
use onceward_core::run::generation::{Turn, turn};
use onceward_core::run::{Arrival, Arrived, Entry, Op, Outcome, PARK_MAX, Phase, Position, Start};
use onceward_core::{JobId, Key, Queue, SessionId, trigger};
use uuid::Uuid;

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use super::trigger::{declare, heard, on};
use crate::{
    AppendRun, AppendRuns, Appended, Child, ContinueRun, HandChildren, HandOver, LoadRun, NoteArrivals,
    SettledJob, TellRun, Told,
};

/// A run of this kind.
fn run(text: &str) -> New {
    New { policy: Policy { durable: true, ..Policy::default() }, ..work(text) }
}

fn position(number: u32) -> Position {
    Position::from_row(number.to_string())
}

/// What was done at a position, in words.
fn done(claimed: &Claimed, seq: u32, value: &str) -> Entry {
    let phase = Phase::Ended(Outcome::Value(value.as_bytes().to_vec()));
    let (name, at) = ("charge".to_owned(), claimed.token.as_timestamp());
    Entry { seq, position: position(seq), op: Op::Step, name, phase, at, token: claimed.token }
}

/// The start of a child.
fn started(claimed: &Claimed, seq: u32, child: &New) -> (Entry, Child) {
    let phase = Phase::Started(Start::Child { id: child.id, input: 7 });
    let entry = Entry { op: Op::Child, phase, ..done(claimed, seq, "") };
    let job = New { parent: Some(claimed.job.id), ..child.clone() };
    (entry, Child { seq, job, at_once: false })
}

fn adding(worker: &Worker, claimed: &Claimed, entries: Vec<Entry>) -> AppendRun {
    AppendRun {
        run: job_ref(claimed.job.id),
        session: worker.session.id,
        token: claimed.token,
        entries,
        children: Vec::new(),
        taken: Vec::new(),
        ended: Vec::new(),
    }
}

/// Journals, whose children start at once for that worker.
fn handing(worker: &Worker, runs: &[AppendRun]) -> AppendRuns {
    let HandOver { namespace, session, claim, .. } = worker.handing(&[]);
    let hand = Some(HandChildren { namespace, session, claim });
    AppendRuns { runs: runs.to_vec(), hand, finished: Vec::new() }
}

/// A run with a child that it has started at once.
async fn with_child(hand: &Hand) -> (Worker, Claimed, Claimed) {
    let (worker, parent) = running(hand).await;
    let (entry, child) = started(&parent, 0, &run("pick"));
    let children = vec![Child { at_once: true, ..child }];
    let ask = AppendRun { children, ..adding(&worker, &parent, vec![entry]) };
    let appended = hand.append_all(&handing(&worker, &[ask])).await;
    assert_eq!(appended.added, [true]);
    (worker, parent, only(appended.claimed.jobs))
}

fn signal(id: JobId, name: &str, value: &str) -> TellRun {
    let what = Arrived::Signal { name: name.to_owned(), value: value.as_bytes().to_vec() };
    TellRun { run: job_ref(id), id: Uuid::now_v7(), what }
}

/// A worker that has a run.
async fn running(hand: &Hand) -> (Worker, Claimed) {
    let worker = Worker::of(hand).await;
    hand.create(&run("checkout")).await;
    let claimed = worker.take_one("checkout").await;
    (worker, claimed)
}

impl Hand {
    async fn append(&self, ask: &AppendRun) -> bool {
        let ask = AppendRuns { runs: vec![ask.clone()], hand: None, finished: Vec::new() };
        only(self.append_all(&ask).await.added)
    }

    async fn append_all(&self, ask: &AppendRuns) -> Appended {
        self.ask(|| self.store.run_append(ask)).await
    }

    async fn journal(&self, id: JobId) -> Vec<Entry> {
        let ask = [LoadRun { run: job_ref(id), from: 0, limit: ALL }];
        only(self.ask(|| self.store.run_load(&ask)).await)
    }

    async fn arrived(&self, id: JobId) -> Vec<Arrival> {
        let run = job_ref(id);
        only(self.ask(|| self.store.run_arrived(core::slice::from_ref(&run))).await)
    }

    async fn tell(&self, ask: &TellRun) -> Told {
        only(self.ask(|| self.store.run_tell(core::slice::from_ref(ask))).await)
    }

    async fn wake(&self) -> usize {
        self.ask(|| self.store.run_wake()).await.queues.len()
    }
}

/// D1. Entries are there in order, as they were written, and only once.
pub async fn d1_a_journal_is_what_was_added_to_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, claimed) = running(&hand).await;
    let mut entries = vec![done(&claimed, 0, "{\"\\u0000\":1}"), done(&claimed, 1, "")];
    let child = run("pick");
    let (start, mut child) = started(&claimed, 2, &child);
    child.job.run_at = None;
    entries.push(start);
    let timer = Phase::Started(Start::Due(claimed.token.as_timestamp()));
    entries.push(Entry { op: Op::Sleep, phase: timer, ..done(&claimed, 3, "") });
    let ask = AppendRun { children: vec![child.clone()], ..adding(&worker, &claimed, entries.clone()) };
    assert!(hand.append(&ask).await);
    assert!(hand.append(&ask).await, "the answer got lost, and it was sent again");
    let more = adding(&worker, &claimed, vec![done(&claimed, 4, "2")]);
    assert!(hand.append(&more).await);
    assert!(hand.append(&more).await, "so was one entry");
    entries.extend(more.entries);
    let journal = hand.journal(claimed.job.id).await;
    assert_eq!(journal, entries);
    let part = |id, from, limit| LoadRun { run: job_ref(id), from, limit };
    let nobodys = JobId::from_uuid(Uuid::new_v4());
    let parts = [
        part(claimed.job.id, 1, 2),
        part(nobodys, 0, 9),
        part(claimed.job.id, 4, 9),
        part(claimed.job.id, 0, 1),
    ];
    let loaded = hand.ask(|| hand.store.run_load(&parts)).await;
    assert_eq!(loaded, [&entries[1..3], &[], &entries[4..], &entries[..1]]);
    let picked = worker.take_one("pick").await;
    assert_eq!((picked.job.id, picked.job.parent), (child.job.id, Some(claimed.job.id)));
    assert!(worker.take("pick", ALL).await.is_empty(), "one child, however often it is sent");
}

/// D1. What was written before, and goes out once more beside what was not, is there once, and so is the rest.
pub async fn entries_that_are_there_hold_up_no_others(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ((worker, one), (other, two)) = (running(&hand).await, running(&hand).await);
    let send = async |runs: &[AppendRun]| {
        let ask = AppendRuns { runs: runs.to_vec(), hand: None, finished: Vec::new() };
        hand.append_all(&ask).await.added
    };
    let first =
        [adding(&worker, &one, vec![done(&one, 0, "1")]), adding(&other, &two, vec![done(&two, 0, "2")])];
    assert_eq!(send(&first).await, [true, true]);
    assert_eq!(send(&first).await, [true, true], "sent again");
    let mixed = [first[0].clone(), adding(&other, &two, vec![done(&two, 1, "3")])];
    assert_eq!(send(&mixed).await, [true, true]);
    let (start, child) = started(&two, 2, &run("pick"));
    let starting = AppendRun { children: vec![child.clone()], ..adding(&other, &two, vec![start]) };
    assert_eq!(send(&[first[0].clone(), starting.clone()]).await, [true, true]);
    assert_eq!(send(&[adding(&worker, &one, vec![done(&one, 1, "4")]), starting]).await, [true, true]);
    assert_eq!(hand.journal(one.job.id).await, [done(&one, 0, "1"), done(&one, 1, "4")]);
    assert_eq!(hand.journal(two.job.id).await.len(), 3);
    assert_eq!(worker.take_one("pick").await.job.id, child.job.id);
    assert!(worker.take("pick", ALL).await.is_empty());
}

/// D1. Whoever has lost the run adds nothing: its session has run out, it has ended, or somebody else has it.
pub async fn d1_a_zombie_adds_nothing(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let (worker, claimed) = running(&hand).await;
    assert!(hand.append(&adding(&worker, &claimed, vec![done(&claimed, 0, "1")])).await);
    let stranger = SessionId::from_uuid(Uuid::new_v4());
    let (start, child) = started(&claimed, 1, &run("pick"));
    let late = AppendRun { children: vec![child], ..adding(&worker, &claimed, vec![start]) };
    assert!(!hand.append(&AppendRun { session: stranger, ..late.clone() }).await);
    harness.advance(TTL).await;
    assert!(!hand.append(&late).await, "before anybody has rescued it");
    let rescued = other.rescue().await;
    assert_eq!(rescued.jobs.len(), 1);
    assert!(!hand.append(&late).await);
    let successor = Worker::of(&other).await;
    let again = successor.take_one("checkout").await;
    assert!(
        !hand.append(&late).await && !hand.append(&AppendRun { session: successor.session.id, ..late }).await
    );
    assert!(other.append(&adding(&successor, &again, vec![done(&again, 1, "2")])).await);
    let seqs: Vec<_> =
        hand.journal(again.job.id).await.iter().map(|entry| (entry.seq, entry.token)).collect();
    assert_eq!(seqs, [(0, claimed.token), (1, again.token)]);
    assert!(successor.take("pick", ALL).await.is_empty(), "and starts nothing");
    successor.end_all(core::slice::from_ref(&again), &succeeded()).await;
    assert!(!other.append(&adding(&successor, &again, vec![done(&again, 2, "3")])).await, "it has ended");
}

/// D7, D6. With the end of a child its parent has something that arrived; taking it is one commit with the entry.
pub async fn d6_d7_the_end_of_a_child_arrives_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, parent) = running(&hand).await;
    let children = [run("a"), run("b"), run("c")];
    let started: Vec<_> = (0..).zip(&children).map(|(seq, child)| started(&parent, seq, child)).collect();
    let (entries, children): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    assert!(hand.append(&AppendRun { children, ..adding(&worker, &parent, entries) }).await);
    let a = worker.take_one("a").await;
    worker.end_all(core::slice::from_ref(&a), &succeeded()).await;
    let failure = Body::new(b"{\"App\":1}".to_vec(), "application/json");
    let b = worker.take_one("b").await;
    let mut verdict = worker.verdict(&b, Ending::Dead("no".to_owned()));
    verdict.next.result = Some(failure.clone());
    assert_eq!(hand.settle_jobs(&[verdict]).await, [SettledJob::Applied(State::Dead)]);
    assert_eq!(hand.job(b.job.id).await.progress.map(|body| body.bytes), Some(failure.bytes.clone()));
    let c = worker.take_one("c").await;
    worker.end_all(core::slice::from_ref(&c), &broken(Duration::ZERO)).await;
    let arrived = hand.arrived(parent.job.id).await;
    assert_eq!(arrived.len(), 2, "what goes on has not ended: {arrived:?}");
    let ended = |state, bytes: &[u8], error: Option<&str>| Arrived::Child {
        state,
        result: Some(bytes.to_vec()),
        error: error.map(str::to_owned),
    };
    assert_eq!(
        (arrived[0].id, &arrived[0].what),
        (a.job.id.as_uuid(), &ended(State::Succeeded, b"ok", None))
    );
    let dead = ended(State::Dead, b"{\"App\":1}", Some("no"));
    assert_eq!((arrived[1].id, &arrived[1].what), (b.job.id.as_uuid(), &dead));
    let taken = vec![arrived[0].id];
    assert!(
        hand.append(&AppendRun { taken, ..adding(&worker, &parent, vec![done(&parent, 3, "ok")]) }).await
    );
    let left: Vec<_> = hand.arrived(parent.job.id).await.iter().map(|arrival| arrival.id).collect();
    assert_eq!(left, [b.job.id.as_uuid()]);
}

/// D7. A child that is called off before it has started, or lost at most once, has ended as well.
pub async fn d7_a_child_that_never_ran_is_heard_of(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, parent) = running(&hand).await;
    let sure = New { policy: Policy { at_most_once: true, ..Policy::default() }, ..work("sure") };
    let children = [run("a"), sure];
    let started: Vec<_> = (0..).zip(&children).map(|(seq, child)| started(&parent, seq, child)).collect();
    let (entries, news): (Vec<_>, Vec<_>) = started.into_iter().unzip();
    assert!(hand.append(&AppendRun { children: news, ..adding(&worker, &parent, entries) }).await);
    hand.intervene(children[0].id, Move::Cancel).await;
    let other = Worker::of(&hand).await;
    let claimed = other.take_one("sure").await;
    assert!(other.start(&claimed).await);
    assert!(other.close().await);
    hand.rescue().await;
    let arrived = hand.arrived(parent.job.id).await;
    let how =
        |id: JobId| arrived.iter().find(|arrival| arrival.id == id.as_uuid()).map(|arrival| &arrival.what);
    let is = |state, id| matches!(how(id), Some(Arrived::Child { state: seen, .. }) if *seen == state);
    assert!(is(State::Cancelled, children[0].id) && is(State::Uncertain, children[1].id), "{arrived:?}");
}

/// D6. Signals wait for their run in the order in which they came, each once.
pub async fn d6_signals_wait_in_order(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let id = hand.create(&run("checkout")).await;
    let signals: Vec<_> = ["1", "2", "3"].iter().map(|value| signal(id, "go", value)).collect();
    for ask in &signals {
        assert_eq!(hand.tell(ask).await, Told::Waits(Queue::default()));
        harness.advance(TICK).await;
    }
    assert_eq!(hand.tell(&signals[0]).await, Told::Waits(Queue::default()), "sent again");
    let arrived = hand.arrived(id).await;
    let expected: Vec<_> = signals.iter().map(|ask| (ask.id, ask.what.clone())).collect();
    assert_eq!(
        arrived.iter().map(|arrival| (arrival.id, arrival.what.clone())).collect::<Vec<_>>(),
        expected
    );
    let nobody = JobId::from_uuid(Uuid::now_v7());
    assert_eq!(hand.tell(&signal(nobody, "go", "1")).await, Told::Unknown);
    let worker = Worker::of(&hand).await;
    let claimed = worker.take_one("checkout").await;
    worker.end_all(&[claimed], &succeeded()).await;
    assert_eq!(hand.tell(&signal(id, "go", "4")).await, Told::Ended(State::Succeeded));
}

/// D6. A parked run is made ready by what it does not know of, and by nothing else.
pub async fn d6_a_parked_run_is_woken_by_what_is_new_to_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, claimed) = running(&hand).await;
    let id = claimed.job.id;
    let early = signal(id, "early", "1");
    hand.tell(&early).await;
    assert_eq!(hand.wake().await, 0, "it runs");
    let known = NoteArrivals { run: job_ref(id), ids: vec![early.id] };
    hand.ask(|| hand.store.run_note(core::slice::from_ref(&known))).await;
    worker.end_all(&[claimed], &Ending::Snoozed(PARK_MAX)).await;
    assert_eq!((hand.wake().await, hand.job(id).await.state), (0, State::Scheduled), "it knows of that one");
    assert_eq!(hand.tell(&early).await, Told::Waits(Queue::default()), "nor is it told of it again");
    assert_eq!((hand.wake().await, hand.job(id).await.state), (0, State::Scheduled));
    let go = hand.tell(&signal(id, "go", "2")).await;
    assert_eq!((go, hand.job(id).await.state), (Told::Woken(Queue::default()), State::Ready), "at once");
    assert_eq!(hand.wake().await, 0);
    let again = worker.take_one("checkout").await;
    assert_eq!((again.job.id, again.job.attempt), (id, 0), "parking costs no attempt");
    assert_eq!(hand.arrived(id).await.len(), 2, "and both are there");
    let late = hand.tell(&signal(id, "late", "3")).await;
    assert_eq!(late, Told::Waits(Queue::default()), "it runs");
    worker.end_all(&[again], &Ending::Snoozed(PARK_MAX)).await;
    assert_eq!((hand.wake().await, hand.wake().await), (1, 0), "what came while it parked");
    let again = worker.take_one("checkout").await;
    assert_eq!(hand.promote().await.moved, 0, "it waits nowhere else");
    worker.end_all(&[again], &succeeded()).await;
}

/// D7. Losing its process costs a run no attempt; one that never comes through is dead in the end.
pub async fn d7_a_lost_process_costs_a_run_no_attempt(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let once = Policy { durable: true, max_attempts: 1, ..Policy::default() };
    let id = hand.create(&New { policy: once, ..work("checkout") }).await;
    for lost in 1..=3 {
        let worker = Worker::of(&hand).await;
        worker.take_one("checkout").await;
        assert!(worker.close().await);
        hand.rescue().await;
        let row = hand.job(id).await;
        assert_eq!((row.state, row.attempt, row.lost), (State::Ready, 0, lost));
    }
    let worker = Worker::of(&hand).await;
    let claimed = worker.take_one("checkout").await;
    worker.end_all(&[claimed], &Ending::Snoozed(Duration::from_secs(1))).await;
    assert_eq!(hand.job(id).await.lost, 0, "it has come through");
}

/// D7. A child starts with the entry that starts it, if it is due and its queue is open; the same claim finds it again.
pub async fn d7_a_child_starts_with_its_entry(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, parent) = running(&hand).await;
    let later = New { delay: Some(Duration::from_secs(60)), ..run("later") };
    let closed = New { queue: Queue::new("closed").unwrap(), ..run("closed") };
    hand.pause("closed", true).await;
    let children = [run("pick"), later, closed, run("lane")];
    let parts: Vec<_> = (0..).zip(&children).map(|(seq, child)| started(&parent, seq, child)).collect();
    let (entries, news): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let at_once = |child: Child| Child { at_once: child.seq < 3, ..child };
    let children = news.into_iter().map(at_once).collect();
    let ask = handing(&worker, &[AppendRun { children, ..adding(&worker, &parent, entries) }]);
    let appended = hand.append_all(&ask).await;
    let claimed = only(appended.claimed.jobs);
    assert_eq!((&claimed.job.kind.as_str(), claimed.job.parent), (&"pick", Some(parent.job.id)));
    assert_eq!(claimed.token.as_timestamp(), appended.claimed.now);
    let again = hand.append_all(&ask).await;
    assert_eq!(again.added, [true]);
    let found = only(again.claimed.jobs);
    assert_eq!((found.job.id, found.token), (claimed.job.id, claimed.token), "the answer got lost");
    assert!(worker.take("pick", ALL).await.is_empty(), "it waits in no lane");
    assert_eq!(worker.take("lane", ALL).await.len(), 1);
    assert_eq!(hand.job(children_id(&ask, 1)).await.state, State::Scheduled);
    worker.end_all(&[claimed], &succeeded()).await;
    let lost = Worker::of(&hand).await;
    assert!(worker.close().await && !hand.append_all(&handing(&lost, &ask.runs)).await.added[0]);
}

fn children_id(ask: &AppendRuns, child: usize) -> JobId {
    ask.runs[0].children[child].job.id
}

/// D6, D7. A child is over with the entry that says so: nothing has to arrive, and nothing else ends it again.
pub async fn d6_d7_a_child_ends_with_its_entry(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, parent, child) = with_child(&hand).await;
    let verdict = worker.verdict(&child, succeeded());
    let ended = vec![verdict.clone()];
    let ask = AppendRun { ended, ..adding(&worker, &parent, vec![done(&parent, 1, "ok")]) };
    let finished = vec![worker.handing(&[]).claim];
    let ask = AppendRuns { finished, ..handing(&worker, &[ask]) };
    assert_eq!(hand.append_all(&ask).await.added, [true]);
    assert_eq!(hand.append_all(&ask).await.added, [true], "the answer got lost");
    let row = hand.job(child.job.id).await;
    assert_eq!(
        (row.state, row.token, row.result),
        (State::Succeeded, child.token, verdict.next.result.clone())
    );
    assert_eq!(row.worker, Some(worker.session.owner.clone()));
    assert_eq!((hand.arrived(parent.job.id).await.len(), hand.wake().await), (0, 0));
    assert_eq!(hand.settle_jobs(&[verdict]).await, [SettledJob::Already(State::Succeeded)]);
    assert_eq!(hand.arrived(parent.job.id).await, []);
    worker.end_all(&[parent], &succeeded()).await;
}

/// With the entry of its run, or as any job that somebody waits for.
pub async fn a_trigger_hears_of_children_however_they_end(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    declare(&hand, "t", vec![on(trigger::Outcome::Succeeded, "pick")]).await;
    let (worker, parent, child) = with_child(&hand).await;
    let ended = vec![worker.verdict(&child, succeeded())];
    let ask = AppendRun { ended, ..adding(&worker, &parent, vec![done(&parent, 1, "ok")]) };
    assert!(hand.append(&ask).await && hand.append(&ask).await, "the answer got lost");
    let first = only(heard(&hand).await);
    assert_eq!(
        (first.job, first.token, first.outcome),
        (child.job.id, child.token, trigger::Outcome::Succeeded)
    );
    let (worker, _, second) = with_child(&hand).await;
    worker.end_all(core::slice::from_ref(&second), &succeeded()).await;
    assert_eq!(
        heard(&hand).await.iter().map(|row| row.job).collect::<Vec<_>>(),
        [child.job.id, second.job.id]
    );
}

/// D1. Where a run is somebody else's its journal says nothing of the child; nor where the child is somebody else's.
pub async fn d1_a_zombie_ends_no_child_in_its_journal(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, parent, child) = with_child(&hand).await;
    let verdict = worker.verdict(&child, succeeded());
    let stranger = SessionId::from_uuid(Uuid::new_v4());
    let ended = vec![verdict.clone()];
    let ask = AppendRun { ended, ..adding(&worker, &parent, vec![done(&parent, 1, "ok")]) };
    assert!(!hand.append(&AppendRun { session: stranger, ..ask.clone() }).await);
    assert_eq!(hand.journal(parent.job.id).await.len(), 1);
    // Whether it was recorded with that or not: it arrives.
    let settled = only(hand.settle_jobs(core::slice::from_ref(&verdict)).await);
    let succeeded = [SettledJob::Applied(State::Succeeded), SettledJob::Already(State::Succeeded)];
    assert!(succeeded.contains(&settled), "{settled:?}");
    let arrived = only(hand.arrived(parent.job.id).await);
    assert_eq!(arrived.id, child.job.id.as_uuid());
    assert!(!hand.append(&ask).await, "the child is not there any more");
    assert_eq!(hand.journal(parent.job.id).await.len(), 1);
    let taken = AppendRun { ended: Vec::new(), taken: vec![arrived.id], ..ask };
    assert!(hand.append(&taken).await);
    assert_eq!((hand.journal(parent.job.id).await.len(), hand.arrived(parent.job.id).await.len()), (2, 0));
}

/// J10. Children with an ordering key wait for their turn, whichever run has started them.
pub async fn j10_children_of_one_key_run_one_at_a_time(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, parent) = running(&hand).await;
    let keyed = |key: &str| New { ordering_key: Some(Key::new(key).unwrap()), ..run("pick") };
    let children = [keyed("a"), keyed("a"), keyed("b"), run("pick")];
    let parts: Vec<_> = (0..).zip(&children).map(|(seq, child)| started(&parent, seq, child)).collect();
    let (entries, children): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let ask = AppendRun { children, ..adding(&worker, &parent, entries) };
    assert!(hand.append(&ask).await && hand.append(&ask).await, "the answer got lost");
    hand.promote().await;
    let first = worker.take("pick", ALL).await;
    let keys: BTreeSet<_> = first.iter().map(|claimed| claimed.job.ordering_key.clone()).collect();
    assert_eq!((first.len(), keys.len()), (3, 3), "one of each key, and the one without");
    worker.end_all(&first, &succeeded()).await;
    assert_eq!(hand.arrived(parent.job.id).await.len(), 3);
    hand.promote().await;
    let second = worker.take_one("pick").await;
    assert_eq!(second.job.ordering_key, Some(Key::new("a").unwrap()));
    worker.end_all(&[second], &succeeded()).await;
    assert_eq!(hand.arrived(parent.job.id).await.len(), 4);
}

/// Journals go with their runs, and no sooner.
pub async fn journals_go_with_their_runs(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let brief = New {
        policy: Policy { retain: Duration::ZERO, durable: true, ..Policy::default() },
        ..work("brief")
    };
    hand.create_all(&[brief.clone(), run("checkout")]).await;
    let worker = Worker::of(&hand).await;
    let (gone, stays) = (worker.take_one("brief").await, worker.take_one("checkout").await);
    for claimed in [&gone, &stays] {
        assert!(
            hand.append(&adding(&worker, claimed, vec![done(claimed, 0, "1"), done(claimed, 1, "2")])).await
        );
        hand.tell(&signal(claimed.job.id, "go", "1")).await;
    }
    let prune = || hand.ask(|| hand.store.run_prune(None, ALL));
    assert_eq!(prune().await, (0, None));
    worker.end_all(&[gone.clone(), stays.clone()], &succeeded()).await;
    assert_eq!(prune().await, (1, None));
    assert_eq!(hand.journal(gone.job.id).await, []);
    assert_eq!((hand.journal(stays.job.id).await.len(), hand.arrived(gone.job.id).await.len()), (2, 0));
    let (_, first) = hand.ask(|| hand.store.run_prune(None, 1)).await;
    assert_eq!(first, Some(job_ref(stays.job.id)), "one look at a time");
    assert_eq!(hand.ask(|| hand.store.run_prune(first.as_ref(), 1)).await, (0, None));
}

/// A run whose journal says that it goes on as new, in the hands of the attempt that has seen it; and what follows.
async fn continued(hand: &Hand, args: &str) -> (Worker, Claimed, ContinueRun) {
    let (worker, first) = running(hand).await;
    let phase = Phase::Ended(Outcome::Value(args.as_bytes().to_vec()));
    let over = Entry { op: Op::Continue, phase, ..done(&first, 2, "") };
    let entries = vec![done(&first, 0, "1"), done(&first, 1, "2"), over];
    assert!(hand.append(&adding(&worker, &first, entries)).await);
    worker.end_all(&[first], &Ending::Continued).await;
    let (again, ask) = turning(hand, &worker).await;
    (worker, again, ask)
}

/// Takes the run up, and looks at what follows from its journal.
async fn turning(hand: &Hand, worker: &Worker) -> (Claimed, ContinueRun) {
    let claimed = worker.take_one("checkout").await;
    let journal = hand.journal(claimed.job.id).await;
    let turn = turn(&journal, claimed.token.as_timestamp(), claimed.token).unwrap();
    let (run, session) = (job_ref(claimed.job.id), worker.session.id);
    let ask = ContinueRun { run, session, token: claimed.token, turn };
    (claimed, ask)
}

impl Hand {
    async fn go_on(&self, ask: &ContinueRun) -> bool {
        self.ask(|| self.store.run_continue(core::slice::from_ref(ask))).await == [true]
    }
}

/// D1, D8. A run that goes on as new is ready at once, with other arguments, all its attempts, and another journal;
/// what its steps have committed is forgotten, and what has arrived for it is not.
pub async fn d1_d8_a_run_goes_on_as_new(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let (worker, claimed, ask) = continued(&hand, r#"{"cursor":1}"#).await;
    let id = claimed.job.id;
    assert_eq!((claimed.job.attempt, claimed.job.lost), (0, 0));
    let step = Arrived::Step { position: position(0), value: Some(b"1".to_vec()) };
    let written = TellRun { run: job_ref(id), id: Uuid::now_v7(), what: step };
    let go = signal(id, "go", "1");
    for told in [&written, &go] {
        hand.tell(told).await;
    }
    assert!(hand.go_on(&ask).await && other.go_on(&ask).await, "the answer got lost");
    assert_eq!(other.journal(id).await, ask.turn.entries);
    assert_eq!(other.job(id).await.payload.bytes, ask.turn.args);
    let arrived: Vec<_> = hand.arrived(id).await.iter().map(|arrival| arrival.id).collect();
    assert_eq!(arrived, [go.id]);
    let more = done(&claimed, 1, "3");
    assert!(hand.append(&adding(&worker, &claimed, vec![more.clone()])).await);
    assert!(hand.go_on(&ask).await, "sent once more, it takes nothing away");
    assert_eq!(hand.journal(id).await, [ask.turn.entries[0].clone(), more]);
    worker.end_all(core::slice::from_ref(&claimed), &succeeded()).await;
    let row = hand.job(id).await;
    assert_eq!((row.state, row.payload.bytes), (State::Succeeded, ask.turn.args.clone()));
    assert!(!hand.go_on(&ask).await, "it has ended");
}

/// D1. Only who has the run turns its journal, and only where that says so; and nothing of the old one is added later.
pub async fn d1_a_zombie_turns_no_journal(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, claimed, ask) = continued(&hand, "{}").await;
    let (id, journal) = (claimed.job.id, hand.journal(claimed.job.id).await);
    let stranger = SessionId::from_uuid(Uuid::new_v4());
    let early = Turn { seq: 1, ..ask.turn.clone() };
    for refused in [
        ContinueRun { session: stranger, ..ask.clone() },
        ContinueRun { token: claimed.job.token, ..ask.clone() },
        ContinueRun { turn: early, ..ask.clone() },
        ContinueRun { run: job_ref(job_id()), ..ask.clone() },
    ] {
        assert!(!hand.go_on(&refused).await, "{refused:?}");
    }
    let before =
        AppendRun { token: claimed.job.token, ..adding(&worker, &claimed, vec![done(&claimed, 3, "4")]) };
    assert!(!hand.append(&before).await, "the attempt that has ended adds nothing");
    assert_eq!(
        (hand.journal(id).await, hand.job(id).await.payload.bytes),
        (journal, claimed.job.payload.bytes.clone())
    );
    worker.end_all(&[claimed], &Ending::Snoozed(Duration::ZERO)).await;
    assert!(!hand.go_on(&ask).await, "it was given back");
    let (again, anew) = turning(&hand, &worker).await;
    assert!(hand.go_on(&anew).await && !hand.go_on(&ask).await);
    assert!(hand.journal(id).await.iter().all(|entry| entry.token == again.token));
}

/// D1, D11. Generation follows upon generation, longer or shorter than the one before, with signals in their order.
pub async fn d1_d11_generations_follow_each_other(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, mut claimed, mut ask) = continued(&hand, "{}").await;
    let id = claimed.job.id;
    let left = |claimed: &Claimed, seq, value: &str| {
        let phase = Phase::Ended(Outcome::Again(value.as_bytes().to_vec()));
        let name = "go".to_owned();
        Entry { position: Position::whole(), op: Op::Signal, name, phase, ..done(claimed, seq, "") }
    };
    for (generation, signals) in [(1, 3_u32), (2, 0), (3, 2)] {
        assert_eq!(ask.turn.generation, generation);
        assert!(hand.go_on(&ask).await && hand.go_on(&ask).await);
        let begun = hand.journal(id).await;
        assert_eq!(begun, ask.turn.entries);
        let next = u32::try_from(begun.len()).unwrap();
        let mut entries: Vec<Entry> =
            (next..next + signals).map(|seq| left(&claimed, seq, &seq.to_string())).collect();
        let args = format!("{{\"cursor\":{generation}}}");
        let phase = Phase::Ended(Outcome::Value(args.clone().into_bytes()));
        entries.push(Entry { op: Op::Continue, phase, ..done(&claimed, next + signals, "") });
        assert!(hand.append(&adding(&worker, &claimed, entries)).await);
        worker.end_all(&[claimed], &Ending::Continued).await;
        (claimed, ask) = turning(&hand, &worker).await;
        assert_eq!((ask.turn.entries.len(), &ask.turn.args), (1 + signals as usize, &args.into_bytes()));
    }
}
