//! What the body of a step does is written down as a whole.

use onceward::durable::{AnyError, durable, step};

#[durable]
async fn charge(order: u64) -> Result<u64, AnyError> {
    let paid = step("charge", || async move {
        let shown = step("show", || async move { Ok::<_, AnyError>(order) }).await?;
        Ok::<_, AnyError>(shown)
    });
    Ok(paid.await?)
}
