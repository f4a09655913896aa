//! How the jobs of a type are run when nothing else is said: a constant.

use core::time::Duration;

use onceward_core::{Queue, Result, Tag, job};

/// How the jobs of a type are run when nothing else is said. What is not said here has the default of the system.
///
/// A value out of range is refused when a job is enqueued; `#[derive(Job)]` refuses it when it is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobOptions {
    queue: Option<&'static str>,
    priority: Option<i16>,
    max_attempts: Option<u32>,
    timeout: Option<Duration>,
    retry: Option<&'static str>,
    retain: Option<Duration>,
    tags: &'static [&'static str],
    at_most_once: bool,
}

impl JobOptions {
    /// Nothing said.
    pub const fn new() -> Self {
        Self {
            queue: None,
            priority: None,
            max_attempts: None,
            timeout: None,
            retry: None,
            retain: None,
            tags: &[],
            at_most_once: false,
        }
    }

    /// Where they wait; `default` otherwise.
    #[must_use]
    pub const fn queue(mut self, queue: &'static str) -> Self {
        self.queue = Some(queue);
        self
    }

    /// From -1000 to 1000, the higher one goes first; 0 otherwise.
    #[must_use]
    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How many attempts each has, 1 to 1000; 20 otherwise.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// How long one attempt may take, 10 ms to 7 days; 15 minutes otherwise.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long to wait between attempts, as [`Retry`](super::Retry) is written; `exponential 2s max 15m jitter 0.2`
    /// otherwise.
    #[must_use]
    pub const fn retry(mut self, policy: &'static str) -> Self {
        self.retry = Some(policy);
        self
    }

    /// How long they are kept once they have succeeded or were cancelled; 7 days otherwise, zero deletes them at once.
    #[must_use]
    pub const fn retain(mut self, retain: Duration) -> Self {
        self.retain = Some(retain);
        self
    }

    /// Only workers that offer one of these run them; any worker otherwise.
    #[must_use]
    pub const fn tags(mut self, tags: &'static [&'static str]) -> Self {
        self.tags = tags;
        self
    }

    /// An attempt nobody knows the end of makes them uncertain, instead of being followed by another.
    #[must_use]
    pub const fn at_most_once(mut self) -> Self {
        self.at_most_once = true;
        self
    }

    pub(crate) fn is_at_most_once(&self) -> bool {
        self.at_most_once
    }

    pub(crate) fn apply(&self, new: &mut job::New) -> Result<()> {
        if let Some(queue) = self.queue {
            new.queue = Queue::new(queue)?;
        }
        if let Some(retry) = self.retry {
            new.policy.retry = retry.parse()?;
        }
        new.tags = self.tags.iter().map(Tag::new).collect::<Result<_>>()?;
        new.priority = self.priority.unwrap_or(new.priority);
        let policy = &mut new.policy;
        policy.max_attempts = self.max_attempts.unwrap_or(policy.max_attempts);
        policy.timeout = self.timeout.unwrap_or(policy.timeout);
        policy.retain = self.retain.unwrap_or(policy.retain);
        policy.at_most_once = self.at_most_once;
        Ok(())
    }
}
