#[durable(max_concurrent = 0)]
async fn transcode(part: u32) -> Result<u32, AnyError> {
    Ok(1)
}
