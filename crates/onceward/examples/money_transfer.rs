//! Money that moves exactly once: the two accounts and the step of the run are one commit.
//!
//!     cargo run --example money_transfer
//!
//! Kill it while it runs (Ctrl-C will do) and start it again: whatever happens, no cent is lost, and none moves twice.
//! Most systems leave a gap here, between the commit and the note that it was done. A step of `step_in` has none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use onceward::Onceward;
use onceward::durable::{AnyError, Pen, Written, durable, join_all, step, step_in};
use onceward::worker::State;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};

/// Accounts in the same file as the runs: that is what makes one commit possible.
#[derive(Clone)]
struct Bank(PathBuf);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Transfer {
    number: u32,
    from: u32,
    to: u32,
    cents: i64,
}

/// What is left on the account that has paid, or why it has not.
#[durable]
async fn transfer(bank: State<Bank>, order: Transfer) -> Result<i64, AnyError> {
    let left = step_in("move the money", |pen| {
        let bank = Bank::clone(&bank);
        // SQLite's driver waits in the thread that calls it.
        async move { tokio::task::spawn_blocking(move || bank.move_money(&pen, order)).await? }
    });
    let left = left.await?;
    step("tell the owner", || async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<(), AnyError>(())
    })
    .await?;
    Ok(left)
}

#[durable]
async fn payday(orders: Vec<Transfer>) -> Result<usize, AnyError> {
    let mut refused = 0;
    // Four at a time.
    for orders in orders.chunks(4) {
        let done = join_all(orders.iter().copied().map(transfer)).await;
        for (order, done) in orders.iter().zip(done) {
            match done {
                Ok(left) => {
                    println!("transfer {}: account {} has {left} cents left", order.number, order.from)
                }
                Err(failure) => {
                    refused += 1;
                    println!("transfer {}: {failure}", order.number);
                }
            }
        }
    }
    Ok(refused)
}

impl Bank {
    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.0)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }

    /// Opens the accounts, the first time.
    fn set_up(&self) -> rusqlite::Result<()> {
        self.open()?.execute_batch(
            "CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0));
             CREATE TABLE IF NOT EXISTS moved (transfer INTEGER NOT NULL);
             INSERT INTO account VALUES (1, 10000), (2, 10000), (3, 10000) ON CONFLICT DO NOTHING;",
        )
    }

    fn move_money(&self, pen: &Pen, order: Transfer) -> Result<Written<i64>, AnyError> {
        let mut connection = self.open()?;
        let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let left = tx
            .query_row(
                "UPDATE account SET cents = cents - ?2 WHERE id = ?1 AND cents >= ?2 RETURNING cents",
                (order.from, order.cents),
                |row| row.get::<_, i64>(0),
            )
            .optional()?;
        // What was begun is rolled back where the body leaves without a commit.
        let left = left.ok_or_else(|| AnyError::new("the account does not hold that much"))?;
        tx.execute("UPDATE account SET cents = cents + ?2 WHERE id = ?1", (order.to, order.cents))?;
        tx.execute("INSERT INTO moved VALUES (?1)", [order.number])?;
        let written = pen.write_blocking(&mut tx, left)?;
        tx.commit()?;
        Ok(written)
    }

    /// The sum of all accounts, how many transfers were made, and how many of them more than once.
    fn audit(&self) -> rusqlite::Result<(i64, i64, i64)> {
        self.open()?.query_row(
            "SELECT (SELECT sum(cents) FROM account), (SELECT count(DISTINCT transfer) FROM moved),
                    (SELECT count(*) - count(DISTINCT transfer) FROM moved)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
    }
}

fn file() -> PathBuf {
    std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("money_transfer.db"), PathBuf::from)
}

async fn open(file: &Path) -> onceward::Result<Onceward> {
    Onceward::connect(&format!("sqlite://{}", file.display())).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = file();
    let ow = open(&file).await?;
    let bank = Bank(file);
    bank.set_up()?;
    let worker = ow
        .worker()
        .durable(payday)
        .durable(transfer)
        .state(bank.clone())
        .session_ttl(Duration::from_secs(2))
        .start()
        .await?;
    // Around in a circle; every tenth one wants more than there is.
    let order = |number: u32| Transfer {
        number,
        from: number % 3 + 1,
        to: (number + 1) % 3 + 1,
        cents: if number % 10 == 9 { 1_000_000 } else { 100 },
    };
    let run = ow.start(payday((0..40).map(order).collect())).id("payday-2026-11").await?;
    println!("run {} ({})", run.id(), if run.is_created() { "started" } else { "it was started before" });
    let refused = run.result().await?;
    let (sum, moved, twice) = bank.audit()?;
    println!(
        "{moved} transfers made, {refused} refused, {twice} made twice; the accounts hold {sum} cents in all"
    );
    worker.shutdown().await;
    ow.shutdown().await;
    Ok(())
}
