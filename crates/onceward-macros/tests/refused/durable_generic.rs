use onceward_macros::durable;

#[durable]
async fn charge<T: Send>(order: T) -> Result<u64, String> {
    let _ = order;
    Ok(1)
}

fn main() {}
