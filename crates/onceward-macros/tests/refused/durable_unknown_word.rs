use onceward_macros::durable;

#[durable(attempts = 3)]
async fn charge(order: u64) -> Result<u64, String> {
    Ok(order)
}

fn main() {}
