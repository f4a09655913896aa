//! What a row keeps of a job beside its columns: what was said about it and is not the default, as one short text.
//!
//! SQL never looks into it, except to write it for jobs that are enqueued by SQL. What a newer version has added is
//! passed over, and what can't be read stands for its default: a job is never stuck because of how it was described.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Origin, Policy, Retry};
use crate::{JobId, Key, Tag, Timestamp, limits};

/// What was said about a job.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Spec {
    /// How it is run.
    pub policy: Policy,
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
    /// The first job of that line, if it is another one.
    pub root: Option<JobId>,
    /// Whether its dedupe key is free for others once its handler starts.
    pub until_started: bool,
    /// Its dedupe key, if that lasts until then, or until it has ended.
    pub dedupe_key: Option<Key>,
    /// The run that waits for it.
    pub parent: Option<JobId>,
    /// How many jobs that triggers have enqueued, each because of the one before, have led to it.
    pub depth: u32,
    /// The ordering keys of the runs that wait for it, directly or not.
    pub lines: Vec<Key>,
}

/// As it is kept: only what differs from the default.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_us: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    begins_after_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    at_most_once: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    until_started: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedupe_key: Option<String>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    durable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "is_zero")]
    depth: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<uuid::Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    began_us: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Spec {
    /// The text a row keeps; `None` where everything is the default.
    pub fn to_text(&self) -> Option<String> {
        if *self == Self::default() {
            return None;
        }
        let (policy, usual) = (&self.policy, Policy::default());
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let kept = Kept {
            max_attempts: (policy.max_attempts != usual.max_attempts).then_some(policy.max_attempts),
            timeout_ms: (policy.timeout != usual.timeout).then(|| millis(policy.timeout)),
            deadline_us: policy.deadline.map(Timestamp::as_micros),
            expiry_us: policy.expiry.map(micros),
            begins_after_us: policy.begins_after.map(micros),
            retry: (policy.retry != usual.retry).then(|| policy.retry.to_string()),
            at_most_once: policy.at_most_once,
            retain_ms: (policy.retain != usual.retain).then(|| millis(policy.retain)),
            ordering_key: self.ordering_key.as_ref().map(|key| key.as_str().to_owned()),
            tags: self.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            metadata: self.metadata.clone(),
            trace: self.trace.clone(),
            replay_of: self.replay_of.map(JobId::as_uuid),
            root: self.root.map(JobId::as_uuid),
            until_started: self.until_started,
            dedupe_key: self.dedupe_key.as_ref().map(|key| key.as_str().to_owned()),
            durable: policy.durable,
            parent: self.parent.map(JobId::as_uuid),
            depth: self.depth,
            lines: self.lines.iter().map(|key| key.as_str().to_owned()).collect(),
            seed: policy.origin.map(|origin| origin.seed),
            began_us: policy.origin.and_then(|origin| origin.began).map(Timestamp::as_micros),
        };
        serde_json::to_string(&kept).ok()
    }

    /// Reads what [`to_text`](Self::to_text) has written, or somebody's SQL.
    pub fn from_text(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::default() };
        let kept: Kept = serde_json::from_str(text).unwrap_or_default();
        let usual = Policy::default();
        let span = |millis: Option<u64>, usual| millis.map_or(usual, Duration::from_millis);
        let micros = |span| Duration::from_micros(span).min(limits::DELAY_MAX);
        let policy = Policy {
            max_attempts: kept.max_attempts.unwrap_or(usual.max_attempts).clamp(1, limits::ATTEMPTS_MAX),
            timeout: span(kept.timeout_ms, usual.timeout).clamp(limits::TIMEOUT_MIN, limits::TIMEOUT_MAX),
            deadline: kept.deadline_us.map(Timestamp::from_micros),
            expiry: kept.expiry_us.map(micros),
            begins_after: kept.begins_after_us.map(micros),
            retry: kept.retry.and_then(|text| text.parse::<Retry>().ok()).unwrap_or(usual.retry),
            at_most_once: kept.at_most_once,
            retain: span(kept.retain_ms, usual.retain).min(limits::RETAIN_MAX),
            durable: kept.durable,
            origin: kept.seed.map(|seed| Origin { seed, began: kept.began_us.map(Timestamp::from_micros) }),
        };
        Self {
            policy,
            ordering_key: kept.ordering_key.map(Key::from_row),
            tags: kept.tags.into_iter().map(Tag::from_row).collect(),
            metadata: kept.metadata,
            trace: kept.trace,
            replay_of: kept.replay_of.map(JobId::from_uuid),
            root: kept.root.map(JobId::from_uuid),
            until_started: kept.until_started,
            dedupe_key: kept.dedupe_key.map(Key::from_row),
            parent: kept.parent.map(JobId::from_uuid),
            depth: kept.depth,
            lines: kept.lines.into_iter().map(Key::from_row).collect(),
        }
    }
}

