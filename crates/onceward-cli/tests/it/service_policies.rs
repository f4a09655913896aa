//! `onceward service`: each runner once, what was missed, a store that goes away, a host that is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use onceward_core::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use crate::crash::each;
use crate::place::{Place, Running, wait_until};

const SCRIPT: &str = "echo $ONCEWARD_CYCLE >> ledger";

fn args<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["service", "--name", "tick"], options, &["--", "sh", "-c", script]].concat()
}

fn ledger(place: &Place) -> Vec<i64> {
    place.read("ledger").lines().map(|line| line.parse().unwrap()).collect()
}

/// The terms, the oldest first.
fn history(place: &Place) -> Vec<Value> {
    let mut terms =
        place.json(&["services", "history", "tick", "--limit", "500"]).as_array().unwrap().clone();
    terms.reverse();
    terms
}

fn number(term: &Value, field: &str) -> i64 {
    term[field].as_i64().unwrap()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

fn end(host: Running) {
    host.signal(Signal::TERM);
    assert_eq!(host.end().code, 0);
}

#[test]
fn each_runner_of_a_command_runs_each_cycle_once() {
    each(|place| {
        let hosts: Vec<Running> =
            (0..2).map(|_| place.start(&args(&["--every", "1s", "--per-runner"], SCRIPT))).collect();
        let done = || {
            let mut parts: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            for term in history(place).iter().filter(|term| term["outcome"] == "done") {
                parts
                    .entry(term["part"].as_str().unwrap().to_owned())
                    .or_default()
                    .push(number(term, "cycle"));
            }
            parts
        };
        wait_until("it is declared", || place.run(&["services", "show", "tick"]).code == 0);
        wait_until("two cycles of each", || {
            let parts = done();
            parts.len() == 2 && parts.values().all(|cycles| cycles.len() >= 2)
        });
        assert_eq!(place.json(&["services", "show", "tick"])["mode"], "per_runner");
        hosts.into_iter().for_each(end);
        let mut ran: Vec<i64> = done().into_values().flatten().collect();
        let mut ledger = ledger(place);
        ran.sort_unstable();
        ledger.sort_unstable();
        // One that was told to end in the middle may have written its line.
        ledger.truncate(ran.len());
        assert_eq!(ran, ledger, "as often as it is recorded, and no cycle more than twice");
        assert!(ran.windows(3).all(|three| three[0] < three[2]), "{ran:?}");
    });
}

/// W71: hosts come and go; all that was missed is run in its order, or the last of it.
#[test]
fn what_was_missed_is_made_up_for_as_the_option_says() {
    each(|place| {
        let visit = |policy: &str, more: usize| {
            let before = ledger(place).len();
            let host = place.start(&args(&["--every", "1s", "--on-missed", policy], SCRIPT));
            wait_until("cycles", || ledger(place).len() >= before + more);
            wait_until("at rest", || history(place).last().is_some_and(|term| term["outcome"] == "done"));
            end(host);
        };
        visit("all", 2);
        std::thread::sleep(Duration::from_millis(2_200));
        visit("all", 4);
        let all = ledger(place);
        assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no gap, and in its order: {all:?}");
        assert!(history(place).iter().all(|term| term["outcome"] == "done"), "{:?}", history(place));
        std::thread::sleep(Duration::from_millis(3_200));
        visit("one", 1);
        let terms = history(place);
        let missed: Vec<&Value> = terms.iter().filter(|term| term["outcome"] == "missed").collect();
        let cycles: Vec<(i64, i64)> =
            terms.iter().map(|term| (number(term, "cycle"), number(term, "cycles"))).collect();
        assert!(cycles.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{cycles:?}");
        assert!(!missed.is_empty() && missed[0]["reason"] == "no runner began it", "{terms:?}");
        let after = number(missed.last().unwrap(), "cycle");
        let made_up = terms.iter().find(|term| number(term, "cycle") > after).unwrap();
        let late = time(&made_up["started_at"]).since(time(&made_up["due_at"]));
        assert!(made_up["outcome"] == "done" && late >= Duration::from_secs(1), "the last one is: {made_up}");
    });
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;
    use crate::postgres::{Schema, proxy::Proxy};

    /// Says whether the command of another host is still there when it begins, and ends for nobody.
    const ALONE: &str = "old=$(cat pid 2> /dev/null)
        if test -n \"$old\" && test -e /proc/$old && ! grep -q 'State:.Z' /proc/$old/status; then
            echo $old >> together
        fi
        echo $$ > pid; echo $$ >> begun; trap '' TERM; while :; do sleep 0.05; done";

    /// A2, A3: a host that does not reach the store any more has killed its command before another one begins.
    #[test]
    fn a2_the_command_is_gone_before_the_next_one_begins_where_its_store_is_away() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let Schema { place, .. } = &Schema::new();
        assert_eq!(place.run(&["migrate", "up"]).code, 0);
        let (server, schema) = place.store().split_once('?').unwrap();
        let port = server.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
        let proxy = runtime.block_on(Proxy::before(port));
        let options = ["--always-on", "--ttl", "8s", "--kill-after", "5s"];
        let mut command = place.command(&args(&options, ALONE));
        command.env("ONCEWARD_STORE", format!("{}?{schema}", proxy.url()));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let cut = Running::of(command.spawn().unwrap());
        place.wait_for_file("begun");
        let other = place.start(&args(&options, ALONE));
        wait_until("both are there", || place.json(&["runners", "list"]).as_array().unwrap().len() == 2);
        proxy.hold_questions(true);
        proxy.hold_answers(true);
        wait_until("the next one begins", || place.read("begun").lines().count() == 2);
        assert_eq!(place.read("together"), "", "the first one was still there");
        let outcomes: Vec<Value> = history(place).iter().map(|term| term["outcome"].clone()).collect();
        assert_eq!(outcomes, ["lost", "running"]);
        drop(cut);
        other.signal(Signal::KILL);
        other.end();
    }

    /// W71: a host that is killed in its term costs that term, the time until its lease runs out, and a cycle.
    #[test]
    fn w71_a_host_that_is_killed_costs_its_term_and_no_more_than_its_ttl_and_a_cycle() {
        let Schema { place, .. } = &Schema::new();
        assert_eq!(place.run(&["migrate", "up"]).code, 0);
        let options = ["--every", "2s", "--ttl", "2s", "--session-ttl", "2s"];
        let killed = place.start(&args(&options, "echo $$ > pid; exec sleep 60"));
        place.wait_for_file("pid");
        let other = place.start(&args(&options, SCRIPT));
        let slots = || place.json(&["services", "show", "tick"])["slots"].as_array().unwrap().len();
        wait_until("both have a slot", || slots() == 2);
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let at = Timestamp::from_micros(i64::try_from(at.as_micros()).unwrap());
        killed.signal(Signal::KILL);
        killed.end();
        wait_until("the other one goes on", || ledger(place).len() >= 2);
        end(other);
        let terms = history(place);
        let lost: Vec<&Value> = terms.iter().filter(|term| term["outcome"] == "lost").collect();
        assert_eq!(lost.len(), 1, "{terms:?}");
        let cycle = number(lost[0], "cycle");
        let next =
            terms.iter().find(|term| number(term, "cycle") > cycle && term["outcome"] == "done").unwrap();
        // And two seconds for a machine that has much to do.
        let cost = time(&next["started_at"]).since(at);
        assert!(cost <= Duration::from_secs(2 + 2 + 2), "{cost:?}: {terms:?}");
        let rows: Vec<(i64, i64)> =
            terms.iter().map(|term| (number(term, "cycle"), number(term, "cycles"))).collect();
        assert!(rows.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{rows:?}");
        for term in terms.iter().filter(|term| term["outcome"] == "missed") {
            assert_eq!(term["reason"], format!("the term of cycle {cycle} was still running"), "{term}");
        }
    }
}
