use onceward_macros::durable;

#[durable]
fn charge(order: u64) -> Result<u64, String> {
    Ok(order)
}

fn main() {}
