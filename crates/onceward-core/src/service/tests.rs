//! A cluster of runners on a clock of its own: whoever looks next does what the plan says.

mod clock;
mod declared;
mod slots;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{Owner, SessionId, Token};

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as i64)
}

fn session(number: u128) -> SessionId {
    SessionId::from_uuid(uuid::Uuid::from_u128(number))
}

fn runner(number: u128, started: f64) -> Runner {
    Runner {
        session: session(number),
        owner: Owner::from_row("host"),
        started_at: at(started),
        seen_at: at(started + 1.0),
        expires_at: at(1e12),
        draining: false,
    }
}

fn term(cycle: i64, outcome: Outcome) -> Term {
    let began = outcome != Outcome::Missed;
    Term {
        service: ServiceName::from_row("s"),
        cycle,
        part: String::new(),
        due_at: Timestamp::default(),
        cycles: 1,
        session: began.then(|| session(1)),
        owner: None,
        token: Token::from_row(if began { cycle + 1 } else { 0 }),
        started_at: start_of(cycle, Duration::from_secs(60)),
        ended_at: (outcome != Outcome::Running)
            .then(|| start_of(cycle, Duration::from_secs(60)).after(Duration::from_secs(1))),
        outcome,
        reason: None,
    }
}

fn held(token: i64, until: f64) -> Held {
    Held { token: Token::from_row(token), until: at(until), is_poisoned: false }
}

fn setting(spec: Spec) -> Setting {
    Setting::new(spec, at(0.0))
}

fn minutely() -> Setting {
    setting(Spec::every(Duration::from_secs(60)))
}

fn look(
    setting: &Setting,
    runners: &[Runner],
    terms: &[Term],
    held: Option<Held>,
    now: f64,
    me: u128,
) -> Plan {
    plan(&View { now: at(now), setting, runners, terms, held }, session(me))
}

fn begins(plan: &Plan) -> Option<i64> {
    match &plan.next {
        Next::Begin(begin) => Some(begin.cycle),
        Next::Look { .. } => None,
    }
}

/// W77: the seed lets anybody run where there is one runner.
#[test]
fn a_runner_that_is_not_in_the_order_begins_nothing() {
    let ghost = look(&minutely(), &[runner(1, 0.0)], &[], None, 10.0, 9);
    assert_eq!(begins(&ghost), None);
    assert_eq!(begins(&look(&minutely(), &[], &[], None, 10.0, 9)), None);
    assert_eq!(begins(&look(&minutely(), &[runner(1, 0.0)], &[], None, 10.0, 1)), Some(0));
}

/// W80: two that came at the same time keep their places.
#[test]
fn runners_stand_in_the_order_of_their_creation_and_ties_by_id() {
    let mut young = Runner { seen_at: at(50.0), ..runner(4, 50.0) };
    let all = || vec![runner(3, 2.0), runner(2, 1.0), runner(1, 2.0)];
    let ids = |runners: Vec<Runner>| -> Vec<u128> {
        order(runners, at(60.0)).iter().map(|runner| runner.session.as_uuid().as_u128()).collect()
    };
    assert_eq!(ids(all()), [2, 1, 3]);
    // W79: one that has just come takes no slot from those that are there.
    assert_eq!(ids([all(), vec![young.clone()]].concat()), [2, 1, 3]);
    assert_eq!(ids(vec![young.clone()]), [4]);
    young.seen_at = at(55.0);
    assert_eq!(ids([all(), vec![young]].concat()), [2, 1, 3, 4]);
    let gone = Runner { expires_at: at(60.0), ..runner(5, 0.0) };
    let draining = Runner { draining: true, ..runner(6, 0.0) };
    assert_eq!(ids([all(), vec![gone, draining]].concat()), [2, 1, 3]);
}

#[test]
fn the_first_slot_goes_round() {
    let runners: Vec<Runner> = (0..3).map(|n| runner(n, n as f64)).collect();
    for cycle in 0..6 {
        let terms: Vec<Term> = (0..cycle).map(|cycle| term(cycle, Outcome::Done)).collect();
        let now = cycle as f64 * 60.0 + 1.0;
        let first: Vec<u128> = (0..3)
            .filter(|me| begins(&look(&minutely(), &runners, &terms, None, now, *me)) == Some(cycle))
            .collect();
        assert_eq!(first, [(cycle % 3) as u128]);
    }
}

#[test]
fn in_the_last_slot_anyone_begins_and_in_another_one_only_its_runner() {
    let runners: Vec<Runner> = (0..3).map(|n| runner(n, n as f64)).collect();
    let may =
        |now| (0..3).filter(|me| begins(&look(&minutely(), &runners, &[], None, now, *me)).is_some()).count();
    assert_eq!([1.0, 19.0, 21.0, 39.0, 41.0, 59.0].map(may), [1, 1, 1, 1, 3, 3]);
}

