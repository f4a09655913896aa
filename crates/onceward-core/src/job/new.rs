//! What is asked for when a job is enqueued, checked before anything is written.

use core::time::Duration;

use super::{Payload, Policy, Record, Spec, State};
use crate::http;
use crate::once::Fingerprint;
use crate::{Code, Error, JobId, Key, Kind, Namespace, Queue, Result, Tag, Timestamp, duration, limits};

/// A key under which a second enqueue finds the first one's job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key.
    pub key: Key,
    /// What stands for kind and payload: the same key with another one is refused.
    pub fingerprint: Fingerprint,
    /// How long the key refers to its job.
    pub ttl: Duration,
}

/// For how long a dedupe key keeps other jobs away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupeScope {
    /// Until its job is started.
    UntilStarted,
    /// Until its job has ended.
    UntilDone,
    /// For this long, whatever becomes of its job.
    Window(Duration),
}

/// What an enqueue does when its dedupe key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Returns the job that is there.
    #[default]
    Existing,
    /// Gives the job that is there, if it still waits, the new payload.
    Replace,
    /// Makes the job that is there, if it still waits, due when the new one would have been.
    PushOut,
}

/// The state of a job that waits and is due at another time from now on.
pub fn pushed_out(state: State, due: Timestamp, now: Timestamp) -> State {
    match state {
        State::Retrying => State::Retrying,
        _ if due > now => State::Scheduled,
        _ => State::Ready,
    }
}

/// A key of which at most one job is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedupe {
    /// The key.
    pub key: Key,
    /// For how long.
    pub scope: DedupeScope,
    /// What otherwise.
    pub on_conflict: OnConflict,
}

/// A job to enqueue.
#[derive(Clone, Debug)]
pub struct New {
    /// The namespace it belongs to.
    pub namespace: Namespace,
    /// Which one, drawn by the caller: sending the same again is safe.
    pub id: JobId,
    /// What it is.
    pub kind: Kind,
    /// Where it waits.
    pub queue: Queue,
    /// The higher one goes first.
    pub priority: i16,
    /// What it is about.
    pub payload: Payload,
    /// How it is run.
    pub policy: Policy,
    /// How long from now it is due.
    pub delay: Option<Duration>,
    /// When it is due, unless there is a delay; at once if neither is said.
    pub run_at: Option<Timestamp>,
    /// A second enqueue under this key finds this job.
    pub key: Option<IdempotencyKey>,
    /// At most one job under this key is alive.
    pub dedupe: Option<Dedupe>,
    /// Whose jobs run one after the other.
    pub ordering_key: Option<Key>,
    /// What a worker must offer one of.
    pub tags: Vec<Tag>,
    /// What else there is to say, as JSON.
    pub metadata: Option<String>,
    /// The trace it belongs to.
    pub trace: Option<String>,
    /// The job it repeats.
    pub replay_of: Option<JobId>,
    /// The first job of that line; the job itself unless it is a replay.
    pub root: JobId,
    /// The run that waits for it: it hears how the job has ended.
    pub parent: Option<JobId>,
    /// How many jobs that triggers have enqueued, each because of the one before, have led to it.
    pub depth: u32,
    /// The ordering keys of the runs that wait for it, directly or not.
    pub lines: Vec<Key>,
}

impl New {
    /// A job that is due at once, with the defaults.
    pub fn of_kind(namespace: Namespace, id: JobId, kind: Kind, payload: Payload) -> Self {
        Self {
            namespace,
            id,
            kind,
            queue: Queue::default(),
            priority: 0,
            payload,
            policy: Policy::default(),
            delay: None,
            run_at: None,
            key: None,
            dedupe: None,
            ordering_key: None,
            tags: Vec::new(),
            metadata: None,
            trace: None,
            replay_of: None,
            root: id,
            parent: None,
            depth: 0,
            lines: Vec::new(),
        }
    }

    /// What its row keeps beside the columns.
    pub fn spec(&self) -> Spec {
        let begins_after = self.delay.filter(|_| self.policy.durable);
        Spec {
            policy: Policy { begins_after, ..self.policy.clone() },
            ordering_key: self.ordering_key.clone(),
            tags: self.tags.clone(),
            metadata: self.metadata.clone(),
            trace: self.trace.clone(),
            replay_of: self.replay_of,
            root: Some(self.root).filter(|root| *root != self.id),
            until_started: self.is_until_started(),
            dedupe_key: self.lasting_key().cloned(),
            parent: self.parent,
            depth: self.depth,
            lines: self.lines.clone(),
        }
    }

