//! A payment service that charges a card once, however often the client sends the request.
//!
//! ```console
//! $ cargo run -p onceward --example payment_api --features tower
//! $ pay() { curl -i localhost:8017/payments -H "X-Customer: alice" -H "Idempotency-Key: \"$1\"" --json "$2"; }
//!
//! $ pay order-17 '{"cents":4200,"card":"4242"}'      # 201: charged
//! $ pay order-17 '{"cents":4200,"card":"4242"}'      # 201, the same receipt, Idempotent-Replayed: true
//! $ pay order-17 '{"cents":9900,"card":"4242"}'      # 422: the key belongs to another request
//! $ pay order-18 '{"cents":4200,"card":"slow"}'      # Ctrl-C it, send it again: 409, a little later the receipt
//! $ pay order-19 '{"cents":4200,"card":"offline"}'   # 503: nothing was charged, the same key may try again
//! $ pay order-20 '{"cents":4200,"card":"lost"}'      # 502: charged or not? Then 409, and soon the receipt
//! $ curl localhost:8017/charges                      # what the card company has seen: every order once
//! ```
//!
//! The state is in a SQLite file: stop the service, start it again, and the receipts are still there. Another
//! store is the first argument, for example `postgres://localhost/shop`; another address to listen on the second.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use onceward::http::{IdempotencyLayer, Mark};
use onceward::{Attempt, Onceward, Verdict};
use serde::Deserialize;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::temp_dir().join("onceward-payment-api.db");
    let store = std::env::args().nth(1).unwrap_or_else(|| format!("sqlite://{}", file.display()));
    let ow = Onceward::connect(&store).await?;
    let cards = CardCompany::default();

    let once = IdempotencyLayer::new(ow.clone())
        // Whose key it is. Without this, a customer who guesses another one's key would get the other one's
        // receipt.
        .scope(|request| request.extensions.get::<Customer>().map(|it| it.id.clone()))
        // A payment without a key can't be repeated safely, so there are none.
        .required(true)
        // How long a client may repeat a request. Afterwards the same key charges again: tell your clients.
        .retain_for(Duration::from_secs(24 * 3600));

    let app = Router::new()
        // `route_layer`, and not `layer`: a 404 for a path that does not exist is nothing to be recorded.
        .route("/payments", post(pay).route_layer(once.clone()))
        // Layers that were added later come first. Authentication belongs there: who it is has to be known
        // before the key is looked up, and a 401 must not be replayed to somebody who has logged in by now.
        .route_layer(from_fn(authenticate))
        .route("/charges", get(charges))
        .with_state(cards.clone());

    let address = std::env::args().nth(2).unwrap_or_else(|| "127.0.0.1:8017".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("POST http://{}/payments; the state is in {store}; Ctrl-C stops", listener.local_addr()?);
    let server = axum::serve(listener, app).with_graceful_shutdown(stopped()).into_future();
    tokio::select! {
        ended = server => ended?,
        () = settle_what_nobody_knows(&ow, &cards) => {}
    }

    // Handlers whose clients have hung up are still at work. Let them come to their end and record it.
    once.finish().await;
    ow.shutdown().await;
    Ok(())
}

async fn stopped() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await; // no signals here: it runs until it is killed, which it survives
    }
}

#[derive(Clone)]
struct Customer {
    id: String,
}

/// Stands for real authentication, which would look at a session or a token.
async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let id = request.headers().get("x-customer").and_then(|id| id.to_str().ok());
    let customer = Customer { id: id.ok_or(StatusCode::UNAUTHORIZED)?.to_owned() };
    request.extensions_mut().insert(customer);
    Ok(next.run(request).await)
}

#[derive(Deserialize)]
struct Order {
    cents: u32,
    card: String,
}

/// Charges a card. The layer has made sure that it is here at most once per customer and key; what is left to
/// say is what each ending means.
async fn pay(
    State(cards): State<CardCompany>,
    Extension(attempt): Extension<Attempt>,
    Json(order): Json<Order>,
) -> Response {
    // Our key is the company's key, too. It tells us later whether a charge that we know nothing about was
    // made.
    match cards.charge(attempt.key().as_str(), &order).await {
        // Below 500: recorded, and replayed to whoever asks again.
        Ok(charge) => (StatusCode::CREATED, Json(json!({ "charge": charge }))).into_response(),
        // As final as a success. The mark only says so to people who look at lists of keys.
        Err(Refused::Declined) => {
            let body = Json(json!({ "error": "the card was declined" }));
            (StatusCode::PAYMENT_REQUIRED, Extension(Mark::Failed), body).into_response()
        }
        // No connection, so no charge: the key is free again. Say this only where nothing can have happened.
        Err(Refused::Offline) => {
            let body = Json(json!({ "error": "the card company can't be reached; nothing was charged" }));
            (StatusCode::SERVICE_UNAVAILABLE, Extension(Mark::NotStarted), body).into_response()
        }
        // The request was sent and no answer came. 500 and above without a mark: nobody knows, and it is not
        // tried again before somebody has found out.
        Err(Refused::NoAnswer) => {
            let body = Json(json!({ "error": "the card company did not answer; we are looking into it" }));
            (StatusCode::BAD_GATEWAY, body).into_response()
        }
    }
}

/// Asks the card company about every payment that nobody is sure of, and settles it by the answer. Run it in
/// each copy of the service, or in one that holds a lease.
async fn settle_what_nobody_knows(ow: &Onceward, cards: &CardCompany) {
    let admin = ow.admin();
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let settled = admin.reconcile(Some("http:"), "the card company was asked", async |row| {
            match cards.find(row.key.as_str()) {
                // What is recorded here is the response that callers get from now on, with status 200.
                Some(charge) => Verdict::Happened(json!({ "charge": charge })),
                // Not there *yet* is not the same as never: a person decides, with `onceward once resolve`.
                None => Verdict::StillUnknown,
            }
        });
        match settled.await {
            Ok(bulk) => bulk.changed.iter().for_each(|key| println!("settled: {key}")),
            Err(error) => eprintln!("could not look for uncertain payments: {error}"),
        }
    }
}

async fn charges(State(cards): State<CardCompany>) -> Response {
    Json(cards.lock().clone()).into_response()
}

/// A card company that takes money, says no, is away, or loses its answer, by the number of the card.
#[derive(Clone, Default)]
struct CardCompany {
    charges: Arc<Mutex<BTreeMap<String, String>>>,
}

enum Refused {
    Declined,
    Offline,
    NoAnswer,
}

impl CardCompany {
    async fn charge(&self, key: &str, order: &Order) -> Result<String, Refused> {
        match order.card.as_str() {
            "declined" => return Err(Refused::Declined),
            "offline" => return Err(Refused::Offline),
            "slow" => tokio::time::sleep(Duration::from_secs(10)).await,
            _ => {}
        }
        let id = format!("ch_{} of {} cents", self.lock().len() + 1, order.cents);
        self.lock().insert(key.to_owned(), id.clone());
        if order.card == "lost" { Err(Refused::NoAnswer) } else { Ok(id) }
    }

    fn find(&self, key: &str) -> Option<String> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
