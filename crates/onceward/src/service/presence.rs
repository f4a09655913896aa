//! The session of a runner: by it others know that this process is there. Lost, it is replaced; terms go on, because
//! each has its own lease.

use core::time::Duration;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use onceward_core::session::{About, Open};
use onceward_core::{Owner, Result, SessionId, backoff};
use onceward_store::{SessionRef, SessionRenewed, insist};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::{Onceward, new_session};
use crate::hold::Hold;
use crate::renewer::{SessionNews, Subject, Watch};

/// A session that was opened.
pub(super) struct Present {
    session: SessionRef,
    hold: Arc<Hold>,
    watch: Watch,
}

/// What is needed to open one.
#[derive(Clone)]
pub(super) struct Presence {
    pub(super) client: Onceward,
    pub(super) ttl: Duration,
    pub(super) about: About,
    /// The session, while there is one.
    pub(super) current: watch::Sender<Option<SessionId>>,
}

/// What a renewal says beside that is read by whoever looks: nothing is to be done about it here.
struct Deaf;

impl SessionNews for Deaf {
    fn renewed(&self, _: &SessionRenewed) {}
}

impl Presence {
    /// Opens a session and has it renewed.
    pub(super) async fn open(&self, within: Duration) -> Result<Present> {
        let owner: Owner = self.client.owner.clone();
        let ask = Open { id: new_session(), owner, ttl: self.ttl, about: self.about.clone() };
        let clock = Arc::clone(self.client.clock());
        let opened = || -> BoxFuture<'_, Result<_>> {
            Box::pin(async {
                let sent = clock.boottime();
                self.client.store().session_open(&ask).await.map(|row| (row, sent))
            })
        };
        let (row, sent) = insist(within, opened).await.map_err(|error| error.at("session.open"))?;
        let hold = Arc::new(Hold::new(row.token, row.expires_at, Arc::clone(&clock), sent, row.ttl, None));
        let session = SessionRef { id: row.id, token: row.token };
        let subject = Subject::Session(session, Arc::new(Deaf));
        let watch = self.client.inner.renewer.watch(subject, row.ttl, true, Arc::clone(&hold));
        self.current.send_replace(Some(row.id));
        Ok(Present { session, hold, watch })
    }

    /// Looks after the session until `leave` comes, and closes it then.
    pub(super) async fn keep(self, first: Present, leave: impl Future<Output = ()> + Send) {
        let mut leave = core::pin::pin!(leave);
        let mut present = first;
        loop {
            tokio::select! {
                why = present.hold.lost() => {
                    self.current.send_replace(None);
                    let session = present.session.id;
                    tracing::warn!(%session, %why, "the session of a runner was lost; it opens another one");
                }
                () = &mut leave => break,
            }
            present = tokio::select! {
                opened = self.reopen() => opened,
                () = &mut leave => return,
            };
        }
        self.current.send_replace(None);
        let Present { session, watch, .. } = present;
        drop(watch);
        let closed = insist(Duration::from_secs(3), || self.client.store().session_close(&session)).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the session of a runner could not be closed and runs out by itself");
        }
    }

    async fn reopen(&self) -> Present {
        let mut attempt = 0_u32;
        loop {
            match self.open(Duration::from_secs(10)).await {
                Ok(present) => return present,
                Err(error) => tracing::warn!(%error, "a runner can't open a session and will try again"),
            }
            let (first, cap) = (Duration::from_millis(100), Duration::from_secs(5));
            sleep(backoff::delay(attempt, first, cap, attempt.into())).await;
            attempt = attempt.saturating_add(1);
        }
    }
}
