//! The rules of once, one by one and under random histories.

use proptest::prelude::*;

use super::*;

fn ask(session: u128) -> Ask {
    Ask {
        namespace: Namespace::default(),
        key: Key::new("k").unwrap(),
        owner: Owner::new("me").unwrap(),
        session: SessionId::from_uuid(uuid::Uuid::from_u128(session)),
        ttl: Duration::from_secs(1),
        hard_ttl: None,
        retain: Duration::from_secs(60),
        fingerprint: None,
        restartable: false,
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000 + ms * 1000)
}

fn grant(row: Option<&Record>, ask: &Ask, now: Timestamp) -> Record {
    match claim(row, ask, now) {
        Claim::Grant { row, .. } => *row,
        other => panic!("not granted: {other:?}"),
    }
}

fn done() -> Ending {
    Ending::Done(Body::new(b"1".to_vec(), "application/json"))
}

#[test]
fn o1_o2_the_first_runs_and_the_rest_see_its_outcome() {
    let row = grant(None, &ask(1), at(0));
    assert!(
        matches!(claim(Some(&row), &ask(2), at(10)), Claim::Existing(row) if row.state == State::Running)
    );
    let row = settled(&row, &done(), false, at(20));
    assert!(matches!(claim(Some(&row), &ask(3), at(30)), Claim::Existing(row) if row.state == State::Done));
    let failed = Ending::Failed { body: None, reason: "no".into() };
    assert_eq!(settle(Some(&row), row.token, &failed, at(40)), Settle::Stale, "never overwritten");
    assert_eq!(settle(Some(&row), row.token, &done(), at(40)), Settle::Already);
}

#[test]
fn o4_another_fingerprint_is_refused_in_every_live_state() {
    let print = |n| Some(Fingerprint([n; 32]));
    let mut first = ask(1);
    first.fingerprint = print(1);
    let mut other = ask(2);
    other.fingerprint = print(2);
    let running = grant(None, &first, at(0));
    let doubt = settled(&running, &Ending::Unknown { reason: "?".into() }, false, at(1));
    let finished = settled(&running, &done(), false, at(1));
    for row in [&running, &doubt, &finished] {
        assert_eq!(claim(Some(row), &other, at(5)), Claim::Mismatch);
        assert!(matches!(claim(Some(row), &ask(3), at(5)), Claim::Existing(_)), "nothing to compare with");
    }
    other.restartable = true;
    assert_eq!(claim(Some(&doubt), &other, at(5)), Claim::Mismatch, "not even to restart");
}

#[test]
fn o5_an_expired_claim_is_uncertain_and_only_restartable_runs_it_again() {
    let row = grant(None, &ask(1), at(0));
    assert_eq!(row.state_at(at(999)), State::Running);
    assert_eq!(row.state_at(at(1000)), State::Uncertain);
    assert!(matches!(claim(Some(&row), &ask(2), at(1000)), Claim::Existing(_)));
    let mut again = ask(2);
    again.restartable = true;
    let Claim::Grant { row: new, ended } = claim(Some(&row), &again, at(1000)) else { panic!("restarted") };
    assert!(new.token > row.token && new.attempts == 2 && ended == Some(Event::Restarted));
    assert!(matches!(claim(Some(&row), &again, at(999)), Claim::Existing(_)), "not while it runs");
}

#[test]
fn o6_only_an_uncertain_row_with_the_expected_token_is_resolved() {
    let row = grant(None, &ask(1), at(0));
    assert_eq!(resolve(Some(&row), None, at(10)), Resolve::NotUncertain(State::Running));
    assert_eq!(resolve(None, None, at(10)), Resolve::Absent);
    let other = Token::next(Some(row.token), at(0));
    assert_eq!(resolve(Some(&row), Some(other), at(2000)), Resolve::Moved(row.token));
    assert!(
        matches!(resolve(Some(&row), Some(row.token), at(2000)), Resolve::Applied { token } if token > row.token)
    );
}

