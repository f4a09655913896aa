//! Whether the clocks can be believed: between processes (N52), and the wall clock before anything is
//! forgotten (O14).
//!
//! The difference between the wall clock and the boot clock is kept in the file; `crate::wall` judges it.

use std::time::Instant;

use core::time::Duration;
use onceward_core::{Code, Error, Result};
use rusqlite::{Connection, OptionalExtension, params};

use super::clocks::Now;
use super::statements::SQL;
use super::{failure, transaction};
pub(crate) use crate::wall::WallClock;
use crate::wall::{self, Believed, Offset, Verdict};

const SECOND: i64 = 1_000_000;
/// How far the boot clock of another process may be ahead. Two of them read the same clock.
const BOOT_SLACK: i64 = 5 * SECOND;
/// The clocks of the last opener are written again when they are that old.
const FRESH: i64 = SECOND;
/// How long opening waits for the write lock to do so: it is not worth more.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the file knows about clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) boot_id: String,
    pub(crate) boottime: i64,
    pub(crate) wall: i64,
    offset: i64,
    doubted: Option<Offset>,
}

/// Reads what the file knows.
pub(crate) fn meta(connection: &Connection) -> rusqlite::Result<Option<Meta>> {
    let row = connection.prepare_cached(SQL.meta)?.query_row([], |row| {
        let doubted = row.get::<_, Option<i64>>(4)?.zip(row.get(5)?);
        Ok(Meta {
            boot_id: row.get(0)?,
            boottime: row.get(1)?,
            wall: row.get(2)?,
            offset: row.get(3)?,
            doubted: doubted.map(|(offset, since)| Offset { offset, since }),
        })
    });
    row.optional()
}

/// Compares this process's boot clock with the last opener's, and leaves it for the next.
pub(crate) fn opened(connection: &Connection, now: &Now) -> Result<()> {
    let known = meta(connection).map_err(failure::failed)?;
    let known = known.filter(|known| *known.boot_id == *now.boot_id);
    if let Some(known) = &known {
        check_boot_clock(known, now)?;
        if now.boot - known.boottime < FRESH {
            return Ok(());
        }
    }
    let write = || {
        let clocks = params![now.boot_id, now.boot, now.wall.as_micros()];
        connection.execute(SQL.meta_opened, clocks).map_err(failure::failed)
    };
    match transaction::locked(connection, Instant::now() + PATIENCE, write) {
        Err(error) if error.code() == Code::StoreBusy => Ok(()), // the next opener will
        written => written.map(|_| ()),
    }
}

/// N52: two processes on one host read one boot clock. If it seems to run backwards, they live in different
/// time namespaces, and each would take the other's claims for longer or shorter than they are.
fn check_boot_clock(known: &Meta, now: &Now) -> Result<()> {
    let behind = known.boottime - now.boot;
    if behind <= BOOT_SLACK {
        return Ok(());
    }
    let seconds = behind / SECOND;
    let why =
        format!("this process's boot clock is {seconds} s behind that of the last one that opened the file");
    Err(Error::new(Code::ClockInconsistent, why))
}

/// Whether the wall clock may decide that something is to be forgotten; wants the write lock.
pub(crate) fn wall_clock(connection: &Connection, now: &Now) -> rusqlite::Result<WallClock> {
    let known = meta(connection)?.filter(|known| *known.boot_id == *now.boot_id);
    let Some(known) = known else {
        connection.execute(SQL.meta_opened, params![now.boot_id, now.boot, now.wall.as_micros()])?;
        return Ok(WallClock::Trusted);
    };
    let verdict = judge(&known, now);
    if let Some(Believed { offset, doubted }) = verdict.changed {
        let doubted = (doubted.map(|it| it.offset), doubted.map(|it| it.since));
        connection.execute(SQL.meta_doubt, params![offset, doubted.0, doubted.1])?;
    }
    Ok(verdict.clock)
}

/// Whether the wall clock was in doubt when somebody last wanted to forget something.
pub(crate) fn is_doubted(known: &Meta, now: &Now) -> bool {
    *known.boot_id == *now.boot_id && judge(known, now).clock != WallClock::Trusted
}

fn judge(known: &Meta, now: &Now) -> Verdict {
    wall::judge(Believed { offset: known.offset, doubted: known.doubted }, now.wall.as_micros(), now.boot)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::clocks::Clocks;
    use super::*;
    use crate::clock::ManualClock;

    fn start() -> (ManualClock, Clocks, Meta) {
        let clock = ManualClock::default();
        let clocks = Clocks::new(Arc::new(clock.clone()));
        let now = clocks.now();
        let wall = now.wall.as_micros();
        let boot_id = now.boot_id.to_string();
        let meta = Meta { boot_id, boottime: now.boot, wall, offset: wall - now.boot, doubted: None };
        (clock, clocks, meta)
    }

    #[test]
    fn n52_a_boot_clock_that_runs_backwards_is_refused() {
        let (_, clocks, meta) = start();
        let ahead = |by| Meta { boottime: meta.boottime + by, ..meta.clone() };
        assert!(check_boot_clock(&ahead(BOOT_SLACK), &clocks.now()).is_ok());
        let error = check_boot_clock(&ahead(BOOT_SLACK + 1), &clocks.now()).unwrap_err();
        assert_eq!(error.code(), Code::ClockInconsistent);
    }

    /// O14, N16: a wall clock that jumped is not believed, until it is back or has stayed for an hour.
    #[test]
    fn o14_a_wall_clock_that_jumped_is_doubted() {
        let (clock, clocks, mut meta) = start();
        let trusted = Verdict { clock: WallClock::Trusted, changed: None };
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(judge(&meta, &clocks.now()), trusted);
        clock.step_wall(30 * 86_400 * SECOND);
        let verdict = judge(&meta, &clocks.now());
        assert_eq!(verdict.clock, WallClock::Ahead);
        meta.doubted = verdict.changed.unwrap().doubted;
        clock.advance(Duration::from_secs(10));
        let still = Verdict { clock: WallClock::Ahead, changed: None };
        assert_eq!(judge(&meta, &clocks.now()), still, "still in doubt");
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(judge(&meta, &clocks.now()).clock, WallClock::Trusted, "it has lasted");
        clock.step_wall(-30 * 86_400 * SECOND);
        let back = Verdict {
            clock: WallClock::Trusted,
            changed: Some(Believed { offset: meta.offset, doubted: None }),
        };
        assert_eq!(judge(&meta, &clocks.now()), back, "it is back");
        clock.step_wall(-wall::SLACK - 1);
        assert_eq!(judge(&meta, &clocks.now()).clock, WallClock::Behind);
    }
}
