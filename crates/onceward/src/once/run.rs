//! Claim, run, settle: what happens between the call of `once` and its outcome.

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::sync::Arc;

use futures_util::FutureExt;
use onceward_core::once::{Ask, Body, Ending, Record, Resolution, Resolve, Settle, State};
use onceward_core::{Code, Error, Result, Timestamp};
use onceward_store::{ClaimRef, Claimed, KeyRef, ResolveOnce, SettleOnce};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::attempt::Stop;
use super::builder::{OnceBuilder, Verdict};
use super::cache::Asked;
use super::{Attempt, Failure, NotDone, Outcome};
use crate::client::Onceward;
use crate::hold::{Hold, Lost};
use crate::renewer::{Farewell, Subject};

/// The content type of typed results.
pub(super) const JSON: &str = "application/json";

/// `run` for a value that is recorded as JSON.
pub(super) async fn typed<T, F>(builder: OnceBuilder, function: F) -> Result<Outcome<T>>
where
    T: Serialize + DeserializeOwned,
    F: AsyncFnOnce(Attempt) -> Result<T, NotDone>,
{
    // The value itself is handed to this caller even where it can't be written down or read back.
    let mut returned = None;
    let outcome = bytes(builder, async |attempt| {
        let value = function(attempt).await?;
        let written = serde_json::to_vec(&value);
        returned = Some(value);
        match written {
            Ok(bytes) => Ok(Body::new(bytes, JSON)),
            Err(error) => Err(NotDone::unknown(format!("it was done, but its result is no JSON: {error}"))),
        }
    })
    .await?;
    match (outcome, returned) {
        (Outcome::Done { replayed: false, .. } | Outcome::DoneWithoutBody { .. }, Some(value)) => {
            Ok(Outcome::Done { value, replayed: false })
        }
        (Outcome::Uncertain { reason, since, .. }, value @ Some(_)) => {
            Ok(Outcome::Uncertain { reason, since, value })
        }
        (outcome, _) => outcome.try_map(decode),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what an outcome maps its value with")]
pub(super) fn decode<T: DeserializeOwned>(body: Body) -> Result<T> {
    serde_json::from_slice(body.bytes.as_deref().unwrap_or_default()).map_err(|error| {
        let what =
            format!("the recorded result ({}, {} bytes) is of another type", body.content_type, body.size);
        Error::new(Code::ResultUnreadable, what).with_source(error)
    })
}

/// `run` for bytes.
pub(super) async fn bytes<F>(builder: OnceBuilder, function: F) -> Result<Outcome<Body>>
where
    F: AsyncFnOnce(Attempt) -> Result<Body, NotDone>,
{
    let client = builder.client.clone();
    let ask = builder.ask()?;
    if let Some(outcome) = cached(&client, &ask)? {
        return Ok(outcome);
    }
    client.check_open()?;
    let asked = Asked::now(&client);
    match client.inner.lanes.claim(ask.clone()).await? {
        Claimed::Mismatch => Err(mismatch(&ask)),
        Claimed::Granted(row) => run(&client, &row, asked.at, builder.stop_within, function).await,
        Claimed::Existing { row, now } => {
            if row.state_at(now) == State::Running && builder.wait.is_some() {
                return wait(&builder, &ask).await;
            }
            client.inner.cache.keep(&row, now, asked);
            Ok(replay(*row, now))
        }
    }
}

pub(super) fn mismatch(ask: &Ask) -> Error {
    let key = ask.key.as_str();
    Error::new(Code::FingerprintMismatch, format!("the key {key:?} was used before with a different request"))
}

fn cached(client: &Onceward, ask: &Ask) -> Result<Option<Outcome<Body>>> {
    let name = (ask.namespace.clone(), ask.key.clone());
    let found = client.inner.cache.find(&name, client.store().epoch(), || client.clock().boottime());
    let Some(entry) = found else { return Ok(None) };
    if entry.contradicts(ask.fingerprint) {
        return Err(mismatch(ask));
    }
    Ok(Some(replay(entry.row.clone(), Timestamp::default())))
}

/// What a row means to somebody who did not run it.
pub(super) fn replay(row: Record, now: Timestamp) -> Outcome<Body> {
    let reason = row.reason.clone().unwrap_or_default();
    match row.state_at(now) {
        State::Running => Outcome::Running { since: row.claimed_at, until: row.expires_at },
        State::Done => match row.body {
            Some(body) if body.bytes.is_some() => Outcome::Done { value: body, replayed: true },
            body => Outcome::DoneWithoutBody { size: body.map_or(0, |body| body.size) },
        },
        State::Failed => {
            let data = row.body.and_then(|body| body.bytes);
            Outcome::Failed { error: Failure { reason, data }, replayed: true }
        }
        State::Released => Outcome::NotStarted { error: Failure { reason, data: None } },
        State::Uncertain => {
            let since = row.uncertain_since(now).unwrap_or(row.expires_at);
            let reason = if reason.is_empty() { onceward_core::once::EXPIRED.to_owned() } else { reason };
            Outcome::Uncertain { reason, since, value: None }
        }
    }
}

/// Runs the function under its claim, and records how it ended.
async fn run<F>(
    client: &Onceward,
    row: &Record,
    sent: Timestamp,
    stop_within: Duration,
    function: F,
) -> Result<Outcome<Body>>
where
    F: AsyncFnOnce(Attempt) -> Result<Body, NotDone>,
{
    let clock = Arc::clone(client.clock());
    let hard_ttl = row.hard_expires_at.map(|hard| hard.since(row.claimed_at));
    let hold = Arc::new(Hold::new(row.token, row.expires_at, clock, sent, row.ttl, hard_ttl));
    let dropped = "the future of the function was dropped before it ended".to_owned();
    let mut open = Unsent::of(client, &hold, settle_ask(row, Ending::Unknown { reason: dropped }));
    let claim = ClaimRef {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        slot: 0,
        token: row.token,
        session: row.session,
    };
    let _watch = client.inner.renewer.watch(Subject::Once(claim), row.ttl, true, Arc::clone(&hold));
    let stop = Stop::new(stop_within, sent, hard_ttl);
    let (key, number, ttl) = (row.key.clone(), row.attempts, row.ttl);
    let attempt = Attempt { key, number, hold: Arc::clone(&hold), ttl, stop };
    let ending = if hold.is_valid() {
        let function = AssertUnwindSafe(function(attempt.clone())).catch_unwind();
        tokio::select! {
            biased;
            ended = function => match ended {
                Ok(Ok(body)) => Ending::Done(body),
                Ok(Err(not_done)) => not_done.into_ending(),
                Err(panic) => Ending::Unknown { reason: format!("the function panicked: {}", words(&*panic)) },
            },
            why = attempt.given_up() => Ending::Unknown { reason: format!("the function was cancelled: {why}") },
        }
    } else {
        let reason = "the claim had run out before the function could start".to_owned();
        Ending::NotStarted { reason }
    };
    open.ask = None;
    let outcome = settle(client, row, &hold, ending).await;
    client.inner.switchboard.ring(&row.namespace, &row.key);
    outcome
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn core::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    onceward_core::once::cut(text.unwrap_or("without a message"), 1024)
}

fn settle_ask(row: &Record, ending: Ending) -> SettleOnce {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    SettleOnce { namespace, key, token: row.token, ending, place: row.place }
}

/// The reason of an [`Outcome::Uncertain`] whose function ran here, and whose outcome was refused because the key had
/// been settled by somebody else meanwhile.
pub const SUPERSEDED: &str = "the outcome came too late: somebody else had settled the key";

/// Records an ending, trying as long as the claim may live; what can't be recorded is uncertain, and goes on being
/// sent in the background as late evidence.
async fn settle(client: &Onceward, row: &Record, hold: &Hold, ending: Ending) -> Result<Outcome<Body>> {
    let ask = settle_ask(row, ending.clone());
    let asked = Asked::now(client);
    let within = client.inner.lanes.deadline();
    let mut unsent = Unsent::of(client, hold, ask.clone());
    let settled = client.inner.lanes.settle(ask, within).await;
    if settled.is_ok() {
        unsent.ask = None;
    }
    let since = hold.expires_at();
    Ok(match settled {
        Ok(Settle::Applied { .. } | Settle::Already) => {
            keep(client, row, &ending, asked);
            ended(ending, row)
        }
        Ok(Settle::Stale) => {
            let reason = SUPERSEDED.to_owned();
            Outcome::Uncertain { reason, since, value: value_of(ending) }
        }
        Err(error) => {
            let reason = format!("the outcome could not be recorded: {error}");
            Outcome::Uncertain { reason, since, value: value_of(ending) }
        }
    })
}

/// What is to be said of a run whose future is dropped: while the function runs, that nobody knows how it ended; while
/// its outcome is on its way to the store, that outcome. The background goes on saying it.
struct Unsent<'a> {
    client: &'a Onceward,
    hold: &'a Hold,
    ask: Option<SettleOnce>,
}

impl<'a> Unsent<'a> {
    fn of(client: &'a Onceward, hold: &'a Hold, ask: SettleOnce) -> Self {
        Self { client, hold, ask: Some(ask) }
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(ask) = self.ask.take() {
            self.hold.lose(Lost::Released);
            self.client.inner.renewer.send(Farewell::Settle(ask));
        }
    }
}

fn keep(client: &Onceward, row: &Record, ending: &Ending, asked: Asked) {
    if matches!(ending, Ending::Done(_) | Ending::Failed { .. }) {
        let row = onceward_core::once::settled(row, ending, false, row.claimed_at);
        client.inner.cache.keep(&row, row.claimed_at, asked);
    }
}

fn value_of(ending: Ending) -> Option<Body> {
    match ending {
        Ending::Done(body) => Some(body),
        _ => None,
    }
}

/// The outcome for the caller whose function it was.
fn ended(ending: Ending, row: &Record) -> Outcome<Body> {
    match ending {
        Ending::Done(body) if body.bytes.is_none() => Outcome::DoneWithoutBody { size: body.size },
        Ending::Done(body) => Outcome::Done { value: body, replayed: false },
        Ending::Failed { body, reason } => {
            let data = body.and_then(|body| body.bytes);
            Outcome::Failed { error: Failure { reason, data }, replayed: false }
        }
        Ending::NotStarted { reason } if row.inherits_doubt() => {
            let reason = format!("{reason}; what an earlier attempt did is still unknown");
            Outcome::Uncertain { reason, since: row.uncertain_at.unwrap_or(row.claimed_at), value: None }
        }
        Ending::NotStarted { reason } => Outcome::NotStarted { error: Failure { reason, data: None } },
        Ending::Unknown { reason } => Outcome::Uncertain { reason, since: row.claimed_at, value: None },
    }
}

/// Waits for the outcome of whoever is running the function (O10).
async fn wait(builder: &OnceBuilder, ask: &Ask) -> Result<Outcome<Body>> {
    let client = &builder.client;
    let deadline = Instant::now() + builder.wait.unwrap_or_default();
    let line = client.inner.switchboard.line(&ask.namespace, &ask.key);
    let key = KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() };
    let mut nap = Duration::from_millis(2);
    loop {
        let bell = line.bell.notified();
        tokio::pin!(bell);
        bell.as_mut().enable();
        let asked = Asked::now(client);
        let seen = client.store().once_lookup(core::slice::from_ref(&key)).await?;
        let now = seen.now;
        // An outcome that may be replayed no more is as good as gone (O8).
        let row = seen.rows.into_iter().next().flatten().filter(|row| !row.is_retired(now));
        let Some(row) = row else {
            let reason = "the key was removed while it was waited for".to_owned();
            return Ok(Outcome::NotStarted { error: Failure { reason, data: None } });
        };
        if onceward_core::once::mismatched(row.fingerprint, ask.fingerprint) {
            return Err(mismatch(ask));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if row.state_at(now) != State::Running || left.is_zero() {
            client.inner.cache.keep(&row, now, asked);
            return Ok(replay(row, now));
        }
        // Woken or not is all the same: the next look tells.
        let _ = timeout(nap.min(left), bell).await;
        nap = (nap * 2).min(Duration::from_millis(250));
    }
}

/// The recorded outcome, without running anything.
pub(super) async fn peek<T: DeserializeOwned>(builder: OnceBuilder) -> Result<Option<Outcome<T>>> {
    let ask = builder.ask()?;
    let Some((row, now)) = look(&builder.client, &ask).await? else { return Ok(None) };
    replay(row, now).try_map(decode).map(Some)
}

async fn look(client: &Onceward, ask: &Ask) -> Result<Option<(Record, Timestamp)>> {
    client.check_open()?;
    let key = KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() };
    let seen = client.store().once_lookup(&[key]).await?;
    let now = seen.now;
    let row = seen.rows.into_iter().next().flatten();
    let row = row.filter(|row| row.state != State::Released && !row.is_retired(now));
    if row.as_ref().is_some_and(|row| onceward_core::once::mismatched(row.fingerprint, ask.fingerprint)) {
        return Err(mismatch(ask));
    }
    Ok(row.map(|row| (row, now)))
}