/// A8.
#[test]
fn a8_a_sticky_service_stays_where_it_was() {
    let runners: Vec<Runner> = (0..3).map(|n| runner(n, n as f64)).collect();
    let setting = setting(Spec { sticky: true, ..Spec::every(Duration::from_secs(60)) });
    for cycle in 5..9 {
        let terms = [term(cycle - 1, Outcome::Done)];
        let now = cycle as f64 * 60.0;
        let starts: Vec<Vec<u128>> = [0.0, 20.0]
            .map(|late| {
                (0..3)
                    .filter(|me| begins(&look(&setting, &runners, &terms, None, now + late, *me)).is_some())
                    .collect()
            })
            .to_vec();
        assert_eq!(starts[0], [1], "the runner of the last term goes first");
        assert!(starts[1].len() == 1 && starts[1] != [1], "then one of the others: {starts:?}");
    }
}

/// W72: reasons are kept, and are the right ones.
#[test]
fn w72_nobody_begins_while_a_term_runs_and_the_reason_of_a_missed_cycle_is_its_overrun() {
    let (runners, held) = ([runner(1, 0.0)], Some(held(1, 200.0)));
    let plan = look(&minutely(), &runners, &[term(0, Outcome::Running)], held, 150.0, 1);
    assert_eq!(begins(&plan), None);
    assert!(plan.lost.is_empty());
    assert_eq!(plan.missed.len(), 1);
    assert_eq!((plan.missed[0].cycle, plan.missed[0].cycles), (1, 1));
    assert_eq!(plan.missed[0].reason, "the term of cycle 0 was still running");
    assert!(matches!(plan.next, Next::Look { on_release: true, .. }));
}

/// W71: a crash in a term ends that term, and nothing else.
#[test]
fn a_term_without_its_lease_is_lost_and_the_next_cycle_begins() {
    let runners = [runner(1, 0.0)];
    let plan = look(&minutely(), &runners, &[term(0, Outcome::Running)], None, 61.0, 1);
    assert_eq!(plan.lost, [(0, String::new(), Token::from_row(1))]);
    assert_eq!(begins(&plan), Some(1));
}

#[test]
fn a_cycle_that_was_handed_over_is_begun_again_by_anyone() {
    let runners: Vec<Runner> = (0..3).map(|n| runner(n, n as f64)).collect();
    for me in 0..3 {
        assert_eq!(
            begins(&look(&minutely(), &runners, &[term(0, Outcome::HandedOver)], None, 5.0, me)),
            Some(0)
        );
    }
}

/// G13, A7: who can't hear that a term was handed over looks again when its lease would have run out.
#[test]
fn g13_a_term_that_runs_is_looked_at_again_when_its_lease_would_run_out() {
    let runners: Vec<Runner> = (0..3).map(|n| runner(n, n as f64)).collect();
    let hourly = setting(Spec::every(Duration::from_secs(3_600)));
    let running = [Term { token: Token::from_row(7), ..term(0, Outcome::Running) }];
    for me in 0..3 {
        let plan = look(&hourly, &runners, &running, Some(held(7, 35.0)), 25.0, me);
        assert_eq!(plan.next, Next::Look { at: at(35.0), on_release: false });
    }
    // Once it is over there is nothing to wait for but the next cycle.
    let plan = look(&hourly, &runners, &[term(0, Outcome::Done)], None, 25.0, 1);
    assert!(matches!(plan.next, Next::Look { at: next, .. } if next >= at(3_600.0)), "{plan:?}");
    let paused = hourly.paused(&Owner::from_row("ops"), None, at(1.0)).unwrap();
    let plan = look(&paused, &runners, &running, Some(held(7, 35.0)), 25.0, 1);
    assert_eq!(plan.next, Next::Look { at: at(35.0), on_release: false });
}

/// A7: a cycle that was handed over, and that nobody went on with before its end, is made up for like a missed one.
#[test]
fn a7_a_cycle_that_was_left_behind_is_made_up_for_by_policy() {
    let runners = [runner(1, 0.0)];
    let run = |on_missed, terms: &[Term], now| {
        let setting = setting(Spec { on_missed, ..Spec::every(Duration::from_secs(60)) });
        let plan = look(&setting, &runners, terms, None, now, 1);
        (plan.missed.iter().map(|miss| miss.cycle).collect::<Vec<_>>(), begins(&plan))
    };
    let left = [term(1, Outcome::Done), term(2, Outcome::HandedOver)];
    assert_eq!(run(OnMissed::Skip, &left, 190.0), (vec![], Some(3)), "its row says what became of it");
    assert_eq!(run(OnMissed::One, &left, 190.0), (vec![], Some(2)));
    assert_eq!(run(OnMissed::All, &left, 190.0), (vec![], Some(2)));
    // Others were missed after it: all are run in their order, or the last of them.
    assert_eq!(run(OnMissed::One, &left, 370.0), (vec![3, 4], Some(5)));
    assert_eq!(run(OnMissed::All, &left, 370.0), (vec![], Some(2)));
    let since = [term(2, Outcome::HandedOver), term(3, Outcome::Done)];
    assert_eq!(run(OnMissed::One, &since, 250.0), (vec![], Some(4)), "a later one was run");
    assert_eq!(run(OnMissed::All, &since, 250.0), (vec![], Some(2)));
    assert_eq!(
        run(OnMissed::All, &since, 100_000.0),
        (vec![4], None),
        "too far back: what lies there is recorded"
    );
}

