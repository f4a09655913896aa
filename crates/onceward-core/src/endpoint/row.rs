//! What is kept of an endpoint, as one text that only these rules read, and what may happen to it.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EventType, GiveUp, Health, Pattern, Setting};
use crate::once::cut;
use crate::{Code, EndpointName, Error, Namespace, Owner, Queue, Result, Timestamp, duration, limits};

/// A key that what an endpoint gets is signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The secret, encrypted.
    pub sealed: String,
    /// The version of its signatures: `v1` or `v1a`.
    pub version: String,
    /// What receivers of `v1a` check with; it is no secret.
    pub public: Option<String>,
    /// Since when it signs.
    pub since: Timestamp,
    /// Until when it signs, if a newer one has taken its place.
    pub until: Option<Timestamp>,
}

/// Without the secret, sealed as it is.
impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SigningKey")
            .field("version", &self.version)
            .field("since", &self.since)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// Why an endpoint gets nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disabled {
    /// Since when.
    pub at: Timestamp,
    /// Who did it; a worker, where it was because of how the endpoint has answered.
    pub by: Owner,
    /// Why.
    pub reason: Option<String>,
}

/// The row of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: EndpointName,
    /// Grows with each change, from 1 on.
    pub version: i64,
    /// When it was added.
    pub created_at: Timestamp,
    /// What it is set to.
    pub setting: Setting,
    /// What its requests are signed with, the newest first.
    pub keys: Vec<SigningKey>,
    /// Why it gets nothing.
    pub disabled: Option<Disabled>,
    /// How it fails, if it does.
    pub health: Option<Health>,
}

impl Endpoint {
    /// An endpoint that is added.
    pub fn new(namespace: Namespace, name: EndpointName, setting: Setting, now: Timestamp) -> Self {
        let (keys, disabled, health) = (Vec::new(), None, None);
        Self { namespace, name, version: 0, created_at: now, setting, keys, disabled, health }
    }

    /// The endpoint set to something else. What is held against it was seen at its URL: another one begins anew.
    #[must_use]
    pub fn set(&self, setting: Setting) -> Self {
        let health = self.health.clone().filter(|_| setting.url == self.setting.url);
        Self { setting, health, ..self.clone() }
    }

    /// Whether it is to get this event.
    pub fn wants(&self, event: &EventType) -> bool {
        self.setting.wants(event)
    }

    /// The keys that sign now, the newest first.
    pub fn signing(&self, now: Timestamp) -> impl Iterator<Item = &SigningKey> {
        self.keys.iter().filter(move |key| key.until.is_none_or(|until| until > now))
    }

    /// The endpoint with a new key; those before it sign for a while beside it.
    ///
    /// # Errors
    /// [`EndpointInvalid`](Code::EndpointInvalid) where too many would sign, or the old ones for too long.
    pub fn rotated(&self, key: SigningKey, overlap: Duration, now: Timestamp) -> Result<Self> {
        if overlap > limits::KEY_OVERLAP_MAX {
            let max = duration::format(limits::KEY_OVERLAP_MAX);
            let why = format!("an old key signs for at most {max} beside the new one");
            return Err(Error::new(Code::EndpointInvalid, why));
        }
        let end = now.after(overlap);
        let ends = |key: &SigningKey| SigningKey {
            until: Some(key.until.map_or(end, |until| until.min(end))),
            ..key.clone()
        };
        let old = self.signing(now).map(ends).filter(|key| key.until > Some(now));
        let keys: Vec<SigningKey> = core::iter::once(key).chain(old).collect();
        if keys.len() > limits::ENDPOINT_KEYS_MAX {
            let max = limits::ENDPOINT_KEYS_MAX;
            let why = format!(
                "at most {max} keys sign at the same time: wait until an old one has ended, or end them now"
            );
            return Err(Error::new(Code::EndpointInvalid, why));
        }
        Ok(Self { keys, ..self.clone() })
    }

    /// The endpoint after it was disabled; nothing where it is.
    pub fn disabled(&self, by: &Owner, reason: Option<&str>, now: Timestamp) -> Option<Self> {
        let reason = reason.map(|text| cut(text, limits::REASON_BYTES_MAX));
        let disabled = Some(Disabled { at: now, by: by.clone(), reason });
        self.disabled.is_none().then(|| Self { disabled, ..self.clone() })
    }

    /// The endpoint after it was enabled, with nothing held against it; nothing where it is.
    pub fn enabled(&self) -> Option<Self> {
        self.disabled.is_some().then(|| Self { disabled: None, health: None, ..self.clone() })
    }

    /// The endpoint after so many more failures without a success, the first of them at `since`: disabled, where they
    /// have become too many for too long.
    #[must_use]
    pub fn failed(&self, (count, since): (u32, Timestamp), error: &str, by: &Owner, now: Timestamp) -> Self {
        let error = cut(error, limits::ENDPOINT_ERROR_BYTES_MAX);
        let health = Health::failed(self.health.as_ref(), count, since, &error);
        let given_up = self.setting.give_up.filter(|rule| rule.is_reached(&health, now));
        let next = Self { health: Some(health.clone()), ..self.clone() };
        let Some(GiveUp { .. }) = given_up else { return next };
        let (times, lasted) = (health.failures, duration::format(now.since(health.failing_since)));
        let why = format!("it has failed {times} times in a row, for {lasted}; the last time: {error}");
        next.disabled(by, Some(&why), now).unwrap_or(next)
    }

