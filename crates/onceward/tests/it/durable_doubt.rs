//! What a step does that must not run twice, where nobody knows whether it did its work.

use std::time::Duration;

use crate::durable_kit::{Ledger, each};
use onceward::durable::{AnyError, Doubt, Failure, Standing, durable, step};
use onceward::worker::State;
use onceward_core::run::{Op, Phase};

/// Its process is gone in the middle of the step, the first time.
#[durable(max_attempts = 5, retry = "fixed 5ms")]
async fn ship(ledger: State<Ledger>, how: String) -> Result<u32, AnyError> {
    let body = || async {
        let times = ledger.note(&format!("ship {how}"));
        assert!(times > 1, "as told");
        Ok::<u32, AnyError>(1)
    };
    let doubt = match how.as_str() {
        "retry" => Doubt::Retry,
        "found" | "absent" => {
            let (ledger, found) = (ledger.clone(), (how == "found").then_some(7));
            Doubt::probe(move || {
                ledger.note(&format!("probe {found:?}"));
                std::future::ready(found)
            })
        }
        "said" | "denied" | "cancelled" => Doubt::Ask,
        _ => Doubt::Fail,
    };
    let shipped = step("ship", body).at_most_once().when_uncertain(doubt).await;
    let after = step("after", || async { Ok::<u32, AnyError>(ledger.note(&format!("after {how}"))) });
    match shipped {
        Err(Failure::Uncertain(_)) => Ok(100),
        shipped => Ok(shipped? * 10 + after.await?),
    }
}

/// D3, D4: it runs again only where that is wanted or it is known that it has not happened; what is found out is
/// written down, and not asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn d3_d4_a_step_in_doubt_does_what_it_was_told() {
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(ship);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let cases = [
            ("fail", None, Ok(100), 1),
            ("retry", None, Ok(11), 2),
            ("found", None, Ok(71), 1),
            ("absent", None, Ok(11), 2),
            ("said", Some(serde_json::json!(9)), Ok(91), 1),
            ("denied", Some(serde_json::Value::Null), Ok(11), 2),
        ];
        for (how, says, expected, times) in cases {
            let run = place.ow.start(ship(how.to_owned())).await.unwrap();
            if let Some(says) = says {
                // It waits for that as long as it takes, and costs nothing meanwhile.
                place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
                let journal = place.ow.admin().journal(run.id(), 0, 100).await.unwrap();
                let waits = journal.iter().find(|entry| entry.op == Op::Signal).unwrap();
                assert!(matches!(waits.phase, Phase::Started(_)));
                run.signal(&waits.name, &says).await.unwrap();
            }
            let url = place.ow.store().url();
            assert_eq!(run.result().await, expected, "{how} on {url}");
            assert_eq!(place.ledger.count(&format!("ship {how}")), times, "{how} on {url}");
            let checked = place.ow.admin().export_run(run.id()).await.unwrap();
            let base = place.ow.worker().state(place.ledger.clone()).durable(ship);
            let checked = base.check_recorded(vec![checked]).await.unwrap();
            assert!(checked[0].replays(), "{how} on {url}: {}", checked[0]);
        }
        assert_eq!(place.ledger.count("probe Some(7)"), 1);
        worker.shutdown().await;
    })
    .await;
}

/// D9: who waits for an answer hears that the run is called off; whether the step happened stays uncertain.
#[tokio::test(flavor = "multi_thread")]
async fn d9_a_step_that_waits_for_an_answer_can_be_called_off() {
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(ship);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(ship("cancelled".to_owned())).await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        run.cancel("never mind").await.unwrap();
        assert_eq!(run.result().await, Ok(100), "on {}", place.ow.store().url());
        assert_eq!(place.ledger.count("ship cancelled"), 1);
        worker.shutdown().await;
    })
    .await;
}
