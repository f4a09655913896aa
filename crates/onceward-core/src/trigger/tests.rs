//! What triggers listen to, what follows from what they hear, and what does not.

use core::time::Duration;

use super::*;
use crate::endpoint::{Event, EventType, Pattern};
use crate::http::Body;
use crate::job::{New, Payload, Spec};
use crate::schedule::Target;
use crate::{Code, Kind, Owner, Queue, Tag, limits};

const DAY: u64 = 86_400_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn id(number: u128) -> JobId {
    JobId::from_uuid(uuid::Uuid::from_u128(number))
}

fn new(kind: &str) -> New {
    let payload = Payload { bytes: b"{}".to_vec(), content_type: "application/json".to_owned() };
    New::of_kind(Namespace::default(), id(0), Kind::from_row(kind), payload)
}

fn trigger(conditions: Vec<Condition>, rule: Rule) -> Trigger {
    let definition = Definition { conditions, rule, target: Target::of(&new("mourn")), tells: false };
    definition.check(&Namespace::default()).unwrap();
    Trigger::new(Namespace::default(), TriggerName::from_row("t"), definition, at(10))
}

fn on(outcome: Outcome, kind: &str) -> Condition {
    Condition { kind: Some(Kind::from_row(kind)), ..Condition::on(outcome) }
}

fn heard(number: i64, outcome: Outcome, kind: &str) -> Heard {
    Heard {
        number,
        trigger: TriggerName::from_row("t"),
        job: id(number as u128),
        token: Token::from_row(number),
        at: at(20 + number),
        outcome,
        kind: Kind::from_row(kind),
        queue: Queue::default(),
        spec: Spec::default(),
        error: None,
        body: None,
    }
}

fn of(order: &str, heard: Heard) -> Heard {
    let metadata = Some(format!("{{\"order\":\"{order}\"}}"));
    Heard { spec: Spec { metadata, ..heard.spec.clone() }, ..heard }
}

fn all(by: By) -> Rule {
    Rule::All { by, within_us: DAY }
}

#[test]
fn a_condition_is_met_by_what_it_names_and_nothing_else() {
    let tag = Some(Tag::from_row("gpu"));
    let narrow = Condition { queue: Some(Queue::from_row("mail")), tag, ..on(Outcome::Dead, "import") };
    let fits = Heard {
        queue: Queue::from_row("mail"),
        spec: Spec { tags: vec![Tag::from_row("eu"), Tag::from_row("gpu")], ..Spec::default() },
        ..heard(1, Outcome::Dead, "import")
    };
    assert!(narrow.matches(&fits) && Condition::on(Outcome::Dead).matches(&fits));
    for other in [
        Heard { outcome: Outcome::Failed, ..fits.clone() },
        Heard { kind: Kind::from_row("export"), ..fits.clone() },
        Heard { queue: Queue::default(), ..fits.clone() },
        Heard { spec: Spec::default(), ..fits },
    ] {
        assert!(!narrow.matches(&other), "{other:?}");
    }
    let event = Event { body: None, ..Event::new(EventType::new("order.paid").unwrap()) };
    let told = Heard { body: Some(event.to_payload().unwrap()), ..heard(2, Outcome::Succeeded, "event") };
    let on_event = |text: &str| Condition::on_event(text.parse::<Pattern>().unwrap());
    assert!(on_event("order.*").matches(&told) && on_event("order.paid").matches(&told));
    assert!(
        !on_event("order.sent").matches(&told)
            && !on_event("*").matches(&heard(3, Outcome::Succeeded, "event"))
    );
}

#[test]
fn each_outcome_is_one_job_whose_id_follows_from_it() {
    let row = trigger(vec![on(Outcome::Dead, "import"), Condition::on(Outcome::Dead)], Rule::Any);
    // Both conditions look for the first one: it was written down twice.
    let twice = [heard(1, Outcome::Dead, "import"), Heard { number: 2, ..heard(1, Outcome::Dead, "import") }];
    let fired = row.hear(&twice, at(50));
    assert_eq!((fired.jobs.len(), fired.row.fired), (1, 1));
    let again = row.hear(&twice, at(90));
    assert_eq!(again.jobs[0].id, fired.jobs[0].id, "whoever works it out, and when");
    assert_eq!(fired.jobs[0].depth, 1);
    let metadata: serde_json::Value =
        serde_json::from_str(fired.jobs[0].metadata.as_deref().unwrap()).unwrap();
    assert_eq!(
        (metadata["trigger"].as_str(), metadata["outcomes"][0].as_str()),
        (Some("t"), Some(&*id(1).to_string()))
    );
    // The same job that has died once more is another outcome.
    let later = Heard { token: Token::from_row(9), ..heard(1, Outcome::Dead, "import") };
    assert_ne!(row.hear(&[later], at(50)).jobs[0].id, fired.jobs[0].id);
    let mut other = row.clone();
    other.name = TriggerName::from_row("u");
    assert_ne!(other.hear(&twice, at(50)).jobs[0].id, fired.jobs[0].id);
    let before = Heard { at: at(9), ..heard(1, Outcome::Dead, "import") };
    assert!(row.hear(std::slice::from_ref(&before), at(50)).jobs.is_empty(), "it was made after that");
    assert_eq!(row.hear(&[before], at(9)).jobs.len(), 1, "it was made by a clock that was ahead");
    assert_eq!(row.definition.watches().len(), 2);
}

