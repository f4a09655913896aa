//! Services: a cycle is begun once, under its lease; what was missed is recorded once.

use core::time::Duration;

use onceward_core::service::{Miss, Mode, Outcome, Setting, Spec, Term, lease_key};
use onceward_core::{Namespace, ServiceName, Timestamp, Token, lease};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{
    BeginTerm, Begun, EndTerm, LookService, MissTerm, PruneTerms, ServiceRecord, ServiceView, Wake,
    WriteService,
};

fn service(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn record(text: &str, version: i64, every: u64) -> WriteService {
    let setting = Setting::new(Spec::every(secs(every)), Timestamp::from_micros(5));
    WriteService {
        record: ServiceRecord { namespace: Namespace::default(), name: service(text), version, setting },
    }
}

async fn look(hand: &Hand, text: &str) -> ServiceView {
    let ask = LookService { namespace: Namespace::default(), name: service(text), terms: 50 };
    hand.ask(|| hand.store.service_look(&ask)).await
}

async fn hold(hand: &Hand, text: &str) -> lease::Record {
    hand.grant(&lease(lease_key(&service(text)).as_str())).await
}

/// A term of this cycle, under the lease.
fn term(held: &lease::Record, text: &str, cycle: i64) -> BeginTerm {
    BeginTerm {
        namespace: Namespace::default(),
        service: service(text),
        cycle,
        part: String::new(),
        due_at: Timestamp::from_micros(cycle * 1_000_000),
        not_after: Timestamp::from_micros(i64::MAX),
        session: held.session,
        owner: held.owner.clone(),
        token: held.token,
    }
}

async fn begin(hand: &Hand, ask: &BeginTerm) -> Begun {
    hand.ask(|| hand.store.service_begin(ask)).await
}

async fn end(hand: &Hand, ask: &BeginTerm, outcome: Outcome) -> bool {
    let end = EndTerm {
        namespace: ask.namespace.clone(),
        service: ask.service.clone(),
        cycle: ask.cycle,
        part: ask.part.clone(),
        token: ask.token,
        outcome,
        reason: Some("because".to_owned()),
    };
    hand.ask(|| hand.store.service_end(&end)).await
}

fn missing(text: &str, cycle: i64, cycles: i64) -> MissTerm {
    let due_at = Timestamp::from_micros(cycle * 1_000_000);
    let miss = Miss { cycle, part: String::new(), cycles, due_at, reason: "nobody".to_owned() };
    MissTerm { namespace: Namespace::default(), service: service(text), miss }
}

async fn miss(hand: &Hand, batch: &[MissTerm]) {
    hand.ask(|| hand.store.service_miss(batch)).await;
}

fn cycles(terms: &[Term]) -> Vec<(i64, Outcome)> {
    terms.iter().map(|term| (term.cycle, term.outcome)).collect()
}

pub async fn a_service_is_what_was_declared_and_its_version_grows(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    assert_eq!(look(&hand, "report").await.record, None);
    let write = |ask: WriteService| {
        let hand = hand.clone();
        async move { hand.ask(|| hand.store.service_write(&ask)).await }
    };
    assert!(write(record("report", 0, 5)).await);
    assert!(!write(record("report", 0, 6)).await, "somebody else was first");
    assert!(!write(record("report", 7, 6)).await, "it has another version");
    assert!(write(record("report", 1, 6)).await);
    let seen = look(&other, "report").await.record.unwrap();
    assert_eq!((seen.version, seen.setting.spec.every), (2, secs(6)));
    assert_eq!(seen.setting, record("report", 2, 6).record.setting);
    assert!(write(record("audit", 0, 5)).await);
    let listed = hand.ask(|| hand.store.service_list(&seen.namespace)).await;
    assert!(listed.unreadable.is_empty());
    let names: Vec<&str> = listed.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["audit", "report"]);
    let elsewhere = namespace("elsewhere");
    assert!(hand.ask(|| hand.store.service_list(&elsewhere)).await.rows.is_empty());
}

