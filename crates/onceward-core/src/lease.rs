//! The rules of a lease: one row per key (and slot), claimed, renewed, released, never deleted while its token matters.
//!
//! ```text
//! free ──acquire──▶ held ──renew──▶ held          a larger heartbeat count, a later expiry
//!                    │ ├──release─▶ free           by the token's holder
//!                    │ ├──break───▶ free           by an operator, audited
//!                    │ └──time────▶ expired ──acquire──▶ held, with a larger token
//! ```
//!
//! *Expired* is never written: it is what `expires_at` says. A lost lease stays closed for its `lock_delay`.

use core::time::Duration;

use serde::Serialize;

use crate::history::{Event, words};
use crate::{Code, Error, Key, Namespace, Owner, Place, Result, SessionId, Timestamp, Token, limits};

words! {
    /// What the row says about a lease at one instant.
    Standing {
        /// Somebody holds it.
        Held = "held",
        /// Its holder gave it back, or it was broken.
        Released = "released",
        /// Its holder stopped renewing it.
        Expired = "expired",
    }
}

/// The row of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The namespace of the key.
    pub namespace: Namespace,
    /// What the lease is about.
    pub key: Key,
    /// Which of the holders' places this is: 0 for a plain lease, 0..capacity for a counted one.
    pub slot: u32,
    /// The fencing token of the latest grant.
    pub token: Token,
    /// Who holds or held it.
    pub owner: Owner,
    /// The claim attempt it was granted to.
    #[serde(skip)]
    pub session: SessionId,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// When the grant runs out unless renewed.
    pub expires_at: Timestamp,
    /// Where renewals stop: the grant never lasts longer.
    pub hard_expires_at: Option<Timestamp>,
    /// The time to live each renewal gives; contenders go by the row's, not by their own (N69).
    #[serde(rename = "ttl_ms", serialize_with = "as_millis")]
    pub ttl: Duration,
    /// How long the key stays closed after its holder was lost.
    #[serde(rename = "lock_delay_ms", serialize_with = "as_millis")]
    pub lock_delay: Duration,
    /// How often it was renewed.
    pub heartbeats: i64,
    /// When it was given back or broken.
    pub released_at: Option<Timestamp>,
    /// A text the holder left for people to read.
    pub metadata: Option<String>,
    /// Where the store has put the row.
    #[serde(skip)]
    pub place: Place,
}

/// Writes a duration as whole milliseconds.
pub(crate) fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// How far beyond `now + ttl` an expiry may lie before it is called poisoned: a step of the clock, not a renewal.
pub const POISON_SLACK: Duration = Duration::from_secs(1);

impl Record {
    /// What the row says at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.released_at {
            Some(_) => Standing::Released,
            None if self.expires_at <= now => Standing::Expired,
            None => Standing::Held,
        }
    }

    /// Whether anybody may take it at `now`: given back, or expired and its lock delay over.
    pub fn is_free(&self, now: Timestamp) -> bool {
        self.released_at.is_some() || self.expires_at.after(self.lock_delay) <= now
    }

    /// When it becomes free if nobody renews it.
    pub fn free_at(&self) -> Timestamp {
        self.released_at.unwrap_or_else(|| self.expires_at.after(self.lock_delay))
    }

    /// Whether the expiry lies so far ahead that only a step of the database's clock explains it (N17).
    pub fn is_poisoned(&self, now: Timestamp) -> bool {
        self.released_at.is_none() && self.expires_at > now.after(self.ttl).after(POISON_SLACK)
    }
}

/// What a caller asks for when it wants a lease.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The namespace of the key.
    pub namespace: Namespace,
    /// What the lease is about.
    pub key: Key,
    /// How many may hold the key at once; 1 for a plain lease.
    pub capacity: u32,
    /// Who asks.
    pub owner: Owner,
    /// This claim attempt. Asking again with the same session is safe: it finds its own grant.
    pub session: SessionId,
    /// How long the grant lasts without renewal.
    pub ttl: Duration,
    /// How long the grant lasts at most.
    pub hard_ttl: Option<Duration>,
    /// How long the key stays closed if this holder is lost.
    pub lock_delay: Duration,
    /// A text for people to read.
    pub metadata: Option<String>,
    /// A poisoned row the caller has watched for at least the row's ttl on its own clock without seeing it renewed.
    pub watched: Option<Watched>,
}

