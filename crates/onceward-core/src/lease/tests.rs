//! The rules of a lease, one by one and under random histories.

use proptest::prelude::*;

use super::*;

fn ask(session: u128, ttl_ms: u64) -> Ask {
    Ask {
        namespace: Namespace::default(),
        key: Key::new("k").unwrap(),
        capacity: 1,
        owner: Owner::new("me").unwrap(),
        session: SessionId::from_uuid(uuid::Uuid::from_u128(session)),
        ttl: Duration::from_millis(ttl_ms),
        hard_ttl: None,
        lock_delay: Duration::ZERO,
        metadata: None,
        watched: None,
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000 + ms * 1000)
}

fn grant(row: Option<&Record>, ask: &Ask, now: Timestamp) -> Record {
    match acquire(row, ask, 0, false, now) {
        Some(Acquire::Grant { row, .. }) => row,
        other => panic!("not granted: {other:?}"),
    }
}

#[test]
fn l2_a_live_lease_is_refused_and_an_expired_one_taken_with_a_larger_token() {
    let first = grant(None, &ask(1, 1000), at(0));
    assert!(matches!(acquire(Some(&first), &ask(2, 1000), 0, false, at(999)), Some(Acquire::Held(_))));
    let Some(Acquire::Grant { row, ended }) = acquire(Some(&first), &ask(2, 1000), 0, false, at(1000)) else {
        panic!("expired")
    };
    assert!(row.token > first.token);
    assert_eq!(ended, Some(Event::Expired));
}

#[test]
fn l3_renewing_needs_the_token_the_session_and_time_left() {
    let row = grant(None, &ask(1, 1000), at(0));
    let other = SessionId::from_uuid(uuid::Uuid::from_u128(9));
    assert_eq!(renew(Some(&row), row.token, row.session, at(400)), Renew::Until(at(1400)));
    assert_eq!(renew(Some(&row), Token::next(Some(row.token), at(0)), row.session, at(400)), Renew::Lost);
    assert_eq!(renew(Some(&row), row.token, other, at(400)), Renew::Lost);
    assert_eq!(renew(Some(&row), row.token, row.session, at(1000)), Renew::Lost, "never revived");
    assert_eq!(renew(None, row.token, row.session, at(1)), Renew::Lost);
}

#[test]
fn hard_limit_is_a_ceiling_for_grant_and_renewal() {
    let mut wish = ask(1, 1000);
    wish.hard_ttl = Some(Duration::from_millis(1500));
    let row = grant(None, &wish, at(0));
    assert_eq!(row.expires_at, at(1000));
    assert_eq!(renew(Some(&row), row.token, row.session, at(900)), Renew::Until(at(1500)));
}

#[test]
fn lock_delay_closes_a_lost_lease_but_not_a_released_one() {
    let mut wish = ask(1, 1000);
    wish.lock_delay = Duration::from_secs(5);
    let mut row = grant(None, &wish, at(0));
    assert!(matches!(acquire(Some(&row), &ask(2, 1000), 0, false, at(5999)), Some(Acquire::Held(_))));
    assert!(matches!(acquire(Some(&row), &ask(2, 1000), 0, false, at(6000)), Some(Acquire::Grant { .. })));
    row.released_at = Some(at(10));
    assert!(matches!(acquire(Some(&row), &ask(2, 1000), 0, false, at(10)), Some(Acquire::Grant { .. })));
}

#[test]
fn l7_the_same_session_finds_its_own_grant() {
    let row = grant(None, &ask(1, 1000), at(0));
    assert_eq!(acquire(Some(&row), &ask(1, 1000), 0, false, at(5)), Some(Acquire::Adopt(row.clone())));
    assert!(matches!(acquire(Some(&row), &ask(1, 1000), 0, false, at(1000)), Some(Acquire::Grant { .. })));
}

#[test]
fn l11_a_free_lease_waits_for_the_ticket_ahead() {
    let mut row = grant(None, &ask(1, 1000), at(0));
    row.released_at = Some(at(1));
    assert_eq!(acquire(Some(&row), &ask(2, 1000), 0, true, at(5)), None);
    assert_eq!(acquire(None, &ask(2, 1000), 0, true, at(5)), None);
}

#[test]
fn a_poisoned_expiry_is_seized_only_after_it_was_watched() {
    let mut row = grant(None, &ask(1, 1000), at(0));
    row.expires_at = at(86_400_000);
    let mut wish = ask(2, 1000);
    assert!(matches!(acquire(Some(&row), &wish, 0, false, at(10)), Some(Acquire::Held(_))));
    wish.watched = Some(Watched { token: row.token, heartbeats: row.heartbeats + 1 });
    assert!(matches!(acquire(Some(&row), &wish, 0, false, at(10)), Some(Acquire::Held(_))), "it was renewed");
    wish.watched = Some(Watched { token: row.token, heartbeats: row.heartbeats });
    assert!(matches!(acquire(Some(&row), &wish, 0, false, at(10)), Some(Acquire::Grant { .. })));
}

#[test]
fn l12_bounds_and_margins() {
    let min = limits::TTL_MIN;
    for bad in [0, 999, 24 * 3_600_000 + 1] {
        assert_eq!(ask(1, bad).check(min).unwrap_err().code(), Code::TtlInvalid);
    }
    assert!(ask(1, 1000).check(min).is_ok());
    assert_eq!(trust_margin(Duration::from_millis(100)), Duration::from_millis(20));
    assert_eq!(trust_margin(Duration::from_secs(5)), Duration::from_millis(500));
    assert_eq!(trust_margin(Duration::from_secs(60)), Duration::from_secs(1));
    let mut wish = ask(1, 5000);
    wish.hard_ttl = Some(Duration::from_secs(4));
    assert_eq!(wish.check(min).unwrap_err().code(), Code::HardTtlInvalid);
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    Renew(usize),
    Release(usize),
    Tick(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Acquire),
        (0_usize..6).prop_map(Step::Renew),
        (0_usize..6).prop_map(Step::Release),
        (-500_i64..1500).prop_map(Step::Tick),
    ]
}

proptest! {
    /// L1, L2, L8: over any history, tokens grow and only the latest grant can renew or release.
    #[test]
    fn grants_are_ordered_and_exclusive(steps in prop::collection::vec(step(), 1..60)) {
        let (mut row, mut now, mut grants) = (None::<Record>, 0_i64, Vec::<Record>::new());
        let mut sessions = 100;
        for step in steps {
            match step {
                Step::Acquire => {
                    sessions += 1;
                    let wish = ask(sessions, 1000);
                    if let Some(Acquire::Grant { row: new, .. }) = acquire(row.as_ref(), &wish, 0, false, at(now)) {
                        prop_assert!(grants.iter().all(|old| old.token < new.token));
                        grants.push(new.clone());
                        row = Some(new);
                    }
                }
                Step::Renew(i) => {
                    let Some(old) = grants.get(i) else { continue };
                    if let Renew::Until(until) = renew(row.as_ref(), old.token, old.session, at(now)) {
                        prop_assert_eq!(i, grants.len() - 1);
                        if let Some(row) = &mut row { row.expires_at = until; }
                    }
                }
                Step::Release(i) => {
                    let Some(old) = grants.get(i) else { continue };
                    if may_release(row.as_ref(), old.token) {
                        prop_assert_eq!(i, grants.len() - 1);
                        if let Some(row) = &mut row { row.released_at = Some(at(now)); }
                    }
                }
                Step::Tick(ms) => now += ms,
            }
        }
    }
}
