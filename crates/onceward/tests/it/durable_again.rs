//! Runs that are done once more: only what has failed, or everything from a place on.

use std::time::Duration;

use crate::durable_kit::{Ledger, each};
use onceward::durable::{AnyError, Failure, Saga, Standing, durable, join, join_all, signal, step};
use onceward::worker::{State, WorkerBuilder};
use onceward::{Code, RunFork};
use onceward_core::run::{Entry, Phase, Start};
use serde_json::json;

async fn done(ledger: &Ledger, what: String) -> Result<u32, AnyError> {
    Ok(ledger.note(&what))
}

/// Fails until somebody has mended it.
async fn mended(ledger: &Ledger, what: String) -> Result<u32, AnyError> {
    let count = ledger.note(&what);
    if ledger.count("mended") > 0 { Ok(count) } else { Err(AnyError::new("broken")) }
}

#[durable(max_attempts = 1)]
async fn pack(ledger: State<Ledger>, number: u32) -> Result<u32, AnyError> {
    step("weigh", || done(&ledger, format!("weigh {number}"))).await?;
    match number {
        1 => step("seal", || mended(&ledger, format!("seal {number}"))).await?,
        _ => step("seal", || done(&ledger, format!("seal {number}"))).await?,
    };
    Ok(number)
}

#[durable]
async fn order(ledger: State<Ledger>) -> Result<u32, AnyError> {
    step("reserve", || done(&ledger, "reserve".to_owned())).await?;
    let packed = join_all((0..3).map(pack)).await;
    let sum: u32 = packed.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().sum();
    step("mail", || done(&ledger, "mail".to_owned())).await?;
    Ok(sum)
}

#[durable]
async fn three(ledger: State<Ledger>, name: String) -> Result<u32, AnyError> {
    let mut sum = 0;
    for what in ["a", "b", "c"] {
        sum += step(what, || done(&ledger, format!("{what} {name}"))).await?;
    }
    Ok(sum)
}

fn worker(ow: &onceward::Onceward, ledger: &Ledger) -> WorkerBuilder {
    ow.worker().state(ledger.clone()).park_after(Duration::ZERO)
}

/// D3: retrying does what has failed once more, in children as well, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_retried_run_does_only_what_has_failed() {
    each(async |place| {
        let worker = worker(&place.ow, &place.ledger).durable(order).durable(pack).start().await.unwrap();
        let run = place.ow.start(order()).await.unwrap();
        assert!(run.result().await.is_err());
        let first = run.retry().await.unwrap();
        assert_ne!(first.id(), run.id());
        assert!(first.result().await.is_err(), "nobody has mended it");
        place.ledger.note("mended");
        let (second, same) = (first.retry().await.unwrap(), first.retry().await.unwrap());
        assert_eq!(second.id(), same.id(), "retried twice is retried once");
        assert_eq!(second.result().await, Ok(3));
        for what in ["reserve", "weigh 0", "weigh 1", "weigh 2", "seal 0", "seal 2", "mail"] {
            assert_eq!(place.ledger.count(what), 1, "{what} on {}", place.ow.store().url());
        }
        assert_eq!(place.ledger.count("seal 1"), 3);
        assert_eq!(run.standing().await.unwrap(), Standing::Failed, "what has failed has failed");
        assert_eq!(second.retry().await.unwrap_err().code(), Code::RunEnded);
        assert_eq!(place.ow.admin().job(second.id()).await.unwrap().replay_of, Some(first.id()));
        worker.shutdown().await;
    })
    .await;
}

/// Everything before the place is as it was, and everything from there on is done once more.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_fork_does_what_comes_after_its_place() {
    each(async |place| {
        let worker = worker(&place.ow, &place.ledger).durable(three).start().await.unwrap();
        let run = place.ow.start(three("x".to_owned())).await.unwrap();
        assert_eq!(run.result().await, Ok(3));
        assert_eq!(run.fork("b").await.unwrap().result().await, Ok(5));
        let counts = |name: &str| ["a", "b", "c"].map(|what| place.ledger.count(&format!("{what} {name}")));
        assert_eq!(counts("x"), [1, 2, 2]);
        let admin = place.ow.admin();
        let how = RunFork { args: Some(json!({ "name": "y" })), request: Some("ticket 7".to_owned()) };
        let fork = admin.fork_run(run.id(), "2", &how).await.unwrap();
        assert_eq!((fork.kept, fork.fork_of), (2, run.id()));
        assert_eq!(place.ow.run::<three>(fork.id).result().await, Ok(3));
        assert_eq!((counts("x"), counts("y")), ([1, 2, 2], [0, 0, 1]));
        assert_eq!(admin.fork_run(run.id(), "2", &how).await.unwrap(), fork, "one request, one run");
        assert_eq!(counts("y"), [0, 0, 1]);
        for nowhere in ["d", "3", ""] {
            let refused = admin.fork_run(run.id(), nowhere, &RunFork::default()).await.unwrap_err();
            assert_eq!(refused.code(), Code::RunForkRefused, "{refused}");
        }
        let how = RunFork { args: Some(json!(["y"])), ..RunFork::default() };
        let refused = admin.fork_run(run.id(), "b", &how).await.unwrap_err();
        assert_eq!(refused.code(), Code::PayloadUnwritable);
        worker.shutdown().await;
    })
    .await;
}

