//! HTTP jobs on each store: what is kept of an exchange, in the caller's transaction, and written by SQL.
#![cfg(feature = "http-jobs")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]
#![allow(unreachable_pub, reason = "the test servers are shared by several crates of tests")]

mod http_jobs_kit;
mod jobs_kit;
#[cfg(feature = "postgres")]
mod pg;

use http_jobs_kit::{Receiver, Reply, delivery, hook, send, statuses};
use jobs_kit::{NOW, job};
use onceward::Onceward;
use onceward::jobs::State;

async fn work(ow: &Onceward) {
    // Retries and those that wait for their turn are due within a moment.
    let horizon = std::time::Duration::from_secs(5);
    ow.worker().http(delivery()).concurrency(8).run_until_empty(horizon).await.unwrap();
}

/// What was seen stands with each attempt, of jobs that succeed, die, or are uncertain; and it stays where it is when
/// somebody has looked at them.
async fn exchanges_are_kept(ow: &Onceward) {
    let receiver = Receiver::new(|received| match received.path() {
        "/once" => Reply::Close,
        "/recovers" if received.header("onceward-attempt") == "1" => Reply::Status(503, "later"),
        "/recovers" => Reply::Status(202, "now"),
        path => Reply::Status(path[1..].parse().unwrap(), "said"),
    })
    .await;
    let good = send(ow, hook(receiver.url("/200")), 1).await.unwrap().id;
    let bad = send(ow, hook(receiver.url("/500")), 3).await.unwrap().id;
    let recovers = send(ow, hook(receiver.url("/recovers")), 3).await.unwrap().id;
    let keyed = ow.enqueue_http(hook(receiver.url("/201"))).key("keyed").ordering_key("a").await.unwrap().id;
    let once = ow.enqueue_http(hook(receiver.url("/once"))).at_most_once().await.unwrap().id;
    work(ow).await;
    for (id, state, expected) in [
        (good, State::Succeeded, vec![Some(200)]),
        (bad, State::Dead, vec![Some(500); 3]),
        (recovers, State::Succeeded, vec![Some(503), Some(202)]),
        (keyed, State::Succeeded, vec![Some(201)]),
        (once, State::Uncertain, vec![None]),
    ] {
        let row = job(ow, id).await;
        assert_eq!((row.state, statuses(&row)), (state, expected), "{row:?}");
        let attempts = row.attempts();
        let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(numbers, (1..=u32::try_from(attempts.len()).unwrap()).collect::<Vec<_>>());
        let last = attempts.last().unwrap();
        assert_eq!(last.outcome, state.as_str());
        let seen = last.http.as_ref().unwrap();
        assert_eq!(seen.address, Some(receiver.address.to_string()));
        assert!(seen.timings.total_us.is_some());
    }
    assert_eq!(
        job(ow, recovers).await.attempts()[0].http.as_ref().unwrap().excerpt.as_deref(),
        Some("later")
    );
    // One more attempt of a dead one goes on where it was.
    ow.admin().retry_job(bad, None, None).await.unwrap();
    work(ow).await;
    assert_eq!(statuses(&job(ow, bad).await), vec![Some(500); 4]);
    assert_eq!(receiver.seen_at("/once").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_are_kept_in_memory() {
    exchanges_are_kept(&jobs_kit::client().await).await;
}

#[cfg(feature = "sqlite")]
mod on_sqlite {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn exchanges_are_kept_on_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
        exchanges_are_kept(&ow).await;
        ow.shutdown().await;
    }

    /// H1, J1: a webhook commits with the row it tells of, or does not exist.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_webhook_in_a_transaction_is_sent_if_it_commits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let url = format!("sqlite://{}", path.display());
        let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
        let receiver = Receiver::good().await;
        let mut connection = rusqlite::Connection::open(&path).unwrap();
        for commits in [false, true] {
            let mut tx =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
            let url = receiver.url(&format!("/{commits}"));
            ow.enqueue_http(hook(url)).enqueue_in(&mut tx).await.unwrap();
            if commits { tx.commit().unwrap() } else { tx.rollback().unwrap() }
        }
        ow.worker().http(delivery()).run_until_empty(NOW).await.unwrap();
        let paths: Vec<String> = receiver.seen().iter().map(|received| received.path().to_owned()).collect();
        assert_eq!(paths, ["/true"]);
        ow.shutdown().await;
    }
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn exchanges_are_kept_on_postgres() {
        let schema = pg::Schema::migrated().await;
        let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
        exchanges_are_kept(&ow).await;
        ow.shutdown().await;
    }

    /// Enqueued in the caller's transaction, and by SQL of any language.
    #[tokio::test(flavor = "multi_thread")]
    async fn webhooks_are_enqueued_in_transactions_and_by_sql() {
        let schema = pg::Schema::migrated().await;
        let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
        let receiver = Receiver::good().await;
        let mut client = schema.client().await;
        for commits in [false, true] {
            let mut tx = client.transaction().await.unwrap();
            let url = receiver.url(&format!("/{commits}"));
            ow.enqueue_http(hook(url)).enqueue_in(&mut tx).await.unwrap();
            if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
        }
        let payload =
            format!(r#"{{"url":"{}","headers":{{"X-Shop":"7"}},"json":{{ "n": 1 }}}}"#, receiver.url("/sql"));
        let name = schema.name();
        let sql = format!("SELECT {name}.enqueue('default', 'http', $1::bytea, '{{}}'::jsonb)");
        client.execute(&sql, &[&payload.into_bytes()]).await.unwrap();
        ow.worker().http(delivery()).run_until_empty(NOW).await.unwrap();
        let mut seen = receiver.seen();
        seen.sort_by(|a, b| a.line.cmp(&b.line));
        let lines: Vec<&str> = seen.iter().map(|received| received.line.as_str()).collect();
        assert_eq!(lines, ["POST /sql HTTP/1.1", "POST /true HTTP/1.1"]);
        assert_eq!((seen[0].body.as_slice(), seen[0].header("x-shop")), (&b"{ \"n\": 1 }"[..], "7"));
        ow.shutdown().await;
    }
}
