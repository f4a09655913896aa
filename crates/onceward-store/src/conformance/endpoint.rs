//! Endpoints: written under a version, with what is told of it, and the deliveries of events to them.

use core::time::Duration;

use onceward_core::endpoint::{Endpoint, Event as Happened, EventType, Setting, SigningKey, deliveries};
use onceward_core::history::{Event, Subject};
use onceward_core::job::{Ending, State};
use onceward_core::{EndpointName, Kind, Namespace, Timestamp};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{Enqueued, ListEndpoints, RemoveEndpoint, WriteEndpoint};

fn endpoint(text: &str, at: Timestamp) -> Endpoint {
    let mut setting = Setting::new("https://hooks.example.com/in?a=1");
    setting.events = vec!["order.*".parse().unwrap(), "ping".parse().unwrap()];
    setting.headers.insert("x-shop".to_owned(), "é 7".to_owned());
    setting.rate = Some("100/1m".parse().unwrap());
    Endpoint::new(Namespace::default(), EndpointName::new(text).unwrap(), setting, at)
}

async fn write(hand: &Hand, row: &Endpoint, event: Option<Event>, reason: Option<&str>) -> bool {
    let (actor, reason) = (owner("ops"), reason.map(str::to_owned));
    let ask = WriteEndpoint { row: row.clone(), event, actor, reason };
    hand.ask(|| hand.store.endpoint_write(&ask)).await
}

async fn list(hand: &Hand, names: Option<&[&str]>, after: Option<&str>, limit: usize) -> Vec<Endpoint> {
    let name_of = |text: &str| EndpointName::new(text).unwrap();
    let ask = ListEndpoints {
        namespace: Namespace::default(),
        names: names.map(|names| names.iter().map(|text| name_of(text)).collect()),
        after: after.map(name_of),
        limit,
    };
    hand.ask(|| hand.store.endpoint_list(&ask)).await.rows
}

fn names(rows: &[Endpoint]) -> Vec<&str> {
    rows.iter().map(|row| row.name.as_str()).collect()
}

pub async fn an_endpoint_comes_back_as_it_was_written(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let at = now(&hand).await;
    let key = SigningKey {
        sealed: "s1.ab.cd".to_owned(),
        version: "v1".to_owned(),
        public: None,
        since: at,
        until: None,
    };
    let row = endpoint("shop", at).rotated(key, Duration::ZERO, at).unwrap();
    assert!(write(&hand, &row, Some(Event::Added), None).await);
    let found = list(&other, Some(&["shop"]), None, 10).await;
    assert_eq!(found, [Endpoint { version: 1, ..row.clone() }]);
    assert!(!write(&other, &row, Some(Event::Added), None).await, "it is there");
    let failing = found[0].failed((3, at), "500", &owner("w"), at).disabled(&owner("ops"), Some("why"), at);
    let failing = failing.unwrap();
    assert!(write(&other, &failing, None, None).await);
    assert!(!write(&hand, &failing, None, None).await, "it has another version by now");
    assert_eq!(list(&hand, None, None, 10).await, [Endpoint { version: 2, ..failing }]);
}

pub async fn endpoints_are_listed_page_by_page_by_name_and_per_namespace(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    for name in ["c", "a", "b", "d"] {
        assert!(write(&hand, &endpoint(name, at), None, None).await);
    }
    let elsewhere = Endpoint { namespace: namespace("elsewhere"), ..endpoint("z", at) };
    assert!(write(&hand, &elsewhere, None, None).await);
    assert_eq!(names(&list(&hand, None, None, 3).await), ["a", "b", "c"]);
    assert_eq!(names(&list(&hand, None, Some("c"), 3).await), ["d"]);
    assert_eq!(names(&list(&hand, Some(&["d", "z", "a", "none", "a"]), None, 9).await), ["a", "d"]);
    assert!(list(&hand, Some(&[]), None, 9).await.is_empty());
    let ask = ListEndpoints { namespace: Namespace::default(), names: None, after: None, limit: 1 };
    let seen = hand.ask(|| hand.store.endpoint_list(&ask)).await.now;
    assert!(near(seen, at), "the store's clock");
}