/// D2: a child that had not ended at the place is begun anew, and the branches beside it are not.
#[tokio::test(flavor = "multi_thread")]
async fn d2_a_fork_begins_open_children_anew() {
    #[durable]
    async fn answer(ledger: State<Ledger>) -> Result<u32, Failure> {
        ledger.note("asks");
        signal::<u32>("answer").await
    }
    #[durable]
    async fn both(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let beside = async {
            step("b", || done(&ledger, "b".to_owned())).await?;
            step("c", || done(&ledger, "c".to_owned())).await
        };
        let (answer, beside) = join!(answer(), beside);
        Ok(answer? + beside?)
    }
    each(async |place| {
        let worker = worker(&place.ow, &place.ledger).durable(both).durable(answer).start().await.unwrap();
        let run = place.ow.start(both()).await.unwrap();
        place.until(async || place.ledger.count("c") == 1 && place.ledger.count("asks") > 0).await;
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        let fork = run.fork("c").await.unwrap();
        place.until(async || place.ledger.count("c") == 2).await;
        place.until(async || fork.standing().await.unwrap() == Standing::Parked).await;
        let child = async |run| {
            let journal = place.ow.admin().journal(run, 0, 100).await.unwrap();
            let child = |entry: &Entry| match entry.phase {
                Phase::Started(Start::Child { id, .. }) => Some(id),
                _ => None,
            };
            journal.iter().find_map(child).unwrap()
        };
        let (old, new) = (child(run.id()).await, child(fork.id()).await);
        assert_ne!(old, new);
        place.ow.signal_run(new, "answer", &40).await.unwrap();
        assert_eq!(fork.result().await, Ok(42));
        assert_eq!(run.standing().await.unwrap(), Standing::Parked, "it waits for its own");
        place.ow.signal_run(old, "answer", &10).await.unwrap();
        assert_eq!(run.result().await, Ok(11));
        assert_eq!(place.ledger.count("b"), 1);
        worker.shutdown().await;
    })
    .await;
}

/// A run that has panicked goes on itself, and one that was cancelled goes on as another one.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_failed_is_not_done_again() {
    #[durable(max_attempts = 1)]
    async fn fragile(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let count = step("first", || done(&ledger, "first".to_owned())).await?;
        assert!(ledger.count("mended") > 0, "as told");
        Ok(count)
    }
    #[durable]
    async fn asking(ledger: State<Ledger>) -> Result<u32, AnyError> {
        step("ask", || done(&ledger, "ask".to_owned())).await?;
        Ok(signal::<u32>("answer").await?)
    }
    each(async |place| {
        let base = worker(&place.ow, &place.ledger);
        let worker = base.durable(fragile).durable(asking).start().await.unwrap();
        let run = place.ow.start(fragile()).await.unwrap();
        assert!(run.result().await.is_err());
        place.ledger.note("mended");
        let again = run.retry().await.unwrap();
        assert_eq!((again.id(), again.result().await), (run.id(), Ok(1)));
        assert_eq!(place.ledger.count("first"), 1);

        let run = place.ow.start(asking()).await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        run.cancel("not now").await.unwrap();
        assert_eq!(run.result().await, Err(Failure::Cancelled));
        let again = run.retry().await.unwrap();
        again.signal("answer", &5).await.unwrap();
        assert_eq!((again.result().await, place.ledger.count("ask")), (Ok(5), 1));
        worker.shutdown().await;
    })
    .await;
}

/// What a run has undone is not taken for done.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_has_gone_on_after_its_failure_is_not_retried() {
    #[durable]
    async fn trip(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let mut saga = Saga::<AnyError>::new();
        step("book", || done(&ledger, "book".to_owned())).await?;
        let undo = ledger.clone();
        saga.undo("undo", move || {
            undo.note("undo");
            std::future::ready(Ok(()))
        });
        let paid = step("pay", || mended(&ledger, "pay".to_owned())).await;
        if paid.is_err() {
            saga.compensate().await?;
        }
        Ok(paid?)
    }
    each(async |place| {
        let worker = worker(&place.ow, &place.ledger).durable(trip).start().await.unwrap();
        let run = place.ow.start(trip()).await.unwrap();
        assert!(run.result().await.is_err());
        let refused = run.retry().await.unwrap_err();
        assert_eq!(refused.code(), Code::RunForkRefused);
        assert!(refused.to_string().contains("may have undone"), "{refused}");
        place.ledger.note("mended");
        assert_eq!(run.fork("book").await.unwrap().result().await, Ok(2));
        assert_eq!(["book", "pay", "undo"].map(|what| place.ledger.count(what)), [2, 2, 1]);
        worker.shutdown().await;
    })
    .await;
}