/// Terms of another interval, or of another mode, say nothing of how long these take.
#[test]
fn only_terms_of_the_same_interval_and_mode_make_slots_longer() {
    let runners: Vec<Runner> = (0..4).map(|n| runner(n, n as f64)).collect();
    let long = |cycle: i64| {
        let began = start_of(cycle, Duration::from_secs(60));
        Term {
            started_at: began,
            ended_at: Some(began.after(Duration::from_secs(29))),
            ..term(cycle, Outcome::Done)
        }
    };
    let last_slot = |setting: &Setting, now: f64| {
        let terms: Vec<Term> = (1..=4).map(long).collect();
        let view = View { now: at(now), setting, runners: &runners, terms: &terms, held: None };
        (0..4).filter_map(|me| plan::turn_of(&view, session(me))).map(|slot| slot.size()).max().unwrap()
    };
    assert_eq!(last_slot(&minutely(), 301.0), Duration::from_secs(30), "two slots, for terms of 29 s");
    let other = Setting::new(Spec::every(Duration::from_secs(61)), at(0.0));
    let again = other.declared(&Spec::every(Duration::from_secs(60)), at(300.0)).unwrap();
    assert_eq!(last_slot(&again, 301.0), Duration::from_secs(15));
}

#[test]
fn missed_cycles_are_made_up_for_as_the_policy_says() {
    let runners = [runner(1, 0.0)];
    let run = |on_missed, catch_up| {
        let spec = Spec {
            on_missed,
            catch_up: Duration::from_secs(catch_up),
            ..Spec::every(Duration::from_secs(60))
        };
        let plan = look(&setting(spec), &runners, &[term(2, Outcome::Done)], None, 600.0, 1);
        let missed: Vec<i64> = plan.missed.iter().map(|miss| miss.cycle).collect();
        (missed, begins(&plan))
    };
    assert_eq!(run(OnMissed::Skip, 86_400), ((3..10).collect(), Some(10)));
    assert_eq!(run(OnMissed::One, 86_400), ((3..9).collect(), Some(9)));
    assert_eq!(run(OnMissed::All, 86_400), (vec![], Some(3)));
    assert_eq!(run(OnMissed::All, 150), ((3..7).collect(), Some(7)));
    assert_eq!(run(OnMissed::One, 1), ((3..9).collect(), Some(9)), "the last one has only just ended");
}

#[test]
fn a_long_outage_is_one_row_and_its_end_is_looked_at() {
    let runners = [runner(1, 0.0)];
    let cycles = 5_000_000;
    let now = cycles as f64 * 60.0;
    let first = look(&minutely(), &runners, &[term(2, Outcome::Done)], None, now, 1);
    // What lies far back is written first, and alone: what remains is seen once that is there.
    let [far] = &first.missed[..] else { panic!("{first:?}") };
    assert_eq!((far.cycle, far.cycles, begins(&first)), (3, cycles - 103, None));
    assert_eq!(first.next, Next::Look { at: at(now), on_release: false });
    let row = Term { cycles: far.cycles, ..term(3, Outcome::Missed) };
    // Another looker was quicker, and his row ends elsewhere: no cycle is recorded twice, and none is left out.
    let theirs = Term { cycles: far.cycles + 7, ..row.clone() };
    for (written, left) in [(row, 100), (theirs, 93)] {
        let from = written.cycle + written.cycles;
        let plan = look(&minutely(), &runners, &[written], None, now, 1);
        let cycles: Vec<i64> = plan.missed.iter().map(|miss| miss.cycle).collect();
        assert_eq!((cycles.len(), cycles[0], begins(&plan)), (left, from, Some(5_000_000)));
    }
}

/// All means all that lie in the window, however many there are.
#[test]
fn a_long_outage_is_made_up_for_as_far_as_the_window_reaches() {
    let runners = [runner(1, 0.0)];
    let run = |on_missed, paused: Option<(f64, f64)>| {
        let spec = Spec { on_missed, ..Spec::every(Duration::from_secs(60)) };
        let by = Owner::from_row("ops");
        let setting = paused.map_or(setting(spec.clone()), |(from, until)| {
            setting(spec).paused(&by, None, at(from)).unwrap().resumed(at(until)).unwrap()
        });
        let mut terms = vec![term(2, Outcome::Done)];
        let first = look(&setting, &runners, &terms, None, 5_000.0 * 60.0, 1);
        assert!(first.missed.first().is_none_or(|miss| miss.cycle == 3));
        terms.extend(
            first.missed.iter().map(|miss| Term { cycles: miss.cycles, ..term(miss.cycle, Outcome::Missed) }),
        );
        let plan = look(&setting, &runners, &terms, None, 5_000.0 * 60.0, 1);
        assert!(plan.missed.len() <= 100);
        let missed: i64 = first.missed.iter().chain(&plan.missed).map(|miss| miss.cycles).sum();
        (begins(&plan).unwrap(), missed)
    };
    // A day is 1,440 cycles: what lies before it is recorded.
    assert_eq!(run(OnMissed::All, None), (3_560, 3_557));
    assert_eq!(run(OnMissed::One, None), (4_999, 4_996));
    assert_eq!(run(OnMissed::Skip, None), (5_000, 4_997));
    // A pause in between.
    assert_eq!(run(OnMissed::All, Some((200_000.0, 250_020.0))), (4_167, 4_164));
    assert_eq!(run(OnMissed::One, Some((250_000.0, 300_000.0))), (4_165, 4_162));
    assert_eq!(run(OnMissed::One, Some((200.0, 300_000.0))), (5_000, 4_997), "too far back");
}

