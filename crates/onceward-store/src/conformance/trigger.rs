//! Triggers: whatever ends a job, they hear of it with the same commit; what follows is written once.

use core::time::Duration;

use onceward_core::job::{Ending, Move, New, Policy, State};
use onceward_core::schedule::Target;
use onceward_core::trigger::{Condition, Definition, Heard, Outcome, Rule, Trigger};
use onceward_core::{JobId, Namespace, Tag, TriggerName};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{HeardOutcomes, HeardTriggers, ListTriggers, SettledJob, WriteTrigger};

const ZERO: Duration = Duration::ZERO;

fn trigger_name(text: &str) -> TriggerName {
    TriggerName::new(text).unwrap()
}

async fn trigger(hand: &Hand, text: &str, conditions: Vec<Condition>) -> Trigger {
    let target = Target::of(&work("mourn"));
    let definition = Definition { conditions, rule: Rule::Any, target, tells: false };
    Trigger::new(Namespace::default(), trigger_name(text), definition, now(hand).await.before(secs(1)))
}

pub(super) fn on(outcome: Outcome, text: &str) -> Condition {
    Condition { kind: Some(kind(text)), ..Condition::on(outcome) }
}

async fn write(hand: &Hand, ask: &WriteTrigger) -> bool {
    hand.ask(|| hand.store.trigger_write(ask)).await
}

/// Declares a trigger, and returns it as it is then.
pub(super) async fn declare(hand: &Hand, text: &str, conditions: Vec<Condition>) -> Trigger {
    let row = trigger(hand, text, conditions).await;
    let ask = WriteTrigger { row, listens: true, heard: Vec::new(), jobs: Vec::new() };
    assert!(write(hand, &ask).await);
    list(hand, Some(&[text]), None, 1).await.remove(0)
}

async fn list(hand: &Hand, names: Option<&[&str]>, after: Option<&str>, limit: usize) -> Vec<Trigger> {
    let names = names.map(|names| names.iter().map(|name| trigger_name(name)).collect());
    let ask = ListTriggers { namespace: Namespace::default(), names, after: after.map(trigger_name), limit };
    hand.ask(|| hand.store.trigger_list(&ask)).await.rows
}

async fn look(hand: &Hand, except: &[&str], limit: usize) -> HeardOutcomes {
    let except = except.iter().map(|name| trigger_name(name)).collect();
    let ask = HeardTriggers { namespace: Namespace::default(), except, limit };
    hand.ask(|| hand.store.trigger_heard(&ask)).await
}

pub(super) async fn heard(hand: &Hand) -> Vec<Heard> {
    look(hand, &[], 500).await.rows
}

fn all(text: &str) -> Vec<Condition> {
    Outcome::ALL.iter().map(|outcome| on(*outcome, text)).collect()
}

pub async fn a_trigger_comes_back_as_it_was_written(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let row = trigger(&hand, "mourn", all("mail")).await;
    let ask = WriteTrigger { row: row.clone(), listens: true, heard: Vec::new(), jobs: Vec::new() };
    assert!(!look(&hand, &[], 9).await.listening);
    assert!(write(&hand, &ask).await && look(&other, &[], 9).await.listening);
    assert!(!write(&hand, &ask).await, "it is there");
    let seen = list(&other, Some(&["mourn"]), None, 9).await.remove(0);
    assert_eq!((seen.version, &seen.definition, seen.created_at), (1, &row.definition, row.created_at));
    let paused = seen.paused(&owner("ops"), Some("why".to_owned()), row.created_at).unwrap();
    let ask = WriteTrigger { row: paused.clone(), ..ask };
    assert!(write(&hand, &ask).await && !write(&hand, &ask).await, "it has another version by now");
    assert!(!look(&hand, &[], 9).await.listening, "one that is paused hears nothing");
    assert_eq!(list(&other, None, None, 9).await[0].pause, paused.pause);
    for name in ["b", "a", "z"] {
        declare(&hand, name, all("mail")).await;
    }
    let names = |rows: Vec<Trigger>| rows.iter().map(|row| row.name.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(list(&hand, None, None, 3).await), ["a", "b", "mourn"]);
    assert_eq!(names(list(&hand, None, Some("b"), 3).await), ["mourn", "z"]);
    assert_eq!(names(list(&hand, Some(&["z", "a", "x"]), None, 9).await), ["a", "z"]);
}