pub async fn a_look_shows_the_runners_of_a_service_and_no_others(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut ask = opening(TTL);
    ask.about.services = vec![("default".to_owned(), "report".to_owned())];
    let runner = hand.open(&ask).await;
    let mut other = opening(TTL);
    other.about.services = vec![("elsewhere".to_owned(), "report".to_owned())];
    hand.open(&other).await;
    hand.open(&opening(TTL)).await;
    let seen = look(&hand, "report").await;
    assert_eq!(seen.runners.len(), 1);
    let found = &seen.runners[0];
    assert_eq!((found.session, &found.owner, found.draining), (runner.id, &runner.owner, false));
    assert!(near(found.started_at, runner.started_at) && near(found.expires_at, runner.expires_at));
    assert!(near(seen.now, runner.started_at) && look(&hand, "other").await.runners.is_empty());
    assert!(hand.drain(runner.id, true).await);
    assert!(look(&hand, "report").await.runners[0].draining);
    harness.advance(TTL).await;
    let seen = look(&hand, "report").await;
    assert!(
        seen.runners.iter().all(|runner| runner.expires_at <= seen.now),
        "one that has run out shows that"
    );
}

/// A1: one term per cycle, under the token of the lease.
pub async fn a1_a_cycle_is_begun_once_and_only_under_the_lease(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let held = hold(&hand, "report").await;
    let ask = term(&held, "report", 7);
    assert_eq!(begin(&hand, &ask).await, Begun::Begun);
    assert_eq!(begin(&other, &ask).await, Begun::Begun, "the same term sent twice is one");
    let seen = look(&other, "report").await;
    assert_eq!(seen.held.unwrap().token, held.token);
    assert_eq!(cycles(&seen.terms), [(7, Outcome::Running)]);
    let row = &seen.terms[0];
    assert_eq!(
        (row.token, row.session, &row.owner),
        (held.token, Some(held.session), &Some(held.owner.clone()))
    );
    assert!(
        (row.due_at, row.cycles, row.ended_at) == (ask.due_at, 1, None) && near(row.started_at, seen.now)
    );
    let stranger = BeginTerm { token: Token::from_row(held.token.get() - 1), ..term(&held, "report", 8) };
    assert_eq!(begin(&hand, &stranger).await, Begun::Fenced);
    assert!(end(&hand, &ask, Outcome::Done).await);
    assert_eq!(begin(&hand, &ask).await, Begun::Taken, "what has ended is not begun again");
    assert!(hand.release(&held).await);
    assert_eq!(look(&hand, "report").await.held, None);
    assert_eq!(begin(&hand, &term(&held, "report", 9)).await, Begun::Fenced, "it was given back");
    let next = hold(&other, "report").await;
    assert_eq!(begin(&other, &term(&next, "report", 7)).await, Begun::Taken);
    assert_eq!(begin(&other, &term(&next, "report", 8)).await, Begun::Begun);
}

/// A1, A4: a lease that has run out begins nothing, and an old token ends nothing.
pub async fn a4_an_old_term_begins_and_ends_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hold(&hand, "report").await;
    let ask = term(&held, "report", 1);
    assert_eq!(begin(&hand, &ask).await, Begun::Begun);
    harness.advance(TTL).await;
    assert_eq!(look(&hand, "report").await.held, None);
    assert_eq!(begin(&hand, &term(&held, "report", 2)).await, Begun::Fenced);
    let next = hold(&hand, "report").await;
    assert!(next.token > held.token);
    let newer = term(&next, "report", 2);
    assert_eq!(begin(&hand, &newer).await, Begun::Begun);
    assert!(!end(&hand, &BeginTerm { token: held.token, ..newer.clone() }, Outcome::Done).await);
    assert!(end(&hand, &ask, Outcome::Lost).await, "who sees it records what became of it, under its token");
    assert!(!end(&hand, &ask, Outcome::Done).await, "the first end stays");
    let seen = look(&hand, "report").await;
    assert_eq!(cycles(&seen.terms), [(2, Outcome::Running), (1, Outcome::Lost)]);
    assert_eq!(seen.terms[1].reason.as_deref(), Some("because"));
}

pub async fn a_lease_that_is_closed_for_its_lock_delay_shows_until_when(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = lease::Ask { lock_delay: secs(30), ..lease(lease_key(&service("report")).as_str()) };
    let held = hand.grant(&ask).await;
    harness.advance(TTL + secs(1)).await;
    let seen = look(&hand, "report").await.held.unwrap();
    assert!(seen.token == held.token && near(seen.until, held.expires_at.after(secs(30))));
    assert_eq!(begin(&hand, &term(&held, "report", 1)).await, Begun::Fenced);
    harness.advance(secs(30)).await;
    assert_eq!(look(&hand, "report").await.held, None);
}

