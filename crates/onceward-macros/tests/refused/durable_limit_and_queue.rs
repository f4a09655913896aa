#[durable(queue = "media", max_concurrent = 2)]
async fn transcode(part: u32) -> Result<u32, AnyError> {
    Ok(1)
}