#[test]
fn what_was_paused_is_missed_for_that_and_not_made_up_for() {
    let runners = [runner(1, 0.0)];
    let spec = Spec { on_missed: OnMissed::All, ..Spec::every(Duration::from_secs(60)) };
    let by = Owner::from_row("ops");
    let paused = setting(spec).paused(&by, None, at(190.0)).unwrap();
    let plan = look(&paused, &runners, &[term(2, Outcome::Done)], None, 301.0, 1);
    assert_eq!((plan.missed.len(), plan.missed[0].reason.as_str(), plan.missed[0].cycles), (2, "paused", 1));
    assert_eq!(begins(&plan), None);
    let resumed = paused.resumed(at(310.0)).unwrap();
    assert_eq!(begins(&look(&resumed, &runners, &[term(4, Outcome::Missed)], None, 311.0, 1)), Some(5));
    assert!(paused.paused(&by, None, at(0.0)).is_none() && resumed.resumed(at(0.0)).is_none());
}

#[test]
fn a_term_that_was_asked_for_runs_once_even_while_paused() {
    let runners = [runner(1, 0.0)];
    let by = Owner::from_row("ops");
    let asked = minutely().paused(&by, None, at(1.0)).unwrap().run_now(&by, at(2.0)).unwrap();
    let plan = look(&asked, &runners, &[], None, 5.0, 1);
    let Next::Begin(begin) = plan.next else { panic!("{plan:?}") };
    assert_eq!((begin.part.as_str(), begin.cycle), ("asked-1", 0));
    let later = look(&asked, &runners, &[], None, 200.0, 1);
    assert_eq!(begins(&later), Some(0), "whoever begins it, and whenever, it is one row");
    let over = asked.answered("asked-1").unwrap();
    assert_eq!(begins(&look(&over, &runners, &[], None, 6.0, 1)), None);
    assert!(over.answered("asked-1").is_none(), "it was over before");
    assert_eq!(over.run_now(&by, at(9.0)).unwrap().asked[0].number, 2);
}

#[test]
fn what_is_asked_for_while_others_wait_is_run_after_them_and_too_much_of_it_is_refused() {
    let runners = [runner(1, 0.0)];
    let by = Owner::from_row("ops");
    let mut asked = minutely();
    for n in 0..limits::RUNS_WAITING_MAX {
        asked = asked.run_now(&by, at(n as f64)).unwrap();
    }
    assert_eq!(asked.run_now(&by, at(20.0)).unwrap_err().code(), Code::RunsWaiting);
    for number in 1..=limits::RUNS_WAITING_MAX {
        let Next::Begin(begin) = look(&asked, &runners, &[], None, 30.0, 1).next else { panic!("{asked:?}") };
        assert_eq!(begin.part, format!("asked-{number}"));
        asked = asked.answered(&begin.part).unwrap();
    }
    assert!(asked.asked.is_empty() && asked.run_now(&by, at(40.0)).unwrap().runs == 17);
}

/// N17: a lease that was written while the store's clock was far ahead is not waited for.
#[test]
fn n17_a_poisoned_lease_is_asked_for_and_not_waited_for() {
    let runners = [runner(1, 0.0)];
    let poisoned = |until| Some(Held { is_poisoned: true, ..held(1, until) });
    let terms = [term(0, Outcome::Running)];
    let plan = look(&minutely(), &runners, &terms, poisoned(1e9), 61.0, 1);
    assert_eq!(
        (begins(&plan), plan.lost.len()),
        (Some(1), 0),
        "its term runs as long as nobody has taken it"
    );
    let leader = setting(Spec { mode: Mode::Leader, ..Spec::every(Duration::ZERO) });
    assert!(begins(&look(&leader, &runners, &[], poisoned(1e9), 61.0, 1)).is_some());
}

/// N17: who was seen by a clock that was ahead, and never since, does not keep a slot.
#[test]
fn n17_a_runner_of_a_time_that_has_not_come_is_outside() {
    let ghost = Runner { seen_at: at(1e9), expires_at: at(1e9), ..runner(1, 0.0) };
    assert_eq!(order(vec![ghost, runner(2, 1.0)], at(100.0)).len(), 1);
    let spec = Spec::every(Duration::from_secs(60));
    let ahead = Setting::new(spec, at(1e9));
    let done = look(&ahead, &[runner(1, 0.0)], &[term(1, Outcome::Done)], None, 61.0, 1);
    assert_eq!(begins(&done), None, "a service of such a time counts what has been run");
}