    /// Whether its dedupe key is free for others once its handler starts.
    pub fn is_until_started(&self) -> bool {
        self.dedupe.as_ref().is_some_and(|dedupe| dedupe.scope == DedupeScope::UntilStarted)
    }

    /// Its dedupe key, unless that lasts for a time of its own.
    pub fn lasting_key(&self) -> Option<&Key> {
        let lasts = |dedupe: &&Dedupe| !matches!(dedupe.scope, DedupeScope::Window(_));
        self.dedupe.as_ref().filter(lasts).map(|dedupe| &dedupe.key)
    }

    /// What becomes of a job that waits under the dedupe key of this one and is replaced by it: what this one is, under
    /// its own id, in its place, behind the same jobs, and with as many attempts as it has had and one more, at least
    /// (J4).
    pub fn onto(&self, row: &Record) -> Record {
        let mut policy = self.policy.clone();
        policy.max_attempts =
            policy.max_attempts.max(row.attempt.saturating_add(1)).min(limits::ATTEMPTS_MAX);
        Record {
            policy,
            payload: self.payload.clone(),
            tags: self.tags.clone(),
            metadata: self.metadata.clone(),
            trace: self.trace.clone(),
            replay_of: self.replay_of,
            depth: self.depth,
            lines: self.lines.clone(),
            ..row.clone()
        }
    }

    /// When it is due, as of `now`.
    pub fn due(&self, now: Timestamp) -> Timestamp {
        self.delay.map(|delay| now.after(delay)).or(self.run_at).unwrap_or(now)
    }

    /// Refuses what no store shall see.
    ///
    /// # Errors
    /// [`Code::PayloadTooLarge`], [`Code::PriorityInvalid`], [`Code::AttemptsInvalid`], [`Code::DelayInvalid`],
    /// [`Code::TimeoutInvalid`], [`Code::RetainInvalid`], [`Code::TagsInvalid`], [`Code::MetadataInvalid`].
    pub fn check(&self) -> Result<()> {
        let refuse = |code, why: String| Err(Error::new(code, why));
        let size = self.payload.bytes.len();
        if size > limits::PAYLOAD_BYTES_MAX {
            let max = limits::PAYLOAD_BYTES_MAX;
            return refuse(
                Code::PayloadTooLarge,
                format!("a payload has at most {max} bytes, this one has {size}"),
            );
        }
        let content_type = &self.payload.content_type;
        if content_type.len() > limits::CONTENT_TYPE_BYTES_MAX || content_type.chars().any(char::is_control) {
            let max = limits::CONTENT_TYPE_BYTES_MAX;
            return refuse(Code::MetadataInvalid, format!("a content type is a line of at most {max} bytes"));
        }
        if !(-limits::PRIORITY_MAX..=limits::PRIORITY_MAX).contains(&self.priority) {
            let (max, is) = (limits::PRIORITY_MAX, self.priority);
            return refuse(
                Code::PriorityInvalid,
                format!("a priority lies between -{max} and {max}, this one is {is}"),
            );
        }
        self.check_policy()?;
        self.check_times()?;
        self.check_words()
    }

