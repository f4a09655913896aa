//! The verbs of the store, each sent to the thread that does it.

use core::time::Duration;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use onceward_core::once::{self, Resolve, Settle};
use onceward_core::{Key, Namespace, Result, history, lease};
use rusqlite::Connection;
use tokio::sync::broadcast;

use super::clocks::Now;
use super::queue::Line;
use super::{SqliteStore, upkeep};
use crate::enlist::EnlistSql;
use crate::{
    Acquired, BreakLease, Broken, Capabilities, ClaimRef, Claimed, Clock, Counters, Finding, HistoryOf,
    KeyRef, LeaveLease, ListLeases, ListOnce, Prune, Pruned, ReleaseLease, Renew, ResolveOnce, SettleOnce,
    Snapshot, Store, StoreKind, WaitLease, Wake,
};

impl SqliteStore {
    fn wake(&self, namespace: &Namespace, key: &Key) {
        self.tell(Wake::Lease(namespace.clone(), key.clone()));
    }

    /// Tells this process, and whoever the carrier reaches. Others see that the file has changed.
    pub(super) fn tell(&self, wake: Wake) {
        if let Some(carrier) = &self.carrier {
            carrier.tell(&wake);
        }
        // Nobody listening is fine.
        let _ = self.shared.wakes.send(wake);
    }
}

/// Asks a reader first; what it can't answer is left for the writer, with its places in the batch.
fn unanswered<A: Clone, R>(asks: &[A], answers: &[Option<R>]) -> Vec<A> {
    asks.iter().zip(answers).filter(|(_, answer)| answer.is_none()).map(|(ask, _)| ask.clone()).collect()
}

/// Puts the writer's answers where the reader had none.
fn merged<R>(answers: Vec<Option<R>>, rest: Vec<R>) -> Vec<R> {
    let mut rest = rest.into_iter();
    answers.into_iter().filter_map(|answer| answer.or_else(|| rest.next())).collect()
}