/// J5. Whatever a worker reports is heard as what it has led to, with the words and the token of that end.
pub async fn every_end_of_an_attempt_is_heard_as_what_it_is(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    declare(&hand, "t", all("mail")).await;
    let worker = Worker::of(&hand).await;
    for (ending, outcome) in [
        (succeeded(), Some(Outcome::Succeeded)),
        (broken(secs(900)), Some(Outcome::Failed)),
        (Ending::Dead("no such address".to_owned()), Some(Outcome::Dead)),
        (Ending::Cancelled("it was told to".to_owned()), Some(Outcome::Cancelled)),
        (Ending::Uncertain("the line went dead".to_owned()), Some(Outcome::Uncertain)),
        (Ending::Snoozed(secs(900)), None),
    ] {
        let before = heard(&hand).await.len();
        let new = New { tags: vec![Tag::from_row("gpu")], metadata: Some("{}".to_owned()), ..work("mail") };
        let id = hand.create(&new).await;
        let mut want = lane("mail");
        want.route = "gpu".to_owned();
        let claimed = only(hand.claim_jobs(&worker.wish(&[want], 1)).await.jobs);
        let ask = worker.verdict(&claimed, ending.clone());
        let state = ask.next.state;
        assert_eq!(hand.settle_jobs(core::slice::from_ref(&ask)).await, [SettledJob::Applied(state)]);
        assert!(matches!(
            only(hand.settle_jobs(core::slice::from_ref(&ask)).await),
            SettledJob::Already(_) | SettledJob::Stale
        ));
        let news: Vec<Heard> = heard(&hand).await.split_off(before);
        assert_eq!(news.len(), usize::from(outcome.is_some()), "{ending:?}");
        let Some((news, outcome)) = news.first().zip(outcome) else { continue };
        assert_eq!((news.job, news.outcome, news.token), (id, outcome, claimed.token));
        assert_eq!(
            (news.error.as_ref(), news.kind.as_str(), news.queue.as_str()),
            (ask.next.error.as_ref(), "mail", "default")
        );
        assert_eq!((&news.spec.tags, &news.spec.metadata, &news.body), (&new.tags, &new.metadata, &None));
        assert!(near(news.at, now(&hand).await) && news.trigger.as_str() == "t");
    }
}

/// Many at once, with and without results and what is kept, and those that are not kept at all.
pub async fn successes_that_go_the_short_way_are_heard(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    declare(&hand, "t", vec![on(Outcome::Succeeded, "mail"), on(Outcome::Dead, "mail")]).await;
    declare(&hand, "u", vec![on(Outcome::Succeeded, "call")]).await;
    let worker = Worker::of(&hand).await;
    let gone = || New { policy: Policy { retain: ZERO, ..Policy::default() }, ..work("mail") };
    let mut jobs = works("mail", 3);
    jobs.extend([gone(), gone(), work("call"), work("post")]);
    let mut expected: Vec<JobId> = hand.create_all(&jobs).await;
    expected.pop();
    for text in ["mail", "call", "post"] {
        worker.end_all(&worker.take(text, 9).await, &Ending::Done(None)).await;
    }
    let mut found: Vec<JobId> = heard(&hand).await.iter().map(|row| row.job).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(look(&hand, &["t"], 9).await.rows.len(), 1);
    assert_eq!(look(&hand, &["t", "u"], 9).await.rows.len(), 0);
    let page: Vec<i64> = look(&hand, &[], 2).await.rows.iter().map(|row| row.number).collect();
    assert!(page.len() == 2 && page[0] < page[1]);
}

/// J7. So is what a rescue decides, and what an operator does.
pub async fn what_others_end_is_heard_as_well(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    declare(&hand, "t", all("mail")).await;
    let worker = Worker::of(&hand).await;
    let waiting = hand.create(&New { delay: Some(secs(900)), ..work("mail") }).await;
    assert_eq!(hand.moved(waiting, Move::Cancel).await, State::Scheduled);
    let lost = hand.create(&at_most_once("mail")).await;
    let claimed = worker.take_one("mail").await;
    assert!(worker.start(&claimed).await);
    harness.advance(TTL * 2).await;
    hand.rescue().await;
    let news: Vec<(JobId, Outcome)> = heard(&hand).await.iter().map(|row| (row.job, row.outcome)).collect();
    assert_eq!(news, [(waiting, Outcome::Cancelled), (lost, Outcome::Uncertain)]);
    assert!(heard(&hand).await[0].error.as_ref().is_some_and(|error| error.contains("cancelled by")));
    // Somebody says how it was.
    assert_eq!(hand.moved(lost, Move::Done(None)).await, State::Uncertain);
    let last = heard(&hand).await.pop().unwrap();
    assert_eq!((last.job, last.outcome, last.token > claimed.token), (lost, Outcome::Succeeded, true));
}

