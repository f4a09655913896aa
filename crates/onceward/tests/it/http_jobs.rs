//! HTTP jobs against receivers that behave, and receivers that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::http_jobs_kit::{DRIP, ONCE, Receiver, Reply, delivery, hook, once, open, send, statuses};
use crate::jobs_kit::{NOW, client, job, until, until_that};
use onceward::http_jobs::{HttpJob, SealKeys};
use onceward::jobs::{JobId, State};
use onceward::webhook::{Secret, Verifier};
use onceward::worker::WorkerHandle;
use onceward::{Code, JobResolution, Onceward, Replay};

async fn worker(ow: &Onceward) -> WorkerHandle {
    ow.worker().http(delivery()).concurrency(32).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_what_was_enqueued_arrives_to_the_byte_signed_and_named() {
    let (ow, receiver) = (client().await, Receiver::good().await);
    let secret = Secret::generate().unwrap();
    let body = r#"{ "b": 2,  "a": [1e3, "\u00e9"] }"#;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = HttpJob::put(receiver.url("/in?x=1")).policy(open()).json_text(body).header("X-Shop", "7");
    let sent = ow.enqueue_http(request).trace(trace).await.unwrap();
    ow.worker().http(delivery().sign(secret.clone())).run_until_empty(NOW).await.unwrap();
    let [received] = receiver.seen().try_into().unwrap();
    assert_eq!(received.line, "PUT /in?x=1 HTTP/1.1");
    assert_eq!(received.body, body.as_bytes());
    let id = sent.id.to_string();
    for (name, value) in [
        ("host", receiver.address.to_string().as_str()),
        ("content-type", "application/json"),
        ("content-length", &body.len().to_string()),
        ("x-shop", "7"),
        ("webhook-id", &id),
        ("idempotency-key", &id),
        ("onceward-job-id", &id),
        ("onceward-attempt", "1"),
        ("traceparent", trace),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    let now = SystemTime::now().into();
    let (time, signature) = (received.header("webhook-timestamp"), received.header("webhook-signature"));
    Verifier::new([&secret.verifying()]).verify(&id, time, signature, &received.body, now).unwrap();

    let row = job(&ow, sent.id).await;
    let [attempt] = row.attempts().try_into().unwrap();
    let seen = attempt.http.unwrap();
    assert_eq!((seen.status, seen.excerpt.as_deref()), (Some(200), Some("thanks")));
    assert_eq!(seen.address, Some(receiver.address.to_string()));
    let timings = seen.timings;
    assert!(timings.connect_us.is_some() && timings.first_byte_us <= timings.total_us);
    assert!(timings.dns_us.is_none() && timings.tls_us.is_none(), "an address, in the clear");
}

/// H1, W69: 3xx is not followed, 410 and other 4xx are final, the rest is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn h1_what_an_answer_means() {
    let ow = client().await;
    let receiver = Receiver::new(|received| match received.path() {
        "/302" => Reply::With(302, "location: /followed".to_owned()),
        "/307" => Reply::With(307, "location: http://169.254.169.254/".to_owned()),
        path => Reply::Status(path[1..].parse().unwrap(), "{}"),
    })
    .await;
    let _worker = worker(&ow).await;
    for (path, state, attempts) in [
        ("/200", State::Succeeded, 1),
        ("/204", State::Succeeded, 1),
        ("/302", State::Dead, 1),
        ("/307", State::Dead, 1),
        ("/400", State::Dead, 1),
        ("/404", State::Dead, 1),
        ("/408", State::Dead, 3),
        ("/409", State::Dead, 3),
        ("/410", State::Dead, 1),
        // Nobody else is asked in place of the one who was misdirected to.
        ("/421", State::Dead, 1),
        ("/425", State::Dead, 3),
        ("/500", State::Dead, 3),
        ("/503", State::Dead, 3),
    ] {
        let sent = send(&ow, hook(receiver.url(path)), 3).await.unwrap();
        let row = until(&ow, sent.id, state).await;
        let status = path[1..].parse().ok();
        assert_eq!(statuses(&row), vec![status; attempts], "{path}: {row:?}");
        let seen = receiver.seen_at(path);
        assert_eq!(seen.len(), attempts, "{path}");
        assert!(seen.iter().all(|received| received.header("webhook-id") == sent.id.to_string()));
        let numbers: Vec<_> =
            seen.iter().map(|received| received.header("onceward-attempt").to_owned()).collect();
        assert_eq!(numbers, (1..=attempts).map(|number| number.to_string()).collect::<Vec<_>>());
    }
    assert!(receiver.seen_at("/followed").is_empty());
}

/// The time after this one, as HTTP writes it.
fn http_date(after: Duration) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = SystemTime::now() + after;
    let days = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from(days % 7).unwrap()];
    let text = onceward::Timestamp::from(at).to_string();
    let (date, time) = text.split_once('T').unwrap();
    let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().unwrap();
    let month = MONTHS[month.parse::<usize>().unwrap() - 1];
    format!("{weekday}, {day} {month} {year} {} GMT", &time[..8])
}

