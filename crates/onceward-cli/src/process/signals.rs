//! The signals that end or inform a program, kept from ending us while a wrapped command runs.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll};

use onceward::{Code, Error, Result};
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// The signals we pass on.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// The signals we catch instead of obeying them.
pub(crate) struct Signals {
    /// Borrowed within a poll only, so that two futures of one task may wait for signals.
    caught: RefCell<Vec<(Signal, unix::Signal)>>,
}

impl Signals {
    /// From here on they are ours to handle. Those we were started to ignore (by `nohup`, or in the background of a
    /// script) stay ignored, by the command too.
    pub(crate) fn catch() -> Result<Self> {
        let ignored = ignored();
        let mut caught = Vec::new();
        for kind in PASSED_ON.into_iter().filter(|kind| ignored & (1 << (kind.as_raw() - 1)) == 0) {
            let stream = signal(SignalKind::from_raw(kind.as_raw())).map_err(|error| {
                Error::new(Code::CommandNotStarted, "signals can't be passed on").with_source(error)
            })?;
            caught.push((kind, stream));
        }
        Ok(Self { caught: RefCell::new(caught) })
    }

    /// The next one.
    ///
    /// Cancel safety: none is lost.
    pub(crate) async fn next(&self) -> Signal {
        poll_fn(|context| self.poll(context)).await
    }

    /// The next one that comes before `started` is set; after that, somebody else waits for them.
    pub(crate) async fn before(&self, started: &Cell<bool>) -> Signal {
        poll_fn(|context| if started.get() { Poll::Pending } else { self.poll(context) }).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Signal> {
        for (kind, stream) in &mut *self.caught.borrow_mut() {
            if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                return Poll::Ready(*kind);
            }
        }
        Poll::Pending
    }
}

/// The set of signals that this process ignores, one bit each; empty where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