#[test]
fn each_runner_has_its_turn_where_all_are_to_run() {
    let runners: Vec<Runner> = (0..3).map(|n| runner(n, n as f64)).collect();
    let spec = Spec {
        mode: Mode::PerRunner,
        spread_margin: Duration::from_secs(60),
        ..Spec::every(Duration::from_secs(360))
    };
    let setting = setting(spec);
    // The seed's own three runners: at 0 s the first, at 150 s the second, at 250 s the third.
    for (now, expected) in
        [(0.0, vec![0]), (90.0, vec![]), (150.0, vec![1]), (250.0, vec![2]), (310.0, vec![])]
    {
        let turn: Vec<u128> =
            (0..3).filter(|me| begins(&look(&setting, &runners, &[], None, now, *me)).is_some()).collect();
        assert_eq!(turn, expected, "{now}");
    }
    let late = look(&setting, &runners, &[], None, 310.0, 2);
    assert_eq!((late.missed.len(), late.missed[0].part.clone()), (1, session(2).to_string()));
}

/// A session that is lost in the middle of a cycle is no reason to run its work again in the same process; and who
/// comes when his slot has begun has missed nothing.
#[test]
fn each_runner_runs_a_cycle_once_and_has_missed_only_what_it_was_there_for() {
    let spec = Spec { mode: Mode::PerRunner, ..Spec::every(Duration::from_secs(60)) };
    let setting = setting(spec);
    let view = |now: f64, runners: &'static [Runner], terms: &'static [Term]| View {
        now: at(now),
        setting: Box::leak(Box::new(setting.clone())),
        runners,
        terms,
        held: None,
    };
    let runners: &'static [Runner] = Box::leak(Box::new([runner(1, 0.0), runner(2, 605.0)]));
    let again = plan_after(&view(635.0, runners, &[]), session(2), Some(10));
    assert!(begins(&again).is_none() && again.missed.is_empty(), "{again:?}");
    assert_eq!(begins(&plan(&view(635.0, runners, &[]), session(2))), Some(10));
    // What it began while the clock was ahead keeps it from no cycle, and from recording none.
    let back = plan_after(&view(635.0, runners, &[]), session(2), Some(5_000));
    assert!(begins(&back) == Some(10) && back.missed.is_empty(), "{back:?}");
    let early: &'static [Runner] = Box::leak(Box::new([runner(1, 0.0), runner(2, 425.0)]));
    let back = plan_after(&view(635.0, early, &[]), session(2), Some(5_000));
    assert_eq!(back.missed.iter().map(|miss| miss.cycle).collect::<Vec<_>>(), [8, 9]);
    let late: &'static [Runner] = Box::leak(Box::new([runner(1, 0.0), runner(2, 640.0)]));
    let joined = plan(&view(659.0, late, &[]), session(2));
    assert!(begins(&joined) == Some(10) && joined.missed.is_empty());
    let spec = Spec { spread_margin: Duration::from_secs(15), ..setting.spec.clone() };
    let narrow: &'static Setting = Box::leak(Box::new(Setting { spec, ..setting.clone() }));
    let joined = plan(&View { setting: narrow, ..view(659.0, late, &[]) }, session(2));
    assert!(begins(&joined).is_none() && joined.missed.is_empty(), "{joined:?}");
    let there = plan(&View { setting: narrow, ..view(659.0, runners, &[]) }, session(2));
    assert_eq!(there.missed.iter().map(|miss| miss.cycle).collect::<Vec<_>>(), [10]);
}

/// A6: of a pause, and of a process that was stopped for a while, each runner's cycles are recorded as well.
#[test]
fn a6_what_each_runner_missed_is_recorded_with_its_reason() {
    let spec = Spec { mode: Mode::PerRunner, ..Spec::every(Duration::from_secs(60)) };
    let runners = [runner(1, 0.0)];
    let part = session(1).to_string();
    let mine = |cycle, outcome| Term { part: part.clone(), ..term(cycle, outcome) };
    let missed = |setting: &Setting, terms: &[Term], now| {
        let plan = look(setting, &runners, terms, None, now, 1);
        assert!(plan.missed.iter().all(|miss| miss.part == part));
        let rows =
            plan.missed.iter().map(|miss| (miss.cycle, miss.cycles, miss.reason.clone())).collect::<Vec<_>>();
        (rows, begins(&plan))
    };
    let stopped = missed(&setting(spec.clone()), &[mine(2, Outcome::Done)], 310.0);
    let nobody = |cycle| (cycle, 1, "no runner began it".to_owned());
    assert_eq!(stopped, (vec![nobody(3), nobody(4)], Some(5)));
    let paused = setting(spec.clone()).paused(&Owner::from_row("ops"), None, at(185.0)).unwrap();
    let why = |cycle| (cycle, 1, "paused".to_owned());
    assert_eq!(missed(&paused, &[mine(2, Outcome::Done)], 310.0), (vec![why(3), why(4)], None));
    let long = missed(&setting(spec), &[mine(2, Outcome::Done)], 60.0 * 1_000.0);
    assert_eq!((long.0.len(), long.0[0].0, long.0[0].1), (101, 3, 897));
}