#[test]
fn o7_late_evidence_wins_until_somebody_resolved() {
    let row = grant(None, &ask(1), at(0));
    assert_eq!(settle(Some(&row), row.token, &done(), at(5000)), Settle::Applied { late: true });
    let doubt = settled(&row, &Ending::Unknown { reason: "?".into() }, false, at(1));
    assert_eq!(settle(Some(&doubt), row.token, &done(), at(2)), Settle::Applied { late: false });
    let mut resolved = doubt;
    resolved.token = Token::next(Some(row.token), at(3));
    assert_eq!(settle(Some(&resolved), row.token, &done(), at(4)), Settle::Stale);
}

#[test]
fn o8_a_result_is_replayed_until_its_retention_ends() {
    let row = settled(&grant(None, &ask(1), at(0)), &done(), false, at(0));
    assert!(matches!(claim(Some(&row), &ask(2), at(59_999)), Claim::Existing(_)));
    let Claim::Grant { row: new, ended } = claim(Some(&row), &ask(2), at(60_000)) else { panic!("retired") };
    assert!(new.token > row.token && ended == Some(Event::Retired));
}

#[test]
fn not_started_frees_the_key_and_counts_the_attempt() {
    let row = settled(&grant(None, &ask(1), at(0)), &Ending::NotStarted { reason: "x".into() }, false, at(1));
    let new = grant(Some(&row), &ask(2), at(2));
    assert!(new.attempts == 2 && new.token > row.token);
}

#[test]
fn o13_a_large_body_is_recorded_without_its_bytes() {
    let size = limits::RESULT_BYTES_MAX;
    assert!(Body::new(vec![0; size], "x").bytes.is_some());
    let large = Body::new(vec![0; size + 1], "x");
    assert!(large.bytes.is_none() && large.size == size as u64 + 1);
}

#[test]
fn texts_are_cut_on_a_character_and_without_nul() {
    assert_eq!(cut("äöü", 3), "ä");
    assert_eq!(cut("a\0b", 10), "a\u{fffd}b");
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        Just(done()),
        Just(Ending::Failed { body: None, reason: "f".into() }),
        Just(Ending::NotStarted { reason: "n".into() }),
        Just(Ending::Unknown { reason: "u".into() }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Claim(bool),
    Settle(usize, Ending),
    Resolve(bool),
    Tick(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(Step::Claim),
        (0_usize..5, ending()).prop_map(|(i, ending)| Step::Settle(i, ending)),
        any::<bool>().prop_map(Step::Resolve),
        (0_i64..40_000).prop_map(Step::Tick),
    ]
}

proptest! {
    /// O1, O2, O6: over any history, a new start happens only where the rules allow one, and a recorded outcome stays.
    #[test]
    fn starts_and_outcomes(steps in prop::collection::vec(step(), 1..80)) {
        let (mut row, mut now, mut grants, mut session) = (None::<Record>, 0, Vec::<Token>::new(), 0);
        for step in steps {
            let before = row.clone();
            let clock = at(now);
            match step {
                Step::Claim(restartable) => {
                    session += 1;
                    let wish = Ask { restartable, ..ask(session) };
                    if let Claim::Grant { row: new, .. } = claim(row.as_ref(), &wish, clock) {
                        if let Some(before) = &before {
                            let free = before.state == State::Released || before.is_retired(clock);
                            let again = before.state_at(clock) == State::Uncertain && restartable;
                            prop_assert!(free || again);
                            prop_assert!(new.token > before.token);
                        }
                        grants.push(new.token);
                        row = Some(*new);
                    }
                }
                Step::Settle(i, ending) => {
                    let Some(token) = grants.get(i).copied() else { continue };
                    if let Settle::Applied { late } = settle(row.as_ref(), token, &ending, clock) {
                        let before = before.unwrap();
                        prop_assert!(before.token == token && !before.state.is_settled());
                        row = Some(settled(&before, &ending, late, clock));
                    }
                }
                Step::Resolve(release) => {
                    if let Resolve::Applied { token } = resolve(row.as_ref(), None, clock) {
                        let mut new = before.unwrap();
                        new.token = token;
                        new.state = if release { State::Released } else { State::Failed };
                        new.retain_until = Some(clock.after(new.retain));
                        row = Some(new);
                    }
                }
                Step::Tick(ms) => now += ms,
            }
        }
    }
}
