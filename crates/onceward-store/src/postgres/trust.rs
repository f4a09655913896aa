//! Whether the server's clock can be believed before anything is forgotten by it (O14, N16): each answer tells its
//! time, and this host's boot clock tells how much time has passed since an earlier one.

use std::sync::{Mutex, PoisonError};

use onceward_core::Timestamp;

use crate::wall::{self, Believed, WallClock};

/// What this process believes about the server's clock.
#[derive(Debug, Default)]
pub(super) struct Trust(Mutex<Option<Believed>>);

impl Trust {
    /// Compares the server's time with the boot clock's.
    pub(super) fn observe(&self, server: Timestamp, boot: Timestamp) -> WallClock {
        let (wall, boot) = (server.as_micros(), boot.as_micros());
        let mut believed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = *believed else {
            *believed = Some(Believed { offset: wall - boot, doubted: None });
            return WallClock::Trusted;
        };
        let verdict = wall::judge(known, wall, boot);
        *believed = verdict.changed.or(Some(known));
        verdict.clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N16: thirty days ahead for ten seconds, and back.
    #[test]
    fn n16_a_server_whose_clock_jumps_is_doubted_until_it_is_back() {
        const DAY: i64 = 86_400_000_000;
        let at = Timestamp::from_micros;
        let trust = Trust::default();
        assert_eq!(trust.observe(at(100 * DAY), at(0)), WallClock::Trusted);
        assert_eq!(trust.observe(at(101 * DAY), at(DAY)), WallClock::Trusted);
        assert_eq!(trust.observe(at(131 * DAY), at(DAY)), WallClock::Ahead);
        assert_eq!(trust.observe(at(131 * DAY + 10_000_000), at(DAY + 10_000_000)), WallClock::Ahead);
        assert_eq!(trust.observe(at(101 * DAY + 20_000_000), at(DAY + 20_000_000)), WallClock::Trusted);
        assert_eq!(trust.observe(at(91 * DAY), at(DAY + 30_000_000)), WallClock::Behind);
    }
}
