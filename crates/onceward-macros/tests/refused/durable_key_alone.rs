#[durable(key = |args| args.order)]
async fn invoice(order: u64) -> Result<u32, AnyError> {
    Ok(1)
}
