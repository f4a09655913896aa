//! Where the lanes begin, past what was taken from them: hints.
//!
//! What was claimed lies dead at the beginning of its lane until it is cleared away, which an old snapshot of
//! somebody's can hold up for hours. Where finding the first jobs has become slow, the next claims begin where the
//! last one ended. They would pass over jobs that have come before that place since, so it is looked from the very
//! beginning again soon: the longer that takes, the later, but within a second.

use core::time::Duration;
use std::collections::HashMap;

use onceward_core::{JobId, Kind, Namespace, Queue, Timestamp};
use tokio::time::Instant;

/// How long finding may take before it counts as slow, and how much longer for each job. Only the second slow look in a
/// row counts: one may have waited for the processor.
const QUICK: Duration = Duration::from_millis(10);
const QUICK_PER_JOB: Duration = Duration::from_micros(20);
/// How much longer than a slow look lasts, the next claims do without one; and for how long at most.
const PAUSE: u32 = 10;
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// From when on looking from the very beginning is put off even where there is nothing else to do.
const SLOW: Duration = Duration::from_millis(100);
/// How many lanes are known at once.
const LANES_MAX: usize = 4096;

/// A lane of jobs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) namespace: Namespace,
    pub(super) queue: Queue,
    pub(super) kind: Kind,
    pub(super) route: String,
    pub(super) alone: bool,
}

/// A place in a lane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Edge {
    pub(super) rank: i16,
    pub(super) run_at: Timestamp,
    pub(super) id: JobId,
}

impl Edge {
    /// Before everything.
    pub(super) const START: Self = Self {
        rank: i16::MIN,
        // The year 0: both ends of what a timestamptz may be are farther away.
        run_at: Timestamp::from_micros(-62_000_000_000_000_000),
        id: JobId::from_uuid(uuid::Uuid::nil()),
    };
}

/// What is known of a lane that was slow to begin.
struct Slow {
    edge: Edge,
    /// Until when claims begin there.
    until: Instant,
    /// How long looking from the very beginning took the last time.
    took: Duration,
}

/// Lanes that are slow to begin.
#[derive(Default)]
pub(super) struct Edges {
    lanes: HashMap<Lane, Slow>,
    /// Whether nothing is ever slow.
    never: bool,
}

impl Edges {
    /// For a store whose clock a test moves: what such a claim finds must not hang on how long it took.
    pub(super) fn never() -> Self {
        Self { never: true, ..Self::default() }
    }

    /// Where to begin with a lane.
    pub(super) fn of(&self, lane: &Lane) -> Edge {
        if self.lanes.is_empty() {
            return Edge::START;
        }
        let known = self.lanes.get(lane).filter(|slow| slow.until > Instant::now());
        known.map_or(Edge::START, |slow| slow.edge)
    }

    /// Whether to look from the very beginning once more, after nothing was found from an edge on: where that takes a
    /// moment only, nobody shall wait for it.
    pub(super) fn looks_again(&mut self, lane: &Lane) -> bool {
        match self.lanes.get_mut(lane) {
            Some(slow) if slow.took >= SLOW => false,
            Some(slow) => {
                slow.until = Instant::now();
                true
            }
            None => true,
        }
    }

    /// Notes what was found from a place on: up to where jobs were taken from the lane, if there were any, how many,
    /// and how long finding them took.
    pub(super) fn note(&mut self, lane: Lane, from: Edge, last: Option<Edge>, jobs: usize, took: Duration) {
        if self.never {
            return;
        }
        let quick = QUICK + QUICK_PER_JOB * u32::try_from(jobs).unwrap_or(u32::MAX);
        let has_room = self.lanes.len() < LANES_MAX;
        match self.lanes.get_mut(&lane) {
            Some(slow) if from != Edge::START => {
                slow.edge = last.map_or(slow.edge, |last| last.max(slow.edge))
            }
            _ if took <= quick => drop(self.lanes.remove(&lane)),
            Some(slow) => {
                // More may lie between here and where it was known to begin.
                slow.edge = last.unwrap_or(slow.edge);
                (slow.until, slow.took) = (Instant::now() + (took * PAUSE).min(PAUSE_MAX), took);
            }
            None if has_room => {
                let slow = Slow { edge: last.unwrap_or(Edge::START), until: Instant::now(), took };
                self.lanes.insert(lane, slow);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_slow_lane_has_an_edge_and_not_for_long() {
        let lane = Lane {
            namespace: Namespace::default(),
            queue: Queue::default(),
            kind: Kind::from_row("mail"),
            route: String::new(),
            alone: false,
        };
        let edge = |rank| Edge { rank, ..Edge::START };
        let millis = Duration::from_millis;
        let mut edges = Edges::default();
        edges.note(lane.clone(), Edge::START, Some(edge(1)), 10, millis(4));
        edges.note(lane.clone(), Edge::START, Some(edge(1)), 10, millis(40));
        assert_eq!(edges.of(&lane), Edge::START, "once is not enough");
        edges.note(lane.clone(), Edge::START, Some(edge(1)), 10, millis(40));
        edges.note(lane.clone(), edge(1), Some(edge(3)), 10, millis(1));
        edges.note(lane.clone(), edge(3), None, 0, millis(1));
        assert_eq!(edges.of(&lane), edge(3));
        tokio::time::advance(millis(401)).await;
        assert_eq!(edges.of(&lane), Edge::START, "somebody looks from the beginning again");
        edges.note(lane.clone(), Edge::START, None, 0, Duration::from_secs(9));
        assert_eq!(edges.of(&lane), edge(3), "there was nothing, and that took long");
        assert!(!edges.looks_again(&lane));
        tokio::time::advance(millis(1_001)).await;
        edges.note(lane.clone(), Edge::START, Some(edge(2)), 10, millis(40));
        assert_eq!(edges.of(&lane), edge(2), "what came late may be more than was taken");
        assert!(edges.looks_again(&lane) && edges.of(&lane) == Edge::START);
        edges.note(lane.clone(), Edge::START, None, 0, millis(1));
        assert_eq!(edges.of(&lane), Edge::START, "it was cleared away");
        let mut edges = Edges::never();
        edges.note(lane.clone(), Edge::START, Some(edge(1)), 10, millis(40));
        edges.note(lane.clone(), Edge::START, Some(edge(1)), 10, millis(40));
        assert_eq!(edges.of(&lane), Edge::START, "the clock is a test's");
    }
}