#[test]
fn a_leader_leads_until_its_lease_is_gone() {
    let setting = setting(Spec { mode: Mode::Leader, ..Spec::every(Duration::ZERO) });
    let runners = [runner(1, 0.0), runner(2, 1.0)];
    assert!(begins(&look(&setting, &runners, &[], None, 5.0, 2)).is_some());
    let held = Some(held(7, 9.0));
    let plan = look(&setting, &runners, &[], held, 5.0, 2);
    assert_eq!(plan.next, Next::Look { at: at(9.0), on_release: true });
}

/// A5: work that falls over again and again is begun less and less often, wherever that is.
#[test]
fn a5_a_leader_whose_work_ends_is_followed_after_a_while() {
    let setting = setting(Spec { mode: Mode::Leader, ..Spec::every(Duration::ZERO) });
    let runners = [runner(1, 0.0), runner(2, 1.0)];
    let fell = |count: i64| -> Vec<Term> {
        (1..=count)
            .map(|n| Term {
                started_at: at(n as f64),
                ended_at: Some(at(n as f64 + 0.5)),
                ..term(n, Outcome::Failed)
            })
            .collect()
    };
    for (count, seconds) in [(1, 1.0), (2, 2.0), (3, 4.0), (9, 60.0)] {
        let terms = fell(count);
        let rested = count as f64 + 0.5 + seconds;
        let early = look(&setting, &runners, &terms, None, rested - 0.1, 2);
        assert_eq!(early.next, Next::Look { at: at(rested), on_release: false });
        assert!(begins(&look(&setting, &runners, &terms, None, rested, 2)).is_some());
    }
    let left = [term(1, Outcome::HandedOver)];
    assert!(
        begins(&look(&setting, &runners, &left, None, 62.0, 2)).is_some(),
        "who leaves makes way at once"
    );
}

#[test]
fn a_setting_is_read_back_as_it_was_written() {
    let by = Owner::from_row("ops");
    let spec = Spec {
        mode: Mode::PerRunner,
        on_missed: OnMissed::All,
        sticky: true,
        ..Spec::every(Duration::from_secs(9))
    };
    let full =
        setting(spec).paused(&by, Some("why".to_owned()), at(4.0)).unwrap().run_now(&by, at(5.0)).unwrap();
    assert_eq!(Setting::from_text(&full.to_text()), Some(full));
    assert_eq!(Setting::from_text("nonsense"), None);
    let again = minutely().declared(&Spec::every(Duration::from_secs(30)), at(70.0)).unwrap();
    assert_eq!(again.since, at(70.0), "another interval counts anew");
    assert!(minutely().declared(&Spec::every(Duration::from_secs(60)), at(70.0)).is_none());
}

#[test]
fn what_no_service_can_be_is_refused_when_it_is_declared() {
    let second = Duration::from_secs(1);
    let spec = |every, margin| {
        Spec { spread_margin: margin, ..Spec::every(every) }.check(second).map_err(|e| e.code())
    };
    assert_eq!(spec(Duration::ZERO, Duration::ZERO), Err(Code::IntervalInvalid));
    assert_eq!(spec(Duration::from_millis(999), Duration::ZERO), Err(Code::IntervalInvalid));
    assert_eq!(spec(limits::INTERVAL_MAX + second, Duration::ZERO), Err(Code::IntervalInvalid));
    assert_eq!(spec(second * 5, second * 5), Err(Code::MarginInvalid));
    assert_eq!(spec(second * 5, second * 6), Err(Code::MarginInvalid));
    assert_eq!(spec(second * 5, second * 4), Ok(()));
    let other = |mode, change: fn(&mut Spec)| {
        let mut spec =
            Spec { mode, ..Spec::every(if mode == Mode::Leader { Duration::ZERO } else { second * 5 }) };
        change(&mut spec);
        spec.check(second).map_err(|error| error.code())
    };
    let changes: [fn(&mut Spec); 5] = [
        |spec| spec.on_missed = OnMissed::All,
        |spec| spec.catch_up = Duration::from_secs(60),
        |spec| spec.sticky = true,
        |spec| spec.spread_margin = Duration::from_secs(1),
        |spec| spec.every = Duration::from_secs(9),
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        assert_eq!(other(Mode::Cycle, change), Ok(()));
        assert_eq!(other(Mode::Leader, change), Err(Code::ServiceInvalid));
        let expected = if nth < 3 { Err(Code::ServiceInvalid) } else { Ok(()) };
        assert_eq!(other(Mode::PerRunner, change), expected);
    }
    assert_eq!(other(Mode::Leader, |_| ()), Ok(()));
    let window = Spec { catch_up: Duration::ZERO, ..Spec::every(second) };
    assert_eq!(window.check(second).unwrap_err().code(), Code::CatchUpInvalid);
    assert_eq!([1, 5, 300].map(|s| Spec::every(second * s).ttl().as_secs()), [1, 5, 15]);
}

