//! What an endpoint is set to.

use core::time::Duration;
use std::collections::{BTreeMap, HashSet};

use super::{EventType, GiveUp, Pattern};
use crate::http::{Method, Request};
use crate::job::Retry;
use crate::job::limit::{CONCURRENCY_MAX, Rate};
use crate::{Code, Error, Queue, Result, duration, limits};

/// What says that a request repeats another one.
const REPEATS: &str = "idempotency-key";

/// What an endpoint is set to.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Where its requests go, in canonical form.
    pub url: String,
    /// Which events it gets.
    pub events: Vec<Pattern>,
    /// Headers of each request, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are kept encrypted, by name.
    pub sealed: BTreeMap<String, String>,
    /// Where its deliveries wait.
    pub queue: Queue,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// How many attempts a delivery has.
    pub max_attempts: u32,
    /// How long to wait between them.
    pub retry: Retry,
    /// How many requests of one worker are under way to it at the same time.
    pub concurrency: Option<u32>,
    /// How many requests a worker sends to it in a time.
    pub rate: Option<Rate>,
    /// When it is disabled because it fails; never, without.
    pub give_up: Option<GiveUp>,
}

impl Setting {
    /// The defaults, of a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            events: Vec::new(),
            headers: BTreeMap::new(),
            sealed: BTreeMap::new(),
            queue: Queue::default(),
            timeout: limits::HTTP_TIMEOUT_DEFAULT,
            max_attempts: limits::ATTEMPTS_DEFAULT,
            retry: Retry::default(),
            concurrency: None,
            rate: None,
            give_up: Some(GiveUp::default()),
        }
    }

    /// Whether it gets this event.
    pub fn wants(&self, event: &EventType) -> bool {
        self.events.iter().any(|pattern| pattern.matches(event))
    }

    /// Refuses what no store shall see. The URL is somebody else's to check.
    ///
    /// # Errors
    /// [`EndpointInvalid`](Code::EndpointInvalid), [`TimeoutInvalid`](Code::TimeoutInvalid),
    /// [`AttemptsInvalid`](Code::AttemptsInvalid), [`LimitInvalid`](Code::LimitInvalid),
    /// [`HeaderInvalid`](Code::HeaderInvalid), [`HeaderSecret`](Code::HeaderSecret).
    pub fn check(&self) -> Result<()> {
        let (max, are) = (limits::ENDPOINT_EVENTS_MAX, self.events.len());
        if are > max {
            let why = format!("an endpoint has at most {max} patterns of events, not {are}");
            return Err(Error::new(Code::EndpointInvalid, why));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = self.events.iter().find(|pattern| !seen.insert(*pattern)) {
            return Err(Error::new(Code::EndpointInvalid, format!("the pattern {twice} is there twice")));
        }
        if !(limits::TIMEOUT_MIN..=limits::HTTP_TIMEOUT_MAX).contains(&self.timeout) {
            let shown = [limits::TIMEOUT_MIN, limits::HTTP_TIMEOUT_MAX, self.timeout].map(duration::format);
            let [min, max, is] = shown;
            let why = format!("the time-out of an endpoint lies between {min} and {max}, this one is {is}");
            return Err(Error::new(Code::TimeoutInvalid, why));
        }
        if !(1..=limits::ATTEMPTS_MAX).contains(&self.max_attempts) {
            let (max, is) = (limits::ATTEMPTS_MAX, self.max_attempts);
            let why = format!("a delivery has between 1 and {max} attempts, not {is}");
            return Err(Error::new(Code::AttemptsInvalid, why));
        }
        if let Some(most) = self.concurrency.filter(|most| !(1..=CONCURRENCY_MAX).contains(most)) {
            let why = format!("a concurrency limit lies between 1 and {CONCURRENCY_MAX}, this one is {most}");
            return Err(Error::new(Code::LimitInvalid, why));
        }
        self.rate.map_or(Ok(()), |rate| Rate::new(rate.count, rate.per).map(drop))?;
        self.give_up.map_or(Ok(()), |rule| rule.check())?;
        // One value for all requests: a receiver that heeds it would carry out the first one only.
        if [&self.headers, &self.sealed].iter().any(|headers| headers.contains_key(REPEATS)) {
            let why = format!("an endpoint has no {REPEATS} of its own: each delivery has one");
            return Err(Error::new(Code::HeaderInvalid, why));
        }
        let (headers, sealed) = (self.headers.clone(), self.sealed.clone());
        Request { headers, sealed, ..Request::new(Method::Post, self.url.as_str()) }.check()
    }
}
