//! The `Idempotency-Key` layer in an axum application, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic)] // these are tests

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use onceward::http::{IDEMPOTENT_REPLAYED, IdempotencyLayer, Mark};
use onceward::{Attempt, Onceward};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

#[derive(Clone)]
struct Shop {
    /// Handlers that were begun, and those that came to their end.
    begun: Arc<AtomicU32>,
    ended: Arc<AtomicU32>,
    /// Orders that say `gated` end when they are let through here.
    gate: Arc<Semaphore>,
}

#[derive(Clone)]
struct User(String);

/// Stands for whatever authenticates: it comes before the layer.
async fn authenticate(mut request: Request, next: Next) -> Result<impl IntoResponse, StatusCode> {
    let user = request.headers().get("x-user").and_then(|user| user.to_str().ok());
    let user = User(user.ok_or(StatusCode::UNAUTHORIZED)?.to_owned());
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

async fn pay(
    State(shop): State<Shop>,
    Extension(User(user)): Extension<User>,
    Extension(attempt): Extension<Attempt>,
    Json(order): Json<Value>,
) -> impl IntoResponse {
    let nth = shop.begun.fetch_add(1, Ordering::SeqCst) + 1;
    let pause = order["pause_ms"].as_u64().unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    if order["gated"] == true {
        shop.gate.acquire().await.unwrap().forget();
    }
    shop.ended.fetch_add(1, Ordering::SeqCst);
    let payment = json!({ "nth": nth, "user": user, "order": order["id"], "token": attempt.token() });
    (StatusCode::CREATED, [("location", format!("/payments/{nth}"))], Json(payment))
}

async fn refuse(State(shop): State<Shop>) -> impl IntoResponse {
    shop.begun.fetch_add(1, Ordering::SeqCst);
    (StatusCode::SERVICE_UNAVAILABLE, Extension(Mark::NotStarted), "no card company today")
}

/// An application on a port of its own.
async fn serve() -> (SocketAddr, Shop, IdempotencyLayer) {
    let ow = Onceward::options().short_ttls_for_tests().connect("memory:").await.unwrap();
    let layer = IdempotencyLayer::new(ow)
        .scope(|head| head.extensions.get::<User>().map(|user| user.0.clone()))
        .body_bytes_max(1000)
        .required(true);
    let shop = Shop { begun: Arc::default(), ended: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
    let app = Router::new()
        .route("/payments", post(pay))
        .route("/refused", post(refuse))
        .layer(layer.clone())
        .layer(from_fn(authenticate))
        .with_state(shop.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, shop, layer)
}

async fn call(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(path).header("host", "shop").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

async fn eventually(mut seen: impl FnMut() -> bool) {
    for _ in 0..500 {
        if seen() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be");
}

fn without(headers: &HeaderMap, names: &[&str]) -> HeaderMap {
    let mut headers = headers.clone();
    for name in names {
        headers.remove(*name);
    }
    headers
}

/// O3.
#[tokio::test(flavor = "multi_thread")]
async fn o3_a_payment_is_made_once_and_its_receipt_replayed_to_the_byte() {
    let (address, shop, _) = serve().await;
    let headers = [("x-user", "alice"), ("idempotency-key", "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"")];
    let first = call(address, "/payments", &headers, r#"{"id":17}"#).await;
    assert_eq!(
        (first.status(), &first.headers()["location"]),
        (StatusCode::CREATED, &"/payments/1".parse().unwrap())
    );
    for _ in 0..3 {
        let replay = call(address, "/payments", &headers, r#"{"id":17}"#).await;
        assert_eq!((replay.status(), replay.body()), (first.status(), first.body()));
        assert_eq!(replay.headers()[IDEMPOTENT_REPLAYED], "true");
        let made = ["idempotent-replayed", "date"];
        assert_eq!(without(replay.headers(), &made), without(first.headers(), &made));
    }
    assert_eq!(shop.begun.load(Ordering::SeqCst), 1);
    let other = call(address, "/payments", &headers, r#"{"id":18}"#).await;
    assert_eq!((other.status().as_u16(), shop.begun.load(Ordering::SeqCst)), (422, 1));
    assert!(String::from_utf8_lossy(other.body()).contains("OW0301"));
}

/// O12.
#[tokio::test(flavor = "multi_thread")]
async fn o12_two_customers_with_one_key_do_not_meet() {
    let (address, shop, _) = serve().await;
    for round in 0..2 {
        for user in ["alice", "bob"] {
            let headers = [("x-user", user), ("idempotency-key", "1")];
            let receipt = call(address, "/payments", &headers, r#"{"id":1}"#).await;
            let receipt: Value = serde_json::from_slice(receipt.body()).unwrap();
            assert_eq!(receipt["user"], user, "round {round}");
        }
    }
    assert_eq!(shop.begun.load(Ordering::SeqCst), 2);
    let nobody = call(address, "/payments", &[("idempotency-key", "1")], r#"{"id":1}"#).await;
    assert_eq!(nobody.status(), 401, "authentication comes first, and what it says is not recorded");
    let keyless = call(address, "/payments", &[("x-user", "alice")], r#"{"id":1}"#).await;
    assert_eq!(keyless.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_50_connections_one_payment() {
    let (address, shop, _) = serve().await;
    let calls = (0..50).map(|_| {
        tokio::spawn(async move {
            let headers = [("x-user", "alice"), ("idempotency-key", "1")];
            loop {
                let response = call(address, "/payments", &headers, r#"{"id":1,"pause_ms":100}"#).await;
                match response.status().as_u16() {
                    409 => tokio::time::sleep(Duration::from_millis(20)).await,
                    status => return (status, response.into_body()),
                }
            }
        })
    });
    let mut receipts = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        receipts.push(call.await.unwrap());
    }
    assert!(receipts.iter().all(|it| it.0 == 201 && *it == receipts[0]), "{receipts:?}");
    assert_eq!(shop.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_marked_not_started_may_come_again() {
    let (address, shop, _) = serve().await;
    let headers = [("x-user", "alice"), ("idempotency-key", "1")];
    for run in 1..=2 {
        let response = call(address, "/refused", &headers, "").await;
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (503, b"no card company today".as_slice())
        );
        assert!(!response.headers().contains_key(IDEMPOTENT_REPLAYED));
        assert_eq!(shop.begun.load(Ordering::SeqCst), run);
    }
}

/// Writes raw bytes and hands the connection back.
async fn write(address: SocketAddr, head: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /payments HTTP/1.1\r\nHost: shop\r\nX-User: alice\r\nContent-Type: application/json\r\n{head}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream
}

async fn status_of(mut stream: TcpStream) -> String {
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.unwrap();
    String::from_utf8_lossy(&line).into_owned()
}

/// N9.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_finds_its_payment_when_it_comes_back() {
    let (address, shop, layer) = serve().await;
    let order = r#"{"id":1,"gated":true}"#;
    let stream = write(address, "Idempotency-Key: 1\r\nContent-Length: 21", order).await;
    eventually(|| shop.begun.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(100)).await; // time for the server to see it
    let headers = [("x-user", "alice"), ("idempotency-key", "1")];
    let meanwhile = call(address, "/payments", &headers, order).await;
    assert_eq!((meanwhile.status().as_u16(), shop.ended.load(Ordering::SeqCst)), (409, 0));
    shop.gate.add_permits(1);
    layer.finish().await;
    assert_eq!(shop.ended.load(Ordering::SeqCst), 1, "the handler came to its end");
    let later = call(address, "/payments", &headers, order).await;
    assert_eq!(later.status(), 201);
    assert_eq!(later.headers()[IDEMPOTENT_REPLAYED], "true");
    assert_eq!(shop.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_within_its_body_has_claimed_nothing() {
    let (address, shop, layer) = serve().await;
    for head in ["Content-Length: 23", "Transfer-Encoding: chunked"] {
        let head = format!("Idempotency-Key: 1\r\n{head}");
        drop(write(address, &head, "9\r\n{\"id\":1").await);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    layer.finish().await;
    let headers = [("x-user", "alice"), ("idempotency-key", "1")];
    assert_eq!(call(address, "/payments", &headers, r#"{"id":1}"#).await.status(), 201);
    assert_eq!(shop.begun.load(Ordering::SeqCst), 1);
}

/// S28: the limit holds for what comes in chunks, and before it is read.
#[tokio::test(flavor = "multi_thread")]
async fn s28_a_body_above_the_limit_is_413_whether_or_not_it_says_its_size() {
    let (address, shop, _) = serve().await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let endless = write(address, "Idempotency-Key: 1\r\nTransfer-Encoding: chunked", &chunk.repeat(2)).await;
    assert_eq!(status_of(endless).await, "HTTP/1.1 413");
    let announced = write(address, "Idempotency-Key: 1\r\nContent-Length: 1001", "").await;
    assert_eq!(status_of(announced).await, "HTTP/1.1 413", "before a byte of it was sent");
    assert_eq!(shop.begun.load(Ordering::SeqCst), 0);
    let body = r#"{"id":1}"#;
    let mut trickle = write(address, "Idempotency-Key: 1\r\nTransfer-Encoding: chunked", "").await;
    for byte in body.chars() {
        trickle.write_all(format!("1\r\n{byte}\r\n").as_bytes()).await.unwrap();
    }
    trickle.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(status_of(trickle).await, "HTTP/1.1 201");
    let headers = [("x-user", "alice"), ("idempotency-key", "1")];
    let same = call(address, "/payments", &headers, body).await;
    assert_eq!(
        same.headers()[IDEMPOTENT_REPLAYED],
        "true",
        "how a body was cut into chunks makes no difference"
    );
}

/// What the parser of the server lets through is what the layer has to stand.
#[tokio::test(flavor = "multi_thread")]
async fn odd_headers_on_the_wire_are_400() {
    let (address, shop, _) = serve().await;
    for odd in [
        "Idempotency-Key:",
        "Idempotency-Key: \"\"",
        "Idempotency-Key: \u{e4}",
        "Idempotency-Key: a, b",
        "Idempotency-Key: a\r\nIdempotency-Key: a",
        "Idempotency-Key: a\r\nidempotency-key: \"b\"",
        "Idempotency-Key: \"a\" \"b\"",
    ] {
        let stream = write(address, &format!("{odd}\r\nContent-Length: 8"), r#"{"id":1}"#).await;
        assert_eq!(status_of(stream).await, "HTTP/1.1 400", "{odd:?}");
    }
    assert_eq!(shop.begun.load(Ordering::SeqCst), 0);
    let stream = write(address, "iDEMPOTENCY-kEY:  \t a \t\r\nContent-Length: 8", r#"{"id":1}"#).await;
    assert_eq!(status_of(stream).await, "HTTP/1.1 201");
    let body = Body::from(r#"{"id":1}"#).collect().await.unwrap().to_bytes();
    let headers = [("x-user", "alice"), ("idempotency-key", "\"a\"")];
    let same = call(address, "/payments", &headers, std::str::from_utf8(&body).unwrap()).await;
    assert_eq!(same.headers()[IDEMPOTENT_REPLAYED], "true", "bare and quoted are one key");
}