/// Terms a little longer than a slot, begun in the last one: each would end in the next runner's turn and keep it away
/// from it for ever.
#[test]
fn who_is_kept_from_his_turn_has_it_as_soon_as_the_lease_is_free() {
    let spec = Spec { spread_margin: Duration::from_secs(28), ..Spec::every(Duration::from_secs(60)) };
    let runners = [runner(0, 0.0), runner(1, 1.0)];
    let late = Term { started_at: at(30.0), ended_at: Some(at(62.0)), ..term(0, Outcome::Done) };
    let begins_at = |now: f64, me| {
        begins(&look(&setting(spec.clone()), &runners, core::slice::from_ref(&late), None, now, me))
    };
    assert_eq!([begins_at(63.0, 0), begins_at(63.0, 1)], [None, Some(1)]);
    let mut world =
        World::new(setting(spec), 2, Duration::from_secs(32), |n| if n == 0 { 50.0 } else { 40.0 });
    world.run_until(start_of(20, Duration::from_secs(60)));
    let ran: BTreeSet<u128> = world.begun.values().flatten().copied().collect();
    assert_eq!(ran.len(), 2, "{:?}", world.begun);
}

/// A cluster: who looks when, what is recorded, who has the lease.
struct World {
    setting: Setting,
    runners: Vec<Runner>,
    wakes: BTreeMap<u128, Timestamp>,
    terms: Vec<Term>,
    running: Option<(u128, Token, Timestamp)>,
    begun: BTreeMap<i64, Vec<u128>>,
    took: Duration,
    looks: u64,
}

impl World {
    fn new(setting: Setting, count: usize, took: Duration, phase: impl Fn(usize) -> f64) -> Self {
        let runners: Vec<Runner> = (0..count).map(|n| runner(n as u128, n as f64 * 0.001)).collect();
        let wakes = (0..count).map(|n| (n as u128, at(phase(n)))).collect();
        Self {
            setting,
            runners,
            wakes,
            terms: Vec::new(),
            running: None,
            begun: BTreeMap::new(),
            took,
            looks: 0,
        }
    }

    /// Lets the time pass until then; a term that ends wakes those who wait for that.
    fn run_until(&mut self, end: Timestamp) {
        let mut waiting = BTreeSet::new();
        loop {
            let next = self.wakes.iter().map(|(me, at)| (*at, *me)).min();
            let ends = self.running.map(|(_, _, ends)| ends);
            let Some((now, me)) = next.filter(|(at, _)| *at < end) else { return };
            if let Some(ends) = ends.filter(|ends| *ends <= now) {
                self.finish(ends);
                for me in core::mem::take(&mut waiting) {
                    self.wakes.insert(me, ends);
                }
                continue;
            }
            self.looks += 1;
            let held = self.running.map(|(_, token, ends)| Held { token, until: ends, is_poisoned: false });
            let order = order(self.runners.clone(), now);
            let view = View { now, setting: &self.setting, runners: &order, terms: &self.terms, held };
            let plan = plan(&view, session(me));
            assert!(plan.lost.is_empty(), "nobody has died");
            let service = ServiceName::from_row("s");
            self.terms.extend(plan.missed.into_iter().map(|miss| Term {
                cycles: miss.cycles,
                service: service.clone(),
                ..term(miss.cycle, Outcome::Missed)
            }));
            match plan.next {
                Next::Look { at, on_release } => {
                    assert!(at > now, "a look at once again: {at} {now}");
                    self.wakes.insert(me, at);
                    if on_release {
                        waiting.insert(me);
                    }
                }
                Next::Begin(begin) => {
                    assert!(self.running.is_none(), "two at once");
                    let token = Token::next(None, now);
                    self.begun.entry(begin.cycle).or_default().push(me);
                    self.terms.push(Term {
                        token,
                        started_at: now,
                        session: Some(session(me)),
                        ..term(begin.cycle, Outcome::Running)
                    });
                    let ends = now.after(self.took);
                    self.running = Some((me, token, ends));
                    self.wakes.insert(me, ends);
                }
            }
        }
    }

    fn finish(&mut self, ends: Timestamp) {
        if let Some(term) = self.terms.iter_mut().find(|term| term.outcome == Outcome::Running) {
            (term.outcome, term.ended_at) = (Outcome::Done, Some(ends));
        }
        self.running = None;
    }
}

/// W73, W75: also with two hundred of them, at whatever phases.
#[test]
fn w75_two_hundred_runners_run_each_cycle_once_and_all_have_a_turn() {
    let spec = Spec { spread_margin: Duration::from_secs(30), ..Spec::every(Duration::from_secs(60)) };
    let phase = |n: usize| (crate::backoff::mix(n as u64) % 60_000) as f64 / 1_000.0;
    let mut world = World::new(setting(spec), 200, Duration::from_millis(20), phase);
    world.run_until(start_of(202, Duration::from_secs(60)));
    assert!((1..201).all(|cycle| world.begun.get(&cycle).is_some_and(|who| who.len() == 1)));
    let ran: BTreeSet<u128> = world.begun.values().flatten().copied().collect();
    assert!(ran.len() >= 199, "somebody starves: {}", ran.len());
}

/// More where there is time.
fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(if std::env::var_os("ONCEWARD_PROVE").is_some() { 600 } else { 30 })
}

