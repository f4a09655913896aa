//! The workloads of HTTP jobs: how many are delivered per second, and what receivers that hang do to the others.

use core::convert::Infallible;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use onceward::endpoints::Endpoint;
use onceward::http_jobs::{HttpDelivery, HttpJob, HttpPolicy};
use onceward::jobs::Enqueue;
use onceward::store::StoreKind;
use onceward::store::reference::Sample;
use onceward::worker::WorkerBuilder;
use onceward::{Code, Error, Onceward};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};

use super::measure::{Measured, peak_mb};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpWorkload {
    /// A backlog of webhooks to receivers that answer at once, delivered by one worker process; history is kept.
    Deliver,
    /// 1,800 endpoints that answer at once, each asked now and then: from the enqueue
    /// to the request's arrival. The worker is a process of its own, so that its memory can be told.
    Receivers,
    /// The same, beside 200 that have answered once and never do so again.
    ReceiversBesideHanging,
}

pub(super) const ALL: &[HttpWorkload] =
    &[HttpWorkload::Deliver, HttpWorkload::Receivers, HttpWorkload::ReceiversBesideHanging];

/// How many webhooks a backlog is at the most, and for each second that is measured.
const BACKLOG: usize = 20_000;
const BACKLOG_A_SECOND: usize = 10_000;
/// How many receivers answer, and how many don't.
const GOOD: usize = 1_800;
const GOOD_KIND: &str = "good";
const HANGING: usize = 200;
const HANG: &str = "hang";
/// How many webhooks per second go to those that answer.
const RATE: f64 = 300.0;
const CONCURRENCY: usize = 500;
/// How long one that is not answered may take.
const TIMEOUT: Duration = Duration::from_secs(30);

impl HttpWorkload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Receivers => "receivers_1800",
            Self::ReceiversBesideHanging => "receivers_1800_beside_200_hanging",
        }
    }

    pub(super) async fn run(self, ow: &Onceward, url: &str, time: Duration) -> Result<Measured, Error> {
        let queue = format!("http-{}", uuid::Uuid::new_v4().simple());
        let receiver = Receiver::start().await?;
        let hanging = match self {
            Self::Deliver => return deliver(ow, &queue, &receiver, time).await.map(Measured::from),
            Self::Receivers => 0,
            Self::ReceiversBesideHanging => HANGING,
        };
        if ow.store().capabilities().kind == StoreKind::Memory {
            // Nobody else sees it.
            let running = worker(ow, &queue).grace(Duration::ZERO).start().await?;
            let sample = receivers(ow, &queue, &receiver, time, hanging).await;
            running.shutdown().await;
            return sample.map(Measured::from);
        }
        let worker = Worker::start(url, &queue)?;
        let sample = receivers(ow, &queue, &receiver, time, hanging).await?;
        Ok(Measured { sample, worker_peak_mb: worker.peak_mb() })
    }
}

fn policy() -> HttpPolicy {
    HttpPolicy { allow_http: true, allow_private: true, allow_own_listeners: true, ..HttpPolicy::default() }
}

fn hook(ow: &Onceward, queue: &str, to: HttpJob, at: Duration) -> Enqueue {
    let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    ow.enqueue_http(to.json(&micros).policy(policy())).queue(queue).timeout(TIMEOUT)
}

/// What goes to a receiver: by its name.
fn to(kind: &str, number: usize) -> HttpJob {
    HttpJob::to_endpoint(format!("bench-{kind}-{number}"))
}

/// Names them, a few at a time.
async fn name(ow: &Onceward, receiver: &Receiver, kind: &str, count: usize) -> Result<(), Error> {
    let mut naming = JoinSet::new();
    for number in 0..count {
        let endpoint = ow.endpoint(format!("bench-{kind}-{number}")).url(receiver.url(kind, number));
        naming.spawn(endpoint.timeout(TIMEOUT).policy(policy()).into_future());
        if naming.len() < 32 {
            continue;
        }
        finish(naming.join_next().await)?;
    }
    while let Some(named) = naming.join_next().await {
        finish(Some(named))?;
    }
    Ok(())
}

fn finish(named: Option<Result<Result<Endpoint, Error>, JoinError>>) -> Result<(), Error> {
    let broken = |error| Error::new(Code::StoreFailed, "an endpoint could not be named").with_source(error);
    named.map_or(Ok(()), |named| named.map_err(broken)?.map(drop))
}

/// The stock worker, as a process of its own. Dropped, it is killed.
struct Worker(Child);

