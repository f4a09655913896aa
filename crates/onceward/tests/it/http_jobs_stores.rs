//! HTTP jobs on each store: what is kept of an exchange, in the caller's transaction, and written by SQL.

use std::time::{Duration, SystemTime};

use crate::http_jobs_kit::{Received, Receiver, Reply, delivery, hook, open, send, statuses};
use crate::jobs_kit::{NOW, job};
use onceward::endpoints::{EndpointBuilder, GiveUp};
use onceward::history::Event;
use onceward::http_jobs::{HttpJob, SealKeys};
use onceward::jobs::{IntoEnqueue, State};
use onceward::webhook::{Secret, Verifier};
use onceward::{Code, EndpointName, JobId, Onceward};

pub(crate) async fn work(ow: &Onceward) {
    // Retries and those that wait for their turn are due within a moment.
    let horizon = Duration::from_secs(5);
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

pub(crate) fn seal() -> SealKeys {
    SealKeys::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

pub(crate) fn name(text: &str) -> EndpointName {
    EndpointName::new(text).unwrap()
}

/// Delivers what is due, with what is known of endpoints from now on.
pub(crate) async fn tell(ow: &Onceward) {
    ow.worker().http(delivery().seal_keys(seal())).concurrency(8).run_until_empty(NOW).await.unwrap();
}

/// The deliveries to an endpoint, the newest first.
pub(crate) async fn deliveries(ow: &Onceward, to: &str) -> Vec<(JobId, State)> {
    let filter = onceward::JobFilter::default();
    let all = ow.admin().jobs(&filter, None, 500).await.unwrap().rows;
    let to = format!("\"endpoint\":\"{to}\"");
    let is_to = |metadata: &Option<String>| metadata.as_ref().is_some_and(|text| text.contains(&to));
    all.into_iter().filter(|row| is_to(&row.metadata)).map(|row| (row.id, row.state_now())).collect()
}

pub(crate) fn is_signed(received: &Received, secret: &Secret) -> bool {
    let [id, time, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| received.header(name));
    let now = SystemTime::now().into();
    Verifier::new([&secret.verifying()]).verify(id, time, signature, &received.body, now).is_ok()
}

/// Who wants an event gets it, once, signed and named; who is disabled gets it later.
async fn events_reach_whoever_wants_them(ow: &Onceward) {
    let receiver = Receiver::good().await;
    let (old, new) = (Secret::generate().unwrap(), Secret::generate_pair().unwrap());
    let declare = |text: &str, events: &[&str]| {
        let url = receiver.url(&format!("/{text}"));
        ow.endpoint(text).url(url).events(events).policy(open()).seal_keys(&seal())
    };
    declare("a", &["order.*"]).secret(&old).header("x-shop", "7").add().await.unwrap();
    declare("b", &["*"]).secret_header("authorization", "Bearer s3cret-canary").await.unwrap();
    declare("c", &["invoice.*", "order"]).await.unwrap();
    assert_eq!(declare("a", &["*"]).add().await.unwrap_err().code(), Code::EndpointExists);
    assert!(ow.admin().disable_endpoint(&name("b"), Some("they move")).await.unwrap());
    assert!(!ow.admin().disable_endpoint(&name("b"), None).await.unwrap());

    let body = r#"{ "order": 17 }"#;
    let paid = || ow.event("order.paid").json_text(body).key("order-17-paid");
    let sent = paid().send().await.unwrap();
    let again = paid().await.unwrap();
    assert_eq!((again.id, again.created), (sent.id, false));
    let other = ow.event("order.paid").json(&18).key("order-17-paid").send().await;
    assert_eq!(other.unwrap_err().code(), Code::JobKeyMismatch);
    tell(ow).await;
    let row = job(ow, sent.id).await;
    assert_eq!(row.state, State::Succeeded, "{row:?}");
    assert_eq!(row.result.unwrap().bytes.unwrap(), br#"{"deliveries":2}"#);
    let [got] = receiver.seen().try_into().unwrap();
    let [(id, state)] = deliveries(ow, "a").await.try_into().unwrap();
    assert_eq!(state, State::Succeeded);
    assert_eq!((got.path(), got.body.as_slice()), ("/a", body.as_bytes()));
    assert_eq!((got.header("onceward-event"), got.header("x-shop")), ("order.paid", "7"));
    assert_eq!(
        (got.header("webhook-id"), got.header("idempotency-key")),
        (&*id.to_string(), &*id.to_string())
    );
    assert!(is_signed(&got, &old) && !is_signed(&got, &new));
    assert!(deliveries(ow, "c").await.is_empty());

    // What waits for a disabled endpoint is charged nothing, and comes once it is enabled.
    let [(waits, state)] = deliveries(ow, "b").await.try_into().unwrap();
    assert_eq!((state, job(ow, waits).await.attempt), (State::Scheduled, 0));
    assert!(ow.admin().enable_endpoint(&name("b"), None).await.unwrap());
    ow.admin().retry_job(waits, None, None).await.unwrap();
    tell(ow).await;
    let [got] = receiver.seen_at("/b").try_into().unwrap();
    assert_eq!(
        (job(ow, waits).await.state, got.header("authorization")),
        (State::Succeeded, "Bearer s3cret-canary")
    );

    // While a secret is replaced both sign; then the new one alone. Another host gets no old secret header.
    let rotate = |secret, overlap| {
        let admin = ow.admin();
        async move { admin.rotate_endpoint(&name("a"), secret, overlap, &seal()).await.unwrap() }
    };
    rotate(&new, Duration::from_secs(3600)).await;
    ow.event("order.shipped").text("x").await.unwrap();
    tell(ow).await;
    let got = receiver.seen_at("/a").pop().unwrap();
    assert!(is_signed(&got, &old) && is_signed(&got, &new), "{}", got.header("webhook-signature"));
    assert!(got.header("webhook-signature").starts_with("v1a,"), "the newest first");
    let newest = Secret::generate().unwrap();
    rotate(&newest, Duration::ZERO).await;
    ow.enqueue_http(HttpJob::to_endpoint("a").text("direct")).await.unwrap();
    tell(ow).await;
    let got = receiver.seen_at("/a").pop().unwrap();
    assert!(is_signed(&got, &newest) && !is_signed(&got, &new) && got.body == b"direct");
    let moved = ow.endpoint("b").url("https://other.example.com/").set().await;
    assert_eq!(moved.unwrap_err().code(), Code::SealKeyInvalid, "its secret header was for another host");

    let shown = format!("{:?}", ow.admin().endpoints(None, 10).await.unwrap().rows);
    let kept = serde_json::to_string(&ow.admin().endpoint(&name("a")).await.unwrap()).unwrap();
    for secret in [&old, &new, &newest] {
        assert!(!kept.contains(&secret.reveal()) && !shown.contains(&secret.reveal()));
    }
    assert!(!shown.contains("s3cret-canary"));
}

/// An endpoint that says it is gone is disabled at once; one that has failed for long enough, then.
async fn endpoints_that_fail_are_left_alone(ow: &Onceward) {
    let receiver = Receiver::new(|received| match received.path() {
        "/gone" => Reply::Status(410, ""),
        "/ill" if received.header("onceward-event") == "cure" => Reply::Status(200, ""),
        "/ill" => Reply::Status(500, ""),
        _ => Reply::Status(404, ""),
    })
    .await;
    let declare = |text: &str, failures: u32| {
        let url = receiver.url(&format!("/{text}"));
        let rule = GiveUp { after: Duration::ZERO, failures };
        let endpoint = ow.endpoint(text).url(url).events(["*"]).policy(open()).give_up(Some(rule));
        endpoint.max_attempts(1)
    };
    declare("gone", 9).await.unwrap();
    declare("ill", 9).await.unwrap();
    declare("lost", 2).await.unwrap();
    let health = |text: &'static str| async move {
        let row = ow.admin().endpoint(&name(text)).await.unwrap();
        (row.health.map(|health| health.failures), row.disabled.map(|disabled| disabled.reason.unwrap()))
    };
    ow.event("ping").await.unwrap();
    tell(ow).await;
    assert!(health("gone").await.1.unwrap().contains("410"));
    assert_eq!(health("ill").await, (Some(1), None));
    assert_eq!(health("lost").await, (Some(1), None));
    // One that answers as it should is well again.
    ow.event("cure").await.unwrap();
    tell(ow).await;
    assert_eq!(health("ill").await, (None, None));
    let (failures, why) = health("lost").await;
    assert!(failures == Some(2) && why.clone().unwrap().contains("2 times in a row"), "{why:?}");
    let told = ow.admin().endpoint_history(&name("lost"), 9).await.unwrap();
    let events: Vec<Event> = told.iter().map(|entry| entry.event).collect();
    assert_eq!((events, told[0].reason.as_ref()), (vec![Event::Disabled, Event::Added], why.as_ref()));
    assert_eq!(receiver.seen_at("/gone").len(), 1, "what comes afterwards waits");
    let [(waits, state), _] = deliveries(ow, "gone").await.try_into().unwrap();
    assert_eq!(state, State::Scheduled);
    // Of an endpoint that was removed nothing is delivered, and nothing is lost.
    ow.admin().remove_endpoint(&name("gone"), Some("they left")).await.unwrap();
    ow.admin().retry_job(waits, None, None).await.unwrap();
    tell(ow).await;
    let row = job(ow, waits).await;
    assert!(row.state == State::Dead && row.error.unwrap().contains("OW0821"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_are_kept_in_memory() {
    exchanges_are_kept(&crate::jobs_kit::client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_whoever_wants_them_in_memory() {
    events_reach_whoever_wants_them(&crate::jobs_kit::client().await).await;
    endpoints_that_fail_are_left_alone(&crate::jobs_kit::client().await).await;
}

/// J13: an event whose worker dies after it has told some of them is told again, and nobody gets it twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_told_again_reaches_nobody_twice() {
    use onceward::store::faulty::{Fault, Verb};
    let ((ow, store), receiver) = (crate::jobs_kit::faulty(), Receiver::good().await);
    for number in 0..3 {
        let url = receiver.url(&format!("/{number}"));
        ow.endpoint(format!("e{number}")).url(url).events(["*"]).policy(open()).await.unwrap();
    }
    let event = ow.event("ping");
    let sent = event.into_enqueue(&ow).retry("fixed 20ms".parse().unwrap()).await.unwrap();
    store.next(Verb::JobEnqueue, Fault::ReplyLost);
    ow.worker().http(delivery()).run_until_empty(Duration::from_secs(5)).await.unwrap();
    assert_eq!(job(&ow, sent.id).await.state, State::Succeeded);
    let mut paths: Vec<String> = receiver.seen().iter().map(|received| received.path().to_owned()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/0", "/1", "/2"]);
    // A replay tells all of them again, under the names that they know it by.
    let ids = |received: Vec<Received>| {
        let mut ids: Vec<_> = received.iter().map(|one| one.header("webhook-id").to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    let first = ids(receiver.seen());
    let replay = onceward::Replay { force: true, request: None };
    ow.admin().replay_job(sent.id, &replay).await.unwrap();
    tell(&ow).await;
    assert_eq!(ids(receiver.seen().split_off(3)), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_an_endpoint_or_an_event_is_refused() {
    let ow = crate::jobs_kit::client().await;
    let shop = || ow.endpoint("shop").url("https://example.com/");
    // Secret headers count as what they are before they are encrypted.
    let secrets = |endpoint: EndpointBuilder, count: usize| {
        let (value, keys) = ("s".repeat(8 * 1024 - 100), seal());
        (0..count).fold(endpoint.seal_keys(&keys), |to, n| to.secret_header(format!("x-{n}"), &value))
    };
    for (endpoint, code) in [
        (ow.endpoint(""), Code::EndpointNameInvalid),
        (ow.endpoint("a\nb").url("https://example.com/"), Code::EndpointNameInvalid),
        (ow.endpoint("shop"), Code::EndpointInvalid),
        (shop().url("http://example.com/"), Code::UrlSchemeRefused),
        (shop().url("https://10.0.0.1/"), Code::AddressRefused),
        (shop().events(["order paid"]), Code::EventTypeInvalid),
        (shop().header("Authorization", "x"), Code::HeaderSecret),
        (shop().header("Host", "x"), Code::HeaderInvalid),
        (shop().header("Idempotency-Key", "x"), Code::HeaderInvalid),
        (shop().secret_header("Idempotency-Key", "x").seal_keys(&seal()), Code::HeaderInvalid),
        (secrets(shop(), 3), Code::HeaderInvalid),
        (shop().secret(&Secret::generate().unwrap()), Code::SealKeyInvalid),
        (shop().secret_header("x-a", "b\r\nc").seal_keys(&seal()), Code::HeaderInvalid),
        (shop().timeout(Duration::from_secs(3600)), Code::TimeoutInvalid),
        (shop().concurrency(Some(0)), Code::LimitInvalid),
    ] {
        let shown = format!("{endpoint:?}");
        assert_eq!(endpoint.await.unwrap_err().code(), code, "{shown}");
    }
    let large = secrets(ow.endpoint("large").url("https://example.com/"), 2).add().await;
    assert_eq!(large.unwrap().setting.sealed.len(), 2);
    ow.admin().remove_endpoint(&name("large"), None).await.unwrap();
    assert_eq!(shop().set().await.unwrap_err().code(), Code::EndpointUnknown);
    assert!(ow.admin().endpoints(None, 10).await.unwrap().rows.is_empty());
    for (event, code) in [
        (ow.event(""), Code::EventTypeInvalid),
        (ow.event("order.*"), Code::EventTypeInvalid),
        (ow.event("a").json_text("{"), Code::PayloadUnwritable),
        (ow.event("a").content_type("text/plain"), Code::RequestBodyInvalid),
        (ow.event("a").text("x".repeat(1024 * 1024)), Code::PayloadTooLarge),
    ] {
        assert_eq!(event.send().await.unwrap_err().code(), code);
    }
    let sealed = HttpJob::to_endpoint("shop").secret_header("x-a", "b", &seal());
    assert_eq!(ow.enqueue_http(sealed).await.unwrap_err().code(), Code::HeaderInvalid);
    // What somebody has written by other means is looked at before anybody is told.
    for (kind, payload, code) in [
        ("event", "{}", "OW0826"),
        ("http", r#"{"endpoint":"none","json":1}"#, "OW0821"),
        ("http", r#"{"endpoint":"none","url":"https://example.com/"}"#, "OW0811"),
        ("http", r#"{"json":1}"#, "OW0811"),
    ] {
        let sent = ow.enqueue_raw(kind, payload, "application/json").await.unwrap();
        tell(&ow).await;
        let row = job(&ow, sent.id).await;
        assert!(row.state == State::Dead && row.error.as_ref().unwrap().contains(code), "{payload}: {row:?}");
    }
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
        events_reach_whoever_wants_them(&ow.in_namespace("events").unwrap()).await;
        endpoints_that_fail_are_left_alone(&ow.in_namespace("failing").unwrap()).await;
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
            ow.event("order.paid").json(&commits).send_in(&mut tx).await.unwrap();
            if commits { tx.commit().unwrap() } else { tx.rollback().unwrap() }
        }
        ow.endpoint("shop").url(receiver.url("/shop")).events(["*"]).policy(open()).await.unwrap();
        ow.worker().http(delivery()).run_until_empty(NOW).await.unwrap();
        let mut paths: Vec<String> =
            receiver.seen().iter().map(|received| received.path().to_owned()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["/shop", "/true"]);
        ow.shutdown().await;
    }
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn exchanges_are_kept_on_postgres() {
        let schema = crate::pg::Schema::migrated().await;
        let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
        exchanges_are_kept(&ow).await;
        events_reach_whoever_wants_them(&ow.in_namespace("events").unwrap()).await;
        endpoints_that_fail_are_left_alone(&ow.in_namespace("failing").unwrap()).await;
        ow.shutdown().await;
    }

    /// Where our own database listens nobody sends a request, whatever is allowed and whatever it is called.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_database_is_no_receiver() {
        let schema = crate::pg::Schema::migrated().await;
        let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
        let port = schema.url().rsplit(':').next().unwrap().split('/').next().unwrap();
        let mut hosts = ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"].map(str::to_owned).to_vec();
        // The same machine by the address that others have for it.
        let outward = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.1:9")?;
            socket.local_addr()
        });
        hosts.extend(outward.ok().map(|here| here.ip().to_string()));
        for host in hosts {
            let sent = match send(&ow, hook(format!("http://{host}:{port}/")), 3).await {
                Ok(sent) => sent,
                // An address that nobody may be sent to.
                Err(refused) => {
                    assert_eq!((refused.code(), host.starts_with("127.")), (Code::AddressRefused, false));
                    continue;
                }
            };
            tell(&ow).await;
            let row = job(&ow, sent.id).await;
            assert!(row.state == State::Dead && row.error.unwrap().contains("OW0805"), "{host}");
        }
        ow.shutdown().await;
    }

    /// Enqueued in the caller's transaction, and by SQL of any language.
    #[tokio::test(flavor = "multi_thread")]
    async fn webhooks_are_enqueued_in_transactions_and_by_sql() {
        let schema = crate::pg::Schema::migrated().await;
        let ow = Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
        let receiver = Receiver::good().await;
        let mut client = schema.client().await;
        for commits in [false, true] {
            let mut tx = client.transaction().await.unwrap();
            let url = receiver.url(&format!("/{commits}"));
            ow.enqueue_http(hook(url)).enqueue_in(&mut tx).await.unwrap();
            ow.event("order.paid").json(&commits).send_in(&mut tx).await.unwrap();
            if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
        }
        ow.endpoint("shop").url(receiver.url("/shop")).events(["*"]).policy(open()).await.unwrap();
        let payload =
            format!(r#"{{"url":"{}","headers":{{"X-Shop":"7"}},"json":{{ "n": 1 }}}}"#, receiver.url("/sql"));
        let name = schema.name();
        let sql = format!("SELECT {name}.enqueue('default', 'http', $1::bytea, '{{}}'::jsonb)");
        client.execute(&sql, &[&payload.into_bytes()]).await.unwrap();
        let event = br#"{"type":"order.made","json":"by SQL"}"#.to_vec();
        client.execute(&sql.replace("'http'", "'event'"), &[&event]).await.unwrap();
        ow.worker().http(delivery()).run_until_empty(NOW).await.unwrap();
        let mut seen = receiver.seen();
        seen.sort_by(|a, b| a.line.cmp(&b.line));
        let lines: Vec<&str> = seen.iter().map(|received| received.line.as_str()).collect();
        let shop = "POST /shop HTTP/1.1";
        assert_eq!(lines, [shop, shop, "POST /sql HTTP/1.1", "POST /true HTTP/1.1"]);
        assert_eq!((seen[2].body.as_slice(), seen[2].header("x-shop")), (&b"{ \"n\": 1 }"[..], "7"));
        let mut bodies = [&seen[0].body, &seen[1].body];
        bodies.sort_unstable();
        assert_eq!(bodies, [&b"\"by SQL\""[..], b"true"]);
        ow.shutdown().await;
    }
}