#[async_trait]
impl Store for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        // Commits of other processes are noticed within milliseconds by whoever subscribes; this is the
        // safety net.
        let poll_interval = Duration::from_millis(if self.has_readers() { 250 } else { 1_000 });
        Capabilities {
            kind: StoreKind::Sqlite,
            poll_interval,
            is_heard: true,
            batches_in_flight: 2,
            enqueue_beside: None,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn listens_at(&self) -> Vec<(String, u16)> {
        self.carrier.as_ref().map_or_else(Vec::new, |carrier| carrier.listens_at())
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.shared.clocks.source()
    }

    fn subscribe(&self) -> broadcast::Receiver<Wake> {
        let wakes = self.shared.wakes.subscribe();
        self.shared.writes.nudge();
        if let Some(carrier) = &self.carrier {
            carrier.listen(&self.shared.wakes);
        }
        wakes
    }

    fn counters(&self) -> Counters {
        let counted = &self.shared.counted;
        let statements = counted.transactions.load(Ordering::Relaxed);
        Counters { statements, rows: counted.rows.load(Ordering::Relaxed) }
    }

    fn enlist(&self) -> Option<&EnlistSql> {
        self.enlist.as_ref()
    }

    fn epoch(&self) -> u64 {
        self.shared.place.as_ref().map_or(0, super::place::Place::epoch)
    }

    async fn lease_acquire(&self, batch: &[lease::Ask]) -> Result<Vec<Acquired>> {
        const VERB: &str = "lease.acquire";
        let mut asks = batch.to_vec();
        let mut answers: Vec<Option<Acquired>> = vec![None; asks.len()];
        if self.has_readers() {
            let read = asks.clone();
            answers =
                self.read(VERB, batch.len(), move |at, now| super::lease::answers(at, &read, now)).await?;
            asks = unanswered(batch, &answers);
        }
        if asks.is_empty() {
            return Ok(merged(answers, Vec::new()));
        }
        let write = move |at: &_, now: &_| super::lease::acquire(at, &asks, now);
        Ok(merged(answers, self.write(VERB, Line::Patient, batch.len(), write).await?))
    }

    async fn lease_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        let claims = batch.to_vec();
        let renew = move |at: &_, now: &_| super::lease::renew(at, &claims, now);
        self.write("lease.renew", Line::Urgent, batch.len(), renew).await
    }

    async fn lease_release(&self, batch: &[ReleaseLease]) -> Result<Vec<bool>> {
        let asks = batch.to_vec();
        let release = move |at: &_, now: &_| super::lease::release(at, &asks, now);
        let released = self.write("lease.release", Line::Patient, batch.len(), release).await?;
        for (ask, _) in batch.iter().zip(&released).filter(|(_, released)| **released) {
            self.wake(&ask.namespace, &ask.key);
        }
        Ok(released)
    }

    async fn lease_wait(&self, wait: &WaitLease) -> Result<lease::Ticket> {
        let ask = wait.clone();
        self.write("lease.wait", Line::Patient, 1, move |at, now| super::lease::wait(at, &ask, now)).await
    }

    async fn lease_leave(&self, leave: &LeaveLease) -> Result<()> {
        let ask = leave.clone();
        self.write("lease.leave", Line::Patient, 1, move |at, _| super::lease::leave(at, &ask)).await?;
        self.wake(&leave.namespace, &leave.key);
        Ok(())
    }

    async fn lease_break(&self, ask: &BreakLease) -> Result<Broken> {
        let it = ask.clone();
        let end = move |at: &_, now: &_| super::lease::break_lease(at, &it, now);
        let broken = self.write("lease.break", Line::Patient, 1, end).await?;
        self.wake(&ask.namespace, &ask.key);
        Ok(broken)
    }

    async fn lease_lookup(&self, key: &KeyRef) -> Result<Snapshot<lease::Record>> {
        let key = key.clone();
        self.read("lease.lookup", 1, move |at, now| super::lease::lookup(at, &key, now)).await
    }

    async fn lease_list(&self, ask: &ListLeases) -> Result<Snapshot<lease::Record>> {
        let ask = ask.clone();
        self.read("lease.list", 1, move |at, now| super::lease::list(at, &ask, now)).await
    }

    async fn once_claim(&self, batch: &[once::Ask]) -> Result<Vec<Claimed>> {
        const VERB: &str = "once.claim";
        let mut asks = batch.to_vec();
        let mut answers: Vec<Option<Claimed>> = vec![None; asks.len()];
        if self.has_readers() {
            let read = asks.clone();
            answers =
                self.read(VERB, batch.len(), move |at, now| super::once::answers(at, &read, now)).await?;
            asks = unanswered(batch, &answers);
        }
        if asks.is_empty() {
            return Ok(merged(answers, Vec::new()));
        }
        let write = move |at: &_, now: &_| super::once::claim(at, &asks, now);
        Ok(merged(answers, self.write(VERB, Line::Patient, batch.len(), write).await?))
    }

    async fn once_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        let claims = batch.to_vec();
        let renew = move |at: &_, now: &_| super::once::renew(at, &claims, now);
        self.write("once.renew", Line::Urgent, batch.len(), renew).await
    }

    async fn once_settle(&self, batch: &[SettleOnce]) -> Result<Vec<Settle>> {
        let asks = batch.to_vec();
        let settle = move |at: &_, now: &_| super::once::settle(at, &asks, now);
        self.write("once.settle", Line::Patient, batch.len(), settle).await
    }

    async fn once_resolve(&self, ask: &ResolveOnce) -> Result<Resolve> {
        let it = ask.clone();
        let resolve = move |at: &_, now: &_| super::once::resolve(at, &it, now);
        if ask.dry_run {
            return self.read("once.resolve", 1, resolve).await;
        }
        self.write("once.resolve", Line::Patient, 1, resolve).await
    }

    async fn once_lookup(&self, keys: &[KeyRef]) -> Result<Snapshot<Option<once::Record>>> {
        let names = keys.to_vec();
        self.read("once.lookup", keys.len(), move |at, now| super::once::lookup(at, &names, now)).await
    }

    async fn once_list(&self, ask: &ListOnce) -> Result<Snapshot<once::Record>> {
        let ask = ask.clone();
        self.read("once.list", 1, move |at, now| super::once::list(at, &ask, now)).await
    }

    async fn history(&self, ask: &HistoryOf) -> Result<Vec<history::Row>> {
        let ask = ask.clone();
        self.read("history", 1, move |at, _| upkeep::history(at, &ask)).await
    }

    async fn prune(&self, ask: &Prune) -> Result<Pruned> {
        let it = ask.clone();
        let places = || self.shared.pruned.lock().unwrap_or_else(PoisonError::into_inner);
        let from = places().clone();
        let prune = move |at: &Connection, now: &Now| {
            let mut places = from.clone();
            upkeep::prune(at, &it, &mut places, now).map(|pruned| (pruned, places))
        };
        let (pruned, next) = self.write("prune", Line::Patient, ask.limit, prune).await?;
        *places() = next;
        Ok(pruned)
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let shared = Arc::clone(&self.shared);
        self.read("check", 1, move |at, now| upkeep::check(at, shared.place.as_ref(), now)).await
    }

    async fn close(&self) {
        self.shared.close();
        let mut alive = self.shared.alive.subscribe();
        // The sender lives as long as the store.
        let _ = alive.wait_for(|count| *count == 0).await;
        if let Some(carrier) = &self.carrier {
            carrier.close().await;
        }
    }
}
