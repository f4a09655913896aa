use onceward_macros::durable;

#[durable]
async fn charge(order: u64) {
    let _ = order;
}

fn main() {}
