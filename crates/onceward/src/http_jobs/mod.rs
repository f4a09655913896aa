//! Jobs that are HTTP requests: webhooks that arrive, and never where they must not.
//!
//! ```
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), onceward::Error> {
//! use onceward::Onceward;
//! use onceward::http_jobs::HttpJob;
//! use serde_json::json;
//!
//! let ow = Onceward::connect("memory:").await?;
//! let hook = HttpJob::post("https://hooks.example.com/orders").json(&json!({ "order": 17 }));
//! let job = ow.enqueue_http(hook).key("order:17").max_attempts(10).await?;
//! assert!(job.created);
//! // A worker delivers them: `ow.worker().http(HttpDelivery::new()).run().await`.
//! # Ok(()) }
//! ```
//!
//! The way of a request through this folder: `job` (what is enqueued) → `delivery` (one attempt) → `gates` (whether it
//! is its turn) → `exchange` (one request, one answer) → `pool` (a connection that is there) or `connect` (a new one,
//! the only place where names are looked up and addresses are dialled) → `wire` (what has gone over it). What an answer
//! means is decided in `onceward_core::http`.

mod connect;
mod delivery;
mod exchange;
mod fan_out;
mod gates;
mod job;
mod known;
mod own;
mod pool;
mod resolve;
mod seal;
mod url;
mod wire;

pub(crate) use delivery::Deliverer;
pub use delivery::HttpDelivery;
pub use job::HttpJob;
pub use onceward_core::http::{
    HostRule, Method, Net, Policy as HttpPolicy, Seen, Timings, check_key_name, secret_in_query, shown_url,
};
pub use resolve::{Resolve, SystemResolver};
pub use seal::SealKeys;
pub(crate) use url::target;
