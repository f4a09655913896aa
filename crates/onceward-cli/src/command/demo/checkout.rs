//! What the demo is about: a checkout, as somebody would write it. Nothing in here knows of crashes.

use core::time::Duration;
use std::io::Write;
use std::sync::Arc;

use onceward::durable::{AnyError, durable, signal, step, try_join};
use onceward::http_jobs::{HttpJob, HttpPolicy};
use onceward::worker::State;
use onceward::{NotDone, Onceward, Outcome};
use onceward_core::backoff;
use serde_json::json;

use super::ledger::Ledger;

/// How soon a killed worker's payment is called uncertain, and its checkouts are taken over.
pub(super) const TTL: Duration = Duration::from_secs(1);

/// What a worker process has.
pub(super) struct Shop {
    pub(super) ow: Onceward,
    pub(super) card_company: Ledger,
    /// Who wants to hear of parcels.
    pub(super) hook: String,
    /// How long everything takes.
    pub(super) seed: u64,
    /// Whether it lingers after each charge, so that it can be paused there.
    pub(super) slow: bool,
}

pub(super) fn payment(order: u32) -> String {
    format!("payment-{order:04}")
}

pub(super) fn policy() -> HttpPolicy {
    HttpPolicy { allow_http: true, allow_private: true, allow_own_listeners: true, ..HttpPolicy::default() }
}

#[durable(name = "demo.checkout")]
pub(super) async fn checkout(shop: State<Arc<Shop>>, order: u32) -> Result<String, AnyError> {
    step("reserve", || shop.takes_a_moment(order)).await?;
    let charge = charge(order, 4_200).await?;
    let (tea, pot) = try_join!(pack(order, "tea".to_owned()), pack(order, "pot".to_owned()))?;
    step("call the courier", || async {
        say("packed", &order.to_string());
        Ok::<_, AnyError>(())
    })
    .await?;
    let courier: String = signal("courier").await?;
    step("ship", || shop.takes_a_moment(order)).await?;
    step("webhook", || shop.tell(order)).await?;
    Ok(format!("{charge}: {tea}, {pot}, with {courier}"))
}

/// Charges once. While nobody knows whether the card was charged it fails, and is tried again until somebody does.
#[durable(name = "demo.charge", max_attempts = 1_000, retry = "fixed 200ms")]
pub(super) async fn charge(shop: State<Arc<Shop>>, order: u32, cents: u32) -> Result<String, AnyError> {
    // In a task of its own: a worker that was paused is to come to its end, and to be refused there.
    let shop = Arc::clone(&shop.0);
    let paid = tokio::spawn(async move { pay(&shop, order, cents).await });
    match paid.await.map_err(AnyError::new)?.map_err(AnyError::new)? {
        Outcome::Done { value, .. } => Ok(value),
        other => Err(AnyError::new(format!("not paid yet: {other:?}"))),
    }
}

#[durable(name = "demo.pack")]
pub(super) async fn pack(shop: State<Arc<Shop>>, order: u32, article: String) -> Result<String, AnyError> {
    shop.takes_a_moment(order).await?;
    Ok(article)
}

async fn pay(shop: &Shop, order: u32, cents: u32) -> onceward::Result<Outcome<String>> {
    let (key, pause) = (payment(order), shop.pause(order));
    let charge = async |attempt: onceward::Attempt| {
        tokio::time::sleep(pause).await;
        // One that was paused for long before it has begun does not begin.
        attempt.check()?;
        let charge = shop.card_company.charge(&key, &attempt.token().to_string())?;
        say("charged", &key);
        tokio::time::sleep(if shop.slow { Duration::from_millis(400) } else { pause * 3 }).await;
        Ok::<_, NotDone>(charge)
    };
    let outcome = shop.ow.once(&key).ttl(TTL).fingerprint(&(&key, cents)).run(charge).await?;
    if matches!(&outcome, Outcome::Uncertain { reason, .. } if reason == onceward::once::SUPERSEDED) {
        say("refused", &key);
    }
    Ok(outcome)
}

impl Shop {
    /// A little work: that is where SIGKILL will meet us.
    fn pause(&self, order: u32) -> Duration {
        Duration::from_millis(4 + backoff::mix(self.seed ^ u64::from(order)) % 12)
    }

    async fn takes_a_moment(&self, order: u32) -> Result<(), AnyError> {
        tokio::time::sleep(self.pause(order)).await;
        Ok(())
    }

    /// Tells whoever wants to know, in the background. The key makes it one request however often this step runs.
    async fn tell(&self, order: u32) -> Result<(), AnyError> {
        let job = HttpJob::post(&self.hook).json(&json!({ "shipped": order })).policy(policy());
        self.ow.enqueue_http(job).key(format!("shipped:{order}")).await.map_err(AnyError::new)?;
        Ok(())
    }
}

/// Tells the parent process, which may be gone; then nobody listens, and that is fine.
fn say(what: &str, about: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{what} {about}").and_then(|()| out.flush());
}
