//! A nightly report, started by cron on several machines: one of them writes it, and one that was paused for
//! too long can do no harm when it wakes up.
//!
//! ```console
//! $ cargo run -p onceward --example guarded_cron
//! ```
//!
//! Two things are shown. A **lease** lets one copy do the work. The **fencing token** of the lease, in the
//! `WHERE` of every write, is what keeps the data right when a copy believes that it holds the lease and does
//! not any more.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use onceward::lease::Lease;
use onceward::{Onceward, Token};
use rusqlite::{Connection, params};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("sqlite://{}", folder.path().join("onceward.db").display());
    // The reports lie in a database of their own. It could be one that Onceward knows nothing of, on another
    // machine.
    let reports = folder.path().join("reports.db");
    create(&reports)?;

    println!("-- three machines, one report");
    let (a, b, c) = tokio::try_join!(
        cron("machine-a", &store, &reports),
        cron("machine-b", &store, &reports),
        cron("machine-c", &store, &reports),
    )?;
    println!("   {} of them wrote it: {}", [a, b, c].iter().filter(|wrote| **wrote).count(), read(&reports)?);

    println!("-- one is paused while it holds the lease");
    paused(&store, &reports).await?;
    println!("   what is kept: {}", read(&reports)?);
    Ok(())
}

/// What cron starts on every machine at the same minute. Returns whether this copy wrote the report.
async fn cron(machine: &str, store: &str, reports: &Path) -> Result<bool> {
    let ow = Onceward::options().owner(machine).connect(store).await?;
    // `None`: somebody else is at it, and that is all there is to do. The lease is renewed in the background
    // as long as we hold it, so the ttl says how soon others notice that we have died, and not how long the
    // work may take.
    let Some(lease) = ow.lease("report:nightly").ttl(Duration::from_secs(10)).acquire().await? else {
        println!("   {machine}: somebody else is at it");
        return Ok(false);
    };
    println!("   {machine}: holds the lease, with fencing token {}", lease.token());
    let text = work(machine).await;
    // Cheap, and only a courtesy: it spares work that is lost anyway. The promise is in the write.
    lease.check()?;
    let written = write(reports, &text, lease.token())?;
    lease.release().await?;
    ow.shutdown().await;
    Ok(written)
}

async fn work(machine: &str) -> String {
    tokio::time::sleep(Duration::from_millis(500)).await;
    format!("report by {machine}")
}

/// A copy that stops in the middle: a full swap, a suspended laptop, a virtual machine that was moved.
async fn paused(store: &str, reports: &Path) -> Result<()> {
    let ow = Onceward::options().owner("machine-a").connect(store).await?;
    let asleep: Lease = loop {
        // A process that is paused renews nothing, and that is what the switch stands for.
        let lease = ow.lease("report:nightly").ttl(Duration::from_secs(1)).auto_renew(false);
        if let Some(lease) = lease.acquire().await? {
            break lease;
        }
    };
    println!("   machine-a: holds the lease, with fencing token {}, and stops", asleep.token());
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    cron("machine-b", store, reports).await?;

    println!("   machine-a: wakes up. Does it still trust its lease? {}", asleep.is_valid());
    // Suppose it was paused just after its last look at the lease. Then it writes, and the database says no.
    let written = write(reports, "report by machine-a, too late", asleep.token())?;
    println!("   machine-a: writes with its old token {}: accepted? {written}", asleep.token());
    ow.shutdown().await;
    Ok(())
}

fn create(reports: &Path) -> Result<()> {
    let database = Connection::open(reports)?;
    database.execute("CREATE TABLE report (name TEXT PRIMARY KEY, text TEXT, fencing_token INTEGER)", [])?;
    database.execute("INSERT INTO report VALUES ('nightly', NULL, 0)", [])?;
    Ok(())
}

/// Writes the report, unless a later holder of the lease has written already. Returns whether it was written.
///
/// The row remembers the largest token it has seen, and takes no smaller one: tokens of one key only ever
/// grow, so a smaller one is an older holder. The comparison is in the statement that writes; a look before
/// it would leave a gap.
fn write(reports: &Path, text: &str, token: Token) -> Result<bool> {
    let database = Connection::open(reports)?;
    let rows = database.execute(
        "UPDATE report SET text = ?1, fencing_token = ?2 WHERE name = 'nightly' AND fencing_token <= ?2",
        params![text, token.get()],
    )?;
    Ok(rows == 1)
}

fn read(reports: &Path) -> Result<String> {
    let row = "SELECT text FROM report WHERE name = 'nightly'";
    Ok(Connection::open(reports)?.query_row(row, [], |row| row.get(0))?)
}
