//! What limited queues are asked for: being set, and permits.

use core::time::Duration;

use onceward_core::job::limit::Limits;
use onceward_core::job::permit::{Granted, Wish};
use onceward_core::job::tuning::Tuning;
use onceward_core::{Namespace, Owner, Queue, SessionId, Timestamp};

/// Sets what a queue is limited to. Audited in its row.
#[derive(Clone, Debug)]
pub struct LimitQueue {
    /// The namespace.
    pub namespace: Namespace,
    /// The queue. It need not have been used before.
    pub queue: Queue,
    /// What holds from now on; without any, it is not limited any more.
    pub limits: Limits,
    /// Who does it.
    pub actor: Owner,
}

/// Sets how many jobs of one ordering key a queue lets through at the same time. Audited in its row.
#[derive(Clone, Debug)]
pub struct LimitKeys {
    /// The namespace.
    pub namespace: Namespace,
    /// The queue. It need not have been used before.
    pub queue: Queue,
    /// How many, 1 to [`KEY_CONCURRENCY_MAX`](onceward_core::job::keys::KEY_CONCURRENCY_MAX).
    pub most: u32,
    /// Who does it.
    pub actor: Owner,
}

/// Says what a queue is tuned by. Audited in its row.
#[derive(Clone, Debug)]
pub struct TuneQueue {
    /// The namespace.
    pub namespace: Namespace,
    /// The queue. It need not have been used before.
    pub queue: Queue,
    /// What holds from now on.
    pub tuning: Tuning,
    /// Who does it.
    pub actor: Owner,
}

/// Asks for permits of a queue.
#[derive(Clone, Debug)]
pub struct AskPermits {
    /// The namespace.
    pub namespace: Namespace,
    /// The queue.
    pub queue: Queue,
    /// For which session.
    pub session: SessionId,
    /// How many of its jobs it wants to run, those that run included.
    pub wanted: u32,
    /// How many it wants to start in the next moment.
    pub starts: u32,
}

impl AskPermits {
    /// What the rule is asked.
    pub(crate) fn wish(&self) -> Wish {
        Wish { session: self.session, wanted: self.wanted, starts: self.starts }
    }
}

/// What a session may do in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    /// What the queue is limited to. Without any, or for a session that is gone, nothing else is said.
    pub limits: Limits,
    /// How many jobs it may run.
    pub share: u32,
    /// How many count as its own.
    pub held: u32,
    /// How many it may start.
    pub starts: u32,
    /// For how long.
    pub starts_for: Duration,
    /// When to ask again.
    pub again_in: Duration,
}

impl Permits {
    /// What a session gets that is gone.
    pub(crate) fn none(limits: Limits) -> Self {
        Self { limits, again_in: Duration::from_secs(1), ..Self::default() }
    }

    /// What was given under these limits.
    pub(crate) fn of(limits: Limits, granted: &Granted, now: Timestamp) -> Self {
        let permit = &granted.permit;
        Self {
            limits,
            share: permit.share,
            held: permit.held,
            starts: permit.starts,
            starts_for: permit.starts_until.since(now),
            again_in: granted.again_in,
        }
    }
}
