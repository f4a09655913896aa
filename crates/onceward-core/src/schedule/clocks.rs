//! The ticks of a pattern on the clocks of a zone, also on the days on which those are changed.
//!
//! The pattern itself is asked in a time without changes: what becomes of times that are left out or come twice is
//! decided here, and the same for every pattern of a kind.

use core::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

const BEFORE: Duration = Duration::from_micros(1);

/// Whether a pattern names no hour: then it follows the hours that pass.
pub(super) fn is_hourly(pattern: &str) -> bool {
    let fields = pattern.split_whitespace();
    let hour = fields.clone().count().saturating_sub(4);
    fields.clone().nth(hour).is_some_and(|hour| matches!(hour, "*" | "?" | "*/1" | "0-23"))
}

/// The first tick after a moment of a pattern that names hours: each of its times comes once on every day. Those that
/// are left out come at the first moment after the gap, as one tick; those that come twice count the first time.
pub(super) fn next_by_day(pattern: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut time = still_to_come(zone, after)?;
    loop {
        time = next_time(pattern, time)?;
        let tick = moment(zone, time)?;
        if tick > after {
            return Some(tick);
        }
    }
}

/// The time after which the times lie that have not come by this moment: what the clocks show, or the end of what they
/// show twice where this is the second time.
fn still_to_come(zone: &TimeZone, after: Timestamp) -> Option<DateTime> {
    let shown = zone.to_datetime(after);
    match zone.to_ambiguous_timestamp(shown).offset() {
        AmbiguousOffset::Fold { before, after: second } if zone.to_offset(after) == second => {
            let back = zone.preceding(after.checked_add(BEFORE).ok()?).next()?;
            before.to_datetime(back.timestamp()).checked_sub(BEFORE).ok()
        }
        _ => Some(shown),
    }
}

/// When a time of the day comes.
fn moment(zone: &TimeZone, time: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(time).ok()
        }
        AmbiguousOffset::Gap { before, .. } => {
            // Clocks that were not changed would show it after the change, which is the last one before that.
            let unchanged = before.to_timestamp(time).ok()?;
            Some(zone.preceding(unchanged.checked_add(BEFORE).ok()?).next()?.timestamp())
        }
    }
}

/// The first tick after a moment of a pattern that names no hour: whenever the clocks show one of its times.
pub(super) fn next_by_hour(pattern: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let (mut from, mut since, mut offset) = (after, after, zone.to_offset(after));
    loop {
        let tick = offset.to_timestamp(next_time(pattern, offset.to_datetime(from))?).ok()?;
        let Some(change) = zone.following(since).next().filter(|change| change.timestamp() <= tick) else {
            return Some(tick);
        };
        (since, offset) = (change.timestamp(), change.offset());
        from = since.checked_sub(BEFORE).ok()?;
    }
}

/// The first time after this one that the pattern names, on clocks that are never changed.
fn next_time(pattern: &Cron, after: DateTime) -> Option<DateTime> {
    let after = after.to_zoned(TimeZone::UTC).ok()?;
    pattern.find_next_occurrence(&after, false).ok().map(|next| next.datetime())
}
