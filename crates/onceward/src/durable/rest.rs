//! Polling code until it rests: until it does nothing more but wait.
//!
//! A future that holds many others does not poll all of them each time: it wakes itself, and is polled again
//! (`FuturesUnordered`, and so `map` and `join_all` of many). What has ended is given to the code once it has come by
//! everywhere it comes by without that, when it is live as when it follows its journal: else it would be given to it
//! somewhere else the next time.

use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

/// How often code is polled that wakes itself before others have the thread.
const ROUNDS: u32 = 1_000;
/// After how many rounds it rests all the same: it wakes itself for ever.
const ROUNDS_MAX: u32 = 100_000;

/// What polling has come to.
pub(super) enum Came<T> {
    /// The code has ended.
    Ended(T),
    /// It only waits.
    Rests,
    /// It is to be polled again, once others have had the thread.
    Restless,
}

/// How often the code has woken itself, one time after the other.
#[derive(Default)]
pub(super) struct Rounds(u32);

/// Takes note of whether the code has woken itself, and wakes who polls it.
pub(super) struct Woken {
    outer: Waker,
    again: AtomicBool,
}

impl Woken {
    pub(super) fn of(cx: &Context<'_>) -> Arc<Self> {
        Arc::new(Self { outer: cx.waker().clone(), again: AtomicBool::new(false) })
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.again.store(true, Ordering::SeqCst);
        self.outer.wake_by_ref();
    }
}

impl Rounds {
    /// Polls the code, as often as it wakes itself meanwhile.
    pub(super) fn poll<T>(
        &mut self,
        woken: &Arc<Woken>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Came<T> {
        let waker = Waker::from(Arc::clone(woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..ROUNDS {
            woken.again.store(false, Ordering::SeqCst);
            if let Poll::Ready(ended) = poll(&mut cx) {
                return Came::Ended(ended);
            }
            self.0 += 1;
            if !woken.again.load(Ordering::SeqCst) || self.0 >= ROUNDS_MAX {
                self.0 = 0;
                return Came::Rests;
            }
        }
        Came::Restless
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls code that wakes itself so often before it waits; how often it was polled, and how often it was left.
    fn rests_after(wakes: u32) -> (u32, u32) {
        let (mut rounds, mut polled, mut left) = (Rounds::default(), 0, 0);
        let woken = Woken::of(&Context::from_waker(Waker::noop()));
        loop {
            let came = rounds.poll(&woken, |cx| {
                polled += 1;
                if polled <= wakes {
                    cx.waker().wake_by_ref();
                }
                Poll::<()>::Pending
            });
            match came {
                Came::Rests => return (polled, left),
                Came::Restless => left += 1,
                Came::Ended(()) => unreachable!("it never ends"),
            }
        }
    }

    #[test]
    fn code_is_polled_until_it_rests_and_others_have_the_thread_meanwhile() {
        assert_eq!(rests_after(0), (1, 0));
        assert_eq!(rests_after(5), (6, 0));
        assert_eq!(rests_after(2_500), (2_501, 2));
        assert_eq!(rests_after(u32::MAX).0, ROUNDS_MAX);
    }
}