/// Settles an uncertain key by what `probe` finds out.
pub(super) async fn probe<T, F>(builder: OnceBuilder, probe: F) -> Result<Option<Outcome<T>>>
where
    T: Serialize + DeserializeOwned,
    F: AsyncFnOnce(&Record) -> Verdict<T>,
{
    let ask = builder.ask()?;
    let client = &builder.client;
    if let Some((row, now)) = look(client, &ask).await?
        && row.state_at(now) == State::Uncertain
        && let Some(resolution) = resolution(probe(&row).await)?
    {
        resolve(client, &row, resolution, "a probe asked the outside world").await?;
    }
    peek(builder).await
}

/// A probe's verdict as what is written down; `None` where it could not find out.
pub(crate) fn resolution<T: Serialize>(verdict: Verdict<T>) -> Result<Option<Resolution>> {
    Ok(Some(match verdict {
        Verdict::Happened(value) => {
            let unwritable =
                |error| Error::new(Code::ResultUnwritable, "the probe's result").with_source(error);
            Resolution::Done(Body::new(serde_json::to_vec(&value).map_err(unwritable)?, JSON))
        }
        Verdict::DidNotHappen => Resolution::Release,
        Verdict::Failed(reason) => Resolution::Failed { reason },
        Verdict::StillUnknown => return Ok(None),
    }))
}

/// Settles the row that was looked at, and no other.
pub(crate) async fn resolve(
    client: &Onceward,
    row: &Record,
    resolution: Resolution,
    why: &str,
) -> Result<Resolve> {
    let ask = ResolveOnce {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        token: Some(row.token),
        resolution,
        actor: client.owner.clone(),
        reason: why.to_owned(),
        dry_run: false,
    };
    let resolved = client.store().once_resolve(&ask).await?;
    client.inner.cache.forget(&(row.namespace.clone(), row.key.clone()));
    client.inner.switchboard.ring(&row.namespace, &row.key);
    Ok(resolved)
}
