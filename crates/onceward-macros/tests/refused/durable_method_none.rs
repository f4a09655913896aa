use onceward_macros::durable;

struct Billing;

#[durable]
impl Billing {
    async fn charge(&self, order: u64) -> Result<u64, String> {
        Ok(order)
    }
}

fn main() {}
