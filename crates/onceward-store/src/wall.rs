//! Whether a wall clock can be believed before anything is forgotten by it (O14, N16).
//!
//! A wall clock may step; the boot clock of this host may not. When their difference changes by more than a minute,
//! nothing is forgotten until it has gone back or has stayed like that for an hour.

const SECOND: i64 = 1_000_000;
/// How far the wall clock may step before it is doubted.
pub(crate) const SLACK: i64 = 60 * SECOND;
/// How long another offset must last to be believed.
const DOUBT: i64 = 3_600 * SECOND;

/// How the wall clock stands to what is believed about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WallClock {
    /// As it should.
    Trusted,
    /// It jumped ahead: what seems to be over may not be.
    Ahead,
    /// It jumped back: what is over may seem not to be.
    Behind,
}

/// A difference between the clocks, and the boottime since when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) offset: i64,
    pub(crate) since: i64,
}

/// What is believed about the difference between a wall clock and the boot clock, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Believed {
    /// The difference.
    pub(crate) offset: i64,
    /// Another one that was seen since.
    pub(crate) doubted: Option<Offset>,
}

/// What follows from an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) clock: WallClock,
    /// What is to be believed from now on, if that has changed.
    pub(crate) changed: Option<Believed>,
}

/// Judges a wall clock that is read at a moment of the boot clock.
pub(crate) fn judge(known: Believed, wall: i64, boot: i64) -> Verdict {
    let offset = wall - boot;
    let near = |other: i64| (offset - other).abs() <= SLACK;
    let believed = Believed { offset, doubted: None };
    if near(known.offset) {
        // Small steps add up: what is believed follows them.
        let changed = known.doubted.is_some() || (offset - known.offset).abs() > SECOND;
        return Verdict { clock: WallClock::Trusted, changed: changed.then_some(believed) };
    }
    let clock = if offset > known.offset { WallClock::Ahead } else { WallClock::Behind };
    match known.doubted.filter(|doubted| near(doubted.offset)) {
        Some(doubted) if boot - doubted.since >= DOUBT => {
            Verdict { clock: WallClock::Trusted, changed: Some(believed) }
        }
        Some(_) => Verdict { clock, changed: None },
        None => {
            let doubted = Some(Offset { offset, since: boot });
            Verdict { clock, changed: Some(Believed { doubted, ..known }) }
        }
    }
}
