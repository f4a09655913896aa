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
    pub(super) fn of(&self, lane: &Lane) -> Edge {
        if self.lanes.is_empty() {
            return Edge::START;
        }
        let known = self.lanes.get(lane).filter(|(_, until)| *until > Instant::now());
        known.map_or(Edge::START, |(edge, _)| *edge)
    }

    /// Notes what was found from a place on: up to where jobs were taken from the lane, if there were any, how many, and
    /// how long finding them took.
    pub(super) fn note(&mut self, lane: Lane, from: Edge, last: Option<Edge>, jobs: usize, took: Duration) {
        let known = self.lanes.get(&lane).map(|(edge, _)| *edge);
        let quick = QUICK + QUICK_PER_JOB * u32::try_from(jobs).unwrap_or(u32::MAX);
        if from != Edge::START {
            if let (Some(last), Some((edge, _))) = (last, self.lanes.get_mut(&lane)) {
                *edge = last.max(*edge);
            }
        } else if took <= quick {
            self.lanes.remove(&lane);
        } else if let Some(edge) = last.or(known)
            && (known.is_some() || self.lanes.len() < LANES_MAX)
        {
            // More may lie between here and where it was known to begin.
            self.lanes.insert(lane, (edge, Instant::now() + (took * PAUSE).min(PAUSE_MAX)));
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
        assert_eq!(edges.of(&lane), Edge::START, "it was quick");
        edges.note(lane.clone(), Edge::START, Some(edge(1)), 10, millis(40));
        edges.note(lane.clone(), edge(1), Some(edge(3)), 10, millis(1));
        edges.note(lane.clone(), edge(3), None, 0, millis(1));
        assert_eq!(edges.of(&lane), edge(3));
        tokio::time::advance(millis(401)).await;
        assert_eq!(edges.of(&lane), Edge::START, "somebody looks from the beginning again");
        edges.note(lane.clone(), Edge::START, None, 0, Duration::from_secs(9));
        assert_eq!(edges.of(&lane), edge(3), "there was nothing, and that took long");
        tokio::time::advance(millis(1_001)).await;
        assert_eq!(edges.of(&lane), Edge::START);
        edges.note(lane.clone(), Edge::START, Some(edge(2)), 10, millis(40));
        assert_eq!(edges.of(&lane), edge(2), "what came late may be more than was taken");
        edges.note(lane.clone(), Edge::START, None, 0, millis(1));
        assert_eq!(edges.of(&lane), Edge::START, "it was cleared away");
    }
}