/// A waiting caller's place in the queue of a key. Fair tickets are served in the order of their numbers; the others
/// only ask to be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The claim attempt that waits.
    pub session: SessionId,
    /// The place.
    pub number: Token,
    /// Whether nobody may overtake it.
    pub fair: bool,
    /// When the place is given up unless the waiter asks again.
    pub expires_at: Timestamp,
}

/// A row a caller has watched for its whole ttl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The token it had.
    pub token: Token,
    /// The heartbeat count it had.
    pub heartbeats: i64,
}

/// What becomes of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// The new row, and the event that ended the grant before it, if that one had not been ended in writing.
    Grant {
        /// The row to write.
        row: Record,
        /// What to write into the history about the grant before.
        ended: Option<Event>,
    },
    /// The asker's own grant, made by an earlier send of the same ask whose answer was lost.
    Adopt(Record),
    /// Somebody holds it, or it is closed by a lock delay.
    Held(Record),
}

/// Decides over one slot of a key (L1, L2, L10). `ahead` tells whether a live fair ticket stands before the asker's;
/// `None` says that the slot is free, but promised to that ticket.
pub fn acquire(row: Option<&Record>, ask: &Ask, slot: u32, ahead: bool, now: Timestamp) -> Option<Acquire> {
    if let Some(row) = row.filter(|row| row.session == ask.session && row.standing(now) == Standing::Held) {
        return Some(Acquire::Adopt(row.clone()));
    }
    let seized = |row: &Record| {
        row.is_poisoned(now) && ask.watched == Some(Watched { token: row.token, heartbeats: row.heartbeats })
    };
    match row {
        Some(row) if !row.is_free(now) && !seized(row) => Some(Acquire::Held(row.clone())),
        // Whoever had it before is not in the way.
        _ if ahead => None,
        row => Some(Acquire::Grant {
            row: granted(ask, slot, draw(ask, slot, row.map(|row| row.token), now), now),
            ended: row.filter(|row| row.released_at.is_none()).map(|_| Event::Expired),
        }),
    }
}

/// The token of a grant, after the last one of the key (L1): of counted leases, one that belongs to the place.
pub fn draw(ask: &Ask, slot: u32, last: Option<Token>, now: Timestamp) -> Token {
    let token = Token::next(last, now);
    if ask.capacity == 1 { token } else { token.of_place(slot) }
}

fn granted(ask: &Ask, slot: u32, token: Token, now: Timestamp) -> Record {
    let hard_expires_at = ask.hard_ttl.map(|hard| now.after(hard));
    Record {
        namespace: ask.namespace.clone(),
        key: ask.key.clone(),
        slot,
        token,
        owner: ask.owner.clone(),
        session: ask.session,
        granted_at: now,
        expires_at: clipped(now, ask.ttl, hard_expires_at),
        hard_expires_at,
        ttl: ask.ttl,
        lock_delay: ask.lock_delay,
        heartbeats: 0,
        released_at: None,
        metadata: ask.metadata.clone(),
        place: Place::default(),
    }
}

/// `now + ttl`, but never beyond the hard limit.
pub fn clipped(now: Timestamp, ttl: Duration, hard_expires_at: Option<Timestamp>) -> Timestamp {
    let until = now.after(ttl);
    hard_expires_at.map_or(until, |hard| until.min(hard))
}

/// What becomes of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renew {
    /// Still the holder, until then.
    Until(Timestamp),
    /// Not the holder any more: another token, released, expired, or at its hard limit. Nothing was changed.
    Lost,
    /// A lock kept the row from being read in time: ask again, nothing is lost yet.
    Busy,
}

