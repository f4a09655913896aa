//! Random lives of the workers of a limited queue, and what must hold in all of them.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::job::limit::Rate;

/// A queue and its workers: what a store does, without one.
struct Queue {
    standing: Standing,
    running: Vec<u32>,
    /// When jobs were started.
    starts: Vec<Timestamp>,
}

fn session(at: usize) -> SessionId {
    SessionId::from_uuid(Uuid::from_u128(at as u128 + 1))
}

impl Queue {
    fn new(limits: Limits, workers: usize, running: Vec<u32>) -> Self {
        let now = Timestamp::from_micros(10_000_000);
        let standing = Standing {
            limits,
            setting: 1,
            limits_at: now,
            bucket: Bucket::new(now),
            permits: Vec::new(),
            strays: 0,
            running: 0,
            now,
            settles: Duration::ZERO,
        };
        assert_eq!(running.len(), workers);
        Self { standing, running, starts: Vec::new() }
    }

    fn pass(&mut self, millis: u64) {
        self.standing.now = self.standing.now.after(Duration::from_millis(millis));
    }

    fn permit(&self, worker: usize) -> Option<&Permit> {
        let counts = |permit: &&Permit| permit.setting == self.standing.setting;
        self.standing.permits.iter().find(|permit| permit.session == session(worker)).filter(counts)
    }

    fn ask(&mut self, worker: usize, wanted: u32, starts: u32) {
        let strays =
            (0..self.running.len()).filter(|other| *other != worker && self.permit(*other).is_none());
        self.standing.strays = strays.map(|other| self.running[other]).sum();
        self.standing.running = self.running[worker];
        let granted = grant(&self.standing, &Wish { session: session(worker), wanted, starts });
        self.standing.permits.retain(|permit| permit.session != session(worker));
        self.standing.permits.push(granted.permit);
        self.standing.bucket = granted.bucket;
        assert!(granted.again_in <= Duration::from_secs(1));
    }

    fn claim(&mut self, worker: usize, wanted: u32) -> u32 {
        let (limits, running, now) = (self.standing.limits, self.running[worker], self.standing.now);
        let Some(permit) = self.permit(worker).copied() else { return 0 };
        let taken = permit.allows(&limits, running, now).min(wanted);
        self.running[worker] += taken;
        self.starts.extend((0..taken).map(|_| now));
        if limits.rate.is_some() {
            let mine = self.standing.permits.iter_mut().find(|permit| permit.session == session(worker));
            mine.unwrap().starts -= taken;
        }
        taken
    }

    fn end(&mut self, worker: usize, jobs: u32) {
        self.running[worker] = self.running[worker].saturating_sub(jobs);
    }

    /// Its session has run out and was rescued.
    fn lose(&mut self, worker: usize) {
        self.running[worker] = 0;
        self.standing.permits.retain(|permit| permit.session != session(worker));
    }

    fn all_run(&self) -> u32 {
        self.running.iter().sum()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Ask(usize, u32),
    Claim(usize, u32),
    End(usize, u32),
    Lose(usize),
    Limit(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..900).prop_map(Step::Pass),
        5 => (0_usize..4, 0_u32..12).prop_map(|(worker, wanted)| Step::Ask(worker, wanted)),
        5 => (0_usize..4, 1_u32..12).prop_map(|(worker, jobs)| Step::Claim(worker, jobs)),
        4 => (0_usize..4, 1_u32..12).prop_map(|(worker, jobs)| Step::End(worker, jobs)),
        1 => (0_usize..4).prop_map(Step::Lose),
        1 => (1_u32..12).prop_map(Step::Limit),
    ]
}

