//! Hints over Redis: what is told here is published, what others publish is told here. Never more than hints: no state
//! is kept there, and whoever can't reach it works by looking, as if there were none.
//!
//! It has a thread of its own. Callers only put a name into a box that holds so many; nobody waits for Redis, whether
//! it is away, slow, hangs or refuses us.

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use onceward_core::{Code, Error, Result, backoff};
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, RedisResult};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::hints::{Carrier, Outbox, Told, wakes};
use crate::store::Wake;

/// The channel where the URL names none.
const CHANNEL: &str = "onceward";
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a quiet connection is asked whether it still stands.
const PING_EVERY: Duration = Duration::from_secs(15);
/// The pauses between two attempts to connect.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long after one hint about jobs the next one is sent: they come in floods.
const JOBS_EVERY: Duration = Duration::from_millis(5);
/// How long hints have to leave when the store is closed.
const LAST: Duration = Duration::from_millis(300);
/// Between who tells and what is told. Names hold no control characters.
const LINE: char = '\n';

/// Hints over one Redis.
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    channel: String,
    /// Who we are among those on the channel: what we tell, we need not hear.
    name: String,
    outbox: Mutex<Outbox>,
    /// Rung when there is something to tell.
    post: Notify,
    /// Rung when the last hint has left.
    empty: Notify,
    /// Who wants to hear.
    to: OnceLock<broadcast::Sender<Wake>>,
    heeded: Notify,
    closed: watch::Sender<bool>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds a password.
        f.debug_struct("Redis").field("channel", &self.shared.channel).finish_non_exhaustive()
    }
}

impl Redis {
    /// Hints over the Redis at `url`: `redis://[[user]:password@]host[:port]`, `rediss://…` with TLS, `unix:///path`.
    /// Databases that share a Redis disturb each other least on channels of their own: `?channel=shop`. Nothing is
    /// connected before there is something to tell or to hear.
    ///
    /// # Errors
    /// [`StoreUrlInvalid`](Code::StoreUrlInvalid) for a URL that can't be read; it is not repeated in the error.
    pub fn new(url: &str) -> Result<Self> {
        let (client, channel) = read(url)?;
        let shared = Arc::new(Shared {
            client,
            channel,
            name: uuid::Uuid::new_v4().simple().to_string(),
            outbox: Mutex::default(),
            post: Notify::new(),
            empty: Notify::new(),
            to: OnceLock::new(),
            heeded: Notify::new(),
            closed: watch::Sender::new(false),
        });
        start(Arc::clone(&shared))?;
        Ok(Self { shared })
    }
}

#[async_trait]
impl Carrier for Redis {
    fn tell(&self, wake: &Wake) {
        let Some(told) = Told::of(wake) else { return };
        self.shared.outbox().add(told);
        self.shared.post.notify_one();
    }

    fn listen(&self, to: &broadcast::Sender<Wake>) {
        if self.shared.to.set(to.clone()).is_ok() {
            self.shared.heeded.notify_one();
        }
    }

    fn listens_at(&self) -> Vec<(String, u16)> {
        match self.shared.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                vec![(host.to_ascii_lowercase(), *port)]
            }
            _ => Vec::new(),
        }
    }

    async fn close(&self) {
        let shared = &self.shared;
        let left = async {
            loop {
                let empty = shared.empty.notified();
                if shared.outbox().is_empty() {
                    return;
                }
                empty.await;
            }
        };
        // What does not leave by then is found by looking.
        let _ = timeout(LAST, left).await;
        shared.closed.send_replace(true);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
    }
}

/// The client and the channel that a URL means.
fn read(url: &str) -> Result<(Client, String)> {
    let invalid = |why: &str| Error::new(Code::StoreUrlInvalid, format!("the URL of the Redis {why}"));
    let mut url = redis::parse_redis_url(url)
        .ok_or_else(|| invalid("is not like redis://HOST:PORT, rediss://HOST or unix:///PATH"))?;
    let pairs: Vec<_> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let (channel, rest): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(name, _)| name == "channel");
    url.set_query(None);
    if !rest.is_empty() {
        url.query_pairs_mut().extend_pairs(rest);
    }
    let channel = channel.into_iter().next().map_or_else(|| CHANNEL.to_owned(), |(_, channel)| channel);
    if channel.is_empty() || channel.len() > 200 || channel.chars().any(char::is_control) {
        return Err(invalid("names a channel of 1 to 200 bytes without control characters"));
    }
    if matches!(url.scheme(), "rediss" | "valkeys") {
        // The driver takes the process's default, and panics where a program has two and has chosen none.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    // The driver's error may quote the URL.
    let client =
        Client::open(url).map_err(|error| invalid(&format!("can't be read: {}", error.category())))?;
    Ok((client, channel))
}

