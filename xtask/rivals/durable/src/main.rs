//! Durable functions of others, doing what `onceward bench durable` does: a hundred runs at a time of ten steps each,
//! and one run of many steps. `rivals-durable dbos|durare URL SECONDS` prints one object of JSON.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rival, url, seconds] = &arguments[..] else { bail!("usage: rivals-durable dbos|durare URL SECONDS") };
    let time = Duration::from_secs(seconds.parse().context("SECONDS is a number")?);
    match rival.as_str() {
        "dbos" => of_dbos(url, time).await,
        "durare" => of_durare(url, time).await,
        other => bail!("{other} is not known"),
    }
}

async fn of_dbos(url: &str, time: Duration) -> Result<()> {
    let config = dbos::Config {
        app_version: Some("1".to_owned()),
        max_connections: 20,
        ..dbos::Config::new("rivals", url)
    };
    let engine = dbos::DBOS::new(config);
    let steps = engine.register_workflow("steps", |count: u32| async move {
        for _ in 0..count {
            dbos::step("step", || async { Ok::<u32, dbos::Error>(1) }).await?;
        }
        Ok::<u32, dbos::Error>(count)
    })?;
    engine.launch().await?;
    let run = async |count: u32| Ok(steps.run(count).await.map(drop)?);
    measure("dbos", time, run).await?;
    engine.shutdown().await;
    Ok(())
}

#[durare::workflow]
async fn steps(ctx: durare::DurableContext, count: u32) -> durare::Result<u32> {
    for _ in 0..count {
        ctx.step("step", || async { Ok(1_u32) }).await?;
    }
    Ok(count)
}

async fn of_durare(url: &str, time: Duration) -> Result<()> {
    let engine = durare::DurableEngine::connect(url).await?.build().await?;
    let run = async |count: u32| {
        let handle = engine.start_with(Steps, count, durare::WorkflowOptions::default()).await?;
        handle.await?;
        Ok(())
    };
    measure("durare", time, run).await
}

/// Steps a second of a hundred runs at a time, and how long a step of a single run takes.
async fn measure<F, Fut>(rival: &str, time: Duration, run: F) -> Result<()>
where
    F: Fn(u32) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    run(10).await?;
    let (began, mut steps) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        let all = (0..100).map(|_| run(10));
        for ended in futures_util::future::join_all(all).await {
            ended?;
        }
        steps += 1_000;
    }
    let many = f64::from(steps) / began.elapsed().as_secs_f64();
    let (began, mut steps) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        run(200).await?;
        steps += 200;
    }
    let alone = f64::from(steps) / began.elapsed().as_secs_f64();
    let told = serde_json::json!({ "queue": rival, "workloads": [
        { "name": "steps_100x10", "per_s": many },
        { "name": "step_seq", "per_s": alone, "p50_ms": 1_000.0 / alone },
    ] });
    println!("{told}");
    Ok(())
}
