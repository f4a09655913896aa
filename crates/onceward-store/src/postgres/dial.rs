//! Making connections: where to, protected how, with which settings, and to the right cluster.

use core::future::poll_fn;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use onceward_core::{Code, Error, Result, backoff};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls, Notification};

use super::error;
use super::live::Live;
use super::statements;
use super::tls::{self, Tls};
use super::upkeep;
use crate::OpenOptions;
use crate::url::PostgresAt;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a session of ours is bound to, whatever the role or the database say.
const BOUNDS: &str = "-c search_path=pg_catalog -c lock_timeout=40ms -c statement_timeout=30s \
                      -c idle_in_transaction_session_timeout=10s -c jit=off";

/// Keyed statements go from the asks to their rows by key, however small, empty or unknown to the planner a table is.
///
/// Bitmap scans do what plain index scans do, and need a condition on the index: with everything else disabled there is
/// no plan left that reads a whole table or a whole index, which a plan made when the table was small would go on doing
/// when it is large. Statements are prepared once and planned once: plans for the values of one batch would be no
/// better, and cost more than the batch.
const KEYED: &str = "-c enable_seqscan=off -c enable_indexscan=off -c enable_indexonlyscan=off \
                     -c enable_hashjoin=off -c enable_mergejoin=off -c enable_material=off -c enable_memoize=off \
                     -c effective_io_concurrency=0 -c plan_cache_mode=force_generic_plan";

/// Ordered statements take the first rows of an index, in its order: plain index scans, which also mark what they find
/// dead, and nothing that sorts a table or reads all of it. Rows are read by their places.
const ORDERED: &str = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_indexonlyscan=off -c enable_sort=off \
                       -c enable_hashjoin=off -c enable_mergejoin=off -c enable_material=off -c enable_memoize=off \
                       -c plan_cache_mode=force_generic_plan";

/// The start-up options of connections for ordered statements, for the tests of their plans.
#[cfg(feature = "conformance")]
pub fn ordered_options() -> String {
    format!("{BOUNDS} {ORDERED}")
}

/// The start-up options of connections for keyed statements, for the tests of their plans.
#[cfg(feature = "conformance")]
pub fn keyed_options() -> String {
    format!("{BOUNDS} {KEYED}")
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Statements that name their rows by key.
    Keyed,
    /// Statements that take the first rows of an index.
    Ordered,
    /// Listings, upkeep, checks.
    Plain,
    /// The one statement of upkeep that may have to read a whole table.
    Sweep,
    /// LISTEN.
    Listen,
    /// What a user would do beside the store, without bounds of ours.
    #[cfg(feature = "bench")]
    Beside,
}

/// A failure to connect, and whether trying again can't help.
pub(super) struct Undialled {
    pub(super) error: Error,
    pub(super) permanent: bool,
}

impl From<(Error, bool)> for Undialled {
    fn from((error, permanent): (Error, bool)) -> Self {
        Self { error, permanent }
    }
}

/// Everything it takes to connect.
pub(super) struct Dial {
    config: Config,
    tls: Tls,
    /// Where to, without the password.
    pub(super) to: String,
    /// Whether a transaction pooler stands in between.
    pub(super) pooled: bool,
    /// How long a verb tries.
    pub(super) deadline: Duration,
    pub(super) lineage: Lineage,
    pub(super) closed: AtomicBool,
    pub(super) statements: AtomicU64,
    pub(super) rows: AtomicU64,
}

