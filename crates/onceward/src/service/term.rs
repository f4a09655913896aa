//! A term, as the work of a service sees it.

use core::fmt;
use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use onceward_core::service::Asked;
use onceward_core::{Code, Error, Namespace, Result, ServiceName, Timestamp, Token};
use onceward_store::Clock;
use onceward_store::enlist::Enlist;
use tokio::sync::watch;

use crate::Lost;
use crate::lease::Lease;

/// Why the work of a term has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The lease of the term is lost: another runner may begin soon.
    Lost(Lost),
    /// The runner is shutting down; another one goes on with the cycle.
    Leaving,
    /// It has not said for too long that it gets on.
    Stalled,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => write!(f, "its lease is lost: {why}"),
            Self::Leaving => f.write_str("its runner is shutting down"),
            Self::Stalled => f.write_str("it has not got on for too long"),
        }
    }
}

/// The right to do the work of a service for one cycle. Cheap to clone.
///
/// A paused process may act after its term has ended. What does stop it is the [`token`](Self::token) in its writes, or
/// [`guard`](Self::guard) in its transaction.
#[derive(Clone)]
pub struct Term {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) service: ServiceName,
    pub(super) cycle: i64,
    pub(super) part: String,
    pub(super) due_at: Timestamp,
    pub(super) lease: Lease,
    pub(super) clock: Arc<dyn Clock>,
    /// Microseconds of boot time at which the work last said that it gets on.
    pub(super) progressed: AtomicI64,
    pub(super) stopped: watch::Sender<Option<Stopped>>,
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term")
            .field("service", &self.inner.service)
            .field("cycle", &self.inner.cycle)
            .field("token", &self.token())
            .finish_non_exhaustive()
    }
}

impl Term {
    /// The fencing token: larger than that of every earlier term of this service, for ever.
    pub fn token(&self) -> Token {
        self.inner.lease.token()
    }

    /// The number of the cycle: the time of the store divided by the interval. A leader's is its token.
    pub fn cycle(&self) -> i64 {
        self.inner.cycle
    }

    /// When the cycle began. That of a missed one which is made up for lies in the past.
    pub fn due_at(&self) -> Timestamp {
        self.inner.due_at
    }

    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.inner.service
    }

    /// The namespace of the service.
    pub fn namespace(&self) -> &Namespace {
        self.inner.lease.namespace()
    }

    /// Whether somebody has asked for this term beside the cycles.
    pub fn is_asked_for(&self) -> bool {
        Asked::is_part(&self.inner.part)
    }

    /// Makes a transaction of yours depend on this term, as [`Lease::guard`] does: after another term has begun it
    /// can't commit, and while it is open none can begin.
    ///
    /// # Errors
    /// [`LeaseLost`](Code::LeaseLost) or [`TokenStale`](Code::TokenStale): roll back. Otherwise the driver's.
    pub async fn guard(&self, tx: &mut impl Enlist) -> Result<()> {
        self.inner.lease.guard(tx).await
    }

    /// Says that the work gets on: see [`stall_after`](super::ServiceBuilder::stall_after).
    pub fn progress(&self) {
        self.inner.progressed.store(self.inner.clock.boottime().as_micros(), Ordering::SeqCst);
    }

    /// Why the work has to stop, if it has.
    pub fn stopped(&self) -> Option<Stopped> {
        let lost = || self.inner.lease.lost_because().map(Stopped::Lost);
        (*self.inner.stopped.borrow()).or_else(lost)
    }

    /// Waits until the work has to stop. What it does not do by itself within a moment is dropped where it stands.
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) -> Stopped {
        let mut stopped = self.inner.stopped.subscribe();
        loop {
            if let Some(why) = *stopped.borrow_and_update() {
                return why;
            }
            if stopped.changed().await.is_err() {
                // The sender lives in `self`: not reached while we are borrowed.
                return Stopped::Leaving;
            }
        }
    }

    /// Fails if the term can't be trusted any more: a cheap check between two steps of work.
    ///
    /// # Errors
    /// [`TermLost`](Code::TermLost).
    pub fn check(&self) -> Result<()> {
        match self.stopped() {
            None => Ok(()),
            Some(why) => {
                Err(Error::new(Code::TermLost, format!("the term of cycle {} ended: {why}", self.cycle())))
            }
        }
    }

    /// Since when the work has not said that it gets on.
    pub(super) fn quiet(&self) -> Duration {
        let last = Timestamp::from_micros(self.inner.progressed.load(Ordering::SeqCst));
        self.inner.clock.boottime().since(last)
    }

    pub(super) fn stop(&self, why: Stopped) {
        self.inner.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            stopped.get_or_insert(why);
            first
        });
    }
}
