//! The rules of sessions: what a worker is known by, and the only thing of it that is renewed.
//!
//! ```text
//! absent ──open──▶ live ──renew──▶ live            while it has not run out
//!                   │ ├────close──▶ gone           it has handed back or settled everything
//!                   │ └────time───▶ lost           never revived; its jobs are rescued one by one
//! ```
//!
//! A session carries the expiry for everything its process has claimed: jobs name their claim, the claim names the
//! session. A session that has run out stays so; a process that wakes up later opens another one.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::as_millis;
use crate::{Kind, Namespace, Owner, Queue, ServiceName, SessionId, Tag, Timestamp, Token};

/// What a worker says of itself, for people and for finding kinds that nobody runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The queues it takes jobs from.
    pub queues: Vec<String>,
    /// The kinds it has handlers for.
    pub kinds: Vec<String>,
    /// What it offers to jobs with tags.
    pub tags: Vec<String>,
    /// How many jobs it runs at the same time.
    pub concurrency: u32,
    /// The version of the program.
    pub version: String,
    /// The services it runs: namespace and name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<(String, String)>,
}

impl About {
    /// Whether this worker takes jobs of this queue and kind.
    pub fn runs(&self, queue: &Queue, kind: &Kind) -> bool {
        self.queues.iter().any(|name| name == queue.as_str())
            && self.kinds.iter().any(|name| name == kind.as_str())
    }

    /// How the text of a row says that a service is run.
    pub fn service_text(namespace: &Namespace, service: &ServiceName) -> String {
        serde_json::to_string(&(namespace.as_str(), service.as_str())).unwrap_or_default()
    }

    /// Whether this process runs a service.
    pub fn serves(&self, namespace: &Namespace, service: &ServiceName) -> bool {
        self.services.iter().any(|(of, name)| of == namespace.as_str() && name == service.as_str())
    }

    /// The text that a row keeps.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`to_text`](Self::to_text) has written. It is for people: what can't be read says nothing.
    pub fn from_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Whether it may run a job with these tags: an untagged job runs anywhere.
    pub fn offers(&self, tags: &[Tag]) -> bool {
        tags.is_empty() || tags.iter().any(|tag| self.tags.iter().any(|mine| mine == tag.as_str()))
    }
}

/// Opens a session.
#[derive(Clone, Debug)]
pub struct Open {
    /// Drawn by the worker; opening the same one again finds it.
    pub id: SessionId,
    /// Who it is, for people.
    pub owner: Owner,
    /// How long it lasts without renewal.
    pub ttl: Duration,
    /// What the worker says of itself.
    pub about: About,
}

/// The row of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Which one.
    pub id: SessionId,
    /// Whose.
    pub owner: Owner,
    /// Drawn when it was opened.
    pub token: Token,
    /// When it was opened.
    pub started_at: Timestamp,
    /// When it was renewed last.
    pub seen_at: Timestamp,
    /// When it runs out unless renewed.
    pub expires_at: Timestamp,
    /// What a renewal gives.
    #[serde(rename = "ttl_ms", serialize_with = "as_millis")]
    pub ttl: Duration,
    /// Whether somebody asked it to take no more jobs.
    pub draining: bool,
    /// How many jobs it runs or holds. Only listings know.
    pub running: u64,
    /// What it says of itself.
    pub about: About,
}

impl Record {
    /// Whether it has run out; then it never comes back.
    pub fn is_lost(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

/// Decides over a renewal: only what has not run out can be renewed.
pub fn renew(row: Option<&Record>, token: Token, now: Timestamp) -> crate::lease::Renew {
    match row {
        Some(row) if row.token == token && !row.is_lost(now) => {
            crate::lease::Renew::Until(now.after(row.ttl))
        }
        _ => crate::lease::Renew::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Renew;

    fn row() -> Record {
        Record {
            id: SessionId::from_uuid(uuid::Uuid::from_u128(1)),
            owner: Owner::from_row("web-1:7"),
            token: Token::from_row(9),
            started_at: Timestamp::from_micros(0),
            seen_at: Timestamp::from_micros(0),
            expires_at: Timestamp::from_micros(1_000),
            ttl: Duration::from_micros(1_000),
            draining: false,
            running: 0,
            about: About::default(),
        }
    }

    #[test]
    fn a_session_that_has_run_out_is_not_revived() {
        let at = Timestamp::from_micros;
        assert_eq!(renew(Some(&row()), Token::from_row(9), at(999)), Renew::Until(at(1_999)));
        assert_eq!(renew(Some(&row()), Token::from_row(9), at(1_000)), Renew::Lost);
        assert_eq!(renew(Some(&row()), Token::from_row(8), at(1)), Renew::Lost);
        assert_eq!(renew(None, Token::from_row(9), at(1)), Renew::Lost);
    }

    #[test]
    fn the_text_of_a_session_says_which_services_it_runs() {
        let (namespace, odd) = (Namespace::from_row("a\"]"), ServiceName::from_row("x\\,\"y"));
        let about = About {
            services: vec![(namespace.as_str().to_owned(), odd.as_str().to_owned())],
            tags: vec!["[\"a\",\"b\"]".to_owned()],
            ..About::default()
        };
        assert!(about.serves(&namespace, &odd));
        assert!(about.to_text().contains(&About::service_text(&namespace, &odd)));
        let other = About::service_text(&Namespace::from_row("a"), &ServiceName::from_row("b"));
        assert!(!about.to_text().contains(&other), "a text is no list");
        assert_eq!(About::from_text(&about.to_text()), about);
    }

    #[test]
    fn tags_route_and_untagged_jobs_run_anywhere() {
        let about = About { tags: vec!["gpu".to_owned()], ..About::default() };
        assert!(about.offers(&[]));
        assert!(about.offers(&[Tag::from_row("eu"), Tag::from_row("gpu")]));
        assert!(!about.offers(&[Tag::from_row("eu")]));
    }
}
