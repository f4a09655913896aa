//! The rules of endpoints: receivers with a name, which events they get, how what they get is signed, and when one that
//! has failed for days is left alone.
//!
//! ```text
//! event ──is a job──▶ claimed ──the endpoints whose patterns match──▶ one delivery each, a job of the kind http
//!                                                                      │ its id follows from event and endpoint
//!                                              enabled: delivered ◀────┴────▶ disabled: waits, uncharged
//! ```
//!
//! Read in this order: [`EventType`] and [`Pattern`] (who gets what) → [`Event`] (what is enqueued) → [`Setting`] (what
//! an endpoint is set to) → [`Endpoint`] (its row, and what may happen to it) → [`GiveUp`] (when it is left alone).

mod event;
mod health;
mod pattern;
mod row;
mod setting;

#[cfg(test)]
mod tests;

use core::time::Duration;

use crate::backoff::mix;
use crate::{EndpointName, JobId, Namespace};

pub use event::{Event, deliveries};
pub use health::{GiveUp, Health};
pub use pattern::{EventType, Pattern};
pub use row::{Disabled, Endpoint, SigningKey};
pub use setting::Setting;

/// The kind of the jobs that are events.
pub const KIND: &str = "event";

/// The id of the delivery of an event to an endpoint: the same whoever works it out, so that it is enqueued once.
///
/// It has the form of a UUID of version 8 with the time of the event's own: a store that is asked for it looks whether
/// it has it, also among what is over, which of an id that was drawn a moment ago it would not.
pub fn delivery_id(event: JobId, namespace: &Namespace, endpoint: &EndpointName) -> JobId {
    let (high, low) = event.as_uuid().as_u64_pair();
    let hash = |salt: u64| {
        let texts = [namespace.as_str(), endpoint.as_str()];
        let words = texts
            .iter()
            .flat_map(|text| core::iter::once(text.len() as u64).chain(text.bytes().map(u64::from)));
        core::iter::once(high)
            .chain([low])
            .chain(words)
            .fold(mix(salt), |state, word| mix(state ^ word).rotate_left(23))
    };
    let time = high & 0xffff_ffff_ffff_0000;
    let id = (time | 0x8000 | (hash(1) & 0xfff), (hash(2) & 0x3fff_ffff_ffff_ffff) | (1 << 63));
    JobId::from_uuid(uuid::Uuid::from_u64_pair(id.0, id.1))
}

/// After which pause a delivery to a disabled endpoint looks again: a quarter of the time that the endpoint has been
/// disabled for, so that a short break costs little time and a long one few looks; some of them a little later.
pub fn pause(disabled_for: Duration, seed: u64) -> Duration {
    const SHORTEST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(60 * 60);
    let pause = (disabled_for / 4).clamp(SHORTEST, LONGEST);
    let parts = u32::try_from(mix(seed) >> 44).unwrap_or(0); // 20 bits
    pause + (pause / 4).mul_f64(f64::from(parts) / f64::from(1_u32 << 20))
}
