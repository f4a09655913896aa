//! The rules of endpoints: who wants what, what signs until when, and when one is given up.

use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::http::{Body, Request};
use crate::job::{New, Payload, Record};
use crate::{Code, Kind, Owner, Timestamp, limits};

fn event(text: &str) -> EventType {
    EventType::new(text).unwrap()
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000_000).after(Duration::from_secs(seconds))
}

fn endpoint(name: &str, events: &[&str]) -> Endpoint {
    let events = events.iter().map(|text| pattern(text)).collect();
    let setting = Setting { events, ..Setting::new("https://hooks.example.com/in") };
    Endpoint::new(Namespace::default(), EndpointName::new(name).unwrap(), setting, at(0))
}

fn key(number: u8, since: Timestamp) -> SigningKey {
    let sealed = format!("s1.key.{number}");
    SigningKey { sealed, version: "v1".to_owned(), public: None, since, until: None }
}

fn owner() -> Owner {
    Owner::new("worker:1").unwrap()
}

#[test]
fn a_pattern_is_one_event_or_all_below_a_name_or_all() {
    for (text, chosen, others) in [
        ("order.paid", &["order.paid"][..], &["order", "order.paid.late", "order.paidx"][..]),
        ("order.*", &["order.paid", "order.item.added"], &["order", "orders.paid", "invoice.order.paid"]),
        ("*", &["order", "a.b.c"], &[]),
    ] {
        let pattern = pattern(text);
        assert_eq!(pattern.to_string(), text);
        assert!(chosen.iter().all(|name| pattern.matches(&event(name))), "{text}");
        assert!(!others.iter().any(|name| pattern.matches(&event(name))), "{text}");
    }
    for bad in
        ["", "order.", ".paid", "order..paid", "order paid", "a\r\nb", "é", "*.paid", "or*", "order.**", "**"]
    {
        assert_eq!(bad.parse::<Pattern>().unwrap_err().code(), Code::EventTypeInvalid, "{bad:?}");
        assert_eq!(EventType::new(bad).unwrap_err().code(), Code::EventTypeInvalid, "{bad:?}");
    }
    assert!(EventType::new("order.*").is_err() && EventType::new("a".repeat(129)).is_err());
}

fn job(id: u128, root: u128) -> Record {
    let id_of = |number| JobId::from_uuid(uuid::Uuid::from_u128((7 << 80) | (7 << 76) | number));
    let new = New::of_kind(Namespace::default(), id_of(id), Kind::from_row(KIND), Payload::default());
    let replay_of = (id != root).then(|| id_of(root));
    Record::of_new(&New { root: id_of(root), replay_of, trace: Some("t".to_owned()), ..new }, at(1))
}

fn made(event: &Event, job: &Record, to: &[Endpoint]) -> Vec<New> {
    deliveries(event, job, to).collect::<crate::Result<_>>().unwrap()
}

#[test]
fn an_event_makes_one_delivery_for_each_endpoint_that_wants_it() {
    let paid = Event { body: Some(Body::Text("17".to_owned())), ..Event::new(event("order.paid")) };
    let wants = endpoint("a", &["order.*", "order.paid"]);
    let disabled = endpoint("b", &["*"]).disabled(&owner(), None, at(1)).unwrap();
    let other = endpoint("c", &["invoice.*"]);
    let all = [wants, disabled, other];
    let made_all = |id| made(&paid, &job(id, 1), &all);
    let made = made_all(1);
    let names: Vec<_> = made
        .iter()
        .map(|new| Request::from_payload(&new.payload.bytes).unwrap())
        .map(|request| (request.endpoint.unwrap().to_string(), request.body, request.event))
        .collect();
    let expected = |name: &str| (name.to_owned(), paid.body.clone(), Some(paid.event.clone()));
    assert_eq!(names, [expected("a"), expected("b")]);
    made.iter().for_each(|new| new.check().unwrap());
    assert_ne!(made[0].id, made[1].id);
    // Whoever does it again gets the same ones; a replay other ones, which receivers know by the same name.
    let again = made_all(1);
    assert_eq!(again.iter().map(|new| new.id).collect::<Vec<_>>(), [made[0].id, made[1].id]);
    let replay = made_all(2);
    assert_ne!(replay[0].id, made[0].id);
    assert_eq!((replay[0].root, replay[0].replay_of), (made[0].root, Some(made[0].id)));
    assert_eq!(made[0].id.as_uuid().get_version_num(), 8);
}