    /// Says how long one attempt may take.
    ///
    /// # Errors
    /// [`Code::TimeoutInvalid`], where no HTTP request may take so long.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.check_request_timeout(timeout)?;
        self.policy.timeout = timeout;
        Ok(())
    }

    fn check_request_timeout(&self, timeout: Duration) -> Result<()> {
        if self.kind.as_str() != http::KIND || timeout <= limits::HTTP_TIMEOUT_MAX {
            return Ok(());
        }
        let (max, is) = (duration::format(limits::HTTP_TIMEOUT_MAX), duration::format(timeout));
        Err(Error::new(Code::TimeoutInvalid, format!("an HTTP request has at most {max}, not {is}")))
    }

    fn check_policy(&self) -> Result<()> {
        let policy = &self.policy;
        if !(1..=limits::ATTEMPTS_MAX).contains(&policy.max_attempts) {
            let (max, is) = (limits::ATTEMPTS_MAX, policy.max_attempts);
            let why = format!("a job has between 1 and {max} attempts, not {is}");
            return Err(Error::new(Code::AttemptsInvalid, why));
        }
        if !(limits::TIMEOUT_MIN..=limits::TIMEOUT_MAX).contains(&policy.timeout) {
            let shown = [limits::TIMEOUT_MIN, limits::TIMEOUT_MAX, policy.timeout].map(duration::format);
            let [min, max, is] = shown;
            let why = format!("a time-out lies between {min} and {max}, this one is {is}");
            return Err(Error::new(Code::TimeoutInvalid, why));
        }
        // What nobody has said is what HTTP jobs usually have.
        if policy.timeout != limits::TIMEOUT_DEFAULT {
            self.check_request_timeout(policy.timeout)?;
        }
        if policy.retain > limits::RETAIN_MAX {
            let max = duration::format(limits::RETAIN_MAX);
            let why = format!("a job is kept for at most {max}, not {}", duration::format(policy.retain));
            return Err(Error::new(Code::RetainInvalid, why));
        }
        Ok(())
    }

    fn check_times(&self) -> Result<()> {
        let (expiry, ttl) = (self.policy.expiry, self.key.as_ref().map(|key| key.ttl));
        let window = self.dedupe.as_ref().and_then(|dedupe| match dedupe.scope {
            DedupeScope::Window(window) => Some(window),
            DedupeScope::UntilStarted | DedupeScope::UntilDone => None,
        });
        for (what, span) in [
            ("a delay", self.delay),
            ("an expiry", expiry),
            ("the life of an idempotency key", ttl),
            ("a window", window),
        ] {
            if let Some(span) = span.filter(|span| *span > limits::DELAY_MAX) {
                let (max, is) = (duration::format(limits::DELAY_MAX), duration::format(span));
                return Err(Error::new(
                    Code::DelayInvalid,
                    format!("{what} has at most {max}, this one has {is}"),
                ));
            }
        }
        // The year 2286 in microseconds: what both databases and every calendar can hold.
        let beyond = |at: &Timestamp| !(0..=9_999_999_999_000_000).contains(&at.as_micros());
        if let Some(at) = [self.run_at, self.policy.deadline].into_iter().flatten().find(beyond) {
            return Err(Error::new(Code::DelayInvalid, format!("{at} is not a time a job can be due at")));
        }
        if let (Some(run_at), Some(deadline)) = (self.run_at, self.policy.deadline)
            && deadline <= run_at
        {
            return Err(Error::new(
                Code::DelayInvalid,
                "the deadline of a job comes after the time it is due",
            ));
        }
        Ok(())
    }

    /// Checks that the deadline lies ahead, and after the time the job is due. `now`: the clock of whoever enqueues it,
    /// by which the deadline was reckoned.
    ///
    /// # Errors
    /// [`DelayInvalid`](Code::DelayInvalid).
    pub fn check_deadline(&self, now: Timestamp) -> Result<()> {
        let due = self.due(now);
        match self.policy.deadline {
            Some(deadline) if deadline <= now => {
                Err(Error::new(Code::DelayInvalid, format!("the deadline has passed already: {deadline}")))
            }
            Some(deadline) if deadline <= due => {
                let why = "the deadline of a job comes after the time it is due";
                Err(Error::new(Code::DelayInvalid, why))
            }
            _ => Ok(()),
        }
    }

    fn check_words(&self) -> Result<()> {
        if self.tags.len() > limits::TAGS_MAX {
            let (max, are) = (limits::TAGS_MAX, self.tags.len());
            return Err(Error::new(Code::TagsInvalid, format!("a job has at most {max} tags, not {are}")));
        }
        let longer = |text: &Option<String>, max| text.as_ref().is_some_and(|text| text.len() > max);
        if longer(&self.metadata, limits::METADATA_BYTES_MAX) {
            let max = limits::METADATA_BYTES_MAX;
            return Err(Error::new(Code::MetadataInvalid, format!("the metadata has at most {max} bytes")));
        }
        // PostgreSQL keeps no NUL in a text.
        let nul = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains('\0'));
        if longer(&self.trace, limits::TRACE_BYTES_MAX) || nul(&self.trace) || nul(&self.metadata) {
            let max = limits::TRACE_BYTES_MAX;
            let why = format!("metadata and trace hold no NUL, and the trace has at most {max} bytes");
            return Err(Error::new(Code::MetadataInvalid, why));
        }
        Ok(())
    }
}
