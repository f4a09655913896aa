//! Connections that are kept for the next request to the same receiver.

use core::time::Duration;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::wire::Traffic;

/// How long a connection is kept without use: less than what receivers usually grant.
const IDLE: Duration = Duration::from_secs(15);
/// How long a connection is used: after that its name is looked up again.
const AGE: Duration = Duration::from_secs(60);
/// How many are kept for one receiver, and over all of them.
const KEPT: usize = 256;
const KEPT_IN_ALL: usize = 2_048;
/// How long a connection may take to be ready for the next request.
const READY: Duration = Duration::from_millis(20);

/// A connection, and the task that moves its bytes. It ends with this.
pub(super) struct Link {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) address: SocketAddr,
    pub(super) born: Instant,
    pub(super) task: Task,
}

/// A task that ends when nobody holds it.
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Task {
    /// Ends it, and waits until it has ended: nothing is sent any more.
    pub(super) async fn end(&mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// By scheme, host and port. Each delivery has a pool of its own, so all of it was dialled under one policy.
#[derive(Default)]
pub(super) struct Pool {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    links: HashMap<String, Vec<(Instant, Link)>>,
    count: usize,
    swept: Option<Instant>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics while it holds the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to this origin that still stands, if there is one.
    pub(super) async fn take(&self, origin: &str) -> Option<Link> {
        loop {
            let mut link = self.lock().pop(origin)?;
            let fresh = link.born.elapsed() < AGE && !link.sender.is_closed();
            if fresh && timeout(READY, link.sender.ready()).await.is_ok_and(|ready| ready.is_ok()) {
                return Some(link);
            }
        }
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(&self, origin: &str, link: Link) {
        if link.sender.is_closed() || link.born.elapsed() >= AGE {
            return;
        }
        let mut kept = self.lock();
        kept.sweep();
        let links = kept.links.entry(origin.to_owned()).or_default();
        if links.len() < KEPT {
            links.push((Instant::now(), link));
            kept.count += 1;
        }
    }
}

impl Kept {
    /// The one that was used last: what is not needed grows old.
    fn pop(&mut self, origin: &str) -> Option<Link> {
        let links = self.links.get_mut(origin)?;
        while let Some((since, link)) = links.pop() {
            self.count -= 1;
            if since.elapsed() < IDLE {
                return Some(link);
            }
        }
        self.links.remove(origin);
        None
    }

    /// Closes what has not been used for long; everything, where it is too much.
    fn sweep(&mut self) {
        let now = Instant::now();
        let due = self.swept.is_none_or(|swept| now - swept >= Duration::from_secs(1));
        let full = self.count >= KEPT_IN_ALL;
        if !due && !full {
            return;
        }
        self.swept = Some(now);
        let idle = if full { IDLE / 10 } else { IDLE };
        self.links.retain(|_, links| {
            links.retain(|(since, link)| since.elapsed() < idle && !link.sender.is_closed());
            !links.is_empty()
        });
        self.count = self.links.values().map(Vec::len).sum();
        if self.count >= KEPT_IN_ALL {
            self.links.clear();
            self.count = 0;
        }
    }
}
