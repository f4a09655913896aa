//! Whose turn it is, on every store: each runner once per cycle, and the same one as long as it is there.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use onceward::service::{RunnerHandle, Term};
use onceward::store::SessionRef;
use onceward::{Onceward, ServiceName};
use tokio::time::{sleep, timeout};

use crate::places::{Place, on_each_store};

on_each_store! {
    each_runner_runs_each_cycle_once_also_over_a_lost_session,
    a8_the_same_runner_goes_first_as_long_as_it_is_there,
}

async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let seen = timeout(Duration::from_secs(30), async {
        while !is().await {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(seen.await.is_ok(), "never {what}");
}

/// Who has run which cycle, in its order.
type Ran = Arc<Mutex<Vec<(usize, i64)>>>;

/// Three processes with a service each.
async fn three(
    place: &Place,
    ran: &Ran,
    describe: impl Fn(&Onceward) -> onceward::service::ServiceBuilder,
) -> Vec<(RunnerHandle, Onceward)> {
    let mut runners = Vec::new();
    for n in 0..3 {
        let ow = place.client(&format!("host:{n}")).await;
        let ran = Arc::clone(ran);
        let work = move |term: Term| {
            ran.lock().unwrap().push((n, term.cycle()));
            async {}
        };
        let service = describe(&ow).does(work).unwrap();
        let runner = ow.runner().service(service).session_ttl(Duration::from_secs(2));
        runners.push((runner.start().await.unwrap(), ow));
    }
    runners
}

/// A session that is lost is replaced: its process goes on, and runs nothing twice.
async fn each_runner_runs_each_cycle_once_also_over_a_lost_session(place: &Place) {
    let ran = Ran::default();
    let describe = |ow: &Onceward| ow.service("tick").interval(Duration::from_millis(450)).per_runner();
    let runners = three(place, &ran, describe).await;
    let count = |n: usize| ran.lock().unwrap().iter().filter(|(who, _)| *who == n).count();
    until("three cycles of each", async || (0..3).all(|n| count(n) >= 3)).await;
    let (runner, ow) = &runners[0];
    let lost = runner.session().unwrap();
    let sessions = ow.store().session_list().await.unwrap().rows;
    let row = sessions.iter().find(|row| row.id == lost).unwrap();
    ow.store().session_close(&SessionRef { id: row.id, token: row.token }).await.unwrap();
    until("another session", async || runner.session().is_some_and(|session| session != lost)).await;
    let before = count(0);
    until("it goes on", async || count(0) >= before + 2).await;
    let admin = place.client("ops").await.admin();
    for (runner, _) in runners {
        runner.shutdown().await;
    }
    let ran = ran.lock().unwrap().clone();
    assert_eq!(ran.iter().collect::<BTreeSet<_>>().len(), ran.len(), "one has run a cycle twice: {ran:?}");
    let terms = admin.service_history(&ServiceName::new("tick").unwrap(), 500).await.unwrap();
    let mut parts: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
    for term in &terms {
        parts.entry(term.part.clone()).or_default().push((term.cycle, term.cycles));
    }
    assert!(parts.len() >= 4, "three, and the one that was lost: {parts:?}");
    for rows in parts.values_mut() {
        rows.sort_unstable();
        assert!(rows.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "run or recorded: {terms:?}");
    }
}

/// A8: without it the turn would go round, and nobody would run two cycles in a row.
async fn a8_the_same_runner_goes_first_as_long_as_it_is_there(place: &Place) {
    let ran = Ran::default();
    let describe = |ow: &Onceward| ow.service("tick").interval(Duration::from_millis(400)).sticky();
    let mut runners: BTreeMap<usize, _> =
        three(place, &ran, describe).await.into_iter().enumerate().collect();
    let in_a_row = |cycles: usize| {
        let ran = ran.lock().unwrap();
        let (last, _) = *ran.last()?;
        let same = ran.len() >= cycles && ran[ran.len() - cycles..].iter().all(|(who, _)| *who == last);
        same.then_some(last)
    };
    until("one runs five in a row", async || in_a_row(5).is_some()).await;
    let first = in_a_row(1).unwrap();
    runners.remove(&first).unwrap().0.shutdown().await;
    let is_next = || in_a_row(5).is_some_and(|next| next != first);
    until("another one stays", async || is_next()).await;
    for (runner, _) in runners.into_values() {
        runner.shutdown().await;
    }
    let mut cycles: Vec<i64> = ran.lock().unwrap().iter().map(|(_, cycle)| *cycle).collect();
    let count = cycles.len();
    cycles.dedup();
    assert_eq!(cycles.len(), count, "{cycles:?}");
}