/// What is said of an event holds for whoever is told of it.
#[test]
fn deliveries_of_an_event_are_sent_at_most_once_and_by_a_deadline_where_that_was_said() {
    let ping = Event::new(event("ping"));
    let mut said = job(1, 1);
    (said.policy.at_most_once, said.policy.deadline) = (true, Some(at(900)));
    let policy = made(&ping, &said, &[endpoint("a", &["*"])]).remove(0).policy;
    assert_eq!((policy.at_most_once, policy.deadline), (true, Some(at(900))));
    let policy = made(&ping, &job(1, 1), &[endpoint("a", &["*"])]).remove(0).policy;
    assert_eq!((policy.at_most_once, policy.deadline), (false, None));
}

/// The largest event that is let in has room beside it for everything that a delivery names, at its longest.
#[test]
fn every_event_that_is_accepted_can_be_delivered_to_an_endpoint_of_any_name() {
    let name = "\"".repeat(limits::ENDPOINT_BYTES_MAX);
    let of_size = |bytes: usize| Event {
        body: Some(Body::Text("x".repeat(bytes))),
        content_type: Some("t".repeat(limits::CONTENT_TYPE_BYTES_MAX)),
        event: event(&"e".repeat(limits::EVENT_TYPE_BYTES_MAX)),
    };
    let bare = of_size(0).to_payload().unwrap().len();
    let largest = of_size(limits::EVENT_BYTES_MAX - bare);
    assert_eq!(largest.to_payload().unwrap().len(), limits::EVENT_BYTES_MAX);
    let new = made(&largest, &job(1, 1), &[endpoint(&name, &["*"])]).remove(0);
    new.check().unwrap();
    let more = of_size(limits::EVENT_BYTES_MAX - bare + 1);
    assert_eq!(more.to_payload().unwrap_err().code(), Code::PayloadTooLarge);
    // What SQL wrote is refused with the same code, for what it says and not for its spaces.
    let spaced = format!("{{\"type\":\"a\",{}\"json\":1}}", " ".repeat(limits::EVENT_BYTES_MAX));
    Event::from_payload(spaced.as_bytes()).unwrap();
    let large = format!("{{\"type\":\"a\",\"text\":\"{}\"}}", "x".repeat(limits::EVENT_BYTES_MAX));
    assert_eq!(Event::from_payload(large.as_bytes()).unwrap_err().code(), Code::PayloadTooLarge);
}

/// An endpoint that can't be told does not keep the others from it, and deliveries are made one at a time.
#[test]
fn deliveries_are_made_when_they_are_asked_for_and_a_bad_one_comes_as_an_error() {
    let ping = Event::new(event("ping"));
    let mut odd = endpoint("b", &["*"]);
    odd.setting.max_attempts = 0;
    let asked = core::cell::Cell::new(0);
    let all = [endpoint("a", &["*"]), odd, endpoint("c", &["*"])];
    let counted = all.iter().inspect(|_| asked.set(asked.get() + 1));
    let job = job(1, 1);
    let mut each = deliveries(&ping, &job, counted);
    assert!(each.next().unwrap().is_ok() && asked.get() == 1);
    let error = each.next().unwrap().unwrap_err();
    assert!(error.code() == Code::AttemptsInvalid && error.message().contains("\"b\""), "{error}");
    assert!(each.next().unwrap().is_ok() && each.next().is_none());
}

/// What is held against an endpoint was seen at its URL.
#[test]
fn an_endpoint_with_another_url_begins_anew() {
    let row = endpoint("a", &[]).failed((3, at(0)), "500", &owner(), at(0));
    let slower = Setting { timeout: Duration::from_secs(1), ..row.setting.clone() };
    assert_eq!(row.set(slower).health, row.health);
    let moved = Setting { url: "https://other.example.com/".to_owned(), ..row.setting.clone() };
    assert_eq!(row.set(moved).health, None);
}

