//! `onceward service`: one command, many hosts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::place::{Place, Running, is_alive, wait_until};

const SCRIPT: &str = "echo $ONCEWARD_SERVICE $ONCEWARD_CYCLE $ONCEWARD_FENCING_TOKEN >> ledger";

fn args<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["service", "--name", "tick"], options, &["--", "sh", "-c", script]].concat()
}

fn ledger(place: &Place) -> Vec<(i64, i64)> {
    let of = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[1].parse().unwrap(), words[2].parse().unwrap())
    };
    place.read("ledger").lines().map(of).collect()
}

/// A1
#[test]
fn a1_started_on_three_hosts_it_runs_once_per_cycle() {
    let place = Place::new();
    let options = ["--every", "1s", "--spread-margin", "100ms", "--session-ttl", "6s"];
    let hosts: Vec<Running> = (0..3).map(|_| place.start(&args(&options, SCRIPT))).collect();
    wait_until("four cycles", || ledger(&place).len() >= 4);
    let runners = place.json(&["runners", "list"]);
    assert_eq!(runners.as_array().unwrap().len(), 3);
    let last: Vec<&Value> = runners.as_array().unwrap().iter().filter_map(|row| row["last"].get(0)).collect();
    let ended = |term: &&&Value| term["ended_at"].as_str() >= term["started_at"].as_str();
    assert!(last.iter().filter(ended).count() >= 2, "four cycles were run by more than one: {runners}");
    assert!(last.iter().all(|term| term["service"] == "tick" && term["started_at"].is_string()), "{runners}");
    let text = place.run(&["runners", "list"]).text();
    assert!(text.contains("LAST BEGAN") && text.contains("done"), "{text}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(text.contains("VERSION") && text.contains("KINDS") && text.contains(version), "{text}");
    for runner in runners.as_array().unwrap() {
        let said = (&runner["version"], &runner["kinds"], &runner["tags"], &runner["services"]);
        let empty = Value::Array(Vec::new());
        assert_eq!(said, (&version.into(), &empty, &empty, &serde_json::json!(["tick"])), "{runner}");
    }
    let show = || place.json(&["services", "show", "tick"]);
    wait_until("three slots", || show()["slots"].as_array().unwrap().len() == 3);
    let shown = show();
    assert_eq!((shown["every_ms"].as_i64(), shown["mode"].as_str()), (Some(1_000), Some("cycle")));
    let text = place.run(&["services", "show", "tick"]).text();
    assert!(text.contains('='), "{text}");
    let columns = |of: &str| {
        text.lines().find(|line| line.starts_with(of)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(columns("RUNNER"), ["RUNNER", "FROM", "UNTIL", "LONG", "MARGIN", "THIS", "CYCLE"]);
    assert_eq!(columns("CYCLE"), ["CYCLE", "DUE", "OUTCOME", "RUNNER", "TOKEN", "STARTED", "TOOK", "WHY"]);
    for slot in shown["slots"].as_array().unwrap() {
        let owner = slot["owner"].as_str().unwrap();
        // One that could not be renewed in time, on a slow machine, is not there a moment later.
        let Some(line) = text.lines().find(|line| line.starts_with(owner)) else { continue };
        let words: Vec<&str> = line.split_whitespace().collect();
        // Who, from when, until when, how long, how much is left free, and where that lies in the cycle.
        let [_, from, until, long @ .., margin, drawn] = &words[..] else { panic!("{line}") };
        let [from, until] = [from, until].map(|at| at.parse::<onceward_core::Timestamp>().unwrap());
        assert!(until > from && until.since(from) < Duration::from_secs(1), "{line}");
        assert!(long[0].ends_with("ms") && *margin == "100ms" && drawn.len() == 40, "{line}");
        assert!(drawn.contains('=') && drawn.matches('|').count() <= 1, "{line}");
    }
    for host in hosts {
        host.signal(Signal::TERM);
        assert_eq!(host.end().code, 0);
    }
    let ran = ledger(&place);
    assert!(ran.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "{ran:?}");
    assert_eq!(place.json(&["runners", "list"]).as_array().unwrap().len(), 0, "they have left in order");
    let history = place.run(&["services", "history", "tick"]).text();
    assert!(history.contains("done"), "{history}");
}

#[test]
fn a_service_is_paused_run_now_and_resumed_from_the_shell() {
    let place = Place::new();
    place.run(&["services", "pause", "tick"]).refused(2, "OW1004");
    place.run(&args(&["--every", "0s"], "true")).refused(2, "OW1002");
    place.run(&args(&["--every", "5m", "--spread-margin", "6m"], "true")).refused(2, "OW1003");
    place.run(&args(&["--every", "soon"], "true")).refused(2, "OW0105");
    place.run(&args(&["--every", "5m", "--lock-delay", "2h"], "true")).refused(2, "OW0112");
    place.run(&args(&["--every", "5m", "--per-runner", "--on-missed", "all"], "true")).refused(2, "OW1010");
    place.run(&args(&["--every", "5m", "--per-runner", "--sticky"], "true")).refused(2, "OW1010");
    place.run(&args(&["--always-on", "--catch-up", "2h"], "true")).refused(2, "OW1010");
    place.run(&args(&["--always-on", "--spread-margin", "2s"], "true")).refused(2, "OW1010");
    let host = place.start(&args(&["--every", "1h"], SCRIPT));
    wait_until("the first cycle", || ledger(&place).len() == 1);
    assert_eq!(place.run(&["services", "pause", "tick", "--reason", "maintenance"]).code, 0);
    assert!(place.run(&["services", "list"]).text().contains("maintenance"));
    assert_eq!(place.run(&["services", "run-now", "tick"]).code, 0);
    wait_until("the one that was asked for", || ledger(&place).len() == 2);
    assert_eq!(place.run(&["services", "resume", "tick"]).code, 0);
    host.signal(Signal::TERM);
    assert_eq!(host.end().code, 0);
    let parts: Vec<String> = place
        .json(&["services", "history", "tick"])
        .as_array()
        .unwrap()
        .iter()
        .map(|term| term["part"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(parts, ["asked-1", ""]);
}

/// A3, A7
#[test]
fn a3_the_command_is_killed_when_its_term_is_lost_and_when_its_host_ends() {
    let place = Place::new();
    let script = "echo $$ >> pids; trap '' TERM; while :; do sleep 0.05; done";
    let host = place.start(&args(&["--every", "1h", "--kill-after", "200ms"], script));
    let first = place.wait_for_file("pids");
    assert_eq!(place.run(&["lease", "break", "service:tick", "--reason", "test"]).code, 0);
    wait_until("it is gone", || !is_alive(&first));
    place.run(&["services", "run-now", "tick"]);
    wait_until("another one", || place.read("pids").lines().count() == 2);
    let second = place.read("pids").lines().last().unwrap().to_owned();
    host.signal(Signal::TERM);
    assert_eq!(host.end().code, 0);
    assert!(!is_alive(&second));
    let outcomes: Vec<Value> = place
        .json(&["services", "history", "tick"])
        .as_array()
        .unwrap()
        .iter()
        .map(|term| term["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["handed_over", "lost"]);
}

#[cfg(feature = "postgres")]
mod cluster {
    use super::*;
    use crate::postgres::Schema;

    /// Numbers that look like drawn ones.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = onceward_core::backoff::mix(self.0);
            (self.0 >> 20) % sides
        }
    }

    /// An effect that is fenced by its resource: what begins under a token that is not the largest so far changes
    /// nothing, and neither does what ends after another one has begun.
    const FENCED: &str = r#"
        exec 9> lock; flock 9
        test "$ONCEWARD_FENCING_TOKEN" -gt "$(cat highest 2> /dev/null || echo 0)" || exit 3
        echo "$ONCEWARD_FENCING_TOKEN" > highest
        echo "begin $ONCEWARD_CYCLE $ONCEWARD_FENCING_TOKEN $HOST_NUMBER" >> ledger
        flock -u 9; sleep 0.1; flock 9
        test "$ONCEWARD_FENCING_TOKEN" = "$(cat highest)" || exit 3
        echo "end $ONCEWARD_CYCLE $ONCEWARD_FENCING_TOKEN" >> ledger"#;

    /// The clock of a host, as libfaketime says it; none for the right one.
    type Skew = Option<&'static str>;

    fn start(place: &Place, n: usize, skew: Skew) -> Running {
        let owner = format!("host-{n}");
        let options = ["--every", "2s", "--ttl", "1s", "--session-ttl", "2s", "--owner", &owner];
        let mut command = place.command(&args(&options, FENCED));
        command.env("HOST_NUMBER", n.to_string());
        if let Some(skew) = skew {
            let file = std::env::var("ONCEWARD_TEST_FAKETIME").ok().filter(|file| !file.is_empty());
            assert!(file.is_some(), "libfaketime is missing: `cargo xtask test` and `xtask servers` name it");
            command
                .env("LD_PRELOAD", file.unwrap())
                .env("FAKETIME", skew)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Running::of(command.spawn().unwrap())
    }

    /// Some hosts have a clock of their own, the first one always.
    fn skewed(n: usize, dice: &mut Dice) -> Skew {
        let skews = ["+1d", "-1d", "+37s", "-1y"];
        (n == 0 || dice.roll(3) == 0).then(|| skews[usize::try_from(dice.roll(4)).unwrap()])
    }

    /// A1, A2, A6: runners that are killed, stopped for longer than their lease lasts, and have wrong clocks.
    #[test]
    fn proof_a1_no_two_terms_meet_and_every_cycle_is_run_or_recorded() {
        let Schema { place, .. } = &Schema::new();
        assert_eq!(place.run(&["migrate", "up"]).code, 0);
        let lasts = if is_long() { Duration::from_secs(180) } else { Duration::from_secs(12) };
        let skews = survive(place, if is_long() { 12 } else { 6 }, lasts, skewed);
        assert!(skews > 0, "no host had a clock of its own");
    }

    /// The same on a file, whose hosts are processes of one machine and have its clock.
    #[test]
    fn proof_a1_no_two_terms_meet_on_a_file_either() {
        let lasts = if is_long() { Duration::from_secs(180) } else { Duration::from_secs(8) };
        survive(&Place::new(), if is_long() { 12 } else { 4 }, lasts, |_, _| None);
    }

    fn is_long() -> bool {
        std::env::var_os("ONCEWARD_PROVE").is_some()
    }

    /// Stops a host in the middle of its term, for longer than its lease lasts.
    fn stop_whose_term_runs(place: &Place, hosts: &[Running]) {
        let lines = || place.read("ledger").lines().map(str::to_owned).collect::<Vec<_>>();
        let seen = lines().len();
        let begun = || lines().into_iter().skip(seen).rfind(|line| line.starts_with("begin"));
        let patience = Instant::now();
        let line = loop {
            match begun() {
                Some(line) => break line,
                None if patience.elapsed() > Duration::from_secs(5) => return,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let host = &hosts[line.split(' ').nth(3).unwrap().parse::<usize>().unwrap()];
        host.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(1_500));
        host.signal(Signal::CONT);
    }

    fn has_lost(place: &Place) -> bool {
        place
            .run(&["services", "history", "tick", "--limit", "500", "--output", "json"])
            .text()
            .contains("\"lost\"")
    }

    /// How many hosts had a clock of their own.
    fn survive(place: &Place, count: usize, lasts: Duration, skew: fn(usize, &mut Dice) -> Skew) -> usize {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let mut skews = 0;
        let mut begin = |n: usize, dice: &mut Dice| {
            let skew = skew(n, dice);
            skews += usize::from(skew.is_some());
            start(place, n, skew)
        };
        let mut hosts: Vec<Running> = (0..count).map(|n| begin(n, &mut dice)).collect();
        wait_until("a first term", || {
            place.run(&["services", "history", "tick", "--output", "json"]).text().contains("\"done\"")
        });
        let began = Instant::now();
        // Until it has bitten: a machine that is busy stops a host when its term is over.
        while began.elapsed() < lasts || (began.elapsed() < lasts * 5 && !has_lost(place)) {
            stop_whose_term_runs(place, &hosts);
            std::thread::sleep(Duration::from_millis(300 + dice.roll(700)));
            let which = usize::try_from(dice.roll(count as u64)).unwrap();
            if dice.roll(2) == 0 {
                hosts[which].signal(Signal::KILL);
                hosts[which] = begin(which, &mut dice);
            } else {
                hosts[which].signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(dice.roll(2_500)));
                hosts[which].signal(Signal::CONT);
            }
        }
        // Everybody is left alone for two cycles.
        std::thread::sleep(Duration::from_secs(5));
        drop(hosts);
        let terms = place.json(&["services", "history", "tick", "--limit", "500"]);
        let terms = terms.as_array().unwrap();
        assert!(terms.iter().any(|term| term["outcome"] == "lost"), "no term was lost: {terms:?}");
        check(terms, is_long().then_some(count));
        check_effects(terms, &place.read("ledger"));
        skews
    }

    /// What the terms have done: no two effects overlap, their tokens grow, and each is one of a term that is recorded.
    fn check_effects(terms: &[Value], ledger: &str) {
        let tokens: BTreeSet<&str> = terms.iter().map(|term| term["token"].as_str().unwrap()).collect();
        let lines: Vec<Vec<&str>> = ledger.lines().map(|line| line.split(' ').collect()).collect();
        let number = |word: &str| word.parse::<i64>().unwrap();
        let (mut last, mut ended) = (0, BTreeSet::new());
        for line in &lines {
            let (what, cycle, token) = (line[0], line[1], line[2]);
            assert!(tokens.contains(token), "an effect of no term: {line:?}");
            if what == "begin" {
                assert!(number(token) > last, "tokens grow: {line:?} after {last}");
                last = number(token);
            } else {
                assert_eq!(number(token), last, "another one has begun meanwhile: {line:?}");
                assert!(ended.insert(number(cycle)), "a cycle was done twice: {line:?}");
            }
        }
        for term in terms.iter().filter(|term| term["outcome"] == "done") {
            assert!(ended.contains(&term["cycle"].as_i64().unwrap()), "done without its effect: {term}");
        }
        println!("{} effects, {} of them to their end", lines.len() - ended.len(), ended.len());
    }

    /// A7, G13: the hint of a host that is told to end leaves before it has ended: its cycle is gone on with at once.
    #[test]
    fn a7_a_host_that_is_told_to_end_hands_its_cycle_over_at_once() {
        let Schema { place, .. } = &Schema::new();
        assert_eq!(place.run(&["migrate", "up"]).code, 0);
        let script = "echo $ONCEWARD_CYCLE >> ledger; test $(wc -l < ledger) -gt 1 || exec sleep 60";
        let host =
            || place.start(&args(&["--every", "1h", "--kill-after", "200ms", "--session-ttl", "4s"], script));
        let first = host();
        place.wait_for_file("ledger");
        let second = host();
        wait_until("both are there", || place.json(&["runners", "list"]).as_array().unwrap().len() == 2);
        // Until the second one counts.
        std::thread::sleep(Duration::from_millis(2_500));
        first.signal(Signal::TERM);
        let told = Instant::now();
        wait_until("the other one goes on", || place.read("ledger").lines().count() == 2);
        assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
        assert_eq!(first.end().code, 0);
        second.signal(Signal::TERM);
        assert_eq!(second.end().code, 0);
        let ran: Vec<String> =
            place.read("ledger").lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        assert_eq!(ran[0], ran[1], "the same cycle");
    }

    fn time(value: &Value) -> onceward_core::Timestamp {
        value.as_str().unwrap().parse().unwrap()
    }

    fn check(terms: &[Value], everybody: Option<usize>) {
        let number = |term: &Value, name: &str| term[name].as_i64().unwrap();
        let token = |term: &Value| term["token"].as_str().unwrap().parse::<i64>().unwrap();
        let mut begun: Vec<&Value> = terms.iter().filter(|term| term["outcome"] != "missed").collect();
        begun.sort_by_key(|term| token(term));
        for pair in begun.windows(2) {
            let (ended, next) = (time(&pair[0]["ended_at"]), time(&pair[1]["started_at"]));
            assert!(ended <= next, "two terms meet: {} and {}", pair[0], pair[1]);
        }
        let mut rows: Vec<(i64, i64)> =
            terms.iter().map(|term| (number(term, "cycle"), number(term, "cycles"))).collect();
        rows.sort_unstable();
        let mut next = rows[0].0;
        for (cycle, cycles) in rows {
            assert_eq!(cycle, next, "a cycle without a row, or with two");
            next = cycle + cycles;
        }
        for term in terms.iter().filter(|term| term["outcome"] == "missed") {
            assert!(term["reason"].is_string(), "{term}");
        }
        let ran: BTreeSet<&str> = begun.iter().filter_map(|term| term["owner"].as_str()).collect();
        println!("{} cycles, {} of them missed, run by {ran:?}", terms.len(), terms.len() - begun.len());
        assert!(
            ran.len() >= 2 && everybody.is_none_or(|count| ran.len() == count),
            "somebody starves: {ran:?}"
        );
    }
}
