//! What waits for a thread: two lines, of which the urgent one goes first.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use onceward_core::{Code, Error, Result, limits};

use super::failure;
use super::task::Task;

/// How soon a task wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Before everything else: renewals, on which claims hang.
    Urgent,
    /// In the order of arrival.
    Patient,
}

/// What a thread heard while it listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// There is work.
    Work,
    /// Something else has changed.
    Nudge,
    /// Nothing, for as long as it listened.
    Nothing,
    /// The queue is closed and empty.
    End,
}

/// Tasks on their way to a thread.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Box<dyn Task>>,
    patient: VecDeque<Box<dyn Task>>,
    nudged: bool,
    closed: bool,
}

impl State {
    fn pop(&mut self) -> Option<Box<dyn Task>> {
        self.urgent.pop_front().or_else(|| self.patient.pop_front())
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.patient.len()
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a task into a line.
    pub(crate) fn push(&self, task: Box<dyn Task>, line: Line) -> Result<()> {
        let mut state = self.state();
        if state.closed {
            return Err(failure::closed());
        }
        if state.len() >= limits::LANE_WAITING_MAX {
            return Err(Error::new(Code::StoreBusy, "too many calls wait for the database file"));
        }
        match line {
            Line::Urgent => state.urgent.push_back(task),
            Line::Patient => state.patient.push_back(task),
        }
        drop(state);
        self.bell.notify_one();
        Ok(())
    }

    /// The next task, if there is one.
    pub(crate) fn pop(&self) -> Option<Box<dyn Task>> {
        self.state().pop()
    }

    /// The next task, however long it takes; `None` when the queue was closed and is empty.
    pub(crate) fn next(&self) -> Option<Box<dyn Task>> {
        let state = self.bell.wait_while(self.state(), |state| state.len() == 0 && !state.closed);
        state.unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Waits until there is work, or something else to hear, or the time is over.
    pub(crate) fn listen(&self, at_most: Option<Duration>) -> Heard {
        let quiet = |state: &mut State| state.len() == 0 && !state.closed && !state.nudged;
        let mut state = match at_most {
            None => self.bell.wait_while(self.state(), quiet).unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                let heard = self.bell.wait_timeout_while(self.state(), time, quiet);
                heard.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        match (state.len(), core::mem::take(&mut state.nudged), state.closed) {
            (1.., ..) => Heard::Work,
            (_, true, _) => Heard::Nudge,
            (_, _, true) => Heard::End,
            _ => Heard::Nothing,
        }
    }

    /// Takes the tasks whose deadline has passed. They stand first: all wait equally long.
    pub(crate) fn take_late(&self, now: Instant) -> Vec<Box<dyn Task>> {
        let State { urgent, patient, .. } = &mut *self.state();
        let mut late = Vec::new();
        for line in [urgent, patient] {
            while let Some(task) = line.pop_front_if(|task| task.deadline() <= now) {
                late.push(task);
            }
        }
        late
    }

    /// Puts tasks back that were undone, before all others and in their order.
    pub(crate) fn put_back(&self, tasks: Vec<Box<dyn Task>>) {
        let mut state = self.state();
        for task in tasks.into_iter().rev() {
            state.urgent.push_front(task);
        }
    }

    /// Takes every task.
    pub(crate) fn take_all(&self) -> Vec<Box<dyn Task>> {
        let State { urgent, patient, .. } = &mut *self.state();
        urgent.drain(..).chain(patient.drain(..)).collect()
    }

    /// Makes the listener look up.
    pub(crate) fn nudge(&self) {
        self.state().nudged = true;
        self.bell.notify_one();
    }

    /// Takes no more tasks; those that wait are still done.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.bell.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::clocks::Now;
    use super::*;

    struct Named(&'static str, Instant);

    impl Task for Named {
        fn rows(&self) -> usize {
            1
        }
        fn deadline(&self) -> Instant {
            self.1
        }
        fn is_abandoned(&self) -> bool {
            false
        }
        fn verb(&self) -> &'static str {
            self.0
        }
        fn run(&mut self, _: &Connection, _: &Now) -> bool {
            true
        }
        fn answer(self: Box<Self>, _: Result<()>) {}
    }

    #[test]
    fn renewals_overtake_and_late_tasks_are_taken_out() {
        let queue = Queue::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let push = |name, deadline, line| queue.push(Box::new(Named(name, deadline)), line).unwrap();
        push("late", now, Line::Patient);
        push("settle", later, Line::Patient);
        push("renew", later, Line::Urgent);
        assert_eq!(queue.listen(None), Heard::Work);
        let late: Vec<_> = queue.take_late(now).iter().map(|task| task.verb()).collect();
        assert_eq!(late, ["late"]);
        let order: Vec<_> = core::iter::from_fn(|| queue.pop()).map(|task| task.verb()).collect();
        assert_eq!(order, ["renew", "settle"]);
        assert_eq!(queue.listen(Some(Duration::ZERO)), Heard::Nothing);
        queue.nudge();
        assert_eq!(queue.listen(None), Heard::Nudge);
        queue.close();
        assert_eq!(queue.listen(None), Heard::End);
        assert!(queue.next().is_none());
        let refused = queue.push(Box::new(Named("x", later)), Line::Patient).unwrap_err();
        assert_eq!(refused.code(), Code::StoreClosed);
    }

    #[test]
    fn a_full_queue_says_that_the_store_is_busy() {
        let queue = Queue::default();
        let later = Instant::now() + Duration::from_secs(60);
        let push = || queue.push(Box::new(Named("claim", later)), Line::Patient);
        for _ in 0..limits::LANE_WAITING_MAX {
            push().unwrap();
        }
        let refused = push().unwrap_err();
        assert_eq!((refused.code(), refused.is_uncertain()), (Code::StoreBusy, false), "nothing was done");
        queue.pop().unwrap();
        push().unwrap();
    }
}
