//! What is left of a time in which the store's clock was ahead.

use super::*;

/// A6: what was recorded as missed while the clock was ahead keeps the service from nothing once it is back.
#[test]
fn a6_cycles_that_were_missed_only_by_a_clock_that_was_ahead_are_run() {
    let runners = [runner(1, 0.0)];
    let ahead = Term { cycles: 1_440, started_at: at(90_000.0), ..term(3, Outcome::Missed) };
    let single = Term { started_at: at(90_000.0), ..term(5, Outcome::Missed) };
    let terms = [term(2, Outcome::Done), ahead, single];
    let plan = look(&minutely(), &runners, &terms, None, 301.0, 1);
    assert_eq!((plan.missed.len(), plan.missed[0].cycle, begins(&plan)), (2, 3, Some(5)), "{plan:?}");
    let each = setting(Spec { mode: Mode::PerRunner, ..Spec::every(Duration::from_secs(60)) });
    let mine = terms.map(|term| Term { part: session(1).to_string(), ..term });
    let plan = look(&each, &runners, &mine, None, 301.0, 1);
    assert_eq!((plan.missed.len(), plan.missed[0].cycle, begins(&plan)), (2, 3, Some(5)), "{plan:?}");
    // What was run is not run again, whenever that was.
    let ran = [term(2, Outcome::Done), Term { started_at: at(90_000.0), ..term(5, Outcome::Done) }];
    assert_eq!(begins(&look(&minutely(), &runners, &ran, None, 301.0, 1)), None);
    // As soon as the clock is near, it is believed.
    let missed = [Term { started_at: at(360.0), ..term(5, Outcome::Missed) }];
    assert_eq!(begins(&look(&minutely(), &runners, &missed, None, 301.0, 1)), None);
}

/// One that came while the clock was ahead has its turn once the clock is right, although it is seen before it came.
#[test]
fn a_runner_that_came_while_the_clock_was_ahead_is_not_left_outside() {
    let early = Runner { seen_at: at(100.0), ..runner(1, 90_000.0) };
    let others = [runner(2, 1.0), early.clone()];
    let ids =
        |runners: &[Runner]| order(runners.to_vec(), at(101.0)).iter().map(|r| r.session).collect::<Vec<_>>();
    assert_eq!(ids(&others), [session(2), session(1)]);
    let crashed = Runner { seen_at: early.started_at, ..early };
    assert_eq!(ids(&[runner(2, 1.0), crashed]), [session(2)], "until it is seen again it may be a ghost");
}

/// A5: an end that a clock told which was ahead keeps nobody from leading.
#[test]
fn a5_a_leader_does_not_wait_for_a_time_that_was_told_by_a_clock_that_was_ahead() {
    let setting = setting(Spec { mode: Mode::Leader, ..Spec::every(Duration::ZERO) });
    let fell = Term { started_at: at(90_000.0), ended_at: Some(at(90_000.5)), ..term(1, Outcome::Failed) };
    let plan = look(&setting, &[runner(1, 0.0)], &[fell], None, 100.0, 1);
    assert!(begins(&plan).is_some(), "{plan:?}");
}