/// Decides over a renewal (L3). A lease that has expired is not revived, even if nobody took it.
pub fn renew(row: Option<&Record>, token: Token, session: SessionId, now: Timestamp) -> Renew {
    match row {
        Some(row) if row.token == token && row.session == session && row.standing(now) == Standing::Held => {
            Renew::Until(clipped(now, row.ttl, row.hard_expires_at))
        }
        _ => Renew::Lost,
    }
}

/// Whether `token` may give the lease back: only the row's own token may (L8). Late is not too late: a holder whose
/// grant has expired but was not replaced still closes it properly.
pub fn may_release(row: Option<&Record>, token: Token) -> bool {
    row.is_some_and(|row| row.token == token && row.released_at.is_none())
}

/// Whether a transaction of the holder of `token` may commit (L3, L4).
pub fn may_commit(row: Option<&Record>, token: Token, now: Timestamp) -> bool {
    row.is_some_and(|row| row.token == token && row.standing(now) == Standing::Held)
}

/// How much earlier than the store a holder stops trusting its lease: a tenth of the ttl, 20 ms at least, 1 s at most
/// (L12). It covers a clock that runs up to that much slower than the store's.
pub fn trust_margin(ttl: Duration) -> Duration {
    (ttl / 10).clamp(Duration::from_millis(20), Duration::from_secs(1))
}

/// How long after a grant or renewal the next renewal is sent: a third of the ttl, so that two may fail.
pub fn renew_interval(ttl: Duration) -> Duration {
    ttl / 3
}

/// Checks a ttl.
///
/// # Errors
/// [`Code::TtlInvalid`] outside `min..=`[`limits::TTL_MAX`].
pub fn check_ttl(ttl: Duration, min: Duration) -> Result<()> {
    in_range(ttl, min, limits::TTL_MAX, Code::TtlInvalid, "the ttl")
}

/// Checks a hard limit against its ttl.
///
/// # Errors
/// [`Code::HardTtlInvalid`] when it is shorter than the ttl or longer than [`limits::HARD_TTL_MAX`].
pub fn check_hard_ttl(hard_ttl: Duration, ttl: Duration) -> Result<()> {
    in_range(hard_ttl, ttl, limits::HARD_TTL_MAX, Code::HardTtlInvalid, "the hard ttl")
}

/// Checks a duration against its bounds.
///
/// # Errors
/// `code` when it lies outside.
pub fn in_range(value: Duration, min: Duration, max: Duration, code: Code, what: &str) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let [value, min, max] = [value, min, max].map(crate::duration::format);
    Err(Error::new(code, format!("{what} is {value}, but must be between {min} and {max}")))
}

/// Refuses a lock delay that is out of range.
///
/// # Errors
/// [`Code::LockDelayInvalid`].
pub fn check_lock_delay(delay: Duration) -> Result<()> {
    in_range(delay, Duration::ZERO, limits::LOCK_DELAY_MAX, Code::LockDelayInvalid, "the lock delay")
}

impl Ask {
    /// Checks every field against [`limits`].
    ///
    /// # Errors
    /// The code of the first field that is out of bounds.
    pub fn check(&self, ttl_min: Duration) -> Result<()> {
        check_ttl(self.ttl, ttl_min)?;
        if let Some(hard) = self.hard_ttl {
            check_hard_ttl(hard, self.ttl)?;
        }
        if !(1..=limits::CAPACITY_MAX).contains(&self.capacity) {
            let max = limits::CAPACITY_MAX;
            let why = format!("a lease has between 1 and {max} holders, not {}", self.capacity);
            return Err(Error::new(Code::CapacityInvalid, why));
        }
        check_lock_delay(self.lock_delay)?;
        match &self.metadata {
            Some(text) if text.len() > limits::METADATA_BYTES_MAX || text.contains('\0') => {
                let max = limits::METADATA_BYTES_MAX;
                Err(Error::new(Code::MetadataInvalid, format!("metadata is at most {max} bytes without NUL")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
