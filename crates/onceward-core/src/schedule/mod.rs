//! The rules of schedules: when a tick is due, which of those that were missed are made up for, and what is enqueued.
//!
//! A schedule is one row with a version. Its ticks are enqueued by the statement that moves the row on to the next one,
//! if it still has the version that was looked at: each tick is enqueued once, whoever does it, and how often they
//! change (J12).

mod clocks;
mod due;
mod row;
mod when;

#[cfg(test)]
mod tests;

use crate::backoff::mix;
use crate::{JobId, Namespace, ScheduleName, Timestamp};

pub use due::{Due, OnMissed, due};
pub use row::{Definition, Last, Overlap, Owed, Pause, Schedule, Target};
pub use when::When;

/// The id of the job of a tick: the same whoever enqueues it, so that it is there at most once (J12).
pub fn job_of(
    namespace: &Namespace,
    name: &ScheduleName,
    created_at: Timestamp,
    tick: Timestamp,
    again: u32,
) -> JobId {
    let words = [created_at.as_micros().cast_unsigned(), tick.as_micros().cast_unsigned(), again.into()];
    let (high, low) = (hash(1, namespace, name, words), hash(2, namespace, name, words));
    let millis = u64::try_from(tick.as_micros() / 1_000).unwrap_or(0) & 0xffff_ffff_ffff;
    // The form of a UUID of version 7, so that the jobs of a time lie together as others do.
    let high = (millis << 16) | 0x7000 | (high & 0xfff);
    let low = (low & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    JobId::from_uuid(uuid::Uuid::from_u64_pair(high, low))
}

/// By how much a tick is put off, of a jitter given in microseconds: the same whoever asks.
pub fn jitter_of(name: &ScheduleName, tick: Timestamp, jitter_us: u64) -> u64 {
    if jitter_us == 0 {
        return 0;
    }
    hash(3, &Namespace::default(), name, [tick.as_micros().cast_unsigned(), 0, 0]) % jitter_us
}

fn hash(salt: u64, namespace: &Namespace, name: &ScheduleName, words: [u64; 3]) -> u64 {
    let texts = [namespace.as_str(), name.as_str()];
    // The length stands before each text: two pairs that join to one text are different.
    let bytes = texts.iter().flat_map(|text| {
        let length = text.len() as u64;
        core::iter::once(length).chain(text.bytes().map(u64::from))
    });
    bytes.chain(words).fold(mix(salt), |state, word| mix(state ^ word).rotate_left(23))
}
