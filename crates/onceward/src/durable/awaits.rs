//! In debug builds: whether code waits for something that is not written down.
//!
//! Whatever a run waits for is given to it by its journal, and wakes it through the engine. Code that is woken by
//! anything else, a timer of the runtime, a channel, I/O, has awaited it outside of a step: it would come out otherwise
//! the next time. So the waker that the code is polled with takes note of who wakes it.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Waker};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

thread_local! {
    /// How deep this thread is in what the engine does.
    static OURS: Cell<u32> = const { Cell::new(0) };
}

/// What is woken in here is woken by the engine.
pub(super) fn by_us<R>(wake: impl FnOnce() -> R) -> R {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            OURS.with(|depth| depth.set(depth.get() - 1));
        }
    }
    OURS.with(|depth| depth.set(depth.get() + 1));
    let _leave = Leave;
    wake()
}

/// Polls something that may wait for what it likes, such as the body of a step.
pub(super) fn freely<R>(cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
    if !cfg!(debug_assertions) {
        return poll(cx);
    }
    let waker = Waker::from(Arc::new(Free(cx.waker().clone())));
    poll(&mut Context::from_waker(&waker))
}

struct Free(Waker);

impl Wake for Free {
    fn wake(self: Arc<Self>) {
        by_us(|| self.0.wake_by_ref());
    }
}

/// Takes note of who wakes the code of a run.
pub(super) struct Awaits(Option<Arc<Noting>>);

struct Noting {
    inner: Mutex<Waker>,
    strange: AtomicBool,
}

impl Awaits {
    pub(super) fn new() -> Self {
        let noting =
            || Arc::new(Noting { inner: Mutex::new(Waker::noop().clone()), strange: AtomicBool::default() });
        Self(cfg!(debug_assertions).then(noting))
    }

    /// Polls the code. What wakes it while it is polled is its own doing.
    pub(super) fn poll<R>(&self, cx: &mut Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let Some(noting) = &self.0 else { return poll(cx) };
        noting.lock().clone_from(cx.waker());
        let waker = Waker::from(Arc::clone(noting));
        by_us(|| poll(&mut Context::from_waker(&waker)))
    }

    /// Whether something else than the engine has woken it since this was asked last.
    pub(super) fn take_strange(&self) -> bool {
        self.0.as_ref().is_some_and(|noting| noting.strange.swap(false, Ordering::SeqCst))
    }
}

impl Noting {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waker> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Noting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if OURS.with(Cell::get) == 0 {
            self.strange.store(true, Ordering::SeqCst);
        }
        let waker = self.lock().clone();
        waker.wake();
    }
}
