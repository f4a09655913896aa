//! Waiting until one looks again, and hearing hints meanwhile: at once those that name what is waited for, and rumours
//! only so often. On SQLite any commit of another process is a rumour, and nearly none of them is about us.

use core::time::Duration;
use std::sync::Arc;

use futures_util::future::select_all;
use tokio::time::{Instant, sleep_until};

use crate::switchboard::Line;

/// How many rumours are followed one after the other before the pause between them counts.
const AT_ONCE: u32 = 4;

/// What is heard of some keys.
pub(crate) struct Ears {
    lines: Vec<Arc<Line>>,
    /// How soon one looks again after a hint: hints may come in hundreds.
    after_hint: Duration,
    /// How often rumours are followed in the long run.
    pace: Duration,
    /// Up to when the rumours that were followed have been paid for.
    paid: Instant,
}

/// What had been heard when one looked.
pub(crate) struct Heard {
    at: Instant,
    named: Vec<u64>,
    rumours: u64,
}

impl Ears {
    pub(crate) fn new(lines: Vec<Arc<Line>>, after_hint: Duration, pace: Duration) -> Self {
        Self { lines, after_hint, pace, paid: Instant::now() }
    }

    /// What has been heard so far: taken before a look, so that what happens from then on is seen by it or heard.
    pub(crate) fn heard(&self) -> Heard {
        let named = self.lines.iter().map(|line| line.named()).collect();
        Heard { at: Instant::now(), named, rumours: self.rumours() }
    }

    fn rumours(&self) -> u64 {
        self.lines.iter().map(|line| line.rumours()).sum()
    }

    /// Waits until then, or until a little after something has been heard since, of the first `count` lines.
    pub(crate) async fn wait(&mut self, since: &Heard, until: Instant, count: usize) {
        let (mut until, soon) = (until, until.min(since.at + self.after_hint));
        let lines: Vec<Arc<Line>> = self.lines.iter().take(count).map(Arc::clone).collect();
        let mut followed = false;
        loop {
            let mut rung: Vec<_> = lines.iter().map(|line| Box::pin(line.bell.notified())).collect();
            for rung in &mut rung {
                rung.as_mut().enable();
            }
            if lines.iter().zip(&since.named).any(|(line, before)| line.named() != *before) {
                return sleep_until(soon).await;
            }
            if !followed && self.rumours() != since.rumours {
                followed = true;
                until = until.min(self.follow(soon));
            }
            tokio::select! {
                () = sleep_until(until) => return,
                _ = select_all(rung) => {}
            }
        }
    }

    /// When a rumour is followed: soon, as long as there were few.
    fn follow(&mut self, soon: Instant) -> Instant {
        let ahead = self.pace * (AT_ONCE - 1);
        let at = self.paid.checked_sub(ahead).map_or(soon, |free| free.max(soon));
        self.paid = self.paid.max(at) + self.pace;
        at
    }
}
