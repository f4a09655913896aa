//! `once` inside the caller's own transaction: effects and outcome commit together, and then it is exactly once.

use onceward_core::once::{Body, Settle};
use onceward_core::{Code, Error, Result};
use onceward_store::enlist::{self, ClaimedIn, DoneIn, Enlist};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::run::{JSON, decode, mismatch, replay};
use super::{NotDone, OnceBuilder, Outcome};
use crate::client::no_transactions;

impl OnceBuilder {
    /// Runs `function` inside `tx`, a transaction of yours in the same database, unless the key was run before. What
    /// the function writes through `tx` and the recorded outcome commit together or not at all: exactly once.
    ///
    /// Nothing is committed, rolled back or closed here. `Done` with `replayed: false` holds once you have committed;
    /// until then another caller of the key is told that it is locked. `wait`, the cache and renewal play no part.
    ///
    /// ```
    /// # #[cfg(not(feature = "sqlite"))] fn main() {}
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("shop.db");
    /// # let ow = onceward::Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    /// use onceward::Outcome;
    /// use rusqlite::TransactionBehavior::Immediate;
    ///
    /// # let mut connection = rusqlite::Connection::open(&file)?;
    /// # connection.execute_batch("CREATE TABLE account (id, cents); INSERT INTO account VALUES (7, 2000)")?;
    /// for replayed in [false, true] {
    ///     let mut tx = connection.transaction_with_behavior(Immediate)?;
    ///     let paid = ow.once("payout-7").run_in(&mut tx, async |tx| {
    ///         tx.execute("UPDATE account SET cents = cents - 500 WHERE id = 7", [])?;
    ///         Ok(500)
    ///     }).await?;
    ///     tx.commit()?;
    ///     assert_eq!(paid, Outcome::Done { value: 500, replayed });
    /// }
    /// let cents: i64 = connection.query_row("SELECT cents FROM account", [], |row| row.get(0))?;
    /// assert_eq!(cents, 1500);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`OnceFailed`](Code::OnceFailed) with what the function said, if it returned an error: nothing is recorded, roll
    /// back. [`KeyLocked`](Code::KeyLocked) if another open transaction has claimed the key; on PostgreSQL yours can
    /// only be rolled back then. [`FingerprintMismatch`](Code::FingerprintMismatch),
    /// [`ResultUnreadable`](Code::ResultUnreadable), [`ResultUnwritable`](Code::ResultUnwritable); the driver's errors.
    pub async fn run_in<T, X, F>(self, tx: &mut X, function: F) -> Result<Outcome<T>>
    where
        T: Serialize + DeserializeOwned,
        X: Enlist,
        F: AsyncFnOnce(&mut X) -> Result<T, NotDone>,
    {
        let ask = self.ask()?;
        let store = self.client.store();
        let sql = store.enlist().ok_or_else(no_transactions)?;
        let clock = &**store.clock();
        let token = match enlist::claim_in(sql, clock, tx, &ask).await? {
            ClaimedIn::Granted { token, .. } => token,
            ClaimedIn::Mismatch => return Err(mismatch(&ask)),
            ClaimedIn::Existing { row, now } => return replay(*row, now).try_map(decode),
        };
        let value = function(tx).await.map_err(|not_done| {
            let why = not_done.into_ending().reason().unwrap_or_default().to_owned();
            Error::new(Code::OnceFailed, format!("roll back, nothing is recorded: {why}"))
        })?;
        let unwritable =
            |error| Error::new(Code::ResultUnwritable, "roll back, the result is no JSON").with_source(error);
        let body = Body::new(serde_json::to_vec(&value).map_err(unwritable)?, JSON);
        let done = DoneIn { namespace: ask.namespace, key: ask.key, token, body };
        match enlist::settle_in(sql, clock, tx, &done).await? {
            Settle::Stale => {
                Err(Error::new(Code::SettleStale, "roll back: the claim of this transaction is gone"))
            }
            _ => Ok(Outcome::Done { value, replayed: false }),
        }
    }
}