/// A number stands for one cycle, whatever the interval becomes: nobody takes an old row for that of today, and the
/// newest rows have the largest numbers.
#[test]
fn the_numbers_of_cycles_grow_whatever_the_interval_becomes() {
    let hours = |hours: u64| Spec::every(Duration::from_secs(hours * 3_600));
    let odd = Spec::every(Duration::from_secs(3_601));
    let leader = Spec { mode: Mode::Leader, ..hours(1) };
    let each = Spec { mode: Mode::PerRunner, ..hours(24) };
    let mut now = at(1_780_000_000.0);
    let mut setting = Setting::new(hours(1), now);
    let mut highest = setting.cycle_of(now);
    assert_eq!(setting.first, 0);
    for spec in [odd, hours(6), leader, hours(1), each, hours(6), Spec::every(Duration::from_secs(10))] {
        now = now.after(Duration::from_secs(90_000));
        highest = match setting.spec.mode {
            Mode::Leader => now.as_micros(),
            _ => setting.cycle_of(now).max(highest),
        };
        setting = setting.declared(&spec, now).unwrap();
        setting = Setting::from_text(&setting.to_text()).unwrap();
        if spec.mode != Mode::Leader {
            let cycle = setting.cycle_of(now);
            assert!(cycle > highest, "{spec:?}");
            let start = setting.start_of(cycle);
            assert!(start <= now && start.after(spec.every) > now, "cycles lie where they lay");
            assert_eq!(setting.cycle_of(now.after(spec.every)), cycle + 1);
        }
    }
    assert!(setting.declared(&setting.spec.clone(), now).is_none());
}

/// The interval becomes a second longer: of the cycles of today none has a row from before, and each is run.
#[test]
fn a_longer_interval_begins_at_once() {
    let mut world = World::new(minutely(), 3, Duration::from_secs(1), |n| n as f64 * 0.1);
    world.run_until(at(60.0 * 200.0));
    world.setting = world.setting.declared(&Spec::every(Duration::from_secs(61)), at(60.0 * 200.0)).unwrap();
    let before = world.begun.len();
    world.run_until(at(60.0 * 200.0 + 61.0 * 20.0));
    let new = world.begun.len() - before;
    assert!((19..=21).contains(&new), "{new}");
    assert!(world.begun.values().all(|who| who.len() == 1));
}

proptest! {
    #![proptest_config(cases())]

    /// W73, W75: any number of runners, any phase, any margin: each cycle is run exactly once, everybody has his turn.
    #[test]
    fn every_cycle_is_run_once_and_everybody_has_a_turn(
        count in 1_usize..=24, margin in 0_u64..59, phase in 0.0_f64..120.0, seed in any::<u64>(),
        took in 0_u64..40_000,
    ) {
        let spec = Spec { spread_margin: Duration::from_secs(margin), ..Spec::every(Duration::from_secs(60)) };
        let spread = move |n: usize| (crate::backoff::mix(seed ^ n as u64) % 1_000) as f64 / 1_000.0 * phase;
        let mut world = World::new(setting(spec), count, Duration::from_millis(took), spread);
        let cycles = 3 * count as i64 + 6;
        world.run_until(start_of(cycles, Duration::from_secs(60)));
        // The first cycles may have begun before anybody was there.
        let first = (phase / 60.0) as i64 + 1;
        for cycle in first..cycles - 1 {
            prop_assert_eq!(world.begun.get(&cycle).map_or(0, Vec::len), 1, "cycle {}", cycle);
        }
        let ran: BTreeSet<u128> = world.begun.range(first..).flat_map(|(_, who)| who).copied().collect();
        prop_assert_eq!(ran.len(), count, "somebody starves");
        // About one look per runner and cycle.
        prop_assert!(world.looks <= (cycles as u64 + 3) * (2 * count as u64 + 4), "{} looks", world.looks);
    }

    /// A6: terms that take longer than a cycle: no two at once, and every cycle is run or recorded.
    #[test]
    fn overruns_leave_no_cycle_without_a_row(
        count in 1_usize..=12, took in 20_u64..400, on_missed in prop_oneof![
            Just(OnMissed::Skip), Just(OnMissed::One), Just(OnMissed::All)
        ],
    ) {
        let spec = Spec { on_missed, ..Spec::every(Duration::from_secs(60)) };
        let mut world = World::new(setting(spec), count, Duration::from_secs(took), |n| n as f64 * 0.01);
        world.run_until(start_of(60, Duration::from_secs(60)));
        let mut rows: Vec<(i64, i64)> = world.terms.iter().map(|term| (term.cycle, term.cycles)).collect();
        rows.sort_unstable();
        rows.dedup();
        let last = rows.iter().map(|(cycle, cycles)| cycle + cycles).max().unwrap();
        let mut next = 0;
        for (cycle, cycles) in rows {
            prop_assert_eq!(cycle, next, "a cycle without a row, or with two");
            next = cycle + cycles;
        }
        prop_assert_eq!(next, last);
        prop_assert!(on_missed == OnMissed::All || last >= 60 - 2 - took as i64 / 60);
    }
}