pub async fn a_cycle_is_not_begun_after_its_time(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hold(&hand, "report").await;
    let at = now(&hand).await.after(secs(5));
    let ask = BeginTerm { not_after: at, ..term(&held, "report", 1) };
    harness.advance(secs(6)).await;
    assert_eq!(begin(&hand, &ask).await, Begun::Late);
    assert!(look(&hand, "report").await.terms.is_empty());
    let on_time = BeginTerm { not_after: at.after(secs(60)), ..ask };
    assert_eq!(begin(&hand, &on_time).await, Begun::Begun);
}

/// A7: a cycle that was handed over is gone on with under a larger token.
pub async fn a7_a_cycle_that_was_handed_over_is_begun_again(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let mut wakes = hand.store.subscribe();
    let held = hold(&hand, "report").await;
    let ask = term(&held, "report", 3);
    assert_eq!(begin(&hand, &ask).await, Begun::Begun);
    assert!(end(&hand, &ask, Outcome::HandedOver).await && hand.release(&held).await);
    hand.ask(|| hand.store.service_ring(&ask.namespace, &ask.service)).await;
    let woken = async {
        while !matches!(wakes.recv().await, Ok(Wake::Lease(_, key)) if key.as_str() == "service-asked:report")
        {
        }
    };
    tokio::time::timeout(Duration::from_secs(5), woken).await.expect("the others are told");
    let next = hold(&other, "report").await;
    assert_eq!(begin(&other, &term(&next, "report", 3)).await, Begun::Begun);
    let seen = look(&hand, "report").await;
    assert_eq!(cycles(&seen.terms), [(3, Outcome::Running)]);
    assert!(seen.terms[0].token == next.token && seen.terms[0].ended_at.is_none());
    assert!(!end(&hand, &ask, Outcome::Done).await, "the first runner has nothing to say any more");
}

pub async fn missed_cycles_are_recorded_once_and_not_begun(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hold(&hand, "report").await;
    let ask = term(&held, "report", 10);
    assert_eq!(begin(&hand, &ask).await, Begun::Begun);
    miss(&hand, &[missing("report", 10, 1), missing("report", 11, 1), missing("report", 20, 30)]).await;
    miss(&hand, &[missing("report", 11, 5)]).await;
    // Two that look at the same time: what lies within the row of one is not recorded by the other as well.
    miss(&hand, &[missing("report", 21, 1), missing("report", 49, 7)]).await;
    miss(&hand, &[]).await;
    let seen = look(&hand, "report").await;
    assert_eq!(cycles(&seen.terms), [(20, Outcome::Missed), (11, Outcome::Missed), (10, Outcome::Running)]);
    let row = &seen.terms[1];
    assert_eq!((row.cycles, row.session, row.token.get()), (1, None, 0), "the first word stays");
    assert_eq!((row.reason.as_deref(), row.ended_at), (Some("nobody"), Some(row.started_at)));
    for (cycle, answer) in [(11, Begun::Taken), (20, Begun::Taken), (49, Begun::Taken), (50, Begun::Begun)] {
        assert_eq!(begin(&hand, &term(&held, "report", cycle)).await, answer, "{cycle}");
    }
}

pub async fn parts_of_a_cycle_are_begun_separately(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hold(&hand, "report").await;
    miss(&hand, &[missing("report", 1, 90)]).await;
    for part in ["asked-1", "asked-2"] {
        let ask = BeginTerm { part: part.to_owned(), ..term(&held, "report", 5) };
        assert_eq!(begin(&hand, &ask).await, Begun::Begun);
        assert!(end(&hand, &ask, Outcome::Failed).await);
        assert_eq!(begin(&hand, &ask).await, Begun::Taken);
    }
    assert_eq!(look(&hand, "report").await.terms.len(), 3);
    assert!(look(&hand, "other").await.terms.is_empty());
}

