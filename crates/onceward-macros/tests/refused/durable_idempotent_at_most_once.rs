#[durable(idempotent, at_most_once)]
async fn charge(order: u64) -> Result<u64, AnyError> {
    Ok(order)
}
