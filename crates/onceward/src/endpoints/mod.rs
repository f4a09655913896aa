//! Receivers of webhooks that have a name, and the events they are told of.
//!
//! ```
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), onceward::Error> {
//! use onceward::Onceward;
//! use onceward::http_jobs::SealKeys;
//! use onceward::webhook::Secret;
//! use serde_json::json;
//!
//! let ow = Onceward::connect("memory:").await?;
//! # let keys = SealKeys::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")?;
//! let secret = Secret::generate()?;
//! let shop = ow.endpoint("shop-7").url("https://hooks.example.com/in").events(["order.*"]);
//! shop.secret(&secret).seal_keys(&keys).await?;
//!
//! let paid = ow.event("order.paid").json(&json!({ "order": 17 })).key("order-17-paid").send().await?;
//! assert!(paid.created);
//! // A worker tells whoever wants to know: `ow.worker().http(HttpDelivery::new().seal_keys(keys)).run().await`.
//! # Ok(()) }
//! ```
//!
//! An event is a job of the kind `event`. A worker that delivers HTTP jobs also takes those, and enqueues one delivery
//! for each endpoint that wants it: a job of the kind `http` that names the endpoint. What the endpoint is set to is
//! looked up when the delivery is sent, so that a new URL or secret holds for what waits as well, within two seconds.

mod builder;
mod change;
mod event;
mod reseal;

pub use builder::EndpointBuilder;
pub(crate) use change::{Told, change, list, lookup, unknown, unreadable, version};
pub use event::EventBuilder;
pub use onceward_core::EndpointName;
pub use onceward_core::endpoint::{
    Disabled, Endpoint, EventType, GiveUp, Health, Pattern, Setting, SigningKey,
};
pub use onceward_store::ListedEndpoints;
pub use reseal::Resealed;
pub(crate) use reseal::resealed;

use onceward_core::{Namespace, Result, Timestamp};

use crate::http_jobs::SealKeys;
use crate::webhook::Secret;

/// Where a secret of an endpoint lies: moved to another one, it does not open.
fn place(namespace: &Namespace, name: &EndpointName, what: &str) -> String {
    let (namespace, name) = (namespace.as_str(), name.as_str());
    format!("endpoint|{}|{namespace}|{}|{name}|{what}", namespace.len(), name.len())
}

/// Where the value of a secret header lies, and whom it is for: it does not go to another host because somebody has
/// changed the URL.
pub(crate) fn header_place(namespace: &Namespace, name: &EndpointName, header: &str, origin: &str) -> String {
    place(namespace, name, &format!("header|{header}|{origin}"))
}

/// Where a signing secret lies.
pub(crate) fn secret_place(namespace: &Namespace, name: &EndpointName) -> String {
    place(namespace, name, "secret")
}

/// A secret as the row of an endpoint keeps it.
pub(crate) fn sealed_key(
    secret: &Secret,
    keys: &SealKeys,
    (namespace, name): (&Namespace, &EndpointName),
    now: Timestamp,
) -> Result<SigningKey> {
    let public = secret.public();
    let version = if public.is_some() { "v1a" } else { "v1" }.to_owned();
    let sealed = keys.seal(&secret.reveal(), &secret_place(namespace, name))?;
    Ok(SigningKey { sealed, version, public, since: now, until: None })
}
