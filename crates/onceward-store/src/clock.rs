//! The clocks of a process: one that only ever runs forward, one that says what time it is.

use core::time::Duration;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use onceward_core::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Where a process reads the time.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the host started, sleep included (`CLOCK_BOOTTIME`). Deadlines are measured on it: a
    /// suspended machine must not believe that its lease is young (G10).
    fn boottime(&self) -> Timestamp;
    /// The wall clock: for people, for tokens, and for what must outlive a restart of the host.
    fn wall(&self) -> Timestamp;
    /// Which start of which host [`boottime`](Self::boottime) counts from.
    fn boot_id(&self) -> &str;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boottime(&self) -> Timestamp {
        let time = clock_gettime(ClockId::Boottime);
        Timestamp::from_micros(time.tv_sec * 1_000_000 + time.tv_nsec / 1_000)
    }

    fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn boot_id(&self) -> &str {
        static BOOT_ID: OnceLock<String> = OnceLock::new();
        BOOT_ID.get_or_init(|| {
            let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            read.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        })
    }
}

/// A clock that stands still until told otherwise: for tests. Clones share the time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    boottime: Arc<AtomicI64>,
    wall: Arc<AtomicI64>,
}

impl Default for ManualClock {
    fn default() -> Self {
        let at = |micros| Arc::new(AtomicI64::new(micros));
        Self { boottime: at(1_000_000_000), wall: at(1_800_000_000_000_000) }
    }
}

impl ManualClock {
    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.boottime.fetch_add(micros, Ordering::SeqCst);
        self.wall.fetch_add(micros, Ordering::SeqCst);
    }

    /// Steps the wall clock, as an operator or NTP does; the boot clock goes on.
    pub fn step_wall(&self, micros: i64) {
        self.wall.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn boottime(&self) -> Timestamp {
        Timestamp::from_micros(self.boottime.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Ordering::SeqCst))
    }

    fn boot_id(&self) -> &str {
        "manual"
    }
}

/// The clocks of the operating system, with a wall clock that can be sent ahead: for tests of what takes long. Clones
/// share the time.
///
/// The boot clock goes on as it does: whoever measures how long he may trust something is not surprised.
#[derive(Clone, Debug, Default)]
pub struct LeapingClock {
    ahead: Arc<AtomicI64>,
}

impl LeapingClock {
    /// Sends the wall clock ahead.
    pub fn leap(&self, by: Duration) {
        self.ahead.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for LeapingClock {
    fn boottime(&self) -> Timestamp {
        SystemClock.boottime()
    }

    fn wall(&self) -> Timestamp {
        let ahead = u64::try_from(self.ahead.load(Ordering::SeqCst)).unwrap_or_default();
        SystemClock.wall().after(Duration::from_micros(ahead))
    }

    fn boot_id(&self) -> &str {
        SystemClock.boot_id()
    }
}