impl Worker {
    fn start(url: &str, queue: &str) -> Result<Self, Error> {
        let unable = |error| Error::new(Code::UsageInvalid, "the worker can't be started").with_source(error);
        let concurrency = CONCURRENCY.to_string();
        let mut command = Command::new(std::env::current_exe().map_err(unable)?);
        command.args(["worker", "--queues", queue, "--concurrency", &concurrency, "--no-services"]);
        command.args(["--allow-http", "--allow-private"]).env("ONCEWARD_STORE", url);
        command
            .env_remove("ONCEWARD_PROFILE")
            .env_remove("ONCEWARD_NAMESPACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map(Self).map_err(unable)
    }

    fn peak_mb(&self) -> Option<f64> {
        peak_mb(self.0.id())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that is gone already is no news.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn worker(ow: &Onceward, queue: &str) -> WorkerBuilder {
    let delivery = HttpDelivery::new().policy(policy());
    ow.worker().queues([queue]).concurrency(CONCURRENCY).http(delivery)
}

/// From the start of the worker until every webhook is durably delivered.
async fn deliver(ow: &Onceward, queue: &str, receiver: &Receiver, time: Duration) -> Result<Sample, Error> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` cuts to what fits")]
    let thousands = (time.as_secs_f64() * BACKLOG_A_SECOND as f64 / 1000.0) as usize;
    let backlog = (thousands * 1000).clamp(1000, BACKLOG);
    for from in (0..backlog).step_by(1000) {
        let hooks = (from..from + 1000).map(|number| {
            hook(ow, queue, HttpJob::post(receiver.url(GOOD_KIND, number % 16)), Duration::ZERO)
        });
        ow.enqueue_many(hooks).await?;
    }
    let began = Instant::now();
    worker(ow, queue).run_until_empty(Duration::from_secs(60)).await?;
    let elapsed = began.elapsed();
    let each = u32::try_from(elapsed.as_micros() / backlog as u128).unwrap_or(u32::MAX);
    Ok(Sample { micros: vec![each; receiver.taken().len()], elapsed })
}

/// A steady stream to many receivers, beside so many that hang.
async fn receivers(
    ow: &Onceward,
    queue: &str,
    receiver: &Receiver,
    time: Duration,
    hanging: usize,
) -> Result<Sample, Error> {
    name(ow, receiver, HANG, hanging).await?;
    name(ow, receiver, GOOD_KIND, GOOD).await?;
    // Every receiver is known before it is measured, and has answered: also those that hang from then on.
    let warm = |kind, count| (0..count).map(move |number| hook(ow, queue, to(kind, number), Duration::ZERO));
    ow.enqueue_many(warm(HANG, hanging).chain(warm(GOOD_KIND, GOOD))).await?;
    receiver.until(hanging + GOOD).await?;
    receiver.forget();
    let hangs =
        (0..hanging * 3).map(|number| hook(ow, queue, to(HANG, number % hanging.max(1)), Duration::ZERO));
    ow.enqueue_many(hangs).await?;
    let (began, mut sent) = (Instant::now(), 0_usize);
    while began.elapsed() < time {
        let due = Duration::from_secs_f64(sent as f64 / RATE);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        hook(ow, queue, to(GOOD_KIND, sent * 7 % GOOD), receiver.began.elapsed()).await?;
        sent += 1;
    }
    receiver.until(sent).await?;
    let elapsed = began.elapsed();
    Ok(Sample { micros: receiver.taken(), elapsed })
}

/// Answers at once under `/good/n`, once under each `/hang/n`, and notes how long what it answered was under way.
struct Receiver {
    /// Of the hosts that it plays: the first ones are those of the receivers that hang.
    addresses: Vec<SocketAddr>,
    began: Instant,
    took: Arc<Mutex<Vec<u32>>>,
    /// They end with it.
    _tasks: JoinSet<()>,
}

/// How many hosts a receiver plays, and how many of them hang.
const HOSTS: usize = 20;
const HANGING_HOSTS: usize = 2;

impl Receiver {
    async fn start() -> Result<Self, Error> {
        let refused =
            |error| Error::new(Code::UsageInvalid, "nobody can listen on this machine").with_source(error);
        let (began, took) = (Instant::now(), Arc::<Mutex<Vec<u32>>>::default());
        let dark = Dark::default();
        let (mut addresses, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..HOSTS {
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused)?;
            addresses.push(listener.local_addr().map_err(refused)?);
            tasks.spawn(serve(listener, began, Arc::clone(&took), Arc::clone(&dark)));
        }
        Ok(Self { addresses, began, took, _tasks: tasks })
    }

    fn url(&self, kind: &str, number: usize) -> String {
        let host = match kind {
            HANG => number % HANGING_HOSTS,
            _ => HANGING_HOSTS + number % (HOSTS - HANGING_HOSTS),
        };
        format!("http://{}/{kind}/{number}", self.addresses[host])
    }

    fn taken(&self) -> Vec<u32> {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self) {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until so many have come.
    async fn until(&self, count: usize) -> Result<(), Error> {
        for _ in 0..30_000 {
            if self.taken().len() >= count {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Err(Error::new(Code::StoreFailed, "webhooks have not arrived within a minute"))
    }
}

/// The paths of those that have answered and never do so again.
type Dark = Arc<Mutex<HashSet<String>>>;

async fn serve(listener: TcpListener, began: Instant, took: Arc<Mutex<Vec<u32>>>, dark: Dark) {
    while let Ok((stream, _)) = listener.accept().await {
        let (took, dark) = (Arc::clone(&took), Arc::clone(&dark));
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request| answer(request, began, &took, &dark));
            // A sender that goes away is no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    began: Instant,
    took: &Mutex<Vec<u32>>,
    dark: &Mutex<HashSet<String>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let goes_dark = || !dark.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    if path.starts_with("/hang/") && goes_dark() {
        return core::future::pending().await;
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let sent = core::str::from_utf8(&body).ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
    let took_us = began.elapsed().saturating_sub(sent.unwrap_or_default()).as_micros();
    took.lock().unwrap_or_else(PoisonError::into_inner).push(u32::try_from(took_us).unwrap_or(u32::MAX));
    Ok(Response::new(Full::default()))
}