fn start(shared: Arc<Shared>) -> Result<()> {
    let unable = |error: std::io::Error| {
        Error::new(Code::StoreUnavailable, "no thread could be started for hints over Redis")
            .with_source(error)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unable)?;
    let work = move || {
        runtime.block_on(async {
            let mut closed = shared.closed.subscribe();
            tokio::select! {
                _ = closed.wait_for(|closed| *closed) => {}
                () = async { tokio::join!(publish_all(&shared), hear_for_ever(&shared)); } => {}
            }
        });
    };
    std::thread::Builder::new().name("onceward-redis".to_owned()).spawn(work).map_err(unable)?;
    Ok(())
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has gathered, if anything has; it is on its way then.
    fn gathered(&self) -> Option<(String, usize, bool)> {
        let mut outbox = self.outbox();
        let gathered = outbox.take();
        outbox.sending = gathered.is_some();
        gathered
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn subscribe(&self) -> RedisResult<PubSub> {
        let mut connection = self.client.get_async_pubsub().await?;
        connection.subscribe(&self.channel).await?;
        Ok(connection)
    }
}

/// Publishes what is told, for ever: one message at a time, so that what comes meanwhile goes into the next.
async fn publish_all(shared: &Shared) {
    let mut connection = None;
    loop {
        let Some((payload, _, jobs)) = shared.gathered() else {
            shared.empty.notify_one();
            shared.post.notified().await;
            continue;
        };
        let mut failures = 0;
        // The first one after an outage is old. It makes others look once too often, which is better than too rarely.
        while let Err(error) = publish(shared, &mut connection, &payload).await {
            connection = None;
            say_interrupted(failures, "told", &error);
            failures += 1;
            pause(failures).await;
        }
        say_restored(failures, "told");
        if jobs {
            sleep(JOBS_EVERY).await;
        }
    }
}

async fn publish(
    shared: &Shared,
    connection: &mut Option<MultiplexedConnection>,
    payload: &str,
) -> RedisResult<()> {
    let message = format!("{}{LINE}{payload}", shared.name);
    let sent = async {
        let open = match connection {
            Some(open) => open,
            None => connection.insert(shared.connect().await?),
        };
        redis::cmd("PUBLISH").arg(&shared.channel).arg(message).query_async::<()>(open).await
    };
    timeout(PATIENCE, sent).await.unwrap_or_else(|_| Err(no_answer()))
}

/// Hears what others publish, on one connection after the other.
async fn hear_for_ever(shared: &Shared) {
    let to = loop {
        match shared.to.get() {
            Some(to) => break to,
            None => shared.heeded.notified().await,
        }
    };
    let mut failures = 0;
    loop {
        let error = match timeout(PATIENCE, shared.subscribe()).await {
            Ok(Ok(connection)) => {
                say_restored(failures, "heard");
                let since = Instant::now();
                // What was told before, nobody has heard.
                let _ = to.send(Wake::Anything);
                let error = hear_all(shared, connection, to).await;
                // One that hangs up at once is away like one that is not there.
                failures = if since.elapsed() < PING_EVERY { failures } else { 0 };
                error
            }
            Ok(Err(error)) => error,
            Err(_) => no_answer(),
        };
        say_interrupted(failures, "heard", &error);
        failures += 1;
        pause(failures).await;
    }
}

/// Passes on what is heard until the connection ends.
async fn hear_all(shared: &Shared, connection: PubSub, to: &broadcast::Sender<Wake>) -> RedisError {
    let (mut sink, mut messages) = connection.split();
    loop {
        match timeout(PING_EVERY, messages.next()).await {
            Ok(Some(message)) => {
                let text = String::from_utf8_lossy(message.get_payload_bytes());
                let (name, payload) = text.split_once(LINE).unwrap_or(("", ""));
                if name != shared.name {
                    wakes(payload).into_iter().for_each(|wake| drop(to.send(wake)));
                }
            }
            Ok(None) => return RedisError::from((ErrorKind::Io, "the connection was closed")),
            Err(_) => match timeout(PATIENCE, sink.ping::<()>()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return no_answer(),
            },
        }
    }
}

fn no_answer() -> RedisError {
    RedisError::from((ErrorKind::Io, "no answer"))
}

fn say_interrupted(failures: u32, what: &str, error: &RedisError) {
    // Once for each outage: the rest is as expected.
    if failures == 0 {
        let error = error.category();
        tracing::warn!(error, "hints over Redis are no longer {what}; everybody works by looking meanwhile");
    }
}

fn say_restored(failures: u32, what: &str) {
    if failures > 0 {
        tracing::info!("hints over Redis are {what} again");
    }
}

async fn pause(failures: u32) {
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    sleep(backoff::delay(failures, PAUSE_FIRST, PAUSE_MAX, seed)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_and_perhaps_a_channel() {
        let channel = |url| read(url).map(|(_, channel)| channel);
        assert_eq!(channel("redis://127.0.0.1:6379").unwrap(), "onceward");
        assert_eq!(channel("redis://:secret@cache/0?channel=shop&protocol=resp3").unwrap(), "shop");
        assert_eq!(channel("unix:///run/redis.sock?channel=a%20b").unwrap(), "a b");
        assert_eq!(channel("rediss://cache").unwrap(), "onceward");
        for bad in ["", "cache:6379", "http://cache", "redis://cache?channel=", "redis://:secret@cache/x"] {
            assert_eq!(channel(bad).unwrap_err().code(), Code::StoreUrlInvalid, "{bad}");
        }
    }

    #[test]
    fn no_error_and_no_debug_text_holds_a_password() {
        for bad in ["redis://user:hunter2@cache/x", "redis://user:hunter2@:x/", "hunter2"] {
            let error = Redis::new(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let redis = Redis::new("redis://user:hunter2@127.0.0.1:1").unwrap();
        assert_eq!(redis.listens_at(), [("127.0.0.1".to_owned(), 1)]);
        assert!(!format!("{redis:?}").contains("hunter2"));
    }
}