/// W69: a receiver that asks for a pause gets it, in seconds or as a date, within bounds.
#[tokio::test(flavor = "multi_thread")]
async fn w69_retry_after_is_honoured() {
    let ow = client().await;
    let receiver = Receiver::new(|received| {
        let first = received.header("onceward-attempt") == "1";
        match received.path() {
            "/seconds" if first => Reply::With(429, "retry-after: 1".to_owned()),
            "/date" if first => {
                Reply::With(503, format!("retry-after: {}", http_date(Duration::from_secs(3))))
            }
            "/zero" if first => Reply::With(503, "retry-after: 0".to_owned()),
            _ => Reply::Status(200, ""),
        }
    })
    .await;
    let _worker = worker(&ow).await;
    let mut sent = Vec::new();
    for path in ["/seconds", "/zero", "/date"] {
        sent.push((path, send(&ow, hook(receiver.url(path)), 3).await.unwrap().id));
    }
    for (path, id) in sent {
        until(&ow, id, State::Succeeded).await;
        let seen = receiver.seen_at(path);
        let pause = seen[1].at - seen[0].at;
        assert!(pause >= Duration::from_millis(990), "{path}: {pause:?}");
    }
}

/// H1, H4, N57: whatever a receiver does, the attempt ends by a limit, and everybody else is served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn n57_hostile_receivers_end_by_limits_and_delay_nobody_else() {
    let ow = client().await;
    let receiver = Receiver::new(|received| match received.path().split('/').nth(1).unwrap() {
        "hang" => Reply::Hang,
        "close" => Reply::Close,
        "drip" => DRIP,
        "endless" => Reply::Endless,
        "flood" => Reply::Flood(Duration::from_millis(1)),
        "torrent" => Reply::Flood(Duration::ZERO),
        "headers" => Reply::Headers,
        "middle" => Reply::Last("HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\nhalf"),
        "chunks" => Reply::Last("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        "garbage" => Reply::Last("220 smtp.example.com ESMTP\r\n"),
        "switch" => Reply::With(101, "connection: upgrade\r\nupgrade: x".to_owned()),
        _ => Reply::Status(200, "thanks"),
    })
    .await;
    let _worker = worker(&ow).await;
    let kinds = [
        "hang", "close", "drip", "endless", "flood", "torrent", "headers", "middle", "chunks", "garbage",
        "switch",
    ];
    let mut bad = Vec::new();
    for kind in kinds {
        let url = receiver.url(&format!("/{kind}"));
        bad.push((kind, send(&ow, hook(url), 1).await.unwrap().id));
    }
    let began = Instant::now();
    for number in 0..100 {
        let sent = send(&ow, hook(receiver.url(&format!("/good/{}", number % 5))), 3).await.unwrap();
        until(&ow, sent.id, State::Succeeded).await;
    }
    let took = began.elapsed();
    for (kind, id) in bad {
        let row = until(&ow, id, State::Dead).await;
        let [attempt] = row.attempts().try_into().unwrap();
        let (seen, why) = (attempt.http.unwrap(), attempt.error.unwrap());
        assert!(seen.body_bytes <= 2 * 1024 * 1024, "{kind}: {seen:?}");
        let total = Duration::from_micros(seen.timings.total_us.unwrap());
        assert!(total < Duration::from_millis(2_500), "{kind}: {total:?}");
        match kind {
            "endless" => assert!(why.contains("too long"), "{kind}: {why}"),
            "drip" | "middle" | "chunks" => assert!(why.contains("broke off"), "{kind}: {why}"),
            "switch" => assert!(why.contains("101"), "{kind}: {why}"),
            _ => assert!(why.contains("sent, and not answered"), "{kind}: {why}"),
        }
    }
    assert!(took < Duration::from_secs(8), "the good ones took {took:?}");
}