/// An event is heard with what it says.
pub async fn the_payload_of_an_event_is_kept_for_who_listens(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    declare(&hand, "t", vec![Condition::on_event("order.*".parse().unwrap())]).await;
    let worker = Worker::of(&hand).await;
    hand.create(&work("event")).await;
    worker.end_all(&worker.take("event", 1).await, &succeeded()).await;
    assert_eq!(only(heard(&hand).await).body.as_deref(), Some(&b"event"[..]));
}

/// An end that a trigger listens to in several ways is one, with the payload where any of them wants it.
pub async fn an_end_is_heard_once_by_each_trigger(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let event = || Condition::on_event("order.*".parse().unwrap());
    let either = |outcome| vec![on(outcome, "event"), Condition::on(outcome), event()];
    declare(&hand, "t", either(Outcome::Succeeded)).await;
    declare(&hand, "u", either(Outcome::Dead)).await;
    declare(&hand, "v", [on(Outcome::Succeeded, "event"), Condition::on(Outcome::Succeeded)].into()).await;
    let worker = Worker::of(&hand).await;
    let mut ids = hand.create_all(&works("event", 3)).await;
    ids.sort_unstable();
    worker.end_all(&worker.take("event", 3).await, &succeeded()).await;
    let rows = heard(&hand).await;
    for trigger in ["t", "u", "v"] {
        let mine: Vec<&Heard> = rows.iter().filter(|row| row.trigger.as_str() == trigger).collect();
        let mut jobs: Vec<JobId> = mine.iter().map(|row| row.job).collect();
        jobs.sort_unstable();
        assert_eq!(jobs, ids, "{trigger}: {rows:?}");
        let body = (trigger != "v").then_some(&b"event"[..]);
        assert!(mine.iter().all(|row| row.body.as_deref() == body), "{trigger}: {mine:?}");
    }
    let dead = hand.create(&work("event")).await;
    worker.end_all(&worker.take("event", 1).await, &Ending::Dead("no such address".to_owned())).await;
    let last: Vec<Heard> = heard(&hand).await.into_iter().filter(|row| row.job == dead).collect();
    assert_eq!((only(last.clone()).trigger.as_str(), only(last).body), ("u", None));
}

/// What follows comes with what goes, under the version that was seen: once, whoever does it.
pub async fn what_follows_is_written_once(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let row = declare(&hand, "t", all("mail")).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 2)).await;
    worker.end_all(&worker.take("mail", 2).await, &succeeded()).await;
    let seen = heard(&hand).await;
    let fired = row.hear(&seen[..1], now(&hand).await);
    let job = fired.jobs[0].id;
    let ask = WriteTrigger { row: fired.row, listens: false, heard: vec![seen[0].number], jobs: fired.jobs };
    let asks = together(8, |n| {
        let (hand, ask) = (if n % 2 == 0 { hand.clone() } else { other.clone() }, ask.clone());
        async move { write(&hand.patient(), &ask).await }
    });
    assert_eq!(asks.await.into_iter().filter(|written| *written).count(), 1);
    let there = hand.job(job).await;
    assert_eq!((there.state, there.kind.as_str(), there.depth), (State::Ready, "mourn", 1));
    assert_eq!(heard(&hand).await, seen[1..], "what was not acted on stays, and it still listens");
    let again = list(&hand, Some(&["t"]), None, 1).await.remove(0);
    assert_eq!((again.fired, again.version), (1, 2));
    // A number that is another trigger's is not taken from it.
    let wrong = trigger(&hand, "u", all("mail")).await;
    let wrong = WriteTrigger { row: wrong, listens: false, heard: vec![seen[1].number], jobs: Vec::new() };
    assert!(write(&hand, &wrong).await && heard(&hand).await.len() == 1);
    hand.create(&work("mail")).await;
    worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    assert_eq!(heard(&hand).await.len(), 2);
}

pub async fn a_trigger_is_removed_with_what_it_has_heard(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    declare(&hand, "t", all("mail")).await;
    declare(&hand, "u", all("mail")).await;
    let worker = Worker::of(&hand).await;
    let run = async || {
        hand.create(&work("mail")).await;
        worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    };
    run().await;
    let remove = async |text: &str, version| {
        let (namespace, name) = (Namespace::default(), trigger_name(text));
        hand.ask(|| hand.store.trigger_remove(&namespace, &name, version)).await
    };
    assert!(!remove("t", 9).await && !remove("t", 0).await && heard(&hand).await.len() == 2);
    assert!(remove("t", 1).await && !remove("t", 1).await && !remove("t", 0).await);
    assert_eq!(only(heard(&hand).await).trigger.as_str(), "u");
    run().await;
    assert_eq!(heard(&hand).await.len(), 2);
    assert!(remove("u", 1).await && !look(&hand, &[], 9).await.listening);
    run().await;
    assert!(heard(&hand).await.is_empty());
}
