//! `Idempotency-Key` for HTTP services: a tower layer around anything that takes requests of the `http`
//! crate.
//!
//! [`IdempotencyLayer`] reads the key a client sends, runs the handler at most once under it, and answers
//! everybody who sends the request again with the recorded response. It follows the IETF draft *The
//! Idempotency-Key HTTP Header Field*; `docs/guides/http-idempotency.md` says how to use it, and what every
//! answer means.
//!
//! ```
//! use bytes::Bytes;
//! use http::Request;
//! use http_body_util::{BodyExt, Full};
//! use onceward::http::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, IdempotencyLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let ow = onceward::Onceward::connect("memory:").await?;
//! let service = IdempotencyLayer::new(ow).layer(service_fn(|_: Request<Full<Bytes>>| async {
//!     Ok::<_, std::convert::Infallible>(http::Response::new(Full::from("charged: ch_1")))
//! }));
//! for replayed in [false, true] {
//!     let request = Request::post("/payments").header(IDEMPOTENCY_KEY, "\"order-17\"");
//!     let response = service.clone().oneshot(request.body(Full::from("{\"cents\":4200}"))?).await?;
//!     assert_eq!(response.headers().contains_key(IDEMPOTENT_REPLAYED), replayed);
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "charged: ch_1");
//! }
//! # Ok(()) }
//! ```
//!
//! Read in this order: `layer.rs` (the settings) → `service.rs` (the way of a request) → `key.rs`,
//! `fingerprint.rs` (which request it is) → `record.rs`, `message.rs` (what is kept of a response) →
//! `answer.rs`, `problem.rs` (what others get) → `body.rs`.

mod answer;
mod body;
mod fingerprint;
mod key;
mod layer;
mod message;
mod problem;
mod record;
mod service;

pub use self::answer::IDEMPOTENT_REPLAYED;
pub use self::body::ResponseBody;
pub use self::key::{IDEMPOTENCY_KEY, IdempotencyKey};
pub use self::layer::IdempotencyLayer;
pub use self::problem::Problem;
pub use self::record::Mark;
pub use self::service::Idempotency;
