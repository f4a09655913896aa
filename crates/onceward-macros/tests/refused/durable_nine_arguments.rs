use onceward_macros::durable;

#[durable]
async fn charge(
    ledger: State<Ledger>,
    one: u8,
    two: u8,
    three: u8,
    four: u8,
    five: u8,
    six: u8,
    seven: u8,
    eight: u8,
    nine: u8,
) -> Result<u64, String> {
    Ok(0)
}

fn main() {}