impl Dial {
    /// Counts a statement that is sent.
    pub(super) fn count(&self, rows: usize) {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn new(at: &PostgresAt, options: &OpenOptions) -> Result<Self> {
        // The driver's error names the parameter it did not like, never its value.
        let mut config: Config = at.dsn.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Error::new(Code::StoreUrlInvalid, format!("the postgres URL can't be used: {cause}"))
        })?;
        let tls = tls::choose(at, &mut config)?;
        config
            .application_name(&options.application_name)
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // A peer that has gone without a word is noticed well before a ttl of ten seconds has passed (N37).
        config.tcp_user_timeout(Duration::from_secs(5)).keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(2)).keepalives_retries(3);
        Ok(Self {
            config,
            tls,
            to: at.redacted.clone(),
            pooled: at.pooler,
            deadline: options.deadline,
            lineage: Lineage::default(),
            closed: AtomicBool::new(false),
            statements: AtomicU64::new(0),
            rows: AtomicU64::new(0),
        })
    }

    /// Where it listens, of whom this connects to.
    pub(super) fn listens_at(&self) -> Vec<(String, u16)> {
        hosts(&self.config)
    }

    /// Connects, and asks who answers.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Live, Undialled> {
        let live = self.connect_unasked(purpose, None).await?;
        if let Err(error) = self.ask_lineage(&live).await {
            live.end();
            // Another server of the cluster may answer next time.
            let permanent = matches!(error.code(), Code::TimelineBehind | Code::CommitNotDurable);
            return Err(Undialled { permanent, error });
        }
        Ok(live)
    }

    /// Connects for LISTEN: what is heard goes to `heard`.
    pub(super) async fn listen(&self, heard: UnboundedSender<Notification>) -> Result<Live, Undialled> {
        self.connect_unasked(Purpose::Listen, Some(heard)).await
    }

    async fn connect_unasked(
        &self,
        purpose: Purpose,
        heard: Option<UnboundedSender<Notification>>,
    ) -> Result<Live, Undialled> {
        let config = self.config_for(purpose);
        let watch = Watch { doubts: Arc::default(), heard };
        let limit = CONNECT_TIMEOUT.max(config.get_connect_timeout().copied().unwrap_or_default());
        let connected = timeout(limit, self.open(&config, watch)).await;
        connected.unwrap_or_else(|_| {
            let why = format!("{} did not answer within {} s", self.to, limit.as_secs());
            Err(Undialled { error: Error::new(Code::StoreUnavailable, why), permanent: false })
        })
    }

    async fn open(&self, config: &Config, watch: Watch) -> Result<Live, Undialled> {
        let refused = |error| Undialled::from(error::of_connect(error, &self.to));
        let doubts = watch.doubts.clone();
        let (client, driver) = match &self.tls {
            Tls::Off => {
                let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
                (client, tokio::spawn(drive(connection, watch)))
            }
            Tls::On(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(refused)?;
                (client, tokio::spawn(drive(connection, watch)))
            }
        };
        Ok(Live::new(client, driver.abort_handle(), doubts, self.pooled))
    }

    fn config_for(&self, purpose: Purpose) -> Config {
        let mut config = self.config.clone();
        // pgbouncer refuses start-up parameters it does not know.
        if self.pooled {
            return config;
        }
        let given = config.get_options().unwrap_or_default().to_owned();
        config.options(match purpose {
            Purpose::Keyed => format!("{given} {BOUNDS} {KEYED}"),
            Purpose::Ordered => format!("{given} {BOUNDS} {ORDERED}"),
            Purpose::Plain => format!("{given} {BOUNDS}"),
            // The later word counts.
            Purpose::Sweep => {
                format!("{given} {BOUNDS} -c statement_timeout={}s", upkeep::SWEEP_TIMEOUT.as_secs())
            }
            Purpose::Listen => given,
            #[cfg(feature = "bench")]
            Purpose::Beside => given,
        });
        config
    }

    /// Notes which cluster and which timeline answers (N26, N28), and refuses a session whose commits would not be
    /// durable (G7): a role's setting may have changed since the last one.
    pub(super) async fn ask_lineage(&self, live: &Live) -> Result<()> {
        let ask = async {
            let turn = live.turn().await;
            let answer = live.client().query_typed(&statements::lineage(), &[]).await;
            turn.over();
            answer
        };
        let answer = timeout(CONNECT_TIMEOUT, ask).await;
        let row = match answer {
            Ok(Ok(rows)) => rows.into_iter().next(),
            Ok(Err(error)) if error.as_db_error().is_some() => {
                // Some hosted servers keep these functions to themselves; then nobody can tell.
                tracing::debug!(%error, "the timeline of the server can't be read");
                None
            }
            Ok(Err(error)) => return Err(error::of_statement(error).of_read()),
            Err(_) => return Err(Error::new(Code::StoreUnavailable, "PostgreSQL did not answer in time")),
        };
        let commits: Option<&str> = row.as_ref().and_then(|row| row.try_get(2).ok());
        if commits == Some("off") {
            return Err(Error::new(Code::CommitNotDurable, "synchronous_commit is off for this session"));
        }
        let system: Option<i64> = row.as_ref().and_then(|row| row.try_get(0).ok());
        let timeline: Option<&str> = row.as_ref().and_then(|row| row.try_get(1).ok());
        let timeline = timeline.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match (system, timeline) {
            (Some(system), Some(timeline)) => self.lineage.note(system, timeline),
            _ => Ok(()),
        }
    }
}

/// What a connection's task keeps an eye on.
struct Watch {
    doubts: Arc<AtomicU64>,
    heard: Option<UnboundedSender<Notification>>,
}