pub async fn what_has_happened_to_an_endpoint_stands_in_its_history(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    let row = endpoint("shop", at);
    assert!(write(&hand, &row, Some(Event::Added), None).await);
    assert!(!write(&hand, &row, Some(Event::Added), Some("refused")).await);
    // Failures are only counted: a row of history for each would be a flood.
    let failing = Endpoint { version: 1, ..row }.failed((3, at), "500", &owner("w"), at);
    assert!(write(&hand, &failing, None, None).await);
    let disabled = Endpoint { version: 2, ..failing }.disabled(&owner("w"), Some("410"), at).unwrap();
    assert!(write(&hand, &disabled, Some(Event::Disabled), Some("it answered 410")).await);
    let told = hand.told(Subject::Endpoint, "shop").await;
    let told: Vec<_> =
        told.iter().map(|entry| (entry.event, entry.token.get(), entry.reason.as_deref())).collect();
    assert_eq!(told, [(Event::Added, 1, None), (Event::Disabled, 3, Some("it answered 410"))]);
    assert!(hand.told(Subject::Lease, "shop").await.is_empty());
}

pub async fn of_many_changes_at_once_each_sees_the_one_before(harness: &dyn Harness) {
    let hand = Hand::of(harness).await.patient();
    let at = now(&hand).await;
    assert!(write(&hand, &endpoint("shop", at), None, None).await);
    let add = |_| async {
        loop {
            let row = list(&hand, Some(&["shop"]), None, 1).await.remove(0);
            let row = row.failed((1, at), "500", &owner("w"), at);
            if write(&hand, &row, None, None).await {
                return;
            }
        }
    };
    futures_util::future::join_all((0..8).map(add)).await;
    let row = list(&hand, None, None, 1).await.remove(0);
    assert_eq!((row.version, row.health.unwrap().failures), (9, 8));
}

pub async fn an_endpoint_is_removed_under_its_version(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    assert!(write(&hand, &endpoint("shop", at), None, None).await);
    for (version, removed) in [(2, false), (1, true), (1, false)] {
        let (namespace, name) = (Namespace::default(), EndpointName::new("shop").unwrap());
        let (actor, reason) = (owner("ops"), Some("moved".to_owned()));
        let ask = RemoveEndpoint { namespace, name, version, actor, reason };
        assert_eq!(hand.ask(|| hand.store.endpoint_remove(&ask)).await, removed, "{version}");
    }
    assert!(list(&hand, None, None, 9).await.is_empty());
    let told = hand.told(Subject::Endpoint, "shop").await;
    assert_eq!((told[0].event, told[0].reason.as_deref()), (Event::Removed, Some("moved")));
    assert!(write(&hand, &endpoint("shop", at), None, None).await, "the name is free again");
}

/// J13: whoever tells of an event a second time enqueues nothing twice, also where the first delivery is over.
pub async fn a_delivery_that_is_there_or_over_is_not_enqueued_again(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let at = now(&hand).await;
    let id = hand.create(&work("event")).await;
    let job = hand.job(id).await;
    let happened = Happened::new(EventType::new("order.paid").unwrap());
    let to = [endpoint("a", at), endpoint("b", at)];
    let made: Vec<_> = deliveries(&happened, &job, &to).collect::<onceward_core::Result<_>>().unwrap();
    let worker = Worker::of(&hand).await;
    for hand in [&hand, &other, &hand] {
        let answers = hand.ask(|| hand.store.job_enqueue(&made)).await;
        assert_eq!(answers, made.iter().map(|new| Enqueued::Created(new.id)).collect::<Vec<_>>());
        if let Some(claimed) = worker.take("http", 1).await.pop() {
            worker.end_all(&[claimed], &Ending::Done(None)).await;
        }
    }
    let states = [hand.job(made[0].id).await.state, hand.job(made[1].id).await.state];
    assert_eq!(states, [State::Succeeded; 2]);
    assert!(worker.take("http", 9).await.is_empty());
    assert_eq!(hand.job(made[0].id).await.kind, Kind::from_row("http"));
}
