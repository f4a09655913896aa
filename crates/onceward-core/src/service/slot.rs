//! Time slots: where in a cycle a runner is to begin. They spread attempts without anybody asking anybody; what keeps
//! two terms apart is the lease, never a slot.

use core::time::Duration;

/// A part of a cycle, counted from its beginning: `start` belongs to it, `end` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When it begins.
    pub start: Duration,
    /// When nobody begins in it any more.
    pub end: Duration,
}

impl Slot {
    /// Whether a time of the cycle lies in it.
    pub fn holds(self, time: Duration) -> bool {
        (self.start..self.end).contains(&time)
    }

    /// How long it is.
    pub fn size(self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

/// The slot at `position` of `total` ones: the interval in equal parts, each of which ends a margin early. A margin
/// that leaves nothing of a part leaves half of it. One part is the whole interval, without a margin. `None` where
/// there is no such position.
pub fn slot(position: usize, total: usize, interval: Duration, margin: Duration) -> Option<Slot> {
    if position >= total || interval.is_zero() {
        return None;
    }
    if total == 1 {
        return Some(Slot { start: Duration::ZERO, end: interval });
    }
    let (start, next) = (part(interval, position, total), part(interval, position + 1, total));
    let end = next.saturating_sub(margin);
    let end = if end > start { end } else { start + (next - start) / 2 };
    Some(Slot { start, end })
}

/// Where the part at `position` begins.
fn part(interval: Duration, position: usize, total: usize) -> Duration {
    let micros = interval.as_micros() * position as u128 / total as u128;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// How many slots a cycle has for so many runners. Where terms have taken longer than a runner's part, there are fewer
/// and longer ones, at least two: one for the runner whose turn it is, and one for whoever comes to its aid.
pub fn count(runners: usize, interval: Duration, margin: Duration, longest: Option<Duration>) -> usize {
    let Some(longest) = longest.filter(|longest| !longest.is_zero()) else { return runners.max(1) };
    let fit = interval.as_micros() / (longest + margin).as_micros().max(1);
    usize::try_from(fit).unwrap_or(usize::MAX).max(2).min(runners.max(1))
}

/// How a term has fared in the time it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// There was time left.
    Fine,
    /// It took more than 80 % of it; so many per cent.
    Near(u32),
    /// It took longer than it had, by this.
    Overran(Duration),
}

/// Compares how long a term took with the slot it had.
pub fn usage(took: Duration, slot: Duration) -> Usage {
    if took > slot {
        return Usage::Overran(took - slot);
    }
    let per_cent = took.as_micros() * 100 / slot.as_micros().max(1);
    if took.as_micros() * 10 > slot.as_micros() * 8 {
        return Usage::Near(u32::try_from(per_cent).unwrap_or(100));
    }
    Usage::Fine
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn seconds(position: usize, total: usize, minutes: u64, margin: u64) -> Option<(u64, u64)> {
        let slot = slot(position, total, MINUTE * minutes as u32, MINUTE * margin as u32)?;
        Some((slot.start.as_secs(), slot.end.as_secs()))
    }

    /// The numbers of `calculate_time_slot` of pynenc 0.1, for the inputs of its own tests and documentation.
    #[test]
    fn the_seeds_table_of_slots_has_equal_numbers() {
        for (position, total, minutes, margin, expected) in [
            (0, 3, 6, 1, (0, 60)),
            (1, 3, 6, 1, (120, 180)),
            (2, 3, 6, 1, (240, 300)),
            // A margin that eats the slot leaves half of it.
            (0, 3, 3, 2, (0, 30)),
            (1, 3, 3, 2, (60, 90)),
            (0, 2, 5, 1, (0, 90)),
            (1, 2, 5, 1, (150, 240)),
            // Its defaults with five runners: the slot is as long as the margin (W73).
            (4, 5, 5, 1, (240, 270)),
            (0, 3, 60, 1, (0, 1_140)),
            (1, 3, 60, 1, (1_200, 2_340)),
            (2, 3, 60, 1, (2_400, 3_540)),
            (9, 10, 5, 1, (270, 285)),
        ] {
            let found = seconds(position, total, minutes, margin);
            assert_eq!(found, Some(expected), "{position} of {total}, {minutes} min, margin {margin} min");
        }
    }

    #[test]
    fn times_lie_in_slots_as_they_do_in_the_seed() {
        let slot = slot(1, 3, MINUTE * 6, MINUTE).unwrap();
        for (time, inside) in [(150, true), (90, false), (120, true), (180, false), (179, true)] {
            assert_eq!(slot.holds(Duration::from_secs(time)), inside, "{time}");
        }
        // A cycle begins again: 370 s is 10 s.
        assert_eq!(crate::service::cycle_of(crate::Timestamp::from_micros(370_000_000), MINUTE * 6), 1);
    }

    /// The seed takes the margin off here as well: (0, 240). There is nobody to keep away from.
    #[test]
    fn a_single_runner_has_the_whole_cycle() {
        assert_eq!(seconds(0, 1, 5, 1), Some((0, 300)));
    }

    /// The seed divides by zero here.
    #[test]
    fn there_is_no_slot_for_nobody() {
        assert_eq!(seconds(0, 0, 5, 1), None);
        assert_eq!(seconds(3, 3, 5, 1), None);
        assert_eq!(slot(0, 3, Duration::ZERO, Duration::ZERO), None);
    }

    #[test]
    fn long_terms_make_fewer_and_longer_slots() {
        let minutes = |n: u32| MINUTE * n;
        assert_eq!(count(4, minutes(4), Duration::ZERO, None), 4);
        assert_eq!(count(4, minutes(4), Duration::ZERO, Some(minutes(1))), 4);
        assert_eq!(count(4, minutes(4), Duration::ZERO, Some(Duration::from_secs(80))), 3);
        assert_eq!(count(4, minutes(4), minutes(1), Some(minutes(1))), 2);
        assert_eq!(count(4, minutes(4), Duration::ZERO, Some(minutes(40))), 2);
        assert_eq!(count(1, minutes(4), Duration::ZERO, Some(minutes(40))), 1);
        assert_eq!(count(0, minutes(4), Duration::ZERO, None), 1);
    }

    #[test]
    fn more_than_four_fifths_of_a_slot_is_near_its_end() {
        let usage = |took| usage(Duration::from_secs(took), Duration::from_secs(100));
        assert_eq!([usage(80), usage(81), usage(100)], [Usage::Fine, Usage::Near(81), Usage::Near(100)]);
        assert_eq!(usage(103), Usage::Overran(Duration::from_secs(3)));
    }

    proptest! {
        /// W73: whatever the margin, every runner of any number of runners has a slot, and no two slots meet.
        #[test]
        fn slots_are_never_empty_and_never_meet(
            total in 1_usize..=200, seconds in 1_u64..100_000, margin in 0_u64..200_000,
        ) {
            let (interval, margin) = (Duration::from_secs(seconds), Duration::from_secs(margin));
            let slots: Vec<Slot> =
                (0..total).map(|position| slot(position, total, interval, margin).unwrap()).collect();
            prop_assert!(slots.iter().all(|slot| slot.start < slot.end && slot.end <= interval));
            prop_assert!(slots.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
