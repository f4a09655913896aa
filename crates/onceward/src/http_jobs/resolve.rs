//! What a name stands for.

use core::fmt;
use core::time::Duration;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Looks names up. It is asked once per connection, and never for an address.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host.
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the system, on threads of their own.
///
/// A name server that does not answer keeps a thread for long. Some threads are kept for names that were found before:
/// however many others hang, those are looked up at once.
#[derive(Clone)]
pub struct SystemResolver {
    look_up: LookUp,
    /// For every name.
    threads: Arc<Semaphore>,
    /// Only for names that were found before.
    kept: Arc<Semaphore>,
    found: Arc<Mutex<HashSet<String>>>,
}

type LookUp = fn(&str) -> io::Result<Vec<IpAddr>>;

/// How many names are looked up at the same time, and how many more of those that were found before.
const LOOK_UPS: usize = 48;
const LOOK_UPS_KEPT: usize = 16;
/// How many names are remembered to have been found.
const FOUND: usize = 10_000;
/// How long a look-up waits for its turn.
const TURN: Duration = Duration::from_secs(3);

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemResolver").finish_non_exhaustive()
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::by(|host| {
            let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, 0))?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

impl SystemResolver {
    fn by(look_up: LookUp) -> Self {
        let [threads, kept] = [LOOK_UPS, LOOK_UPS_KEPT].map(|count| Arc::new(Semaphore::new(count)));
        Self { look_up, threads, kept, found: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        // Nothing panics while it holds the lock.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a thread.
    async fn turn(&self, host: &str) -> Result<OwnedSemaphorePermit, AcquireError> {
        let any = Arc::clone(&self.threads).acquire_owned();
        if !self.lock().contains(host) {
            return any.await;
        }
        tokio::select! {
            biased;
            turn = any => turn,
            turn = Arc::clone(&self.kept).acquire_owned() => turn,
        }
    }

    /// Remembers whether a name was found.
    fn note(&self, host: String, was_found: bool) {
        let mut found = self.lock();
        if !was_found {
            found.remove(&host);
            return;
        }
        if found.len() >= FOUND {
            found.clear();
        }
        found.insert(host);
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let this = self.clone();
        async move {
            let busy = |_| io::Error::new(io::ErrorKind::TimedOut, "too many names are being looked up");
            let turn = tokio::time::timeout(TURN, this.turn(&host)).await.map_err(busy)?;
            let turn = turn.map_err(io::Error::other)?;
            // Whoever asked may have left; the thread is busy until the system has answered.
            let look_up = tokio::task::spawn_blocking(move || {
                let found = (this.look_up)(&host);
                drop(turn);
                this.note(host, found.is_ok());
                found
            });
            look_up.await.map_err(io::Error::other)?
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H5: name servers that don't answer do not keep others from being asked.
    #[tokio::test(flavor = "multi_thread")]
    async fn h5_names_that_hang_do_not_starve_those_that_were_found_before() {
        static OPEN: Mutex<bool> = Mutex::new(false);
        let resolver = SystemResolver::by(|host| {
            while host.starts_with("hang") && !*OPEN.lock().unwrap() {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        });
        let began = std::time::Instant::now();
        resolver.resolve("good.test".to_owned()).await.unwrap();
        let hanging: Vec<_> =
            (0..100).map(|number| tokio::spawn(resolver.resolve(format!("hang{number}.test")))).collect();
        while resolver.threads.available_permits() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..100 {
            resolver.resolve("good.test".to_owned()).await.unwrap();
        }
        assert!(began.elapsed() < TURN, "they did not wait for one that hangs: {:?}", began.elapsed());
        *OPEN.lock().unwrap() = true;
        for hanging in hanging {
            hanging.await.unwrap().unwrap();
        }
    }
}