#[test]
fn where_all_are_needed_those_that_belong_together_are_one_job() {
    let conditions = || vec![on(Outcome::Succeeded, "pay"), on(Outcome::Succeeded, "pick")];
    let row = trigger(conditions(), all(By::Metadata("order".to_owned())));
    let (pay, pick) = (|n| heard(n, Outcome::Succeeded, "pay"), |n| heard(n, Outcome::Succeeded, "pick"));
    let first = row.hear(&[of("a", pay(1)), of("b", pay(2)), pay(3)], at(50));
    assert_eq!(
        (first.jobs.len(), first.row.waiting(), first.row.forgotten),
        (0, 2, 1),
        "one belongs to nothing"
    );
    let second = first.row.hear(&[of("b", pick(4)), of("c", pick(5))], at(60));
    assert_eq!((second.jobs.len(), second.row.waiting()), (1, 2));
    // However they come, it is the same job.
    let reversed = row.hear(&[of("b", pick(4)), of("b", pay(2))], at(60));
    assert_eq!(reversed.jobs[0].id, second.jobs[0].id);
    // One condition twice is not two of them; the newest counts.
    let twice = row.hear(&[of("a", pay(1)), of("a", pay(6)), of("a", pick(7))], at(60));
    let metadata: serde_json::Value =
        serde_json::from_str(twice.jobs[0].metadata.as_deref().unwrap()).unwrap();
    assert_eq!(metadata["outcomes"][0].as_str(), Some(&*id(6).to_string()));
    // By a tag, and by nothing.
    let tagged = |heard: Heard, tag: &str| Heard {
        spec: Spec { tags: vec![Tag::from_row(tag)], ..Spec::default() },
        ..heard
    };
    let by_tag = trigger(conditions(), all(By::Tag("order:".to_owned())));
    let fired = by_tag
        .hear(&[tagged(pay(1), "order:1"), tagged(pick(2), "order:2"), tagged(pick(3), "order:1")], at(60));
    assert_eq!((fired.jobs.len(), fired.row.waiting()), (1, 1));
    let anything = trigger(conditions(), all(By::Anything));
    assert_eq!(anything.hear(&[pay(1), pick(2), pick(3)], at(60)).jobs.len(), 1);
}

#[test]
fn what_waits_for_too_long_or_in_too_great_a_number_is_forgotten_and_counted() {
    let row = trigger(
        vec![on(Outcome::Succeeded, "pay"), on(Outcome::Succeeded, "pick")],
        all(By::Metadata("order".to_owned())),
    );
    let many: Vec<Heard> =
        (1..=300).map(|n| of(&n.to_string(), heard(n, Outcome::Succeeded, "pay"))).collect();
    let full = row.hear(&many, at(400)).row;
    assert_eq!((full.waiting(), full.forgotten), (limits::TRIGGER_OPEN_MAX, 44));
    let pick = |n: i64| of(&n.to_string(), heard(1_000 + n, Outcome::Succeeded, "pick"));
    assert_eq!(full.hear(&[pick(300)], at(1_300)).jobs.len(), 1, "the newest are there");
    assert_eq!(full.hear(&[pick(1)], at(1_300)).jobs.len(), 0, "the oldest went");
    let late = full.hear(&[pick(300)], at(86_400 + 400));
    assert_eq!((late.jobs.len(), late.row.waiting()), (1, 0), "the others have waited for a day");
}

/// A trigger that hears of what it has enqueued itself stops after sixteen.
#[test]
fn a_loop_ends_with_a_code() {
    let row = trigger(vec![on(Outcome::Succeeded, "mourn")], Rule::Any);
    let (mut row, mut depth, mut fired) = (row, 0, 0);
    for number in 1..=40 {
        let spec = Spec { depth, ..Spec::default() };
        let next = row.hear(&[Heard { spec, ..heard(number, Outcome::Succeeded, "mourn") }], at(90));
        row = next.row;
        let Some(job) = next.jobs.first() else {
            assert_eq!(next.stopped, 1);
            break;
        };
        (depth, fired) = (job.depth, fired + 1);
    }
    assert_eq!((fired, row.fired), (limits::TRIGGER_DEPTH_MAX, 16));
    assert_eq!(row.stopped.unwrap().count, 1);
    let shown = serde_json::to_value(&row).unwrap();
    assert_eq!(shown["code"], Code::TriggerLoop.as_str());
}

