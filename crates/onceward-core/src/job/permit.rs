//! Permits: how the workers of a limited queue divide what it allows.
//!
//! ```text
//! none ──ask──▶ held(share) ──ask──▶ held(share')      what it wants, as far as it is its part and the others leave it
//!                │    └───session gone, nothing runs──▶ none
//!                └────────limits changed──────────────▶ void: gives nothing until it has asked again
//! ```
//!
//! `share` is how many jobs the session may run, `held` what counts against the limit: at least what it runs still.
//! The sum of all that is held grows only by a [`grant`], and grants of a queue happen one after the other; so it never
//! exceeds the limit, and neither do the jobs that run (J11). Nothing here is on the path of a claim.

use core::time::Duration;

use super::limit::{Bucket, CHUNK_LIFE, Limits};
use crate::{SessionId, Timestamp};

/// What a session that has not asked for this long wants is what it holds, and no more: nothing is kept for it.
pub const STALE: Duration = Duration::from_secs(3);
/// How long one of those has the remainder that can't be divided; then it is the next one's.
pub const TURN: Duration = Duration::from_secs(2);
/// When to ask again while one has something.
const AGAIN: Duration = Duration::from_secs(1);
/// When to ask again while one has nothing, or less than is due to it.
const SOON: Duration = Duration::from_millis(250);
const SOONEST: Duration = Duration::from_millis(10);

/// What a session has of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Whose.
    pub session: SessionId,
    /// Under which setting of the limits it was given.
    pub setting: i64,
    /// How many it wanted to run.
    pub wanted: u32,
    /// How many it may run.
    pub share: u32,
    /// How many count as its own: its share, or what it runs where that is more.
    pub held: u32,
    /// How many it may start.
    pub starts: u32,
    /// Until when.
    pub starts_until: Timestamp,
    /// When it asked.
    pub asked_at: Timestamp,
}

impl Permit {
    /// The starts that it still may use.
    pub fn starts_at(&self, now: Timestamp) -> u32 {
        if self.starts_until > now { self.starts } else { 0 }
    }

    /// How many jobs a session may claim that runs this many.
    pub fn allows(&self, limits: &Limits, running: u32, now: Timestamp) -> u32 {
        let slots = limits.concurrency.map_or(u32::MAX, |_| self.share.saturating_sub(running));
        let starts = limits.rate.map_or(u32::MAX, |_| self.starts_at(now));
        slots.min(starts)
    }
}

/// A queue with limits, as it stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What it is limited to.
    pub limits: Limits,
    /// The number of this setting, which grows with each change.
    pub setting: i64,
    /// Since when it holds.
    pub limits_at: Timestamp,
    /// The starts that are left.
    pub bucket: Bucket,
    /// All permits of it.
    pub permits: Vec<Permit>,
    /// Jobs that run in other sessions without a permit that counts: they were claimed before.
    pub strays: u32,
    /// How many jobs the session that asks runs.
    pub running: u32,
    /// The store's clock.
    pub now: Timestamp,
    /// How long after a change of the limits a claim may come to light that did not know of it.
    pub settles: Duration,
}

impl Standing {
    /// Whether all claims have come to light that did not know of these limits. A clock that went back says nothing.
    pub fn is_settled(&self) -> bool {
        self.now >= self.limits_at.after(self.settles) || self.now < self.limits_at
    }

    /// Whether somebody may still run what was claimed without a permit, once the wish of this session was granted.
    pub fn is_unsettled_after(&self) -> bool {
        self.strays > 0 || !self.is_settled()
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// By which session.
    pub session: SessionId,
    /// How many jobs it wants to run, those that run included.
    pub wanted: u32,
    /// How many it wants to start in the next moment.
    pub starts: u32,
}

/// What is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The permit from now on.
    pub permit: Permit,
    /// The bucket from now on.
    pub bucket: Bucket,
    /// When to ask again.
    pub again_in: Duration,
}

