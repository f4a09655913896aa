//! The session of a worker: opened, renewed by the renewer's thread, and replaced when it was lost.

use core::time::Duration;
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use onceward_core::session::Open;
use onceward_core::{Code, Error, Result, SessionId, Token, backoff};
use onceward_store::{SessionRef, SessionRenewed, insist};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::attempt::Stop;
use super::shared::{Mode, Shared, Status};
use crate::Lost;
use crate::client::new_session;
use crate::hold::Hold;
use crate::renewer::{SessionNews, Subject, Watch};

/// A session that was opened.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) token: Token,
    pub(super) hold: Arc<Hold>,
}

impl Session {
    pub(super) fn to_ref(&self) -> SessionRef {
        SessionRef { id: self.id, token: self.token }
    }

    /// Asks for jobs until there is an answer: the same claim finds what it got. Where none comes, but one of the sends
    /// may have taken effect, the session is given up: what it may have without knowing is rescued then. Before
    /// anything may have taken effect, it is only asked for as long as it is `wanted`.
    pub(super) async fn until_answered<'a, T>(
        &self,
        ask: impl Fn() -> BoxFuture<'a, Result<T>>,
        wanted: impl Fn() -> bool,
    ) -> Result<T> {
        let (mut attempt, mut doubt) = (0, false);
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            doubt |= error.is_uncertain() || error.code() == Code::CommitUnknown;
            let goes_on = error.is_retryable() && self.hold.is_valid() && (doubt || wanted());
            match (goes_on, doubt) {
                (true, _) => {}
                (false, true) => {
                    self.hold.lose(Lost::NotRenewed);
                    return Err(error.uncertain());
                }
                (false, false) => return Err(error),
            }
            let (first, cap) = (Duration::from_millis(10), Duration::from_secs(1));
            sleep(backoff::delay(attempt, first, cap, attempt.into())).await;
            attempt += 1;
        }
    }
}

/// Hears what renewals of the session say.
struct News {
    worker: Weak<Shared>,
    session: SessionId,
}

impl SessionNews for News {
    fn renewed(&self, answer: &SessionRenewed) {
        let Some(shared) = self.worker.upgrade() else { return };
        shared.pool.call_off(&answer.called_off.iter().map(|job| job.id).collect());
        shared.around.client.inner.hot.pause(answer.paused.iter().map(|run| run.id));
        shared.status.send_if_modified(|status| {
            let current = status.session.as_ref().is_some_and(|session| session.id == self.session);
            let changed = current && status.asked_to_drain != answer.draining;
            if changed {
                status.asked_to_drain = answer.draining;
            }
            changed
        });
    }
}

/// Opens a session and has it renewed. The watch is what keeps it alive.
pub(super) async fn open(shared: &Arc<Shared>, within: Duration) -> Result<(Arc<Session>, Watch)> {
    let (owner, about) = (shared.owner().clone(), shared.about.clone());
    let ask = Open { id: new_session(), owner, ttl: shared.session_ttl, about };
    let clock = Arc::clone(shared.store().clock());
    let opened = || -> BoxFuture<'_, Result<_>> {
        Box::pin(async {
            let sent = clock.boottime();
            shared.store().session_open(&ask).await.map(|row| (row, sent))
        })
    };
    let (row, sent) = insist(within, opened).await.map_err(|error: Error| error.at("session.open"))?;
    let hold = Hold::new(row.token, row.expires_at, Arc::clone(&clock), sent, row.ttl, None);
    let session = Arc::new(Session { id: row.id, token: row.token, hold: Arc::new(hold) });
    let news = Arc::new(News { worker: Arc::downgrade(shared), session: session.id });
    let subject = Subject::Session(session.to_ref(), news);
    let hold = Arc::clone(&session.hold);
    let watch = shared.around.client.inner.renewer.watch(subject, row.ttl, true, hold);
    shared.status.send_modify(|status| {
        status.session = Some(Arc::clone(&session));
        status.asked_to_drain = row.draining;
    });
    Ok((session, watch))
}

/// Looks after the session until the worker has left: a lost one is replaced.
pub(super) async fn keep(shared: Arc<Shared>, first: (Arc<Session>, Watch)) {
    let mut status = shared.status.subscribe();
    let (mut session, mut watch) = first;
    loop {
        tokio::select! {
            why = session.hold.lost() => {
                drop(watch);
                lose(&shared, &session);
                tracing::warn!(session = %session.id, %why, "the session of the worker was lost; it opens another one");
            }
            _ = status.wait_for(|status| status.mode == Mode::Gone) => return,
        }
        (session, watch) = tokio::select! {
            opened = reopen(&shared) => opened,
            // Nothing is held by a lost session that the worker would have to stay for.
            _ = status.wait_for(|status| status.mode >= Mode::Leaving) => return,
        };
    }
}

/// Shows which session the worker has, for what else is done under it.
pub(super) fn watched(shared: &Shared, parts: &mut JoinSet<()>) -> watch::Receiver<Option<SessionId>> {
    let mut status = shared.status.subscribe();
    let of = |status: &Status| status.session.as_ref().map(|session| session.id);
    let current = watch::Sender::new(of(&status.borrow_and_update()));
    let seen = current.subscribe();
    parts.spawn(async move {
        while status.changed().await.is_ok() {
            let now = of(&status.borrow_and_update());
            current.send_if_modified(|session| core::mem::replace(session, now) != now);
        }
    });
    seen
}

/// Everything that was claimed for the session is somebody else's from now on.
fn lose(shared: &Shared, session: &Session) {
    shared.status.send_modify(|status| status.session = None);
    let of_session = |id| id == session.id;
    let (lost, kept): (Vec<_>, Vec<_>) =
        shared.pool.take_ready().into_iter().partition(|attempt| of_session(attempt.claim.session.id));
    debug_assert!(kept.is_empty(), "a worker claims for one session at a time");
    shared.pool.release(lost.iter().map(|attempt| attempt.name()));
    shared.pool.stop(Stop::SessionLost, |attempt| of_session(attempt.claim.session.id));
}

async fn reopen(shared: &Arc<Shared>) -> (Arc<Session>, Watch) {
    for attempt in 0_u32.. {
        match open(shared, Duration::from_secs(10)).await {
            Ok(opened) => return opened,
            Err(error) => tracing::warn!(%error, "the worker can't open a session and will try again"),
        }
        let pause =
            backoff::delay(attempt, Duration::from_millis(100), Duration::from_secs(5), attempt.into());
        sleep(pause).await;
    }
    // invariant: the loop above runs through four thousand million attempts of seconds each.
    core::future::pending().await
}

/// Ends the session, if it still is one. What is left of it is rescued otherwise.
pub(super) async fn close(shared: &Shared) {
    let session = shared.status.borrow().session.clone();
    let Some(session) = session.filter(|session| session.hold.is_valid()) else { return };
    let ask = session.to_ref();
    let closed = insist(Duration::from_secs(3), || shared.store().session_close(&ask)).await;
    if let Err(error) = closed {
        tracing::warn!(%error, "the session of the worker could not be closed and runs out by itself");
    }
}