/// W55, N57: a status says what becomes of the job, however long, slow or broken the page is that follows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn w55_a_long_error_page_is_an_error_like_any_other() {
    let ow = client().await;
    let receiver = Receiver::new(|received| match received.path() {
        _ if received.header("onceward-attempt") == "2" => Reply::Status(200, ""),
        "/503" => Reply::Long(503, "retry-after: 1"),
        "/500" => Reply::Slow(500, Duration::from_millis(100)),
        "/502" => Reply::Last("HTTP/1.1 502 X\r\ncontent-length: 100\r\n\r\nhalf"),
        "/404" => Reply::Long(404, "x-a: b"),
        "/410" => Reply::Long(410, "x-a: b"),
        path => panic!("{path}"),
    })
    .await;
    let _worker = worker(&ow).await;
    for (path, state, seen) in [
        ("/503", State::Succeeded, vec![Some(503), Some(200)]),
        ("/500", State::Succeeded, vec![Some(500), Some(200)]),
        ("/502", State::Succeeded, vec![Some(502), Some(200)]),
        ("/404", State::Dead, vec![Some(404)]),
        ("/410", State::Dead, vec![Some(410)]),
    ] {
        let enqueue = ow.enqueue_http(hook(receiver.url(path))).retry("fixed 20ms".parse().unwrap());
        let sent = enqueue.max_attempts(3).timeout(Duration::from_secs(10)).await.unwrap();
        let row = until(&ow, sent.id, state).await;
        assert_eq!(statuses(&row), seen, "{path}: {row:?}");
        let first = row.attempts()[0].http.clone().unwrap();
        assert!(first.body_bytes < 1024 * 1024, "{path}: {first:?}");
        assert!(first.timings.total_us < Some(5_000_000), "{path}: {first:?}");
        let got = receiver.seen_at(path);
        let again = got.iter().skip(1).any(|one| one.connection == got[0].connection);
        assert!(!again, "{path}: a connection whose answer was not read to its end is not used again");
        let pause = got.last().unwrap().at - got[0].at;
        assert!(path != "/503" || pause >= Duration::from_millis(990), "{pause:?}");
    }
    // Where a job says at most once, what is known is not uncertain.
    for (path, state) in [("/404", State::Dead), ("/410", State::Dead), ("/503", State::Uncertain)] {
        let id = at_most_once(&ow, receiver.url(path)).await;
        until(&ow, id, state).await;
    }
}

/// W69: a receiver that asks for a pause gets it from everybody, also where the job that was told so is dead.
#[tokio::test(flavor = "multi_thread")]
async fn w69_retry_after_holds_the_others_where_a_job_runs_at_most_once() {
    let ow = client().await;
    let receiver = Receiver::new(|received| match received.body.as_slice() {
        b"\"first\"" => Reply::With(429, "retry-after: 2".to_owned()),
        _ => Reply::Status(200, ""),
    })
    .await;
    let _worker = worker(&ow).await;
    let post = |text: &str| HttpJob::post(receiver.url("/")).json(&text).policy(open());
    let first = ow.enqueue_http(post("first")).at_most_once().await.unwrap().id;
    until(&ow, first, State::Dead).await;
    let second = ow.enqueue_http(post("second")).await.unwrap().id;
    until(&ow, second, State::Succeeded).await;
    let seen = receiver.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(1_900), "{:?}", seen[1].at - seen[0].at);
}

