//! An order service with an outbox: the order and the job that tells of it commit together, on axum and sqlx.
//!
//! ```console
//! $ cargo run -p onceward --example order_service --features sqlx-sqlite
//! $ order() { curl -s localhost:8018/orders --json "$1"; echo; }
//!
//! $ order '{"item":"tea","cents":450}'        # 201: the order, and soon after it a mail and an event
//! $ order '{"item":"gold","cents":450}'       # 422: no order, and no mail either: both were rolled back
//! $ curl -s localhost:8018/orders/1           # what has become of it
//! ```
//!
//! The state is in a SQLite file. Stop the service between an order and its mail: the mail is sent when it starts
//! again.
//! `onceward jobs list --store sqlite://$TMPDIR/onceward-order-service.db` shows what waits and what was done.

use std::error::Error;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use onceward::worker::JobContext;
use onceward::{Job, Onceward};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

/// A mail to the customer. The mail server recognises it by the root of the job, so that a second attempt sends no
/// second mail.
#[derive(Serialize, Deserialize, Job)]
#[job(kind = "order.confirm", queue = "mail", max_attempts = 8)]
struct Confirm {
    order: i64,
}

/// An event for others, in the order in which it happened: one after the other for each order.
#[derive(Serialize, Deserialize, Job)]
#[job(kind = "order.placed", queue = "events")]
struct Placed {
    order: i64,
    item: String,
}

#[derive(Clone)]
struct Shop {
    database: SqlitePool,
    ow: Onceward,
}

#[derive(Deserialize)]
struct NewOrder {
    item: String,
    cents: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::temp_dir().join("onceward-order-service.db");
    let ow = Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(5));
    let database = SqlitePoolOptions::new().max_connections(4).connect_with(options).await?;
    let table = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL, cents INTEGER NOT NULL,
                 status TEXT NOT NULL)";
    sqlx::query(table).execute(&database).await?;

    let shop = Shop { database, ow: ow.clone() };
    let worker = ow
        .worker()
        .queues(["mail", "events"])
        .state(shop.clone())
        .job(confirm)
        .job(placed)
        .concurrency(16)
        .start()
        .await?;

    let app = Router::new().route("/orders", post(place)).route("/orders/{id}", get(show)).with_state(shop);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8018").await?;
    println!("POST http://localhost:8018/orders; the state is in {}; Ctrl-C stops", file.display());
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;

    // What runs may come to its end; what was not started is handed back, uncharged.
    worker.shutdown().await;
    ow.shutdown().await;
    Ok(())
}

async fn stopped() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await; // no signals here: it runs until it is killed, which it survives
    }
}

/// One transaction: the order, the mail, the event. If it commits, all three are there; if not, none is.
async fn place(State(shop): State<Shop>, Json(new): Json<NewOrder>) -> Response {
    match try_place(&shop, &new).await {
        Ok(Some(id)) => (StatusCode::CREATED, Json(serde_json::json!({ "order": id }))).into_response(),
        Ok(None) => (StatusCode::UNPROCESSABLE_ENTITY, "we don't sell that").into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn try_place(shop: &Shop, new: &NewOrder) -> Result<Option<i64>, Box<dyn Error + Send + Sync>> {
    let mut tx = shop.database.begin_with("BEGIN IMMEDIATE").await?;
    let insert = "INSERT INTO orders (item, cents, status) VALUES (?1, ?2, 'placed') RETURNING id";
    let id: i64 = sqlx::query_scalar(insert).bind(&new.item).bind(new.cents).fetch_one(&mut *tx).await?;
    shop.ow.enqueue(Confirm { order: id }).key(format!("confirm:{id}")).enqueue_in(&mut tx).await?;
    let placed = Placed { order: id, item: new.item.clone() };
    shop.ow.enqueue(placed).ordering_key(format!("order:{id}")).enqueue_in(&mut tx).await?;
    // Found out late, as such things are: everything above is taken back, jobs included.
    if new.item == "gold" {
        tx.rollback().await?;
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(id))
}

async fn show(State(shop): State<Shop>, Path(id): Path<i64>) -> Response {
    let status = sqlx::query_scalar::<_, String>("SELECT status FROM orders WHERE id = ?1").bind(id);
    match status.fetch_optional(&shop.database).await {
        Ok(Some(status)) => Json(serde_json::json!({ "order": id, "status": status })).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn confirm(
    mail: Confirm,
    shop: onceward::worker::State<Shop>,
    job: JobContext,
) -> Result<(), sqlx::Error> {
    println!("mail to the customer of order {}, under {}", mail.order, job.idempotency_key());
    let confirmed = "UPDATE orders SET status = 'confirmed' WHERE id = ?1";
    sqlx::query(confirmed).bind(mail.order).execute(&shop.database).await.map(drop)
}

async fn placed(event: Placed, job: JobContext) -> Result<String, String> {
    if job.attempt() == 1 && event.item == "fragile" {
        // A failed attempt: it is tried again after a while, and the events of this order wait for it.
        return Err("the broker is away".to_owned());
    }
    println!("event: order {} of {:?} was placed", event.order, event.item);
    Ok(format!("event {}", job.root()))
}
