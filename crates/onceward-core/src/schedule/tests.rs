//! Ticks, their days of changed clocks, and what is made up for.

use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::job::{New, Payload};
use crate::{Code, Kind, Owner};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(text: &str) -> When {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The ticks between two times, each checked to come after the one before.
fn ticks(when: &When, from: &str, until: &str) -> Vec<String> {
    let until = at(until);
    core::iter::successors(when.next_after(at(from)), |tick| when.next_after(*tick))
        .take_while(|tick| *tick < until)
        .map(|tick| tick.to_string().replace(".000000", ""))
        .collect()
}

/// N20, J12: a fixed time of day comes once a day, also on the two days on which clocks are changed.
#[test]
fn a_daily_time_comes_once_on_the_days_on_which_clocks_are_changed() {
    for (pattern, from, until, expected) in [
        // Berlin leaves 02:00 to 03:00 out on 29 March 2026, and has it twice on 25 October.
        (
            "30 2 * * * Europe/Berlin",
            "2026-03-28T00:00:00Z",
            "2026-03-31T00:00:00Z",
            vec!["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        (
            "30 2 * * * Europe/Berlin",
            "2026-10-24T00:00:00Z",
            "2026-10-27T00:00:00Z",
            vec!["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        // Lord Howe goes forward by half an hour on 4 October 2026, and back on 5 April.
        (
            "15 2 * * * Australia/Lord_Howe",
            "2026-10-02T20:00:00Z",
            "2026-10-05T00:00:00Z",
            vec!["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        ),
        (
            "45 1 * * * Australia/Lord_Howe",
            "2026-04-03T20:00:00Z",
            "2026-04-06T00:00:00Z",
            vec!["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        ),
        // Sao Paulo changed its clocks at midnight until 2019; since then it does not.
        (
            "30 0 * * * America/Sao_Paulo",
            "2018-11-03T00:00:00Z",
            "2018-11-06T00:00:00Z",
            vec!["2018-11-03T03:30:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:30:00Z"],
        ),
        (
            "30 23 * * * America/Sao_Paulo",
            "2019-02-16T00:00:00Z",
            "2019-02-19T00:00:00Z",
            vec!["2019-02-16T01:30:00Z", "2019-02-17T01:30:00Z", "2019-02-18T02:30:00Z"],
        ),
        (
            "30 2 * * * America/Sao_Paulo",
            "2026-10-17T00:00:00Z",
            "2026-10-20T00:00:00Z",
            vec!["2026-10-17T05:30:00Z", "2026-10-18T05:30:00Z", "2026-10-19T05:30:00Z"],
        ),
    ] {
        assert_eq!(ticks(&cron(pattern), from, until), expected, "{pattern} from {from}");
    }
}

/// N20, J12: so does each time of a list, a range or a step. What is left out comes once, at the first moment after the
/// gap.
#[test]
fn each_time_of_a_pattern_that_names_hours_comes_once_a_day() {
    let day = |pattern: &str, from: &str, until: &str| -> Vec<String> {
        ticks(&cron(pattern), from, until).iter().map(|tick| tick[11..19].to_owned()).collect()
    };
    let (spring, autumn) =
        (["2026-03-28T22:59:59Z", "2026-03-29T22:00:00Z"], ["2026-10-24T21:59:59Z", "2026-10-25T23:00:00Z"]);
    for (pattern, [from, until], expected) in [
        ("0 2,14 * * * Europe/Berlin", spring, vec!["01:00:00", "12:00:00"]),
        ("0 2,14 * * * Europe/Berlin", autumn, vec!["00:00:00", "13:00:00"]),
        ("0 1-4 * * * Europe/Berlin", spring, vec!["00:00:00", "01:00:00", "02:00:00"]),
        ("0 1-4 * * * Europe/Berlin", autumn, vec!["23:00:00", "00:00:00", "02:00:00", "03:00:00"]),
        ("*/15 2 * * * Europe/Berlin", spring, vec!["01:00:00"]),
        ("*/15 2 * * * Europe/Berlin", autumn, vec!["00:00:00", "00:15:00", "00:30:00", "00:45:00"]),
        ("30 */12 * * * Europe/Berlin", spring, vec!["23:30:00", "10:30:00"]),
        ("30 */12 * * * Europe/Berlin", autumn, vec!["22:30:00", "11:30:00"]),
        ("0 30 2,3 * * * Europe/Berlin", spring, vec!["01:00:00", "01:30:00"]),
        ("30 2-2 * * * Europe/Berlin", autumn, vec!["00:30:00"]),
    ] {
        assert_eq!(day(pattern, from, until), expected, "{pattern} from {from}");
    }
    // Lord Howe moves by half an hour: 02:00 to 02:30 is left out, 01:30 to 02:00 comes twice.
    let (spring, autumn) =
        (["2026-10-03T13:29:59Z", "2026-10-04T13:00:00Z"], ["2026-04-04T12:59:59Z", "2026-04-05T13:30:00Z"]);
    for (pattern, [from, until], expected) in [
        (
            "*/15 1,2 * * * Australia/Lord_Howe",
            spring,
            vec!["14:30:00", "14:45:00", "15:00:00", "15:15:00", "15:30:00", "15:45:00"],
        ),
        (
            "*/15 1,2 * * * Australia/Lord_Howe",
            autumn,
            vec![
                "14:00:00", "14:15:00", "14:30:00", "14:45:00", "15:30:00", "15:45:00", "16:00:00",
                "16:15:00",
            ],
        ),
        ("15 2,14 * * * Australia/Lord_Howe", spring, vec!["15:30:00", "03:15:00"]),
    ] {
        assert_eq!(day(pattern, from, until), expected, "{pattern} from {from}");
    }
    // In Sao Paulo midnight was left out in November 2018, and 23:00 to midnight came twice in February 2019.
    for (pattern, [from, until], expected) in [
        (
            "30 0,12 * * * America/Sao_Paulo",
            ["2018-11-04T02:59:59Z", "2018-11-05T02:00:00Z"],
            vec!["03:00:00", "14:30:00"],
        ),
        (
            "*/30 0 * * * America/Sao_Paulo",
            ["2018-11-04T02:59:59Z", "2018-11-05T02:00:00Z"],
            vec!["03:00:00"],
        ),
        (
            "30 11,23 * * * America/Sao_Paulo",
            ["2019-02-16T02:00:00Z", "2019-02-17T03:00:00Z"],
            vec!["13:30:00", "01:30:00"],
        ),
    ] {
        assert_eq!(day(pattern, from, until), expected, "{pattern} from {from}");
    }
}

#[test]
fn a_pattern_that_names_no_hour_follows_the_hours_that_pass() {
    let days = [
        ("Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z"),
        ("Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T02:00:00Z", "2018-11-04T05:00:00Z"),
        ("America/Sao_Paulo", "2019-02-17T01:00:00Z", "2019-02-17T04:00:00Z"),
    ];
    for (zone, from, until) in days {
        for (pattern, count) in
            [("30 * * * *", 3), ("*/10 * * * *", 17), ("0 30 * * * *", 3), ("10,40 */1 * * *", 6)]
        {
            let found = ticks(&cron(&format!("{pattern} {zone}")), from, until);
            assert_eq!(found.len(), count, "{pattern} {zone} from {from}: {found:?}");
        }
    }
    // Half an hour is left out, and comes twice.
    let lord_howe = |from, until| ticks(&cron("45 * * * * Australia/Lord_Howe"), from, until);
    assert_eq!(
        lord_howe("2026-10-03T14:00:00Z", "2026-10-03T16:00:00Z"),
        ["2026-10-03T14:15:00Z", "2026-10-03T15:15:00Z", "2026-10-03T15:45:00Z"].map(str::to_owned)
    );
    assert_eq!(
        lord_howe("2026-04-04T14:00:00Z", "2026-04-04T16:00:00Z"),
        ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"].map(str::to_owned)
    );
}

/// J12: a run that was asked for by hand is one of those that the next tick finds before it, and hides none of them.
#[test]
fn what_was_asked_for_by_hand_stands_beside_the_last_tick() {
    let mut row = schedule("0 2 * * *");
    row.definition.overlap = Overlap::CancelPrevious;
    let (first, second, third) =
        (row.next_at.unwrap(), at("2026-01-02T02:00:00Z"), at("2026-01-03T02:00:00Z"));
    let once = row.fired(Some(Last { tick: first, job: row.job(first).id }), Some(second));
    let (by_hand, job) = once.triggered(at("2026-01-01T12:00:00Z"));
    assert_eq!(by_hand.last, once.last);
    assert_eq!(by_hand.before().collect::<Vec<_>>(), [row.job(first).id, job.id]);
    let twice = by_hand.fired(Some(Last { tick: second, job: row.job(second).id }), Some(third));
    assert_eq!(twice.owed.unwrap().jobs, [row.job(first).id, job.id]);
    assert!(twice.by_hand.is_empty());
    let many = (0..40)
        .fold(once, |row, n| row.triggered(at("2026-01-01T12:00:00Z").after(Duration::from_secs(n))).0);
    assert_eq!((many.by_hand.len(), many.triggered), (16, 40));
    let bytes = many.definition.target.payload.bytes.clone();
    let read = Schedule::from_row(
        many.namespace.clone(),
        many.name.clone(),
        many.version,
        many.next_at,
        &many.to_text(),
        bytes,
    );
    assert_eq!(read.unwrap(), many);
}

/// J12, N17: fired while the clock was ahead, a schedule comes back; one that stands where it should is left alone.
#[test]
fn n17_a_schedule_of_a_time_that_has_not_come_is_recalled() {
    let mut row = schedule("0 2 * * *");
    let (now, ahead) = (at("2026-01-01T00:30:00Z"), at("2026-03-01T02:00:00Z"));
    assert_eq!(row.recalled(now), None);
    let last = Some(Last { tick: ahead, job: row.job(ahead).id });
    // A tick too far is what a clock that goes back by a little leaves behind.
    assert_eq!(row.fired(last, Some(at("2026-01-02T02:00:00Z"))).recalled(now), None);
    let fired = row.fired(last, Some(at("2026-03-02T02:00:00Z")));
    let back = fired.recalled(now).unwrap();
    assert_eq!((back.next_at, back.last), (Some(at("2026-01-01T02:00:00Z")), last));
    assert_eq!(back.recalled(now), None);
    let paused = fired.paused(&Owner::from_row("ops"), None, now).unwrap();
    assert_eq!(paused.recalled(now), None);
    // What was owed then is due at once.
    row.definition.overlap = Overlap::CancelPrevious;
    let before = row.fired(Some(Last { tick: now, job: row.job(now).id }), Some(ahead));
    let owed = before.fired(last, Some(at("2026-03-02T02:00:00Z")));
    assert_eq!(owed.next_at, Some(ahead));
    let back = owed.recalled(now).unwrap();
    assert_eq!((back.next_at, back.settled().next_at), (Some(now), Some(at("2026-01-01T02:00:00Z"))));
    let once = schedule("at 2026-06-01T00:00:00Z");
    assert_eq!(once.recalled(now), None);
}

#[test]
fn a_single_time_that_would_never_be_enqueued_is_refused() {
    let definition = |when: &str, policy: OnMissed| Definition {
        on_missed: policy,
        window: policy.window(),
        ..schedule(when).definition
    };
    let now = at("2026-01-03T00:00:00Z");
    let code = |when, policy| definition(when, policy).check_time(now).map_err(|error| error.code());
    assert_eq!(code("at 2026-01-01T00:00:00Z", OnMissed::One), Err(Code::CronInvalid));
    assert_eq!(code("at 2026-01-02T12:00:00Z", OnMissed::Skip), Err(Code::CronInvalid));
    assert_eq!(code("at 2026-01-02T12:00:00Z", OnMissed::One), Ok(()));
    assert_eq!(code("at 2026-01-09T12:00:00Z", OnMissed::Skip), Ok(()));
    assert_eq!(code("0 2 * * *", OnMissed::Skip), Ok(()));
}

#[test]
fn five_fields_six_fields_zones_intervals_and_single_times_are_read() {
    for (text, next) in [
        ("0 2 * * *", "2026-01-01T02:00:00Z"),
        ("*/10 * * * * *", "2026-01-01T00:00:10Z"),
        ("30 9 * * MON-FRI America/New_York", "2026-01-01T14:30:00Z"),
        ("0 30 9 * * MON Europe/Berlin", "2026-01-05T08:30:00Z"),
        ("0 12 * * SUN", "2026-01-04T12:00:00Z"),
        ("0 12 * * * UTC", "2026-01-01T12:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("0 0 L * *", "2026-01-31T00:00:00Z"),
        ("every 5m", "2026-01-01T00:05:00Z"),
        ("at 2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ] {
        assert_eq!(cron(text).next_after(at("2026-01-01T00:00:00Z")), Some(at(next)), "{text}");
        assert_eq!(cron(text), cron(&cron(text).to_string()), "{text}");
    }
}

#[test]
fn what_can_never_be_due_is_refused_when_it_is_declared() {
    for (text, code) in [
        ("0 0 30 2 *", Code::CronInvalid),
        ("0 0 31 4,6,9,11 *", Code::CronInvalid),
        ("61 * * * *", Code::CronInvalid),
        ("* * * *", Code::CronInvalid),
        ("* * * * * * *", Code::ZoneUnknown),
        ("", Code::CronInvalid),
        // It could be written down and not be read again.
        ("@daily", Code::CronInvalid),
        ("nonsense", Code::CronInvalid),
        ("0 2 * * * Europe/Atlantis", Code::ZoneUnknown),
        ("0 0 2 * * * Mars/Olympus", Code::ZoneUnknown),
        ("every 0s", Code::IntervalInvalid),
        ("every 10ms", Code::IntervalInvalid),
        ("every 400 days", Code::IntervalInvalid),
        ("every soon", Code::DurationInvalid),
        ("at 9999-01-01T00:00:00Z", Code::CronInvalid),
        ("at 1969-01-01T00:00:00Z", Code::CronInvalid),
        ("at noon", Code::DelayInvalid),
    ] {
        let found = text.parse::<When>();
        assert_eq!(found.clone().map_err(|error| error.code()), Err(code), "{text:?} {found:?}");
    }
    assert!("0 0 1 1 *".repeat(80).parse::<When>().is_err());
}

fn due_of(
    text: &str,
    next: &str,
    now: &str,
    policy: OnMissed,
    window: u64,
) -> (Vec<String>, bool, Option<Timestamp>) {
    let due = due(&cron(text), at(next), at(now), policy, Duration::from_secs(window), 100);
    let ticks = due.ticks.iter().map(|tick| tick.to_string()[11..16].to_owned()).collect();
    (ticks, due.passed_over, due.next)
}

#[test]
fn missed_ticks_are_made_up_for_as_the_policy_says() {
    let (next, now) = ("2026-01-01T02:00:00Z", "2026-01-01T05:30:00Z");
    let hourly = |policy, window| due_of("0 * * * *", next, now, policy, window);
    let after = Some(at("2026-01-01T06:00:00Z"));
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(hourly(OnMissed::Skip, 60), (vec![], true, after));
    assert_eq!(hourly(OnMissed::Skip, 1_800), (texts(&["05:00"]), true, after));
    assert_eq!(hourly(OnMissed::One, 86_400), (texts(&["05:00"]), true, after));
    assert_eq!(hourly(OnMissed::One, 60), (vec![], true, after));
    assert_eq!(hourly(OnMissed::All, 86_400), (texts(&["02:00", "03:00", "04:00", "05:00"]), false, after));
    assert_eq!(hourly(OnMissed::All, 5_400), (texts(&["04:00", "05:00"]), true, after));
    // On time, and not due yet.
    for policy in [OnMissed::Skip, OnMissed::One, OnMissed::All] {
        let on_time = due_of("0 * * * *", next, "2026-01-01T02:00:00Z", policy, 60);
        assert_eq!(on_time, (texts(&["02:00"]), false, Some(at("2026-01-01T03:00:00Z"))));
        assert_eq!(due_of("0 * * * *", next, "2026-01-01T01:59:59Z", policy, 60).0, texts(&[]));
    }
}

#[test]
fn a_long_outage_of_a_schedule_by_the_second_is_over_at_once() {
    let (next, now) = (at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    let year = Duration::from_secs(366 * 86_400);
    let one = due(&cron("* * * * * *"), next, now, OnMissed::One, year, 100);
    assert_eq!((one.ticks, one.next), (vec![now], Some(now.after(Duration::from_secs(1)))));
    let all = due(&cron("* * * * * *"), next, now, OnMissed::All, year, 100);
    assert_eq!((all.ticks.len(), all.next), (100, Some(next.after(Duration::from_secs(100)))));
}

fn schedule(when: &str) -> Schedule {
    let id = JobId::from_uuid(uuid::Uuid::nil());
    let payload = Payload { bytes: b"{}".to_vec(), content_type: "application/json".to_owned() };
    let mut new = New::of_kind(Namespace::default(), id, Kind::from_row("report"), payload);
    new.priority = 7;
    new.policy.max_attempts = 3;
    let definition = Definition::new(cron(when), Target::of(&new));
    Schedule::new(
        Namespace::default(),
        ScheduleName::from_row("nightly"),
        definition,
        at("2026-01-01T00:00:00Z"),
    )
}

#[test]
fn a_schedule_is_read_back_as_it_was_written() {
    let by = Owner::from_row("ops");
    let full = schedule("0 2 * * * Europe/Berlin");
    let (full, job) = full.triggered(at("2026-01-01T00:30:00Z"));
    let full = full.paused(&by, Some("why".to_owned()), at("2026-01-01T01:00:00Z")).unwrap();
    assert_eq!((job.priority, job.policy.max_attempts), (7, 3));
    let read = Schedule::from_row(
        full.namespace.clone(),
        full.name.clone(),
        full.version,
        full.next_at,
        &full.to_text(),
        full.definition.target.payload.bytes.clone(),
    );
    assert_eq!(read.unwrap(), full);
}

#[test]
fn a_pause_is_not_made_up_for_and_another_time_begins_anew() {
    let by = Owner::from_row("ops");
    let row = schedule("0 2 * * *");
    assert_eq!(row.next_at, Some(at("2026-01-01T02:00:00Z")));
    let paused = row.paused(&by, None, at("2026-01-01T01:00:00Z")).unwrap();
    assert!(paused.next_at.is_none() && paused.paused(&by, None, at("2026-01-01T01:00:00Z")).is_none());
    let resumed = paused.resumed(at("2026-01-09T01:00:00Z")).unwrap();
    assert_eq!(resumed.next_at, Some(at("2026-01-09T02:00:00Z")));
    let now = at("2026-01-09T01:30:00Z");
    let other = Definition { when: cron("0 3 * * *"), ..row.definition.clone() };
    assert_eq!(resumed.declared(&other, now).next_at, Some(at("2026-01-09T03:00:00Z")));
    let other = Definition { jitter: Duration::from_secs(9), ..row.definition.clone() };
    assert_eq!(row.declared(&other, now).next_at, row.next_at);
}

/// What is to be cancelled stands in the row until that is done, whatever is changed meanwhile.
#[test]
fn what_is_owed_makes_a_schedule_due_until_it_is_settled() {
    let mut row = schedule("0 2 * * *");
    row.definition.overlap = Overlap::CancelPrevious;
    let (first, second, third) =
        (row.next_at.unwrap(), at("2026-01-02T02:00:00Z"), at("2026-01-03T02:00:00Z"));
    let fire = |row: &Schedule, tick, next| row.fired(Some(Last { tick, job: row.job(tick).id }), Some(next));
    let once = fire(&row, first, second);
    assert_eq!((once.owed.clone(), once.next_at), (None, Some(second)), "there is no job before it");
    let twice = fire(&once, second, third);
    assert_eq!((twice.owed.clone().unwrap().jobs, twice.next_at), (vec![row.job(first).id], Some(second)));
    let read = |row: &Schedule| {
        let bytes = row.definition.target.payload.bytes.clone();
        let (namespace, name) = (row.namespace.clone(), row.name.clone());
        Schedule::from_row(namespace, name, row.version, row.next_at, &row.to_text(), bytes).unwrap()
    };
    assert_eq!(read(&twice), twice);
    assert_eq!((twice.settled().owed, twice.settled().next_at), (None, Some(third)));
    let paused = twice.paused(&Owner::from_row("ops"), None, second).unwrap();
    assert_eq!((paused.next_at, paused.settled().next_at), (Some(second), None));
    let resumed = paused.resumed(second).unwrap();
    assert_eq!((resumed.next_at, resumed.settled().next_at), (Some(second), Some(third)));
    let other = Definition { when: cron("0 3 * * *"), ..row.definition };
    assert_eq!(twice.declared(&other, second).settled().next_at, Some(at("2026-01-02T03:00:00Z")));
    assert_eq!(twice.fired(None, Some(third)).owed, twice.owed, "a look at which nothing is enqueued");
}

/// W74: a schedule by the minute has 1,440 ticks a day, however many runners look, and whenever they do.
#[test]
fn w74_every_minute_of_a_day_is_a_tick_whoever_looks() {
    let when = cron("* * * * *");
    let begin = at("2026-05-05T00:00:00Z");
    for (runners, policy) in
        [1_u64, 2, 5, 50].into_iter().flat_map(|n| [(n, OnMissed::One), (n, OnMissed::All)])
    {
        // Each looks every minute at a second of its own; who sees that a tick is due moves the schedule on.
        let phases = (0..runners).map(|n| mix(n) % 60_000);
        let phases: std::collections::BTreeSet<u64> = phases.collect();
        let (mut next, mut found) = (when.next_after(begin), Vec::new());
        for minute in 0..1_441 {
            for phase in &phases {
                let now = begin.after(Duration::from_millis(minute * 60_000 + phase));
                let Some(tick) = next.filter(|tick| *tick <= now) else { continue };
                let due = due(&when, tick, now, policy, policy.window(), 100);
                found.extend(due.ticks);
                next = due.next;
            }
        }
        let first = begin.after(Duration::from_secs(60));
        let expected: Vec<Timestamp> = (0..1_440).map(|n| first.after(Duration::from_secs(60 * n))).collect();
        assert_eq!(found, expected, "{runners} runners");
    }
}

/// J12: whoever enqueues a tick, it is the same job.
#[test]
fn the_job_of_a_tick_has_one_id_and_others_have_other_ones() {
    let row = schedule("0 2 * * *");
    let tick = row.next_at.unwrap();
    assert_eq!(row.job(tick).id, schedule("0 2 * * *").job(tick).id);
    let other = Schedule { name: ScheduleName::from_row("hourly"), ..row.clone() };
    let again = Schedule { created_at: tick, ..schedule("0 2 * * *") };
    let ids = [
        row.job(tick),
        other.job(tick),
        again.job(tick),
        row.job(tick.after(Duration::from_secs(1))),
        row.triggered(tick).1,
    ]
    .map(|job| job.id);
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len());
    assert_eq!(ids[0].as_uuid().get_version_num(), 7);
}

#[test]
fn jitter_is_the_same_for_all_and_below_its_bound() {
    let mut row = schedule("0 2 * * *");
    row.definition.jitter = Duration::from_secs(600);
    let tick = row.next_at.unwrap();
    let late: Vec<Duration> = (0..50)
        .map(|day| tick.after(Duration::from_secs(day * 86_400)))
        .map(|tick| row.job(tick).run_at.unwrap_or(tick).since(tick))
        .collect();
    assert!(late.iter().all(|late| *late < Duration::from_secs(600)) && late[0] != late[1]);
    row.definition.overlap = Overlap::Queue;
    assert_eq!(row.job(tick).ordering_key.unwrap().as_str(), "schedule:nightly");
    row.definition.jitter = Duration::from_secs(90_000);
    assert_eq!(row.definition.check(&row.namespace).unwrap_err().code(), Code::JitterInvalid);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// J12: however the looks lie, each tick within the window is named once, in its order.
    #[test]
    fn looks_at_any_time_name_each_tick_once(
        gaps in proptest::collection::vec(1_u64..20_000, 1..30), limit in 1_usize..5,
        pattern in prop_oneof![Just("*/7 * * * * Europe/Berlin"), Just("0 2 * * * Europe/Berlin"), Just("every 9m")],
        start in 0_u64..31_536_000,
    ) {
        let when = cron(pattern);
        let begin = at("2026-01-01T00:00:00Z").after(Duration::from_secs(start));
        let (mut now, mut found) = (begin, Vec::new());
        let mut next = when.next_after(now);
        for gap in gaps {
            now = now.after(Duration::from_secs(gap));
            while let Some(tick) = next.filter(|tick| *tick <= now) {
                let due = due(&when, tick, now, OnMissed::All, Duration::from_secs(31_536_000), limit);
                prop_assert!(!due.ticks.is_empty() && !due.passed_over);
                found.extend(due.ticks);
                next = due.next;
            }
        }
        let expected: Vec<_> = core::iter::successors(when.next_after(begin), |tick| when.next_after(*tick))
            .take_while(|tick| *tick <= now).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_text_panics(text in "[0-9*/,LW# A-Za-z-]{0,40}") {
        let _ = text.parse::<When>();
    }
}