/// However many were asked for, the rows of the cycles are seen beside them; those of a time that has not come are not.
pub async fn a_look_shows_the_cycles_whatever_else_was_run(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hold(&hand, "report").await;
    let run = |cycle, part: &str, due_at: Timestamp| {
        let (hand, part) = (hand.clone(), part.to_owned());
        let ask = BeginTerm { part, due_at, ..term(&held, "report", cycle) };
        async move {
            assert_eq!(begin(&hand, &ask).await, Begun::Begun);
            assert!(end(&hand, &ask, Outcome::Done).await);
        }
    };
    let at = now(&hand).await;
    for cycle in 1..=4 {
        run(cycle, "", at).await;
    }
    for number in 1..=9 {
        run(4, &format!("asked-{number}"), at).await;
        run(1, &format!("asked-{}", number + 9), at).await;
    }
    run(900, "", at.after(secs(86_400))).await;
    run(900, "asked-50", at.after(secs(86_400))).await;
    let ask = LookService { namespace: Namespace::default(), name: service("report"), terms: 3 };
    let seen = hand.ask(|| hand.store.service_look(&ask)).await.terms;
    let parts: Vec<(i64, &str)> = seen.iter().map(|term| (term.cycle, term.part.as_str())).collect();
    assert_eq!(parts, [(4, "asked-9"), (4, "asked-8"), (4, "asked-7"), (4, ""), (3, ""), (2, "")]);
    // One that runs is seen however far back it lies.
    let old = BeginTerm { part: "asked-99".to_owned(), ..term(&held, "report", 0) };
    assert_eq!(begin(&hand, &old).await, Begun::Begun);
    let seen = hand.ask(|| hand.store.service_look(&ask)).await.terms;
    let last = seen.last().unwrap();
    assert_eq!((seen.len(), last.part.as_str(), last.outcome), (7, "asked-99", Outcome::Running));
}

/// N17: a lease whose end only a step of the clock explains is told from one that is renewed.
pub async fn n17_a_look_tells_a_poisoned_lease_from_a_renewed_one(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hold(&hand, "report").await;
    assert!(!look(&hand, "report").await.held.unwrap().is_poisoned);
    if !harness.step_back(secs(86_400)).await {
        return;
    }
    // Where leases run by a clock that can't be set it is as good as before, and ends with its ttl.
    if !look(&hand, "report").await.held.unwrap().is_poisoned {
        harness.advance(TTL).await;
        assert_eq!(look(&hand, "report").await.held, None);
    }
}

/// A6: what was recorded as missed while the clock was ahead keeps no cycle from being begun, or recorded, once the
/// clock is back. What was run then is not run again.
pub async fn a6_what_was_missed_by_a_clock_that_was_ahead_stands_for_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hold(&hand, "report").await;
    let ran = term(&held, "report", 30);
    assert_eq!(begin(&hand, &ran).await, Begun::Begun);
    assert!(end(&hand, &ran, Outcome::Done).await && hand.release(&held).await);
    miss(&hand, &[missing("report", 10, 15), missing("report", 26, 1), missing("report", 31, 900)]).await;
    if !harness.step_back(secs(86_400)).await {
        return;
    }
    assert_eq!(cycles(&look(&hand, "report").await.terms), [(30, Outcome::Done)]);
    // The same ones sent twice are one.
    miss(&hand, &[missing("report", 10, 2), missing("report", 10, 2), missing("report", 12, 1)]).await;
    let seen = look(&hand, "report").await;
    let rows: Vec<(i64, i64)> = seen.terms.iter().map(|row| (row.cycle, row.cycles)).collect();
    assert_eq!(rows, [(30, 1), (12, 1), (10, 2)]);
    assert!(near(seen.terms[2].started_at, seen.now));
    let again = hold(&hand, "report").await;
    let answers = [(11, Begun::Taken), (14, Begun::Begun), (26, Begun::Begun), (30, Begun::Taken)];
    for (cycle, answer) in answers {
        let ask = term(&again, "report", cycle);
        assert_eq!(begin(&hand, &ask).await, answer, "{cycle}");
        assert_eq!(end(&hand, &ask, Outcome::Done).await, answer == Begun::Begun, "{cycle}");
    }
    for cycle in [31, 400] {
        assert_eq!(begin(&hand, &term(&again, "report", cycle)).await, Begun::Begun, "{cycle}");
    }
    let seen = look(&hand, "report").await;
    let row = seen.terms.iter().find(|row| row.cycle == 31).unwrap();
    assert_eq!((row.cycles, row.outcome, row.token), (1, Outcome::Running, again.token));
    assert!(row.reason.is_none() && row.ended_at.is_none() && near(row.started_at, seen.now));
}

