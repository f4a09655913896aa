//! How many jobs of one ordering key run at the same time: what its queues are set to, and who of a line may go.
//!
//! A job that was let through under its key keeps its seat until it has ended, also while it waits for a retry. A key
//! belongs to its namespace and may stand in several queues: then the strictest of those counts that have a job in a
//! seat or first in line. So a queue that says nothing keeps its promise, that none of its jobs runs beside another of
//! its key, whatever other queues allow.

use crate::{Code, Error, Result};

/// How many jobs of an ordering key run at the same time in a queue that was not set to more.
pub const KEY_CONCURRENCY: u32 = 1;
/// The most that a queue may be set to.
pub const KEY_CONCURRENCY_MAX: u32 = 1_000;

/// Refuses what no queue can be set to.
///
/// # Errors
/// [`Code::LimitInvalid`].
pub fn check_key_concurrency(most: u32) -> Result<()> {
    if (1..=KEY_CONCURRENCY_MAX).contains(&most) {
        return Ok(());
    }
    let why = format!(
        "between 1 and {KEY_CONCURRENCY_MAX} jobs of one ordering key run at the same time, {most} was asked for"
    );
    Err(Error::new(Code::LimitInvalid, why))
}

/// Whether the first job of a line may be let through: `seated` is what the queues of those that were let through are
/// set to, one for each of them, and `next` what its own queue is set to. If it may not, nobody behind it may (J10).
pub fn may_pass(seated: impl IntoIterator<Item = u32>, next: u32) -> bool {
    let (mut taken, mut most) = (0, next);
    for seat in seated {
        (taken, most) = (taken + 1, most.min(seat));
    }
    taken < most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j10_as_many_are_let_through_as_the_strictest_queue_allows() {
        for (seated, next, passes) in [
            (&[][..], 1, true),
            (&[1], 1, false),
            (&[3], 3, true),
            (&[3, 3], 3, true),
            (&[3, 3, 3], 3, false),
            // It would run beside another, which its own queue does not allow; or the other one's does not.
            (&[3], 1, false),
            (&[1], 3, false),
            (&[3, 2], 3, false),
            (&[5, 5], 3, true),
            // The setting was lowered while they ran.
            (&[2, 2, 2, 2], 2, false),
        ] {
            assert_eq!(may_pass(seated.iter().copied(), next), passes, "{next} beside {seated:?}");
        }
    }

    #[test]
    fn only_some_numbers_can_be_set() {
        for most in [1, 2, KEY_CONCURRENCY_MAX] {
            assert!(check_key_concurrency(most).is_ok());
        }
        for most in [0, KEY_CONCURRENCY_MAX + 1, u32::MAX] {
            assert_eq!(check_key_concurrency(most).unwrap_err().code(), Code::LimitInvalid);
        }
    }
}
