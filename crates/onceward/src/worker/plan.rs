//! From which lanes the next claim takes how many: queues by their weights, kinds by what they allow.

use std::collections::HashSet;

use onceward_core::{Kind, Queue};
use onceward_store::Want;

use super::claim::Taken;

/// A queue a worker takes jobs from.
#[derive(Clone, Debug)]
pub(super) struct QueueShare {
    pub(super) queue: Queue,
    /// Its part of the jobs, if queues were weighted.
    pub(super) weight: Option<u32>,
}

/// What a worker takes, and what its last claim has taught it.
#[derive(Clone)]
pub(super) struct Plan {
    queues: Vec<QueueShare>,
    kinds: Vec<Kind>,
    /// Kinds of which only as many are claimed as can start at once: at-most-once work.
    strict: HashSet<Kind>,
    /// Lanes of jobs with tags that this worker offers.
    tagged: Vec<(Queue, Kind, String)>,
    /// Lanes that gave less than they could have.
    dry: HashSet<(Queue, Kind, String)>,
}

impl Plan {
    pub(super) fn new(queues: Vec<QueueShare>, kinds: Vec<Kind>, strict: HashSet<Kind>) -> Self {
        Self { queues, kinds, strict, tagged: Vec::new(), dry: HashSet::new() }
    }

    pub(super) fn queues(&self) -> Vec<Queue> {
        self.queues.iter().map(|share| share.queue.clone()).collect()
    }

    /// The lanes with tags in which something is ready.
    pub(super) fn set_tagged(&mut self, lanes: impl IntoIterator<Item = Want>) {
        let known = |want: &Want| self.kinds.contains(&want.kind);
        self.tagged =
            lanes.into_iter().filter(known).map(|want| (want.queue, want.kind, want.route)).collect();
    }

    /// Where to take `room` jobs from, of which `free` can start at once. `draw` gives random numbers.
    pub(super) fn wants(&self, room: usize, free: usize, mut draw: impl FnMut() -> u64) -> Vec<Want> {
        let mut wants = Vec::new();
        let shares = self.shares(room, &mut draw);
        for (share, QueueShare { queue, weight }) in shares.into_iter().zip(&self.queues) {
            let lanes = self.lanes(queue);
            let lively = lanes.iter().filter(|lane| !self.dry.contains(*lane)).count().max(1);
            for lane in lanes {
                // With weights, the lanes of a queue divide its part among those that have something; the others are
                // looked into, so that they are found when that changes.
                let limit = match weight {
                    None => share,
                    Some(_) if self.dry.contains(&lane) => share.min(1),
                    Some(_) => share.div_ceil(lively),
                };
                let limit = if self.strict.contains(&lane.1) { limit.min(free) } else { limit };
                if limit > 0 {
                    let (queue, kind, route) = lane;
                    wants.push(Want { queue, kind, route, limit });
                }
            }
        }
        wants
    }

    /// Whether a claim of these looks into every lane that this worker takes jobs from, as far as it is known.
    pub(super) fn is_covered_by(&self, wants: &[Want]) -> bool {
        let is_in = |(queue, kind, route): (Queue, Kind, String)| {
            wants.iter().any(|want| want.queue == queue && want.kind == kind && want.route == route)
        };
        self.queues.iter().flat_map(|share| self.lanes(&share.queue)).all(is_in)
    }

    fn lanes(&self, queue: &Queue) -> Vec<(Queue, Kind, String)> {
        let plain = self.kinds.iter().map(|kind| (queue.clone(), kind.clone(), String::new()));
        plain.chain(self.tagged.iter().filter(|lane| lane.0 == *queue).cloned()).collect()
    }

    /// How many of `room` jobs each queue may give. Without weights each may give all: priority and age decide.
    fn shares(&self, room: usize, draw: &mut impl FnMut() -> u64) -> Vec<usize> {
        let weights: Vec<u64> = self.queues.iter().map(|share| share.weight.unwrap_or(0).into()).collect();
        let total: u64 = weights.iter().sum();
        if total == 0 {
            return vec![room; weights.len()];
        }
        let mut shares = vec![0; weights.len()];
        for _ in 0..room {
            let mut at = draw() % total;
            for (share, weight) in shares.iter_mut().zip(&weights) {
                if at < *weight {
                    *share += 1;
                    break;
                }
                at -= weight;
            }
        }
        shares
    }

    /// Learns from a claim; says whether there may be more where it came from.
    pub(super) fn learn(&mut self, wants: &[Want], taken: &Taken, asked: usize) -> bool {
        let all = taken.jobs >= asked;
        let mut more = all;
        for (want, count) in wants.iter().zip(taken.of_lane.iter().copied().chain(core::iter::repeat(0))) {
            let lane = (want.queue.clone(), want.kind.clone(), want.route.clone());
            if count >= want.limit {
                more = true;
                self.dry.remove(&lane);
            } else if !all {
                self.dry.insert(lane);
            }
        }
        self.strict.extend(taken.at_most_once.iter().cloned());
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(weights: &[Option<u32>], kinds: &[&str]) -> Plan {
        let queues = weights
            .iter()
            .zip(["a", "b", "c"])
            .map(|(weight, name)| QueueShare { queue: Queue::from_row(name), weight: *weight });
        let kinds = kinds.iter().map(|kind| Kind::from_row(*kind)).collect();
        Plan::new(queues.collect(), kinds, HashSet::from([Kind::from_row("strict")]))
    }

    fn draws() -> impl FnMut() -> u64 {
        let mut seed = 7;
        move || {
            seed += 1;
            onceward_core::backoff::mix(seed)
        }
    }

    #[test]
    fn without_weights_every_lane_may_give_all() {
        let wants = plan(&[None, None], &["x", "strict"]).wants(10, 3, draws());
        let limits: Vec<_> = wants.iter().map(|want| (want.queue.as_str(), want.limit)).collect();
        assert_eq!(limits, [("a", 10), ("a", 3), ("b", 10), ("b", 3)]);
        assert_eq!(plan(&[None], &["strict"]).wants(10, 0, draws()), []);
    }

    #[test]
    fn with_weights_the_room_is_divided() {
        let wants = plan(&[Some(9), Some(1)], &["x"]).wants(1000, 1000, draws());
        let limits: Vec<_> = wants.iter().map(|want| want.limit).collect();
        assert_eq!(limits.iter().sum::<usize>(), 1000);
        assert!(limits[1] > 60 && limits[1] < 140, "{limits:?}");
    }

    #[test]
    fn a_dry_lane_leaves_its_part_to_the_other_kinds_of_its_queue() {
        let mut plan = plan(&[Some(1)], &["x", "y"]);
        let wants = plan.wants(10, 10, draws());
        assert_eq!(wants.iter().map(|want| want.limit).collect::<Vec<_>>(), [5, 5]);
        assert!(!plan.learn(&wants, &Taken::default(), 10), "nothing was there");
        plan.dry.remove(&(Queue::from_row("a"), Kind::from_row("x"), String::new()));
        let wants = plan.wants(10, 10, draws());
        assert_eq!(wants.iter().map(|want| want.limit).collect::<Vec<_>>(), [10, 1]);
    }
}