/// A1: whoever asks at once, one begins.
pub async fn a1_of_many_at_once_one_begins_a_cycle(harness: &dyn Harness) {
    let hand = Hand::of(harness).await.patient();
    let held = hold(&hand, "report").await;
    for cycle in 0..3 {
        let asks = together(16, |n| {
            let (hand, held) = (hand.clone(), held.clone());
            // Another part of the program with another token would be fenced: here all have the lease.
            let ask = BeginTerm { owner: owner(&format!("host:{n}")), ..term(&held, "report", cycle) };
            async move { begin(&hand, &ask).await }
        });
        assert!(asks.await.iter().all(|answer| *answer == Begun::Begun));
        assert_eq!(look(&hand, "report").await.terms.len(), cycle as usize + 1);
        assert!(end(&hand, &term(&held, "report", cycle), Outcome::Done).await);
    }
}

pub async fn old_terms_are_forgotten_but_for_the_last_one(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let prune = |limit| {
        let (hand, ask) = (hand.clone(), PruneTerms { of: None, older_than: secs(5), limit });
        async move { hand.ask(|| hand.store.service_prune(&ask)).await }
    };
    miss(&hand, &(1..=6).map(|cycle| missing("report", cycle, 1)).collect::<Vec<_>>()).await;
    assert_eq!(prune(100).await, 0, "they are young");
    harness.advance(secs(6)).await;
    assert_eq!(prune(2).await, 2);
    assert_eq!(prune(100).await, 3);
    assert_eq!(cycles(&look(&hand, "report").await.terms), [(6, Outcome::Missed)]);
    let held = hold(&hand, "report").await;
    assert_eq!(begin(&hand, &term(&held, "report", 7)).await, Begun::Begun);
    miss(&hand, &[missing("report", 8, 1)]).await;
    harness.advance(secs(6)).await;
    assert_eq!(prune(100).await, 1, "a term that runs is not forgotten");
    assert_eq!(cycles(&look(&hand, "report").await.terms), [(8, Outcome::Missed), (7, Outcome::Running)]);
}

/// Of one service its first rows are looked at, and nothing of any other.
pub async fn old_terms_of_one_service_are_forgotten_from_its_first_on(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let prune = |of: &str, limit| {
        let of = Some((Namespace::default(), service(of)));
        let (hand, ask) = (hand.clone(), PruneTerms { of, older_than: secs(5), limit });
        async move { hand.ask(|| hand.store.service_prune(&ask)).await }
    };
    let held = hold(&hand, "report").await;
    assert_eq!(begin(&hand, &term(&held, "report", 1)).await, Begun::Begun);
    let missed = |of: &str| (2..=6).map(|cycle| missing(of, cycle, 1)).collect::<Vec<_>>();
    miss(&hand, &[missed("report"), missed("other")].concat()).await;
    assert_eq!(prune("report", 100).await, 0, "they are young");
    harness.advance(secs(6)).await;
    assert_eq!((prune("nothing", 100).await, prune("report", 3).await), (0, 2), "the first of three runs");
    assert_eq!(prune("report", 100).await, 2);
    let left = [(6, Outcome::Missed), (1, Outcome::Running)];
    assert_eq!(cycles(&look(&hand, "report").await.terms), left);
    assert_eq!(look(&hand, "other").await.terms.len(), 5);
}

pub async fn a_setting_of_every_kind_comes_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let spec = Spec { mode: Mode::PerRunner, sticky: true, ..Spec::every(secs(60)) };
    let setting = Setting::new(spec, Timestamp::from_micros(7));
    let setting =
        setting.paused(&owner("ops\"'ü"), Some("why".to_owned()), Timestamp::from_micros(9)).unwrap();
    let setting = setting.run_now(&owner("ops"), Timestamp::from_micros(10)).unwrap();
    let mut ask = record("odd \\ \" name ü", 0, 5);
    ask.record.setting = setting.clone();
    assert!(hand.ask(|| hand.store.service_write(&ask)).await);
    assert_eq!(look(&hand, "odd \\ \" name ü").await.record.unwrap().setting, setting);
}
