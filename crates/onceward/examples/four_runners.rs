//! Four runner processes on one file: one is stopped for longer than its lease lasts, one is killed, and each cycle is
//! still run once.
//!
//! ```sh
//! cargo run -p onceward --example four_runners
//! cargo run -p onceward --example four_runners -- watch 2
//! ```
//!
//! The second one gives each of its three phases two seconds instead of four.

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use onceward::service::{Term, TermRecord};
use onceward::{Onceward, ServiceName};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let second = env::args().nth(2).unwrap_or_default();
    match env::args().nth(1).as_deref() {
        None => Box::pin(watch(Duration::from_secs(4))).await,
        Some("watch") => Box::pin(watch(Duration::from_secs(second.parse()?))).await,
        Some(name) => run(name, &second).await,
    }
}

/// One of the four.
async fn run(name: &str, store: &str) -> Result<(), Box<dyn Error>> {
    let ow = Onceward::options().owner(name).connect(store).await?;
    let name = name.to_owned();
    let work = move |term: Term| {
        let name = name.clone();
        async move {
            println!("{name}: cycle {} under token {}", term.cycle(), term.token());
            sleep(Duration::from_millis(200)).await;
            term.check()
        }
    };
    let service = ow.service("tick").every("1s").does(work)?;
    ow.runner()
        .service(service)
        .session_ttl(Duration::from_secs(3))
        .run_until(core::future::pending())
        .await?;
    Ok(())
}

/// Starts the four, stops one, kills one, and shows what became of the cycles.
async fn watch(phase: Duration) -> Result<(), Box<dyn Error>> {
    let folder = env::temp_dir().join(format!("onceward-runners-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let store = format!("sqlite://{}", folder.join("runners.db").display());
    let ow = Onceward::connect(&store).await?;
    let start = |n: usize| Command::new(env::current_exe()?).args([&format!("runner-{n}"), &store]).spawn();
    let mut runners: Vec<Child> = (1..=4).map(start).collect::<Result<_, std::io::Error>>()?;
    sleep(phase).await;
    if let [first, second, ..] = &mut *runners {
        println!("runner-1 is stopped, runner-2 is killed");
        let stopped = Pid::from_child(first);
        kill_process(stopped, Signal::STOP)?;
        second.kill()?;
        sleep(phase).await;
        println!("runner-1 goes on");
        kill_process(stopped, Signal::CONT)?;
    }
    sleep(phase).await;
    for runner in &mut runners {
        // The one that was killed before does not mind.
        runner.kill()?;
        runner.wait()?;
    }
    let terms = ow.admin().service_history(&ServiceName::new("tick")?, 100).await?;
    for term in terms.iter().rev() {
        let owner = term.owner.as_ref().map_or("nobody", |owner| owner.as_str());
        let why = term.reason.as_deref().unwrap_or_default();
        println!("cycle {}: {} by {owner} {why}", term.cycle, term.outcome.as_str());
    }
    audit(&terms)?;
    ow.shutdown().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

/// Each cycle has one row, and each term a larger token than the one before.
fn audit(terms: &[TermRecord]) -> Result<(), Box<dyn Error>> {
    let newest_first = terms.iter().zip(terms.iter().skip(1));
    let gap = newest_first.filter(|(next, term)| term.cycle + term.cycles != next.cycle).count();
    let mut begun: Vec<&TermRecord> = terms.iter().filter(|term| term.was_begun()).collect();
    begun.sort_by_key(|term| term.token);
    let in_order = begun.windows(2).all(|pair| {
        pair.iter().map(|term| term.cycle).is_sorted()
            && pair.iter().map(|term| term.ended_at.unwrap_or(term.started_at)).is_sorted()
    });
    if gap > 0 || !in_order {
        return Err(format!("{gap} cycles are missing or there twice; in order: {in_order}").into());
    }
    println!("{} cycles, {} of them run: each once, under tokens that grow", terms.len(), begun.len());
    Ok(())
}
