//! N59: a scheduler that is killed, as a process, at whatever moment: between what it works out and what it writes,
//! and behind that. Two at a time, so that the one that is left has seen the same ticks as the one that dies.

use core::time::Duration;
use std::process::{Child, Command, Stdio};

use onceward::schedule::OnMissed;
use onceward::store::ListJobs;
use onceward::{Job, Onceward, ScheduleName};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::places::Place;

/// Says to this program, run once more, which store it fires in until it is killed.
const FIRES: &str = "ONCEWARD_TEST_FIRES";

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "report")]
struct Report;

/// What is killed. By itself it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn fires_what_is_due_until_it_is_killed() {
    let Ok(url) = std::env::var(FIRES) else { return };
    let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
    loop {
        // Two of them, and one database: what could not be read or written is tried again.
        drop(onceward::testing::fire_due(&ow).await);
    }
}

fn scheduler(url: &str) -> Child {
    let name = "schedule_crash::fires_what_is_due_until_it_is_killed";
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", name]).env(FIRES, url).stdout(Stdio::null()).stderr(Stdio::null());
    program.spawn().unwrap()
}

async fn kill_them_again_and_again(place: &Place) {
    let rounds = if std::env::var_os("ONCEWARD_PROVE").is_some() { 300 } else { 12 };
    let ow = place.client("ops").await;
    let row = ow.schedule("often", "every 100ms", Report).on_missed(OnMissed::All).await.unwrap();
    let mut seed = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let mut after = move |at_least: u64, sides: u64| {
        seed = onceward_core::backoff::mix(seed);
        sleep(Duration::from_millis(at_least + (seed >> 20) % sides))
    };
    let name = ScheduleName::new("often").unwrap();
    let mut left = scheduler(place.url());
    for _ in 0..rounds {
        let next = scheduler(place.url());
        // Since then it, or the one before it, has fired: what is killed is at work.
        let fired = async || ow.admin().schedule(&name).await.unwrap().last;
        let before = fired().await;
        let began = Instant::now();
        while fired().await == before && began.elapsed() < Duration::from_secs(20) {
            sleep(Duration::from_millis(10)).await;
        }
        after(0, 200).await;
        let mut killed = core::mem::replace(&mut left, next);
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    left.kill().unwrap();
    left.wait().unwrap();
    let by_them = ow.admin().schedule(&name).await.unwrap().last.unwrap().tick;
    while onceward::testing::fire_due(&ow).await.unwrap() {}
    let last = ow.admin().schedule(&name).await.unwrap().last.unwrap().tick;
    let (mut count, mut after) = (0_u128, None);
    loop {
        let page =
            ow.store().job_list(&ListJobs { after, limit: 500, ..ListJobs::default() }).await.unwrap().rows;
        let Some(last) = page.last() else { break };
        (after, count) = (Some(last.id), count + page.len() as u128);
    }
    let first = row.next_at.unwrap();
    println!(
        "{rounds} schedulers were killed; {} ticks are theirs",
        by_them.since(first).as_millis() / 100 + 1
    );
    assert!(by_them > first, "they have fired");
    assert_eq!(count, last.since(first).as_millis() / 100 + 1, "none twice, none lost");
    ow.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_n59_killed_schedulers_lose_no_tick_and_repeat_none_on_sqlite() {
    kill_them_again_and_again(&Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_n59_killed_schedulers_lose_no_tick_and_repeat_none_on_postgres() {
    kill_them_again_and_again(&Place::postgres().await).await;
}