/// Decides what a session gets.
pub fn grant(standing: &Standing, wish: &Wish) -> Granted {
    let Standing { limits, limits_at, now, .. } = standing;
    let counting = || standing.permits.iter().filter(|permit| permit.setting == standing.setting);
    let others: Vec<Permit> = counting().filter(|permit| permit.session != wish.session).copied().collect();
    let mine = counting().find(|permit| permit.session == wish.session);
    let settled = standing.is_settled();
    let wanted = if settled { wish.wanted } else { 0 };
    let share = limits.concurrency.map_or(0, |limit| share(standing, limit, &others, wish.session, wanted));
    let held = limits.concurrency.map_or(0, |_| share.max(standing.running));
    let asked = if settled { wish.starts } else { 0 };
    let (starts, bucket) = starts(standing, &others, mine.map_or(0, |permit| permit.starts_at(*now)), asked);
    let again_in = if settled {
        let short = limits.concurrency.is_some() && share < wanted && share <= standing.running;
        let pace = limits.rate.filter(|_| asked > 0).map(|rate| {
            limits.pace().max(match starts {
                0 => bucket.next_in(rate),
                _ => Duration::ZERO,
            })
        });
        pace.into_iter().chain(short.then_some(SOON)).min().unwrap_or(AGAIN).min(AGAIN)
    } else {
        limits_at.after(standing.settles).since(*now)
    };
    let permit = Permit {
        session: wish.session,
        setting: standing.setting,
        wanted,
        share,
        held,
        starts,
        starts_until: now.after(CHUNK_LIFE),
        asked_at: *now,
    };
    Granted { permit, bucket, again_in: again_in.max(SOONEST) }
}

/// How many jobs a session may run: its part, as far as the others leave it.
fn share(standing: &Standing, limit: u32, others: &[Permit], session: SessionId, wanted: u32) -> u32 {
    let limit = limit.saturating_sub(standing.strays);
    let wants = |permit: &Permit| {
        if permit.asked_at.after(STALE) > standing.now { permit.wanted } else { permit.held }
    };
    let mut all: Vec<(SessionId, u32)> =
        others.iter().map(|permit| (permit.session, wants(permit))).collect();
    all.push((session, wanted));
    all.sort_unstable();
    let wanted: Vec<u32> = all.iter().map(|(_, wanted)| *wanted).collect();
    let turn = standing.now.as_micros().unsigned_abs() / u64::try_from(TURN.as_micros()).unwrap_or(u64::MAX);
    let parts = divide(limit, &wanted, turn);
    let part = all.iter().zip(parts).find(|((of, _), _)| *of == session).map_or(0, |(_, part)| part);
    let taken = others.iter().fold(0_u32, |sum, permit| sum.saturating_add(permit.held));
    part.min(limit.saturating_sub(taken))
}

/// Divides a limit: nobody gets more than it wants, and nobody less than another who wants as much, but for the
/// remainder, which goes round with the turns.
pub fn divide(limit: u32, wanted: &[u32], turn: u64) -> Vec<u32> {
    let mut parts = vec![0; wanted.len()];
    let mut left = limit;
    loop {
        let open: Vec<usize> = (0..wanted.len()).filter(|at| parts.get(*at) < wanted.get(*at)).collect();
        let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
        if count == 0 || left == 0 {
            return parts;
        }
        let each = left / count;
        let first = usize::try_from(turn % u64::from(count)).unwrap_or(0);
        for at in open.iter().cycle().skip(first).take(open.len()) {
            let (Some(part), Some(wanted)) = (parts.get_mut(*at), wanted.get(*at)) else { continue };
            let more = (wanted - *part).min(each.max(1)).min(left);
            *part += more;
            left -= more;
        }
    }
}

/// How many starts a session has from now on, and what is left in the bucket.
fn starts(standing: &Standing, others: &[Permit], has: u32, wanted: u32) -> (u32, Bucket) {
    let Some(rate) = standing.limits.rate else { return (0, Bucket { lent: 0, ..standing.bucket }) };
    let full = standing.bucket.filled(rate, standing.limits.burst(), standing.now);
    let wanted = wanted.min(standing.limits.chunk());
    let (starts, bucket) = if has > wanted {
        (wanted, full.put_back(has - wanted))
    } else {
        let (taken, bucket) = full.take(wanted - has);
        (has + taken, bucket)
    };
    let theirs = others.iter().fold(0_u32, |sum, permit| sum.saturating_add(permit.starts_at(standing.now)));
    (starts, Bucket { lent: theirs.saturating_add(starts), ..bucket })
}

#[cfg(test)]
mod tests;
