//! Enqueueing in the caller's own transaction: the business row and the job commit together, or not at all.

use onceward_core::Result;
use onceward_core::job::New;
use onceward_store::enlist::{self, Enlist};

use super::{Enqueue, Enqueued};
use crate::bells::News;
use crate::client::{Onceward, no_transactions};

impl Enqueue {
    /// Enqueues the job in `tx`, a transaction of yours in the same database: it is there if you commit, and was never
    /// there if you do not. Nothing is committed, rolled back or closed here. Workers are told after your commit.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] mod example {
    /// # #[derive(serde::Serialize, serde::Deserialize, onceward::Job)]
    /// # #[job(kind = "mail.welcome")]
    /// # struct Welcome { user: i64 }
    /// # async fn example(ow: onceward::Onceward, mut client: tokio_postgres::Client)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// let mut tx = client.transaction().await?;
    /// let row = tx.query_one("INSERT INTO users (name) VALUES ('Ada') RETURNING id", &[]).await?;
    /// ow.enqueue(Welcome { user: row.get(0) }).key("welcome:ada").enqueue_in(&mut tx).await?;
    /// tx.commit().await?;
    /// # Ok(()) }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The codes of bad input, before anything is sent; [`JobKeyMismatch`](onceward_core::Code::JobKeyMismatch);
    /// [`KeyLocked`](onceward_core::Code::KeyLocked) where another open transaction has used the job's key: on
    /// PostgreSQL yours can only be rolled back then; [`DriverMissing`](onceward_core::Code::DriverMissing) on the
    /// store in memory; the driver's errors.
    pub async fn enqueue_in<X: Enlist>(self, tx: &mut X) -> Result<Enqueued> {
        let (client, new) = self.finish()?;
        enqueue_in(&client, tx, new).await
    }
}

/// Enqueues a job that was checked in the caller's transaction.
pub(crate) async fn enqueue_in<X: Enlist>(client: &Onceward, tx: &mut X, new: New) -> Result<Enqueued> {
    let store = client.store();
    let sql = store.enlist().ok_or_else(no_transactions)?;
    let news = News::of(&new, store.clock().wall());
    let done = enlist::enqueue_in(sql, &**store.clock(), tx, &new).await?;
    // Where there is no number, the store notices the commit by itself.
    if let Some(transaction) = done.transaction {
        client.inner.commits.watch(transaction, news);
    }
    Ok(Enqueued { existing_state: done.existing, ..Enqueued::of(done.enqueued)? })
}