#[test]
fn a_job_without_a_payload_of_its_own_is_told_what_has_happened() {
    let mut row = trigger(
        vec![Condition::on_event("order.*".parse().unwrap()), on(Outcome::Dead, "import")],
        Rule::Any,
    );
    row.definition.tells = true;
    let body = serde_json::value::to_raw_value(&serde_json::json!({ "order": 17 })).unwrap();
    let event = Event { body: Some(Body::Json(body)), ..Event::new(EventType::new("order.paid").unwrap()) };
    let spec = Spec { trace: Some("00-1-2-01".to_owned()), ..Spec::default() };
    let told =
        Heard { body: Some(event.to_payload().unwrap()), spec, ..heard(1, Outcome::Succeeded, "event") };
    let died = Heard { error: Some("no disk".to_owned()), ..heard(2, Outcome::Dead, "import") };
    let jobs = row.hear(&[told, died], at(50)).jobs;
    let causes: Vec<Cause> =
        jobs.iter().map(|job| serde_json::from_slice(&job.payload.bytes).unwrap()).collect();
    let [first, second] = &causes[..] else { panic!("{causes:?}") };
    assert_eq!(first.outcomes[0].event.as_ref().unwrap().as_str(), "order.paid");
    assert_eq!(first.outcomes[0].body, Some(serde_json::json!({ "order": 17 })));
    assert_eq!((second.trigger.as_str(), second.outcomes[0].error.as_deref()), ("t", Some("no disk")));
    assert_eq!(jobs[0].trace.as_deref(), Some("00-1-2-01"));
}

#[test]
fn a_trigger_is_read_back_as_it_was_written() {
    let rule = all(By::Tag("order:".to_owned()));
    let conditions = vec![Condition::on_event("a.*".parse().unwrap()), on(Outcome::Failed, "x")];
    let row = trigger(conditions, rule);
    let tags = vec![Tag::from_row("order:1")];
    let one = Heard { spec: Spec { tags, depth: 16, ..Spec::default() }, ..heard(1, Outcome::Failed, "x") };
    let full = row.hear(&[one], at(50)).row;
    let full = full.paused(&Owner::from_row("ops"), Some("why".to_owned()), at(51)).unwrap();
    let bytes = full.definition.target.payload.bytes.clone();
    let read =
        Trigger::from_row(full.namespace.clone(), full.name.clone(), 0, &full.to_text(), bytes).unwrap();
    assert_eq!(read, full);
    assert!(full.watches().is_empty() && full.resumed().unwrap().watches().len() == 2);
    assert!(full.paused(&Owner::from_row("ops"), None, at(52)).is_none() && row.resumed().is_none());
    assert_eq!(full.declared(&full.definition).waiting(), 1);
    let other = Definition { conditions: vec![on(Outcome::Dead, "x")], ..full.definition.clone() };
    assert_eq!(full.declared(&other).waiting(), 0, "other conditions begin anew");
    assert!(Trigger::from_row(full.namespace, full.name, 0, "{}", Vec::new()).is_none());
}

#[test]
fn conditions_are_read_as_they_are_written() {
    for text in ["dead", "failed kind=import queue=mail tag=gpu", "event order.*", "succeeded tag=a=b"] {
        assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
    }
    for text in ["", "done", "dead import", "event", "event a b", "dead kind="] {
        assert!(text.parse::<Condition>().is_err(), "{text}");
    }
    for text in ["anything", "metadata:order", "tag:order:"] {
        assert_eq!(text.parse::<By>().unwrap().to_string(), text);
    }
    assert_eq!("order".parse::<By>().unwrap_err().code(), Code::TriggerInvalid);
}

#[test]
fn what_no_trigger_can_be_is_refused() {
    let code = |conditions: Vec<Condition>, rule: Rule| {
        let definition = Definition { conditions, rule, target: Target::of(&new("x")), tells: false };
        definition.check(&Namespace::default()).unwrap_err().code()
    };
    assert_eq!(code(Vec::new(), Rule::Any), Code::TriggerInvalid);
    assert_eq!(code(vec![Condition::on(Outcome::Dead); 9], Rule::Any), Code::TriggerInvalid);
    assert_eq!(code(vec![Condition::on(Outcome::Dead); 2], all(By::Anything)), Code::TriggerInvalid);
    assert_eq!(code(vec![Condition::on(Outcome::Dead)], all(By::Tag(String::new()))), Code::TriggerInvalid);
    let within = Rule::All { by: By::Anything, within_us: 0 };
    assert_eq!(code(vec![Condition::on(Outcome::Dead)], within), Code::CatchUpInvalid);
    assert_eq!(Outcome::ALL.iter().filter_map(|outcome| Outcome::of(outcome.state())).count(), 5);
    assert_eq!(Duration::from_micros(DAY), limits::TRIGGER_WITHIN_DEFAULT);
}
