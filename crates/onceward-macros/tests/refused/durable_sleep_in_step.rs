//! A durable sleep in the body of a step, in a method.

use onceward::durable::{self, AnyError, durable};

struct Billing;

#[durable]
impl Billing {
    #[durable]
    async fn charge(&self, order: u64) -> Result<u64, AnyError> {
        let wait = |span| async move { tokio::time::sleep(span).await };
        wait(core::time::Duration::ZERO).await;
        let paid = durable::step("charge", || async move {
            if order > 1 {
                durable::sleep(core::time::Duration::from_secs(1)).await?;
            }
            Ok::<_, AnyError>(order)
        });
        Ok(paid.await?)
    }
}
