//! What was declared, paused and asked for, and is something else by now.

use super::*;

fn ops() -> Owner {
    Owner::from_row("ops")
}

/// Pauses that have ended since: none of their cycles is made up for, and each has its reason.
#[test]
fn of_several_pauses_none_is_made_up_for() {
    let runners = [runner(1, 0.0)];
    let run = |on_missed, twice: bool| {
        let spec = Spec { on_missed, ..Spec::every(Duration::from_secs(60)) };
        let paused = |setting: &Setting, from, until| {
            setting.paused(&ops(), None, at(from)).unwrap().resumed(at(until)).unwrap()
        };
        // Cycles 3 and 4; then 6 to 8.
        let mut setting = paused(&setting(spec), 185.0, 301.0);
        if twice {
            setting = paused(&setting, 365.0, 541.0);
        }
        let setting = Setting::from_text(&setting.to_text()).unwrap();
        let plan = look(&setting, &runners, &[term(2, Outcome::Done)], None, 545.0, 1);
        let missed = plan.missed.iter().map(|miss| (miss.cycle, miss.reason == "paused")).collect::<Vec<_>>();
        (missed, begins(&plan))
    };
    let first = vec![(3, true), (4, true)];
    assert_eq!(run(OnMissed::All, true), (first.clone(), Some(5)));
    assert_eq!(run(OnMissed::One, true), (first.clone(), Some(5)));
    let skipped = [first.clone(), vec![(5, false), (6, true), (7, true), (8, true)]].concat();
    assert_eq!(run(OnMissed::Skip, true), (skipped, Some(9)));
    assert_eq!(run(OnMissed::All, false), (first, Some(5)));
}

/// They are forgotten once nothing is made up for that far back, and there are never many of them.
#[test]
fn old_pauses_are_forgotten() {
    let spec = Spec { catch_up: Duration::from_secs(600), ..Spec::every(Duration::from_secs(60)) };
    let mut setting = setting(spec);
    for n in 0..100 {
        setting = setting.paused(&ops(), None, at(n as f64 * 10.0)).unwrap();
        setting = setting.resumed(at(n as f64 * 10.0 + 5.0)).unwrap();
    }
    assert_eq!(setting.pauses.len(), limits::PAUSES_MAX);
    assert!(setting.paused_at(at(992.0)).is_some() && setting.paused_at(at(997.0)).is_none());
    let later = setting.paused(&ops(), Some("why".to_owned()), at(9_000.0)).unwrap();
    assert_eq!((later.pauses.len(), later.pause().unwrap().reason.as_deref()), (1, Some("why")));
}

/// A program of before has kept the last pause alone, and not in which cycle something was asked for.
#[test]
fn what_was_written_before_is_read() {
    let text = r#"{"every_us":60000000,"catch_up_us":86400000000,"since_us":0,
        "pause":{"at_us":5000000,"until_us":null,"by":"ops","reason":null},
        "asked":[{"number":1,"at_us":125000000,"by":"ops"}],"runs":1}"#;
    let setting = Setting::from_text(text).unwrap();
    assert!(setting.is_paused() && setting.paused_at(at(9.0)).is_some());
    assert_eq!(setting.asked[0].cycle, 2);
}

/// A run that was asked for has one row, also where the interval is another one when it is begun once more.
#[test]
fn a_run_that_was_asked_for_keeps_its_cycle_over_a_new_interval() {
    let asked = minutely().run_now(&ops(), at(605.0)).unwrap();
    for (every, runners) in
        [(Duration::from_secs(3_600), [runner(1, 0.0)]), (Duration::from_secs(10), [runner(1, 0.0)])]
    {
        let again = asked.declared(&Spec::every(every), at(610.0)).unwrap();
        let again = Setting::from_text(&again.to_text()).unwrap();
        let Next::Begin(begin) = look(&again, &runners, &[], None, 611.0, 1).next else {
            panic!("{again:?}")
        };
        assert_eq!((begin.cycle, begin.part.as_str()), (10, "asked-1"));
        let ago = at(605.0).since(begin.due_at);
        assert!(begin.due_at <= at(605.0) && ago < every, "{begin:?}");
    }
}
