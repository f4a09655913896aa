//! Endpoints on each store: what bounds them, what is said of events, secrets that are encrypted anew, and rows and
//! answers that must be in nobody else's way.

use std::time::Duration;

use crate::http_jobs_kit::{Names, Receiver, Reply, delivery, hook, open};
use crate::http_jobs_stores::{deliveries, is_signed, name, seal, tell};
use crate::jobs_kit::{NOW, job, until, until_that};
use onceward::endpoints::EndpointBuilder;
use onceward::http_jobs::{HttpDelivery, HttpJob, HttpPolicy, SealKeys};
use onceward::jobs::{IntoEnqueue, State};
use onceward::webhook::Secret;
use onceward::{Code, Onceward};

/// The key before that of [`seal`], and both of them.
const OLD: &str = "HxwdHhsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

fn declare(ow: &Onceward, text: &str, receiver: &Receiver) -> EndpointBuilder {
    ow.endpoint(text).url(receiver.url(&format!("/{text}"))).events(["*"]).policy(open())
}

/// What an endpoint is set to bounds what a worker sends to it: how many at once, and how many in a time.
async fn endpoints_bound_what_is_sent_to_them(ow: &Onceward) {
    let pause = Duration::from_millis(60);
    let receiver = Receiver::new(move |received| match received.path() {
        "/narrow" => Reply::After(pause, 200),
        _ => Reply::Status(200, ""),
    })
    .await;
    declare(ow, "narrow", &receiver).concurrency(Some(1)).await.unwrap();
    declare(ow, "slow", &receiver).rate(Some("4/s".parse().unwrap())).await.unwrap();
    for endpoint in ["narrow", "slow"] {
        for number in 0..6 {
            ow.enqueue_http(HttpJob::to_endpoint(endpoint).json(&number)).await.unwrap();
        }
    }
    ow.worker().http(delivery()).concurrency(50).run_until_empty(Duration::from_secs(5)).await.unwrap();
    let narrow = receiver.seen_at("/narrow");
    assert_eq!(narrow.len(), 6);
    for pair in narrow.windows(2) {
        let apart = pair[1].at - pair[0].at;
        assert!(apart >= pause, "one at a time: {apart:?}");
    }
    let slow = receiver.seen_at("/slow");
    assert_eq!(slow.len(), 6);
    // Four at once, and then one every 250 ms.
    let took = slow[5].at - slow[0].at;
    assert!(took >= Duration::from_millis(490), "{took:?}");
}