/// What a request waits for before it is sent is a part of the time of its attempt: it ends by itself, so that what was
/// seen of it is known.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_ends_before_its_attempt_does_however_long_it_waited() {
    let ow = client().await;
    let receiver = Receiver::new(|received| match received.body.as_slice() {
        b"\"hangs\"" => Reply::Hang,
        _ => Reply::After(Duration::from_millis(200), 200),
    })
    .await;
    // One at a time: the second one waits for the first in its slot.
    let _worker = ow.worker().http(delivery()).concurrency(10).start().await.unwrap();
    let send = |text: &'static str| {
        let job = HttpJob::post(receiver.url("/")).json(&text).policy(open());
        let enqueue = ow.enqueue_http(job).max_attempts(1).timeout(Duration::from_millis(800));
        async move { enqueue.await.unwrap().id }
    };
    let first = send("answers").await;
    while receiver.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let second = send("hangs").await;
    until(&ow, first, State::Succeeded).await;
    let row = until(&ow, second, State::Dead).await;
    let attempt = row.attempts().pop().unwrap();
    assert!(attempt.error.as_ref().unwrap().contains("sent, and not answered"), "{attempt:?}");
    assert_eq!(attempt.http.unwrap().address, Some(receiver.address.to_string()));
}

/// What an attempt has come to is kept with it: also where nobody listened, and where TLS could not be agreed on.
#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_was_dialled_is_kept_where_nothing_could_be_sent() {
    let (ow, plain) = (client().await, Receiver::new(|_| Reply::Last("no TLS here\r\n")).await);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _worker = worker(&ow).await;
    for (url, address, why) in [
        (format!("http://{nobody}/"), nobody, "no connection"),
        (format!("https://{}/", plain.address), plain.address, "no TLS"),
    ] {
        let sent = send(&ow, hook(url), 1).await.unwrap();
        let attempt = until(&ow, sent.id, State::Dead).await.attempts().pop().unwrap();
        assert!(attempt.error.as_ref().unwrap().contains(why), "{attempt:?}");
        let seen = attempt.http.unwrap();
        assert_eq!((seen.address, seen.status), (Some(address.to_string()), None));
        assert!(seen.timings.connect_us.is_some() && seen.timings.total_us.is_some());
    }
}

/// W55: the receiver has closed the connection that we kept. That is no failure of the request.
#[tokio::test(flavor = "multi_thread")]
async fn w55_a_dropped_connection_is_no_dead_letter() {
    let ow = client().await;
    // It answers the first request of a connection, and closes when the second one has come.
    let receiver =
        Receiver::new(|received| if received.nth == 1 { Reply::Status(200, "") } else { Reply::Close }).await;
    let _worker = worker(&ow).await;
    for number in 1..=4_usize {
        let sent = send(&ow, hook(receiver.url("/")), 1).await.unwrap();
        let row = until(&ow, sent.id, State::Succeeded).await;
        assert_eq!(row.attempt, 1);
        assert!(receiver.connections.load(Ordering::SeqCst) <= number);
    }
    // Without an answer at all it is tried again as often as there are attempts.
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let reset = Receiver::new(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Close,
        1 => Reply::Last("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n"),
        _ => Reply::Status(200, ""),
    })
    .await;
    let sent = send(&ow, hook(reset.url("/")), 3).await.unwrap();
    let row = until(&ow, sent.id, State::Succeeded).await;
    assert_eq!((row.attempt, statuses(&row)), (3, vec![None, Some(200), Some(200)]));
}

/// W55, H2: of an answer that has begun nobody says that the receiver had closed the connection before. The request is
/// not sent again in the same attempt.
#[tokio::test(flavor = "multi_thread")]
async fn w55_a_kept_connection_that_breaks_in_the_head_of_an_answer_is_a_failure() {
    let ow = client().await;
    let receiver = Receiver::new(|received| match received.nth {
        1 => Reply::Status(200, ""),
        _ => Reply::Last("HTTP/1.1 20"),
    })
    .await;
    let _worker = worker(&ow).await;
    let first = send(&ow, hook(receiver.url("/first")), 1).await.unwrap();
    until(&ow, first.id, State::Succeeded).await;
    let second = send(&ow, hook(receiver.url("/second")), 1).await.unwrap();
    let row = until(&ow, second.id, State::Dead).await;
    assert!(row.error.as_ref().unwrap().contains("after the answer had begun"), "{row:?}");
    let got = receiver.seen_at("/second");
    assert_eq!((got.len(), got[0].nth), (1, 2), "sent once, over the connection of the first");
}

