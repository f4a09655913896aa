use onceward_macros::durable;

struct Billing;

#[durable]
impl Billing {
    #[durable]
    async fn charge(&mut self, order: u64) -> Result<u64, String> {
        Ok(order)
    }
}

fn main() {}
