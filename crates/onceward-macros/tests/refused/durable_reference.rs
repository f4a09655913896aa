use onceward_macros::durable;

#[durable]
async fn charge(order: &str) -> Result<u64, String> {
    Ok(order.len() as u64)
}

fn main() {}