/// W55, H2, N57: a receiver that resets the connection when the request has come has seen it.
#[tokio::test(flavor = "multi_thread")]
async fn n57_a_connection_that_is_reset_after_the_request_is_no_proof_of_anything() {
    let ow = client().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // What was not read when it is closed makes the kernel reset the connection.
            stream.peek(&mut [0; 1]).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let _worker = worker(&ow).await;
    let usual = send(&ow, hook(format!("http://{address}/")), 2).await.unwrap().id;
    let row = until(&ow, usual, State::Dead).await;
    let error = row.error.unwrap();
    assert!(error.contains("sent, and not answered"), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 2, "once for each attempt");
    let once = at_most_once(&ow, format!("http://{address}/")).await;
    until(&ow, once, State::Uncertain).await;
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

/// H4, N57: nobody is asked to compress an answer, and one that is compressed all the same is not unpacked.
#[tokio::test(flavor = "multi_thread")]
async fn n57_answers_are_not_unpacked() {
    let ow = client().await;
    // The beginning of a gzip file, which would unpack to something else.
    let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03nothing that unpacks";
    let receiver = Receiver::new(move |_| {
        let head =
            format!("HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
        Reply::Raw([head.as_bytes(), packed].concat())
    })
    .await;
    let _worker = worker(&ow).await;
    let sent = send(&ow, hook(receiver.url("/")), 1).await.unwrap();
    let row = until(&ow, sent.id, State::Succeeded).await;
    let seen = row.attempts().pop().unwrap().http.unwrap();
    assert_eq!(seen.body_bytes, packed.len() as u64);
    assert!(seen.excerpt.unwrap().contains("nothing that unpacks"), "as it came");
    assert_eq!(receiver.seen()[0].header("accept-encoding"), "");
}

async fn at_most_once(ow: &Onceward, url: String) -> JobId {
    let retry = "fixed 50ms".parse().unwrap();
    let enqueue = ow.enqueue_http(hook(url)).retry(retry).timeout(Duration::from_secs(1));
    enqueue.max_attempts(50).at_most_once().await.unwrap().id
}

/// H2: what was sent is not sent again; what was not, is.
#[tokio::test(flavor = "multi_thread")]
async fn h2_at_most_once_nothing_is_sent_twice() {
    let ow = client().await;
    let receiver = Receiver::new(once).await;
    let _worker = worker(&ow).await;
    for (path, state) in ONCE {
        let id = at_most_once(&ow, receiver.url(path)).await;
        let row = until(&ow, id, state).await;
        let seen = receiver.seen_at(path);
        assert_eq!(seen.len(), 1, "{path} was sent once");
        assert_eq!(seen[0].nth, 1, "{path} went over a connection of its own");
        assert!(row.attempts()[0].http.is_some(), "{path}: {row:?}");
        if state == State::Uncertain {
            let how = JobResolution::Done(None);
            ow.admin().resolve_job(id, None, how, "the receiver has it").await.unwrap();
        }
    }
    // Nobody listens yet: nothing is sent, and it goes on until somebody does.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let id = at_most_once(&ow, format!("http://{address}/late")).await;
    until_that(&ow, id, "retrying", |row| row.attempt > 1).await;
    let late = Receiver::at(&address.to_string(), |_| Reply::Status(200, "")).await;
    until(&ow, id, State::Succeeded).await;
    assert_eq!(late.seen().len(), 1);
}

/// W59: a receiver recognises the work over attempts, replays, and replays of replays.
#[tokio::test(flavor = "multi_thread")]
async fn w59_the_key_is_the_same_over_retries_and_replays() {
    let ow = client().await;
    let receiver = Receiver::new(|_| Reply::Status(500, "")).await;
    let _worker = worker(&ow).await;
    let first = send(&ow, hook(receiver.url("/")), 2).await.unwrap().id;
    until(&ow, first, State::Dead).await;
    let second = ow.admin().replay_job(first, &Replay::default()).await.unwrap().id;
    until(&ow, second, State::Dead).await;
    let third = ow.admin().replay_job(second, &Replay::default()).await.unwrap().id;
    assert!(third != second && second != first, "a dead replay can be replayed");
    until(&ow, third, State::Dead).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 6);
    for received in &seen {
        assert_eq!(received.header("webhook-id"), first.to_string());
        assert_eq!(received.header("idempotency-key"), first.to_string());
    }
    assert_eq!(seen[5].header("onceward-job-id"), third.to_string());
    // Whoever chooses a key of his own keeps it.
    let own = hook(receiver.url("/own")).header("Idempotency-Key", "order 17");
    let own = send(&ow, own, 1).await.unwrap().id;
    until(&ow, own, State::Dead).await;
    assert_eq!(receiver.seen_at("/own")[0].header("idempotency-key"), "order 17");
}

/// W63: secrets are neither kept in the clear nor shown, and arrive.
#[tokio::test(flavor = "multi_thread")]
async fn w63_secrets_are_kept_encrypted_and_shown_nowhere() {
    let ow = client().await;
    let receiver = Receiver::new(|received| {
        let echo = format!("you sent {} and {{\"token\":\"t0p\"}}", received.header("authorization"));
        Reply::Raw(format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{echo}", echo.len()).into_bytes())
    })
    .await;
    let keys = SealKeys::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let plain = hook(receiver.url("/")).header("Authorization", "Bearer s3cret-canary");
    let error = ow.enqueue_http(plain).await.unwrap_err();
    assert_eq!(error.code(), Code::HeaderSecret);
    assert!(!format!("{error:?}").contains("s3cret-canary"));

    let sealed = || hook(receiver.url("/")).secret_header("Authorization", "Bearer s3cret-canary", &keys);
    let sent = ow.enqueue_http(sealed()).key("once").await.unwrap();
    let again = ow.enqueue_http(sealed()).key("once").await.unwrap();
    assert_eq!((again.id, again.created), (sent.id, false), "what is sealed anew is still the same request");
    let other = hook(receiver.url("/")).secret_header("Authorization", "Bearer other", &keys);
    assert_eq!(ow.enqueue_http(other).key("once").await.unwrap_err().code(), Code::JobKeyMismatch);
    assert!(!format!("{:?}", sealed()).contains("s3cret-canary"));

    // A worker without the key sends nothing.
    let helpless = worker(&ow).await;
    let row = until_that(&ow, sent.id, "tried", |row| row.attempt > 0).await;
    assert!(row.error.unwrap().contains("OW0816") && receiver.seen().is_empty());
    helpless.shutdown().await;
    ow.admin().retry_job(sent.id, None, None).await.unwrap();
    let _worker = ow.worker().http(delivery().seal_keys(keys)).start().await.unwrap();
    let row = until(&ow, sent.id, State::Succeeded).await;
    assert_eq!(receiver.seen()[0].header("authorization"), "Bearer s3cret-canary");
    assert!(!format!("{row:?}").contains("s3cret-canary") && !row.payload.bytes.is_empty());
    let payload = String::from_utf8(row.payload.bytes.clone()).unwrap();
    assert!(!payload.contains("s3cret-canary"), "{payload}");
    let excerpt = row.attempts().pop().unwrap().http.unwrap().excerpt.unwrap();
    assert_eq!(excerpt, r#"you sent [redacted] and {"token":"[redacted]"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn w69_a_request_under_way_can_be_called_off() {
    let ow = Onceward::options().short_ttls_for_tests().connect("memory:").await.unwrap();
    let receiver = Receiver::new(|_| Reply::Hang).await;
    let worker = ow.worker().http(delivery()).session_ttl(Duration::from_millis(600)).start().await.unwrap();
    let enqueue = |once: bool| {
        let enqueue = ow.enqueue_http(hook(receiver.url(if once { "/once" } else { "/" })));
        if once { enqueue.at_most_once() } else { enqueue }
    };
    let usual = enqueue(false).await.unwrap().id;
    let once = enqueue(true).await.unwrap().id;
    for id in [usual, once] {
        until(&ow, id, State::Running).await;
    }
    while receiver.seen().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (id, state) in [(usual, State::Cancelled), (once, State::Uncertain)] {
        ow.admin().cancel_job(id, None, None).await.unwrap();
        let row = until(&ow, id, state).await;
        // What was seen until then is kept.
        let seen = row.attempts().pop().unwrap().http.unwrap();
        assert_eq!((seen.address, seen.status), (Some(receiver.address.to_string()), None));
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_request_alone_shows_is_refused_before_anything_is_written() {
    let ow = client().await;
    let post = |url: &str| HttpJob::post(url).json(&1);
    let open = |url: &str| post(url).policy(open());
    for (job, code) in [
        (post("hooks.example.com"), Code::UrlInvalid),
        (post("http://example.com/"), Code::UrlSchemeRefused),
        (post("https://10.0.0.1/"), Code::AddressRefused),
        (post("https://localhost/"), Code::AddressRefused),
        (post("https://a:b@example.com/"), Code::UrlCredentials),
        (post("https://example.com:22/"), Code::PortRefused),
        (open("http://169.254.169.254/"), Code::AddressRefused),
        (post("https://example.com/").header("a b", "x"), Code::HeaderInvalid),
        (post("https://example.com/").header("x", "a\r\nb: c"), Code::HeaderInvalid),
        (post("https://example.com/").header("x", "a").header("X", "b"), Code::HeaderInvalid),
        (post("https://example.com/").header("Host", "b.com"), Code::HeaderInvalid),
        (post("https://example.com/").header("X-GitLab-Token", "b"), Code::HeaderSecret),
        (post("https://example.com/").sign_with("a b"), Code::SigningKeyNameInvalid),
        (post("https://example.com/").sign_with(""), Code::SigningKeyNameInvalid),
        (HttpJob::get("https://example.com/").json(&1), Code::RequestBodyInvalid),
        (post("https://example.com/").json_text("{"), Code::PayloadUnwritable),
        (post("https://example.com/").text("a".repeat(1024 * 1024)), Code::PayloadTooLarge),
    ] {
        let shown = format!("{job:?}").chars().take(200).collect::<String>();
        assert_eq!(ow.enqueue_http(job).await.unwrap_err().code(), code, "{shown}");
    }
    // Secret headers count as what they are before they are encrypted.
    let keys = SealKeys::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    let secrets = |count: usize| {
        let value = "s".repeat(8 * 1024);
        (0..count)
            .fold(post("https://example.com/"), |job, n| job.secret_header(format!("x-{n}"), &value, &keys))
    };
    let two = "s".repeat(7 * 1024);
    let two =
        (0..2).fold(post("https://example.com/"), |job, n| job.secret_header(format!("x-{n}"), &two, &keys));
    assert!(ow.enqueue_http(two).delay(Duration::from_secs(900)).await.is_ok());
    assert!(ow.enqueue_http(secrets(1)).at_most_once().delay(Duration::from_secs(900)).await.is_ok());
    assert_eq!(ow.enqueue_http(secrets(2)).await.unwrap_err().code(), Code::HeaderInvalid);
    let worker_of =
        |name: &str| ow.worker().http(delivery().sign_as(name, Secret::generate().unwrap())).start();
    assert_eq!(worker_of("a b").await.unwrap_err().code(), Code::SigningKeyNameInvalid);
    let unsendable = ow.worker().http(delivery().user_agent("shop\r\nx: y")).start().await;
    assert_eq!(unsendable.unwrap_err().code(), Code::HeaderInvalid);
    // A quarter of an hour is what other jobs have where nothing is said: said, it is too long like anything else.
    for minutes in [11, 15, 60] {
        for job in [post("https://example.com/"), HttpJob::to_endpoint("shop").json(&1)] {
            let slow = ow.enqueue_http(job).timeout(Duration::from_secs(60 * minutes));
            assert_eq!(slow.await.unwrap_err().code(), Code::TimeoutInvalid, "{minutes} minutes");
        }
    }
    // What somebody has written by other means is looked at before it is sent.
    let _worker = worker(&ow).await;
    for (payload, code) in [
        ("not json", "OW0811"),
        (r#"{"url":"http://169.254.169.254/"}"#, "OW0805"),
        (r#"{"url":"https://example.com/","headers":{"host":"b.com"}}"#, "OW0808"),
        (r#"{"url":"ftp://example.com/"}"#, "OW0802"),
    ] {
        let sent = ow.enqueue_raw("http", payload, "application/json").await.unwrap();
        let row = until(&ow, sent.id, State::Dead).await;
        assert!(row.error.unwrap().contains(code), "{payload}");
    }
}
