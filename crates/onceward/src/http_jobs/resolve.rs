//! What a name stands for.

use core::time::Duration;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

/// Looks names up. It is asked once per connection, and never for an address.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host.
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the system, on threads of their own.
#[derive(Clone, Debug)]
pub struct SystemResolver {
    /// A name server that does not answer keeps a thread for long.
    threads: Arc<Semaphore>,
}

/// How many names are looked up at the same time.
const LOOK_UPS: usize = 64;
/// How long a look-up waits for its turn.
const TURN: Duration = Duration::from_secs(3);

impl Default for SystemResolver {
    fn default() -> Self {
        Self { threads: Arc::new(Semaphore::new(LOOK_UPS)) }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let threads = Arc::clone(&self.threads);
        async move {
            let busy = |_| io::Error::new(io::ErrorKind::TimedOut, "too many names are being looked up");
            let turn = tokio::time::timeout(TURN, threads.acquire_owned()).await.map_err(busy)?;
            // Whoever asked may have left; the thread is busy until the system has answered.
            let look_up = tokio::task::spawn_blocking(move || {
                let found = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), 0));
                drop(turn);
                found.map(|found| found.map(|address| address.ip()).collect())
            });
            look_up.await.map_err(io::Error::other)?
        }
        .boxed()
    }
}
