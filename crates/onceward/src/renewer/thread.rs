//! The thread of the renewer: it sends what is due, sleeps until the next renewal, and never waits for user code.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use onceward_core::{Code, Error, Result, Timestamp};
use onceward_store::{ClaimRef, SessionRef, Store, insist};

use super::agenda::Due;
use super::{Farewell, SessionNews, Shared, Subject};

/// Marks the thread as ended, however it ends, so that the next claim starts a new one.
struct Running {
    shared: Arc<Shared>,
    /// Whether it has worked: a thread that can't work is not started again by itself.
    worked: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.abandon();
        let finishing = state.finishing.take();
        state.running = false;
        if self.worked && !state.farewells.is_empty() {
            self.shared.start(&mut state);
        }
        drop(state);
        for tell in finishing.into_iter().flatten() {
            // Whoever asked may have left.
            let _ = tell.send(());
        }
    }
}

pub(super) fn run(shared: &Arc<Shared>) {
    let mut running = Running { shared: Arc::clone(shared), worked: false };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            running.worked = true;
            runtime.block_on(turn_by_turn(shared));
        }
        Err(error) => tracing::error!(%error, "the renewing thread has no runtime"),
    }
}

/// How often it looks at the clock while it has something in its care.
const LOOK_EVERY: Duration = Duration::from_secs(10);

async fn turn_by_turn(shared: &Arc<Shared>) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let clock = shared.store.clock();
        let now = clock.boottime();
        let (batch, farewells, sleep) = {
            let mut state = shared.lock();
            state.expire(now);
            let batch = state.take_due(now);
            let farewells = core::mem::take(&mut state.farewells);
            let next = state.agenda.first().map_or(i64::MAX, |(due, _)| *due);
            state.sleeping_until = next;
            // A timer stands still while the machine is suspended, and the boot clock does not.
            let most = if next == i64::MAX { Duration::from_secs(3600) } else { LOOK_EVERY };
            let sleep = Timestamp::from_micros(next).since(now).min(most);
            if state.finishing.is_some() && tasks.is_empty() && farewells.is_empty() {
                state.abandon();
                return;
            }
            (batch, farewells, sleep)
        };
        for work in sorted(batch) {
            tasks.spawn(renew(Arc::clone(shared), work));
        }
        for farewell in farewells {
            let shared = Arc::clone(shared);
            tasks.spawn(async move {
                say(Arc::clone(&shared.store), farewell).await;
                shared.farewells.fetch_sub(1, Ordering::SeqCst);
            });
        }
        tokio::select! {
            () = shared.bell.notified() => {}
            () = tokio::time::sleep(sleep.max(Duration::from_millis(1))) => {}
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// What goes out as one statement: claims of one kind, or a session.
enum Work {
    Leases(Vec<ClaimRef>),
    Onces(Vec<ClaimRef>),
    Session(SessionRef, Arc<dyn SessionNews>),
}

struct Statement {
    work: Work,
    /// What it is about, in the order of the claims.
    ids: Vec<u64>,
    /// The shortest time to live among them.
    ttl: Duration,
}

/// Sorts what is due into as few statements as there can be.
fn sorted(batch: Vec<Due>) -> Vec<Statement> {
    let (mut leases, mut onces) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let (mut ttl, mut statements) = (Duration::MAX, Vec::new());
    for due in batch {
        let claims = match due.subject {
            Subject::Lease(claim) => (&mut leases, claim),
            Subject::Once(claim) => (&mut onces, claim),
            Subject::Session(session, news) => {
                let work = Work::Session(session, news);
                statements.push(Statement { work, ids: vec![due.id], ttl: due.ttl });
                continue;
            }
        };
        let ((ids, rows), claim) = claims;
        ids.push(due.id);
        rows.push(claim);
        ttl = ttl.min(due.ttl);
    }
    for ((ids, claims), work) in [(leases, Work::Leases as fn(_) -> _), (onces, Work::Onces)] {
        if !ids.is_empty() {
            statements.push(Statement { work: work(claims), ids, ttl });
        }
    }
    statements
}

/// Sends one statement, and writes down what became of each claim.
async fn renew(shared: Arc<Shared>, Statement { work, ids, ttl }: Statement) {
    let sent = shared.store.clock().boottime();
    let answers = async {
        match work {
            Work::Leases(claims) => shared.store.lease_renew(&claims).await,
            Work::Onces(claims) => shared.store.once_renew(&claims).await,
            Work::Session(session, news) => {
                let answer = shared.store.session_renew(&session).await?;
                news.renewed(&answer);
                Ok(vec![answer.renew])
            }
        }
    };
    // A renewal without an answer must leave time for another one. Sending it twice does no harm.
    let patience = (ttl / 4).clamp(Duration::from_millis(25), Duration::from_secs(3));
    let answers = tokio::time::timeout(patience, answers).await.unwrap_or_else(|_| {
        Err(Error::new(Code::StoreUnavailable, "the store did not answer a renewal in time").uncertain())
    });
    let now = shared.store.clock().boottime();
    let mut state = shared.lock();
    match answers {
        Ok(answers) => {
            for (id, answer) in ids.into_iter().zip(answers) {
                state.renewed(id, &Ok(answer), sent, now);
            }
        }
        Err(error) => {
            tracing::warn!(%error, claims = ids.len(), "a renewal failed and will be tried again");
            for id in ids {
                state.renewed(id, &Err(error.clone()), sent, now);
            }
        }
    }
}

/// Sends what somebody left behind, for at most a minute.
async fn say(store: Arc<dyn Store>, farewell: Farewell) {
    let send = || -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            match &farewell {
                Farewell::Leave(ask) => store.lease_leave(ask).await,
                Farewell::Release(ask) => store.lease_release(core::slice::from_ref(ask)).await.map(drop),
                Farewell::Settle(ask) => store.once_settle(core::slice::from_ref(ask)).await.map(drop),
            }
        })
    };
    match tokio::time::timeout(FAREWELL_MAX, insist(FAREWELL_MAX, send)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a farewell was refused; the claim runs out by itself"),
        Err(_) => {
            tracing::warn!("a farewell could not be sent within a minute; the claim runs out by itself")
        }
    }
}

/// How long something is sent for somebody who has left.
const FAREWELL_MAX: Duration = Duration::from_secs(60);