/// The name of the lane that jobs with these tags wait in: the tags in order, one in a line; empty without tags.
pub fn route(tags: &[Tag]) -> String {
    let mut tags: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    tags.sort_unstable();
    tags.dedup();
    tags.join("\n")
}

/// Whether a worker that offers `tags` may take jobs from the lane `route`.
pub fn may_take(route: &str, tags: &[Tag]) -> bool {
    route.is_empty() || route.split('\n').any(|wanted| tags.iter().any(|tag| tag.as_str() == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_its_text() {
        assert_eq!(Spec::default().to_text(), None);
        assert_eq!(Spec::from_text(None), Spec::default());
        let id = JobId::from_uuid(uuid::Uuid::from_u128(7));
        let spec = Spec {
            policy: Policy {
                max_attempts: 3,
                timeout: Duration::from_secs(5),
                deadline: Some(Timestamp::from_micros(17)),
                expiry: Some(Duration::from_micros(7)),
                begins_after: Some(Duration::from_secs(60)),
                retry: "fixed 3s".parse().unwrap(),
                at_most_once: true,
                retain: Duration::ZERO,
                durable: true,
                origin: Some(Origin { seed: id.as_uuid(), began: Some(Timestamp::from_micros(5)) }),
            },
            ordering_key: Some(Key::from_row("customer:\"1\"")),
            tags: vec![Tag::from_row("gpu")],
            metadata: Some("{\"a\":1}".to_owned()),
            trace: Some("00-1-2-01".to_owned()),
            replay_of: Some(id),
            root: Some(id),
            until_started: true,
            dedupe_key: Some(Key::from_row("d")),
            parent: Some(id),
            depth: 3,
            lines: vec![Key::from_row("l")],
        };
        assert_eq!(Spec::from_text(spec.to_text().as_deref()), spec);
    }

    #[test]
    fn what_a_newer_version_wrote_stops_nobody() {
        let spec = Spec::from_text(Some(r#"{"max_attempts":2,"retry":"by moonlight","later":{"x":1}}"#));
        assert_eq!((spec.policy.max_attempts, spec.policy.retry), (2, Retry::default()));
        assert_eq!(Spec::from_text(Some("{")), Spec::default());
        assert_eq!(Spec::from_text(Some(r#"{"max_attempts":0}"#)).policy.max_attempts, 1);
    }

    #[test]
    fn a_route_is_the_same_for_the_same_tags() {
        let tags = |names: &[&str]| names.iter().map(|name| Tag::from_row(*name)).collect::<Vec<_>>();
        assert_eq!(route(&tags(&["gpu", "eu", "gpu"])), route(&tags(&["eu", "gpu"])));
        assert!(may_take("", &[]) && may_take("eu\ngpu", &tags(&["gpu"])));
        assert!(!may_take("eu\ngpu", &tags(&["us"])) && !may_take("eu", &[]));
    }
}