proptest! {
    /// J11: whatever happens in which order, no more run than the limit allows, or than ran when it was lowered.
    #[test]
    fn j11_no_more_run_than_the_limit_allows(
        limit in 1_u32..12,
        before in prop::collection::vec(0_u32..4, 4),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let limits = Limits { concurrency: Some(limit), ..Limits::default() };
        let mut queue = Queue::new(limits, 4, before);
        let mut most = queue.all_run().max(limit);
        for step in steps {
            match step {
                Step::Pass(millis) => queue.pass(millis),
                Step::Ask(worker, wanted) => queue.ask(worker, wanted, 0),
                Step::Claim(worker, jobs) => drop(queue.claim(worker, jobs)),
                Step::End(worker, jobs) => queue.end(worker, jobs),
                Step::Lose(worker) => queue.lose(worker),
                Step::Limit(limit) => {
                    queue.standing.limits.concurrency = Some(limit);
                    queue.standing.setting += 1;
                    most = queue.all_run().max(limit);
                }
            }
            let limit = queue.standing.limits.concurrency.unwrap();
            prop_assert!(queue.all_run() <= most, "{} of {limit}", queue.all_run());
            // What ran before ends; nothing takes its place.
            most = queue.all_run().max(limit).min(most);
        }
    }

    /// J11: in no window of the rate's time more start than the rate and the burst allow, whoever loses his chunk.
    #[test]
    fn j11_starts_stay_within_the_rate(
        count in 1_u32..80,
        burst in prop::option::of(1_u32..80),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let rate = Rate::new(count, Duration::from_secs(1)).unwrap();
        let mut queue = Queue::new(Limits { concurrency: None, rate: Some(rate), burst }, 4, vec![0; 4]);
        for step in steps {
            match step {
                Step::Pass(millis) => queue.pass(millis),
                Step::Ask(worker, wanted) => queue.ask(worker, 0, wanted * 10),
                Step::Claim(worker, jobs) => drop(queue.claim(worker, jobs * 10)),
                Step::End(worker, _) | Step::Lose(worker) => queue.lose(worker),
                Step::Limit(_) => {}
            }
        }
        let bound = count + queue.standing.limits.burst();
        for from in &queue.starts {
            let end = from.after(Duration::from_secs(1));
            let window = queue.starts.iter().filter(|at| *at >= from && **at < end).count();
            prop_assert!(window <= bound as usize, "{window} of {bound}");
        }
    }

    /// Nobody gets more than it wants, nothing is left while somebody wants it, and nobody is ahead by more than one.
    #[test]
    fn parts_are_fair(limit in 0_u32..40, wanted in prop::collection::vec(0_u32..20, 0..9), turn in 0_u64..50) {
        let parts = divide(limit, &wanted, turn);
        prop_assert_eq!(parts.iter().sum::<u32>(), limit.min(wanted.iter().sum()));
        for (part, want) in parts.iter().zip(&wanted) {
            prop_assert!(part <= want);
            for (other, _) in parts.iter().zip(&wanted).filter(|(part, want)| part < want) {
                prop_assert!(*part <= other + 1, "{parts:?} of {wanted:?}");
            }
        }
    }

    /// However few permits there are: whoever wants one gets one within some turns, and what is free is used.
    #[test]
    fn every_worker_makes_progress(limit in 1_u32..4, workers in 2_usize..6, work in 20_u64..400) {
        let limits = Limits { concurrency: Some(limit), ..Limits::default() };
        let mut queue = Queue::new(limits, workers, vec![0; workers]);
        let (mut done, mut ends) = (vec![0_u32; workers], vec![0_u64; workers]);
        for tick in 0..1_500_u64 {
            queue.pass(20);
            for worker in 0..workers {
                if tick * 20 >= ends[worker] {
                    done[worker] += queue.running[worker];
                    queue.running[worker] = 0;
                }
                if (tick + worker as u64).is_multiple_of(12) {
                    queue.ask(worker, 1, 0);
                }
                if queue.claim(worker, 1) == 1 {
                    ends[worker] = tick * 20 + work;
                }
            }
        }
        // Half a minute: at least half of what one worker after the other could have done, and everybody a part of it.
        let most = 30_000 / work.next_multiple_of(20) * u64::from(limit.min(workers as u32));
        prop_assert!(u64::from(done.iter().sum::<u32>()) * 2 >= most, "{done:?} of {most}");
        prop_assert!(done.iter().all(|jobs| *jobs > 0), "{done:?}");
    }
}

#[test]
fn what_a_worker_does_not_want_is_anothers() {
    let mut queue = Queue::new(Limits { concurrency: Some(5), ..Limits::default() }, 2, vec![0, 0]);
    queue.ask(0, 5, 0);
    assert_eq!(queue.claim(0, 9), 5);
    queue.ask(1, 5, 0);
    assert_eq!(queue.claim(1, 9), 0, "all are in use");
    // The first has more than its part now, and keeps only what runs.
    queue.end(0, 4);
    queue.ask(0, 5, 0);
    queue.ask(1, 5, 0);
    assert_eq!((queue.claim(1, 9) + queue.claim(0, 9), queue.all_run()), (4, 5));
    queue.lose(0);
    queue.ask(1, 5, 0);
    queue.claim(1, 9);
    assert_eq!(queue.all_run(), 5, "what a lost one held is the other's");
}

#[test]
fn a_changed_limit_gives_nothing_until_it_has_settled() {
    let mut queue = Queue::new(Limits { concurrency: Some(2), ..Limits::default() }, 1, vec![0]);
    queue.ask(0, 2, 0);
    queue.standing.setting += 1;
    queue.standing.limits_at = queue.standing.now;
    queue.standing.settles = Duration::from_secs(1);
    assert_eq!(queue.claim(0, 9), 0, "the permit is of the limits before");
    queue.pass(999);
    queue.ask(0, 2, 0);
    assert_eq!(queue.claim(0, 9), 0);
    queue.pass(1);
    queue.ask(0, 2, 0);
    assert_eq!((queue.claim(0, 9), queue.standing.is_unsettled_after()), (2, false));
}

#[test]
fn unused_starts_go_back() {
    let rate = Rate::new(100, Duration::from_secs(1)).unwrap();
    let mut queue = Queue::new(Limits { rate: Some(rate), ..Limits::default() }, 2, vec![0, 0]);
    queue.pass(300);
    queue.ask(0, 0, 100);
    assert_eq!(queue.permit(0).unwrap().starts, 30);
    queue.ask(0, 0, 0);
    queue.ask(1, 0, 100);
    assert_eq!(queue.permit(1).unwrap().starts, 30);
}