#[test]
fn an_event_comes_back_from_its_payload_and_what_is_none_is_refused() {
    let sent = Event {
        body: Some(Body::Bytes(vec![0, 1])),
        content_type: Some("application/x-order".to_owned()),
        ..Event::new(event("order.paid"))
    };
    assert_eq!(Event::from_payload(&sent.to_payload().unwrap()).unwrap(), sent);
    let read = Event::from_payload(br#"{"type":"a.b","json":{ "n": 1 }}"#).unwrap();
    assert_eq!(read.body.unwrap().bytes(), br#"{ "n": 1 }"#);
    for (text, code) in [
        ("", Code::EventUnreadable),
        (r#"{"json":1}"#, Code::EventUnreadable),
        (r#"{"type":"a b"}"#, Code::EventUnreadable),
        (r#"{"type":"a","json":1,"text":"x"}"#, Code::EventUnreadable),
        (r#"{"type":"a","more":1}"#, Code::EventUnreadable),
        (r#"{"type":"a","content_type":"x"}"#, Code::RequestBodyInvalid),
        (r#"{"type":"a","text":"x","content_type":"a\nb"}"#, Code::HeaderInvalid),
    ] {
        assert_eq!(Event::from_payload(text.as_bytes()).unwrap_err().code(), code, "{text}");
    }
}

#[test]
fn an_old_key_signs_beside_the_new_one_until_its_end() {
    let first = endpoint("a", &[]).rotated(key(1, at(0)), Duration::ZERO, at(0)).unwrap();
    let second = first.rotated(key(2, at(10)), Duration::from_secs(60), at(10)).unwrap();
    let signing = |row: &Endpoint, now| row.signing(now).map(|key| key.sealed.clone()).collect::<Vec<_>>();
    assert_eq!(signing(&second, at(69)), ["s1.key.2", "s1.key.1"], "the newest first");
    assert_eq!(signing(&second, at(70)), ["s1.key.2"]);
    // A longer overlap later gives an old key no longer life than it was told.
    let third = second.rotated(key(3, at(20)), Duration::from_secs(600), at(20)).unwrap();
    assert_eq!(signing(&third, at(71)), ["s1.key.3", "s1.key.2"]);
    let at_once = third.rotated(key(4, at(30)), Duration::ZERO, at(30)).unwrap();
    assert_eq!(signing(&at_once, at(30)), ["s1.key.4"]);
    let full = third.rotated(key(4, at(30)), Duration::from_secs(9), at(30)).unwrap();
    let refused = full.rotated(key(5, at(31)), Duration::from_secs(9), at(31));
    assert_eq!(refused.unwrap_err().code(), Code::EndpointInvalid);
    let long = limits::KEY_OVERLAP_MAX + Duration::from_secs(1);
    assert_eq!(first.rotated(key(2, at(1)), long, at(1)).unwrap_err().code(), Code::EndpointInvalid);
}

#[test]
fn an_endpoint_is_given_up_only_after_enough_failures_for_long_enough() {
    let rule = GiveUp { after: Duration::from_secs(100), failures: 3 };
    let mut row = endpoint("a", &[]);
    row.setting.give_up = Some(rule);
    let row = row.failed((2, at(0)), "500", &owner(), at(0));
    assert_eq!((row.health.as_ref().unwrap().failures, &row.disabled), (2, &None));
    assert!(row.failed((9, at(50)), "500", &owner(), at(50)).disabled.is_none(), "often, but not for long");
    let one = Endpoint { health: None, ..row.clone() };
    assert!(one.failed((2, at(0)), "500", &owner(), at(900)).disabled.is_none(), "for long, but not often");
    let given_up = row.failed((1, at(99)), "500", &owner(), at(100));
    let disabled = given_up.disabled.clone().unwrap();
    assert!(disabled.reason.unwrap().contains("3 times in a row"));
    // A success in between begins anew.
    let well = row.succeeded().unwrap();
    assert_eq!((&well.health, well.succeeded()), (&None, None));
    assert!(well.failed((5, at(99)), "500", &owner(), at(100)).disabled.is_none());
    let enabled = given_up.enabled().unwrap();
    assert_eq!((&enabled.disabled, &enabled.health, enabled.enabled()), (&None, &None, None));
    let never = Endpoint { setting: Setting { give_up: None, ..row.setting.clone() }, ..row };
    assert!(never.failed((999, at(1)), "500", &owner(), at(999_999)).disabled.is_none());
}

#[test]
fn a_row_survives_its_text_and_shows_nothing_that_is_sealed() {
    let mut row = endpoint("a", &["order.*", "*"]).rotated(key(7, at(0)), Duration::ZERO, at(0)).unwrap();
    row = row.rotated(key(8, at(1)), Duration::from_secs(5), at(1)).unwrap();
    row.setting.headers.insert("x-shop".to_owned(), "7".to_owned());
    row.setting.sealed.insert("authorization".to_owned(), "s1.canary".to_owned());
    row.setting.concurrency = Some(3);
    row.setting.rate = Some("10/s".parse().unwrap());
    row = row.failed((4, at(1)), "it answered 500", &owner(), at(2));
    row = row.disabled(&owner(), Some("why"), at(3)).unwrap();
    let read = Endpoint::from_row(row.namespace.clone(), row.name.clone(), row.version, &row.to_text());
    assert_eq!(read.unwrap(), row);
    let shown = format!("{} {:?}", serde_json::to_string(&row).unwrap(), row.keys);
    assert!(!shown.contains("s1.") && shown.contains("authorization"), "{shown}");
    assert!(Endpoint::from_row(row.namespace, row.name, 1, "{}").is_none());
}

#[test]
fn what_an_endpoint_can_not_be_set_to_is_refused() {
    let good = endpoint("a", &["order.*"]).setting;
    good.check().unwrap();
    let many = (0..=limits::ENDPOINT_EVENTS_MAX).map(|number| pattern(&format!("a.{number}"))).collect();
    let twice = vec![pattern("a"), pattern("a")];
    let give_up = |after, failures| Some(GiveUp { after: Duration::from_secs(after), failures });
    let secret = [("authorization".to_owned(), "x".to_owned())].into();
    let repeats = || [("idempotency-key".to_owned(), "x".to_owned())].into();
    let (both, sealed) = ([("x-a".to_owned(), "x".to_owned())], [("x-a".to_owned(), "s1.a.b".to_owned())]);
    for (bad, code) in [
        (Setting { events: many, ..good.clone() }, Code::EndpointInvalid),
        (Setting { events: twice, ..good.clone() }, Code::EndpointInvalid),
        (Setting { timeout: Duration::from_secs(3600), ..good.clone() }, Code::TimeoutInvalid),
        (Setting { timeout: Duration::ZERO, ..good.clone() }, Code::TimeoutInvalid),
        (Setting { max_attempts: 0, ..good.clone() }, Code::AttemptsInvalid),
        (Setting { concurrency: Some(0), ..good.clone() }, Code::LimitInvalid),
        (Setting { give_up: give_up(1, 0), ..good.clone() }, Code::EndpointInvalid),
        (Setting { give_up: give_up(u64::from(u32::MAX), 1), ..good.clone() }, Code::EndpointInvalid),
        (Setting { headers: secret, ..good.clone() }, Code::HeaderSecret),
        (Setting { headers: repeats(), ..good.clone() }, Code::HeaderInvalid),
        (Setting { sealed: repeats(), ..good.clone() }, Code::HeaderInvalid),
        (Setting { headers: both.into(), sealed: sealed.into(), ..good }, Code::HeaderInvalid),
    ] {
        assert_eq!(bad.check().unwrap_err().code(), code, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn a_pattern_below_a_name_chooses_exactly_what_begins_with_it(
        above in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}",
        name in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}",
    ) {
        let chosen = pattern(&format!("{above}.*")).matches(&event(&name));
        prop_assert_eq!(chosen, name.starts_with(&format!("{above}.")));
    }

    #[test]
    fn the_pause_of_what_waits_is_bounded(seconds in any::<u32>(), seed in any::<u64>()) {
        let pause = pause(Duration::from_secs(seconds.into()), seed);
        prop_assert!(pause >= Duration::from_secs(30) && pause <= Duration::from_secs(75 * 60));
    }
}