    /// The endpoint after a success; nothing where it was well.
    pub fn succeeded(&self) -> Option<Self> {
        self.health.is_some().then(|| Self { health: None, ..self.clone() })
    }

    /// The text that a row keeps.
    pub fn to_text(&self) -> String {
        let key = |key: &SigningKey| KeptKey {
            sealed: key.sealed.clone(),
            version: key.version.clone(),
            public: key.public.clone(),
            since_us: key.since.as_micros(),
            until_us: key.until.map(Timestamp::as_micros),
        };
        let Setting { url, events, headers, sealed, queue, timeout, .. } = &self.setting;
        let kept = Kept {
            created_us: self.created_at.as_micros(),
            url: url.clone(),
            events: events.clone(),
            headers: headers.clone(),
            sealed: sealed.clone(),
            queue: queue.as_str().to_owned(),
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            max_attempts: self.setting.max_attempts,
            retry: self.setting.retry.to_string(),
            concurrency: self.setting.concurrency,
            rate: self.setting.rate.map(|rate| rate.to_string()),
            give_up: self.setting.give_up.map(|rule| (micros(rule.after), rule.failures)),
            keys: self.keys.iter().map(key).collect(),
            disabled: self.disabled.as_ref().map(|disabled| KeptDisabled {
                at_us: disabled.at.as_micros(),
                by: disabled.by.as_str().to_owned(),
                reason: disabled.reason.clone(),
            }),
            health: self.health.as_ref().map(|health| KeptHealth {
                since_us: health.failing_since.as_micros(),
                failures: health.failures,
                error: health.error.clone(),
            }),
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads a row; `None` where its text says nothing.
    pub fn from_row(namespace: Namespace, name: EndpointName, version: i64, text: &str) -> Option<Self> {
        let kept: Kept = serde_json::from_str(text).ok()?;
        let setting = Setting {
            url: kept.url,
            events: kept.events,
            headers: kept.headers,
            sealed: kept.sealed,
            queue: Queue::from_row(kept.queue),
            timeout: Duration::from_millis(kept.timeout_ms),
            max_attempts: kept.max_attempts,
            retry: kept.retry.parse().ok()?,
            concurrency: kept.concurrency,
            rate: kept.rate.map(|rate| rate.parse()).transpose().ok()?,
            give_up: kept
                .give_up
                .map(|(after, failures)| GiveUp { after: Duration::from_micros(after), failures }),
        };
        let at = Timestamp::from_micros;
        let key = |key: KeptKey| SigningKey {
            sealed: key.sealed,
            version: key.version,
            public: key.public,
            since: at(key.since_us),
            until: key.until_us.map(at),
        };
        let (created_at, keys) = (at(kept.created_us), kept.keys.into_iter().map(key).collect());
        let disabled = kept.disabled.map(|disabled| Disabled {
            at: at(disabled.at_us),
            by: Owner::from_row(disabled.by),
            reason: disabled.reason,
        });
        let health = kept.health.map(|health| Health {
            failing_since: at(health.since_us),
            failures: health.failures,
            error: health.error,
        });
        Some(Self { namespace, name, version, created_at, setting, keys, disabled, health })
    }
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    created_us: i64,
    url: String,
    events: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sealed: BTreeMap<String, String>,
    queue: String,
    timeout_ms: u64,
    max_attempts: u32,
    retry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    give_up: Option<(u64, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<KeptKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled: Option<KeptDisabled>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<KeptHealth>,
}

#[derive(Serialize, Deserialize)]
struct KeptKey {
    sealed: String,
    version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public: Option<String>,
    since_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until_us: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct KeptDisabled {
    at_us: i64,
    by: String,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct KeptHealth {
    since_us: i64,
    failures: u32,
    error: String,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// For people and for `--output json`: without what is sealed.
impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        let setting = &self.setting;
        let key = |key: &SigningKey| {
            let SigningKey { version, public, since, until, .. } = key;
            serde_json::json!({ "version": version, "public": public, "since": since, "until": until })
        };
        let millis = u64::try_from(setting.timeout.as_millis()).unwrap_or(u64::MAX);
        serde_json::json!({
            "namespace": self.namespace,
            "name": self.name,
            "version": self.version,
            "created_at": self.created_at,
            "state": if self.disabled.is_some() { "disabled" } else { "enabled" },
            "disabled": self.disabled,
            "url": crate::http::shown_url(&setting.url),
            "events": setting.events,
            "headers": setting.headers,
            "secret_headers": setting.sealed.keys().collect::<Vec<_>>(),
            "queue": setting.queue,
            "timeout_ms": millis,
            "max_attempts": setting.max_attempts,
            "retry": setting.retry.to_string(),
            "concurrency": setting.concurrency,
            "rate": setting.rate,
            "give_up": setting.give_up,
            "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
            "health": self.health,
        })
        .serialize(serializer)
    }
}
