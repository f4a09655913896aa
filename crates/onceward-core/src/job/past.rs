//! The attempts before the last one, kept in the row of the job: it tells its whole story, wherever it goes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::http::Seen;
use crate::{Timestamp, Token, limits};

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Its number, from 1. Attempts that were not charged share one with the next.
    pub number: u32,
    /// Its token.
    pub token: Token,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The state it left the job in.
    pub outcome: String,
    /// Who ran it.
    pub worker: String,
    /// What went wrong, if something did.
    pub error: Option<String>,
    /// What was seen of the exchange, if it was an HTTP request.
    #[serde(flatten)]
    pub http: Option<Box<Seen>>,
}

/// As it is kept: short names, whole microseconds.
#[derive(Serialize, Deserialize)]
struct Kept<'a>(
    u32,
    i64,
    i64,
    i64,
    Cow<'a, str>,
    Cow<'a, str>,
    Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<Box<Seen>>,
);

/// The text that a row keeps; `None` for no attempts.
pub fn to_text(past: &[Attempt]) -> Option<String> {
    let kept = |attempt: &Attempt| {
        let Attempt { number, token, started_at, finished_at, .. } = *attempt;
        let (outcome, worker) = (attempt.outcome.clone().into(), attempt.worker.clone().into());
        let (began, ended) = (started_at.as_micros(), finished_at.as_micros());
        Kept(number, token.get(), began, ended, outcome, worker, attempt.error.clone(), attempt.http.clone())
    };
    let kept: Vec<Kept<'_>> = past.iter().map(kept).collect();
    if kept.is_empty() { None } else { serde_json::to_string(&kept).ok() }
}

/// Reads what [`to_text`] has written. What can't be read is nothing: the past decides nothing.
pub fn from_text(text: Option<&str>) -> Vec<Attempt> {
    let kept: Vec<Kept<'_>> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let attempt = |Kept(number, token, began, ended, outcome, worker, error, http): Kept<'_>| Attempt {
        number,
        token: Token::from_row(token),
        started_at: Timestamp::from_micros(began),
        finished_at: Timestamp::from_micros(ended),
        outcome: outcome.into_owned(),
        worker: worker.into_owned(),
        error,
        http,
    };
    kept.into_iter().map(attempt).collect()
}

/// Adds an attempt. Where it gets too much, what lies in the middle goes: the first ones tell how it began, the newest
/// ones how it is.
pub fn remember(past: &[Attempt], attempt: Attempt) -> Vec<Attempt> {
    let mut past: Vec<Attempt> = past.iter().cloned().chain([attempt]).collect();
    let size = |attempt: &Attempt| {
        let error = attempt.error.as_ref().map_or(0, |error| error.len() + error.len() / 4);
        let excerpt = |seen: &Seen| seen.excerpt.as_ref().map_or(0, |text| text.len() + text.len() / 4);
        96 + attempt.worker.len() + error + attempt.http.as_ref().map_or(0, |seen| 256 + excerpt(seen))
    };
    let mut total: usize = past.iter().map(size).sum();
    while total > limits::PAST_BYTES_MAX && past.len() > 4 {
        total -= size(&past.remove(3));
    }
    past
}
