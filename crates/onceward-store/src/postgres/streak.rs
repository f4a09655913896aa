//! Which statements a batch is sent with: what was met lately tells what to expect.
//!
//! A first call needs an insert and nothing else, and looking for a row that is not there costs as much again. So once
//! enough keys in a row were new ones, the next batch is sent without looking; whatever that leaves open is looked at
//! after all. A batch that does not look waits for whoever is changing the row of one of its keys, as every insert of a
//! key does that somebody else is inserting: for the lock timeout, and then it is sent as a batch that looks. In the
//! same way leases are taken where all lately had been given back, and given back where all lay as they were written.

use core::iter::{once, repeat_n};
use core::sync::atomic::{AtomicUsize, Ordering};

use super::batch::Way;
use super::lease::ROUNDS;

/// How many rows in a row must have been what nearly always happens before a batch goes the short way; after each batch
/// for which that was wrong twice as many, up to a limit.
const STREAK: usize = 64;
const STREAK_MAX: usize = 8192;

/// How many rows in a row were what nearly always happens, and how many are wanted.
pub(super) struct Streak {
    rows: AtomicUsize,
    wanted: AtomicUsize,
}

impl Default for Streak {
    fn default() -> Self {
        Self { rows: AtomicUsize::new(0), wanted: AtomicUsize::new(STREAK) }
    }
}

impl Streak {
    /// The statements to send until all of a batch is answered, and how many long ones went before.
    pub(super) fn ways(&self) -> impl Iterator<Item = (Way, usize)> + use<> {
        let long = self.rows.load(Ordering::Relaxed) >= self.wanted.load(Ordering::Relaxed);
        let looking = once(Way::New).chain(repeat_n(Way::Any, ROUNDS)).zip(0..);
        long.then_some((Way::Short, 0)).into_iter().chain(looking)
    }

    /// Notes of how many rows of a batch it was so. It is a guess of what comes next: two batches that count at the
    /// same time may lose one of their counts.
    pub(super) fn note(&self, way: Way, rows: usize, so: usize) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        match (way, so < rows) {
            (Way::Short, true) => {
                self.rows.store(0, Ordering::Relaxed);
                self.wanted.store((wanted * 2).min(STREAK_MAX), Ordering::Relaxed);
            }
            (Way::Short, false) => self.wanted.store(STREAK, Ordering::Relaxed),
            (Way::New, true) => self.rows.store(0, Ordering::Relaxed),
            (Way::New, false) => {
                let before = self.rows.load(Ordering::Relaxed);
                self.rows.store(before.saturating_add(rows), Ordering::Relaxed);
            }
            (Way::Any, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(streak: &Streak) -> Way {
        streak.ways().next().unwrap().0
    }

    #[test]
    fn the_short_way_is_gone_after_enough_rows_for_which_it_would_have_done() {
        let streak = Streak::default();
        assert_eq!(first(&streak), Way::New);
        streak.note(Way::New, STREAK - 1, STREAK - 1);
        assert_eq!(first(&streak), Way::New);
        streak.note(Way::New, 1, 1);
        assert_eq!(first(&streak), Way::Short);
        streak.note(Way::Short, 100, 99);
        assert_eq!(first(&streak), Way::New);
        streak.note(Way::New, STREAK, STREAK);
        assert_eq!(first(&streak), Way::New, "after a disappointment more of them are wanted");
        streak.note(Way::New, STREAK, STREAK);
        assert_eq!(first(&streak), Way::Short);
        streak.note(Way::Short, 7, 7);
        streak.note(Way::New, 2, 1);
        streak.note(Way::New, STREAK, STREAK);
        assert_eq!(first(&streak), Way::Short, "it was right in between");
    }

    #[test]
    fn what_one_statement_leaves_open_is_asked_again_a_bounded_number_of_times() {
        let streak = Streak::default();
        let looking: Vec<_> = streak.ways().collect();
        assert_eq!(looking.first(), Some(&(Way::New, 0)));
        assert!(looking.iter().skip(1).all(|(way, _)| *way == Way::Any));
        assert_eq!(looking.last(), Some(&(Way::Any, ROUNDS)));
        streak.note(Way::New, STREAK, STREAK);
        let short: Vec<_> = streak.ways().collect();
        assert_eq!(short.split_first(), Some((&(Way::Short, 0), looking.as_slice())));
    }
}