/// Keeps a connection going until it ends.
async fn drive<S, T>(mut connection: Connection<S, T>, watch: Watch)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            // Comes before the answer of the statement it is about.
            AsyncMessage::Notice(notice) if raises_doubt(&notice) => {
                tracing::warn!(notice = notice.message(), "PostgreSQL is not sure of a commit");
                watch.doubts.fetch_add(1, Ordering::SeqCst);
            }
            AsyncMessage::Notification(notification) => {
                // Nobody listening any more is fine.
                let _ = watch.heard.as_ref().map(|heard| heard.send(notification));
            }
            _ => {}
        }
    }
}

/// Whether a warning may say that a commit was cut short while it waited for a standby (N27): it has happened here,
/// and may be lost with this server. None of our statements raises a warning of these classes otherwise.
fn raises_doubt(notice: &DbError) -> bool {
    notice.parsed_severity() == Some(Severity::Warning)
        && (*notice.code() == SqlState::WARNING || notice.code().code().starts_with("57"))
}

/// Every host or address that a connection may go to, with its port: one port is that of all, none is the usual one,
/// and an address takes the place of the host that it is given for.
fn hosts(config: &Config) -> Vec<(String, u16)> {
    let (names, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let port_of = |at: usize| match ports {
        [] => 5432,
        [only] => *only,
        all => all.get(at).copied().unwrap_or(5432),
    };
    let host = |at: usize| match (addresses.get(at), names.get(at)) {
        (Some(address), _) => Some(address.to_string()),
        (None, Some(Host::Tcp(name))) => Some(name.to_ascii_lowercase()),
        // A socket in the file system has no port.
        (None, _) => None,
    };
    let all = 0..names.len().max(addresses.len());
    all.filter_map(|at| host(at).map(|host| (host, port_of(at)))).collect()
}

/// Which cluster answers, and how often it was promoted.
#[derive(Default)]
pub(super) struct Lineage {
    epoch: AtomicU64,
}

impl Lineage {
    /// A number that changes with the cluster and its timeline.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// # Errors
    /// [`Code::TimelineBehind`] if this process has seen the cluster on a later timeline: this server was left behind
    /// when another one was promoted, and does not know it.
    fn note(&self, system: i64, timeline: u32) -> Result<()> {
        static SEEN: Mutex<BTreeMap<i64, u32>> = Mutex::new(BTreeMap::new());
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = seen.entry(system).or_insert(timeline);
        if timeline < *highest {
            let why = format!(
                "the server is on timeline {timeline}, but its cluster has been on {highest}: an old primary came back"
            );
            return Err(Error::new(Code::TimelineBehind, why));
        }
        *highest = timeline;
        let cluster = u64::from_ne_bytes(system.to_ne_bytes());
        self.epoch.store(backoff::mix(cluster.wrapping_add(u64::from(timeline))), Ordering::SeqCst);
        Ok(())
    }
}

impl core::fmt::Debug for Dial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Dial").field("to", &self.to).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H1: whatever way a URL names the servers, all of them are known.
    #[test]
    fn every_server_that_a_url_names_is_one_of_our_own() {
        let listens = |url: &str| hosts(&url.parse().unwrap());
        let at = |host: &str, port: u16| (host.to_owned(), port);
        for (url, expected) in [
            ("postgres://u:p@DB.example/app", vec![at("db.example", 5432)]),
            ("postgres://u@[::1]:6000/app", vec![at("::1", 6000)]),
            ("postgres://u@a:1,b:2/app", vec![at("a", 1), at("b", 2)]),
            ("postgres:///app?host=a&port=7000&user=u", vec![at("a", 7000)]),
            ("postgres:///app?host=a&host=b&port=7000&user=u", vec![at("a", 7000), at("b", 7000)]),
            ("postgres:///app?host=a&host=b&port=1,2&user=u", vec![at("a", 1), at("b", 2)]),
            ("postgres://u@a:1/app?hostaddr=10.0.0.7", vec![at("10.0.0.7", 1)]),
            (
                "postgres://u@a:1,b:2/app?hostaddr=10.0.0.7,10.0.0.8",
                vec![at("10.0.0.7", 1), at("10.0.0.8", 2)],
            ),
            ("postgres:///app?host=/run/postgresql&user=u", vec![]),
        ] {
            assert_eq!(listens(url), expected, "{url}");
        }
    }

    /// N28: of one cluster, an earlier timeline is refused once a later one was seen.
    #[test]
    fn an_old_primary_is_refused_and_a_promotion_changes_the_epoch() {
        let lineage = Lineage::default();
        lineage.note(77, 2).unwrap();
        let before = lineage.epoch();
        lineage.note(77, 2).unwrap();
        assert_eq!(lineage.epoch(), before);
        lineage.note(77, 3).unwrap();
        assert_ne!(lineage.epoch(), before);
        assert_eq!(Lineage::default().note(77, 2).unwrap_err().code(), Code::TimelineBehind);
        lineage.note(78, 1).unwrap();
    }
}