/// What is said of an event holds for its deliveries: what was sent at most once is uncertain, what comes too late is
/// not sent.
async fn what_is_said_of_an_event_holds_for_its_deliveries(ow: &Onceward) {
    let receiver = Receiver::new(|_| Reply::Close).await;
    declare(ow, "shop", &receiver).await.unwrap();
    ow.event("paid").into_enqueue(ow).at_most_once().await.unwrap();
    tell(ow).await;
    let [(_, state)] = deliveries(ow, "shop").await.try_into().unwrap();
    assert_eq!((state, receiver.seen().len()), (State::Uncertain, 1));
    // The endpoint is away until it is too late.
    ow.admin().disable_endpoint(&name("shop"), None).await.unwrap();
    let soon = std::time::SystemTime::now() + Duration::from_millis(1_500);
    ow.event("late").into_enqueue(ow).deadline(soon).await.unwrap();
    tell(ow).await;
    ow.admin().enable_endpoint(&name("shop"), None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    let [(id, _), _] = deliveries(ow, "shop").await.try_into().unwrap();
    ow.admin().retry_job(id, None, None).await.unwrap();
    tell(ow).await;
    let row = job(ow, id).await;
    assert!(row.state == State::Dead && row.error.unwrap().contains("deadline"));
    assert_eq!(receiver.seen().len(), 1);
}

/// What a receiver answers is said of the URL that it was asked at, and of no other one.
async fn a_late_answer_says_nothing_of_another_url(ow: &Onceward) {
    let receiver = Receiver::new(|received| match received.path() {
        "/new" => Reply::Status(200, ""),
        "/ill" => Reply::Status(500, ""),
        _ => Reply::After(Duration::from_millis(400), 410),
    })
    .await;
    declare(ow, "shop", &receiver).url(receiver.url("/old")).await.unwrap();
    let _worker = ow.worker().http(delivery()).start().await.unwrap();
    let sent = ow.enqueue_http(HttpJob::to_endpoint("shop").json(&1)).await.unwrap().id;
    while receiver.seen_at("/old").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ow.endpoint("shop").url(receiver.url("/new")).policy(open()).set().await.unwrap();
    until(ow, sent, State::Dead).await;
    let row = ow.admin().endpoint(&name("shop")).await.unwrap();
    assert!(row.disabled.is_none() && row.health.is_none(), "{row:?}");
    // What is held against it goes with the URL.
    ow.endpoint("shop").url(receiver.url("/ill")).policy(open()).set().await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let sent = ow.enqueue_http(HttpJob::to_endpoint("shop").json(&2)).max_attempts(1).await.unwrap().id;
    until(ow, sent, State::Dead).await;
    assert!(ow.admin().endpoint(&name("shop")).await.unwrap().health.is_some());
    let moved = ow.endpoint("shop").url(receiver.url("/new")).policy(open()).set().await.unwrap();
    assert_eq!(moved.health, None);
}

/// A signing key that has ended need not be opened any more; and all secrets can be encrypted anew, under another key.
async fn secrets_outlive_the_keys_that_they_were_encrypted_with(ow: &Onceward) {
    let receiver = Receiver::good().await;
    let old = SealKeys::new(OLD).unwrap();
    let both = SealKeys::new(&format!("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=,{OLD}")).unwrap();
    let (first, second) = (Secret::generate().unwrap(), Secret::generate_pair().unwrap());
    let shop = declare(ow, "shop", &receiver).secret(&first).seal_keys(&old);
    shop.await.unwrap();
    ow.admin().rotate_endpoint(&name("shop"), &second, Duration::from_millis(1), &seal()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    // The worker has the new key alone.
    ow.event("paid").await.unwrap();
    tell(ow).await;
    let [got] = receiver.seen().try_into().unwrap();
    assert!(is_signed(&got, &second) && !is_signed(&got, &first));

    let till = declare(ow, "till", &receiver).secret(&first).secret_header("authorization", "Bearer canary");
    till.seal_keys(&old).await.unwrap();
    declare(ow, "plain", &receiver).await.unwrap();
    let before = ow.admin().endpoint(&name("till")).await.unwrap();
    let would = ow.admin().reseal_endpoints(&both, true).await.unwrap();
    assert_eq!((would.changed.as_slice(), would.unchanged), (&[(name("till"), 2)][..], 2));
    assert_eq!(ow.admin().endpoint(&name("till")).await.unwrap(), before, "nothing was written");
    // Without the old key that is not possible, and says so of those that it is not possible of.
    let failed = ow.admin().reseal_endpoints(&seal(), false).await.unwrap();
    let codes: Vec<_> = failed.failed.iter().map(|(name, error)| (name.as_str(), error.code())).collect();
    assert_eq!((codes.as_slice(), failed.changed.len()), (&[("till", Code::SealBroken)][..], 0));
    let done = ow.admin().reseal_endpoints(&both, false).await.unwrap();
    assert_eq!((done.changed, done.failed.len()), (would.changed, 0));
    let again = ow.admin().reseal_endpoints(&both, false).await.unwrap();
    assert_eq!((again.changed.len(), again.unchanged), (0, 3));
    let told = ow.admin().endpoint_history(&name("till"), 9).await.unwrap();
    assert!(told.len() == 2 && told[0].reason.as_ref().unwrap().contains("encrypted anew"), "{told:?}");
    // From now on the new key is enough.
    ow.event("shipped").await.unwrap();
    tell(ow).await;
    let [got] = receiver.seen_at("/till").try_into().unwrap();
    assert!(is_signed(&got, &first));
    assert_eq!(got.header("authorization"), "Bearer canary");
}

/// A row that can't be read stops nobody else, is named, and nothing that is meant for it is lost.
async fn a_damaged_endpoint_is_in_nobody_elses_way(ow: &Onceward, damage: impl AsyncFn(&str)) {
    let receiver = Receiver::good().await;
    for text in ["bad", "good", "late"] {
        declare(ow, text, &receiver).await.unwrap();
    }
    damage("bad").await;
    let event = ow.event("ping").into_enqueue(ow).max_attempts(1).await.unwrap().id;
    let direct = ow.enqueue_http(HttpJob::to_endpoint("bad").json(&1)).await.unwrap().id;
    let _worker = ow.worker().http(delivery()).start().await.unwrap();
    let plain = ow.enqueue_http(hook(receiver.url("/plain"))).await.unwrap().id;
    until(ow, plain, State::Succeeded).await;
    let row = until_that(ow, event, "waits", |row| row.state == State::Scheduled).await;
    assert!(row.attempt == 0 && row.error.as_ref().unwrap().contains("OW0009"), "uncharged: {row:?}");
    assert_eq!((receiver.seen_at("/good").len(), receiver.seen_at("/late").len()), (1, 1));
    until_that(ow, direct, "waits", |row| row.state == State::Scheduled).await;
    assert_eq!(job(ow, direct).await.attempt, 0, "it waits, uncharged");

    let listed = ow.admin().endpoints(None, 2).await.unwrap();
    let damaged: Vec<&str> = listed.unreadable.iter().map(|(name, _)| name.as_str()).collect();
    let readable: Vec<&str> = listed.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!((damaged, readable, listed.last()), (vec!["bad"], vec!["good"], Some(&name("good"))));
    let admin = ow.admin();
    assert_eq!(admin.endpoint(&name("bad")).await.unwrap_err().code(), Code::RowUnreadable);
    assert_eq!(ow.endpoint("bad").set().await.unwrap_err().code(), Code::RowUnreadable);
    let resealed = admin.reseal_endpoints(&seal(), true).await.unwrap();
    assert_eq!((resealed.unchanged, resealed.failed[0].1.code()), (2, Code::RowUnreadable));
    // Once it was removed, or added again, the event comes to its end.
    admin.remove_endpoint(&name("bad"), Some("damaged")).await.unwrap();
    declare(ow, "bad", &receiver).add().await.unwrap();
    // What a worker knows of all endpoints is a second old at most.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    admin.retry_job(event, None, None).await.unwrap();
    until(ow, event, State::Succeeded).await;
    let [(to_bad, _)] = deliveries(ow, "bad").await.try_into().unwrap();
    until(ow, to_bad, State::Succeeded).await;
    assert_eq!(receiver.seen_at("/good").len(), 1, "who was told is not told again");
}

/// What says nothing about an endpoint is neither held against it nor in its favour: that it gets too much, and that
/// our own policy keeps us from asking it.
async fn what_is_no_failure_of_an_endpoint_is_not_written_down(ow: &Onceward) {
    let receiver = Receiver::new(|received| match received.path() {
        "/shop" => {
            Reply::Status(received.body.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0')), "")
        }
        _ => Reply::Status(200, ""),
    })
    .await;
    declare(ow, "shop", &receiver).await.unwrap();
    let health = async || ow.admin().endpoint(&name("shop")).await.unwrap().health;
    let ends = async |status: u16, allowed: bool| {
        let sent = ow.enqueue_http(HttpJob::to_endpoint("shop").json(&status)).max_attempts(1).await.unwrap();
        let names = Names::default();
        names.say("shop.test", &[&["127.0.0.1"]]);
        let policy = HttpPolicy { allow_private: allowed, ..open() };
        let delivery = HttpDelivery::new().policy(policy).resolver(names);
        ow.worker().http(delivery).run_until_empty(NOW).await.unwrap();
        job(ow, sent.id).await.error.unwrap_or_default()
    };
    assert!(ends(429, true).await.contains("429") && health().await.is_none());
    // What a name stands for is known when it is looked up.
    let named = format!("http://shop.test:{}/shop", receiver.address.port());
    ow.endpoint("shop").url(named).policy(open()).set().await.unwrap();
    assert!(ends(200, false).await.contains("OW0805") && health().await.is_none());
    assert!(ends(500, true).await.contains("500"));
    let ill = health().await;
    assert!(ill.is_some());
    assert!(ends(429, true).await.contains("429"));
    assert_eq!(health().await, ill, "a receiver that gets too much is not well yet");
    ends(200, true).await;
    assert!(health().await.is_none());
}

/// Why something was done is kept: what nobody can read, or keep, is refused before anything is done.
async fn a_reason_is_said_in_words(ow: &Onceward) {
    let receiver = Receiver::good().await;
    declare(ow, "shop", &receiver).await.unwrap();
    let (admin, shop) = (ow.admin(), name("shop"));
    let long = "x".repeat(10_000);
    for reason in ["", " ", "a\0b", &long] {
        let disabled = admin.disable_endpoint(&shop, Some(reason)).await.map(drop);
        let enabled = admin.enable_endpoint(&shop, Some(reason)).await.map(drop);
        let removed = admin.remove_endpoint(&shop, Some(reason)).await;
        for done in [disabled, enabled, removed] {
            assert_eq!(done.unwrap_err().code(), Code::ReasonMissing, "{reason:?}");
        }
    }
    assert_eq!(admin.endpoint_history(&shop, 9).await.unwrap().len(), 1, "it was added, and nothing else");
}

async fn everything(ow: &Onceward) {
    let of = |text: &str| ow.in_namespace(text).unwrap();
    endpoints_bound_what_is_sent_to_them(&of("bounds")).await;
    what_is_said_of_an_event_holds_for_its_deliveries(&of("said")).await;
    a_late_answer_says_nothing_of_another_url(&of("late")).await;
    secrets_outlive_the_keys_that_they_were_encrypted_with(&of("secrets")).await;
    what_is_no_failure_of_an_endpoint_is_not_written_down(&of("no-failure")).await;
    a_reason_is_said_in_words(&of("reasons")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_bounded_and_keep_their_secrets_in_memory() {
    everything(&crate::jobs_kit::client().await).await;
}

/// An event that SQL has written too large for its deliveries says so; what we write is refused before.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_leaves_no_room_for_its_deliveries_is_refused_with_a_code() {
    let (ow, receiver) = (crate::jobs_kit::client().await, Receiver::good().await);
    declare(&ow, "shop", &receiver).await.unwrap();
    let of_size = |bytes: usize| ow.event("ping").text("x".repeat(bytes));
    let error = of_size(1024 * 1024 - 200).await.unwrap_err();
    assert_eq!(error.code(), Code::PayloadTooLarge);
    of_size(1024 * 1024 - 1_200).await.unwrap();
    let payload = format!(r#"{{"type":"ping","text":"{}"}}"#, "x".repeat(1024 * 1024 - 200));
    let sent = ow.enqueue_raw("event", payload, "application/json").await.unwrap();
    tell(&ow).await;
    let row = job(&ow, sent.id).await;
    assert!(row.state == State::Dead && row.error.as_ref().unwrap().contains("OW0119"), "{:?}", row.error);
    assert_eq!(receiver.seen().len(), 1, "the one that has room");
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_bounded_and_keep_their_secrets_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let url = format!("sqlite://{}", path.display());
    let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
    everything(&ow).await;
    let damage = async |name: &str| {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let sql = "UPDATE onceward_endpoint SET definition = '{}' WHERE name = ?1 AND namespace = 'damage'";
        assert_eq!(connection.execute(sql, [name]).unwrap(), 1);
    };
    a_damaged_endpoint_is_in_nobody_elses_way(&ow.in_namespace("damage").unwrap(), damage).await;
    ow.shutdown().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_bounded_and_keep_their_secrets_on_postgres() {
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
    everything(&ow).await;
    let damage = async |name: &str| {
        let sql = "UPDATE \"{}\".endpoint SET definition = '{}' WHERE name = $1 AND namespace = 'damage'";
        let sql = sql.replacen("{}", schema.name(), 1);
        assert_eq!(schema.client().await.execute(&sql, &[&name]).await.unwrap(), 1);
    };
    a_damaged_endpoint_is_in_nobody_elses_way(&ow.in_namespace("damage").unwrap(), damage).await;
    ow.shutdown().await;
}
