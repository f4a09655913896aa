//! Where the lanes begin, past what was taken from them: hints.
//!
//! What was claimed lies dead at the beginning of its lane until it is cleared away, which an old snapshot of somebody's
//! can hold up for hours. Where finding the first jobs has become slow, the next claims begin where the last one ended.
//! They would pass over jobs that have come before that place since, so it is looked from the very beginning again soon:
//! the longer that takes, the later, but within a second.

use core::time::Duration;
use std::collections::HashMap;

use onceward_core::{JobId, Kind, Namespace, Queue, Timestamp};
use tokio::time::Instant;

/// How long finding may take before it counts as slow, and how much longer for each job.
const QUICK: Duration = Duration::from_millis(5);
const QUICK_PER_JOB: Duration = Duration::from_micros(20);
/// How much longer than a slow look lasts, the next claims do without one; and for how long at most.
const PAUSE: u32 = 10;
const PAUSE_MAX: Duration = Duration::from_secs(1);
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

/// Lanes that are slow to begin.
#[derive(Default)]
pub(super) struct Edges {
    lanes: HashMap<Lane, (Edge, Instant)>,
}

impl Edges {
    /// Where to begin with a lane.
    pub(super) fn of(&mut self, lane: &Lane) -> Edge {
        if self.lanes.is_empty() {
            return Edge::START;
        }
        match self.lanes.get(lane) {
            Some((edge, until)) if *until > Instant::now() => *edge,
            Some(_) => {
                self.lanes.remove(lane);
                Edge::START
            }
            None => Edge::START,
        }
    }

    /// Begins with the very beginning the next time.
    pub(super) fn forget(&mut self, lane: &Lane) {
        self.lanes.remove(lane);
    }

    /// Notes what a claim has found: up to where it took jobs from the lane, how many in all, and how long finding them
    /// took, from the very beginning or from the edge.
    pub(super) fn note(&mut self, lane: Lane, last: Edge, jobs: usize, took: Duration) {
        if let Some((edge, _)) = self.lanes.get_mut(&lane) {
            *edge = last.max(*edge);
            return;
        }
        let quick = QUICK + QUICK_PER_JOB * u32::try_from(jobs).unwrap_or(u32::MAX);
        if took > quick && self.lanes.len() < LANES_MAX {
            let until = Instant::now() + (took * PAUSE).min(PAUSE_MAX);
            self.lanes.insert(lane, (last, until));
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
        let mut edges = Edges::default();
        edges.note(lane.clone(), edge(1), 10, Duration::from_millis(4));
        assert_eq!(edges.of(&lane), Edge::START);
        edges.note(lane.clone(), edge(1), 10, Duration::from_millis(40));
        edges.note(lane.clone(), edge(3), 10, Duration::from_millis(1));
        assert_eq!(edges.of(&lane), edge(3));
        tokio::time::advance(Duration::from_millis(401)).await;
        assert_eq!(edges.of(&lane), Edge::START);
        edges.note(lane.clone(), edge(4), 10, Duration::from_secs(9));
        tokio::time::advance(Duration::from_millis(1_001)).await;
        assert_eq!(edges.of(&lane), Edge::START);
    }
}
