//! The workloads of HTTP jobs: how many are delivered per second, and what receivers that hang do to the others.

use core::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use onceward::http_jobs::{HttpDelivery, HttpJob, HttpPolicy};
use onceward::store::reference::Sample;
use onceward::worker::WorkerBuilder;
use onceward::{Code, Error, Onceward};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpWorkload {
    /// A backlog of webhooks to receivers that answer at once, delivered by one worker process; history is kept.
    Deliver,
    /// 1,800 receivers that answer at once, each asked now and then: from the enqueue to the request's arrival.
    Receivers,
    /// The same, beside 200 that never answer.
    ReceiversBesideHanging,
}

pub(super) const ALL: &[HttpWorkload] =
    &[HttpWorkload::Deliver, HttpWorkload::Receivers, HttpWorkload::ReceiversBesideHanging];

/// How many webhooks a backlog is.
const BACKLOG: usize = 20_000;
/// How many receivers answer, and how many don't.
const GOOD: usize = 1_800;
const HANGING: usize = 200;
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

    pub(super) async fn run(self, ow: &Onceward, time: Duration) -> Result<Sample, Error> {
        let queue = format!("http-{}", uuid::Uuid::new_v4().simple());
        let receiver = Receiver::start().await?;
        match self {
            Self::Deliver => deliver(ow, &queue, &receiver).await,
            Self::Receivers => receivers(ow, &queue, &receiver, time, 0).await,
            Self::ReceiversBesideHanging => receivers(ow, &queue, &receiver, time, HANGING).await,
        }
    }
}

fn policy() -> HttpPolicy {
    HttpPolicy { allow_http: true, allow_private: true, ..HttpPolicy::default() }
}

fn hook(ow: &Onceward, queue: &str, url: String, at: Duration) -> onceward::jobs::Enqueue {
    let micros = u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
    ow.enqueue_http(HttpJob::post(url).json(&micros).policy(policy())).queue(queue).timeout(TIMEOUT)
}

fn worker(ow: &Onceward, queue: &str) -> WorkerBuilder {
    let delivery = HttpDelivery::new().policy(policy());
    ow.worker().queues([queue]).concurrency(CONCURRENCY).http(delivery)
}

/// From the start of the worker until every webhook is durably delivered.
async fn deliver(ow: &Onceward, queue: &str, receiver: &Receiver) -> Result<Sample, Error> {
    for from in (0..BACKLOG).step_by(1000) {
        let hooks =
            (from..from + 1000).map(|number| hook(ow, queue, receiver.url(number % 16), Duration::ZERO));
        ow.enqueue_many(hooks).await?;
    }
    let began = Instant::now();
    worker(ow, queue).run_until_empty(Duration::from_secs(60)).await?;
    let elapsed = began.elapsed();
    let each = u32::try_from(elapsed.as_micros() / BACKLOG as u128).unwrap_or(u32::MAX);
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
    let running = worker(ow, queue).grace(Duration::ZERO).start().await?;
    let hangs = (0..hanging * 3)
        .map(|number| hook(ow, queue, receiver.hanging(number % hanging.max(1)), Duration::ZERO));
    ow.enqueue_many(hangs).await?;
    // Every receiver is known before it is measured.
    let warm = (0..GOOD).map(|number| hook(ow, queue, receiver.url(number), Duration::ZERO));
    ow.enqueue_many(warm).await?;
    receiver.until(GOOD).await?;
    receiver.forget();
    let (began, mut sent) = (Instant::now(), 0_usize);
    while began.elapsed() < time {
        let due = Duration::from_secs_f64(sent as f64 / RATE);
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        hook(ow, queue, receiver.url(sent * 7 % GOOD), receiver.began.elapsed()).await?;
        sent += 1;
    }
    receiver.until(sent).await?;
    let elapsed = began.elapsed();
    let sample = Sample { micros: receiver.taken(), elapsed };
    running.shutdown().await;
    Ok(sample)
}

/// Answers at once under `/n`, never under `/hang/n`, and notes how long what it got was under way.
struct Receiver {
    address: SocketAddr,
    began: Instant,
    took: Arc<Mutex<Vec<u32>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    async fn start() -> Result<Self, Error> {
        let refused =
            |error| Error::new(Code::UsageInvalid, "nobody can listen on this machine").with_source(error);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (began, took) = (Instant::now(), Arc::<Mutex<Vec<u32>>>::default());
        let task = tokio::spawn(serve(listener, began, Arc::clone(&took)));
        Ok(Self { address, began, took, task })
    }

    fn url(&self, number: usize) -> String {
        format!("http://{}/{number}", self.address)
    }

    fn hanging(&self, number: usize) -> String {
        format!("http://{}/hang/{number}", self.address)
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

async fn serve(listener: TcpListener, began: Instant, took: Arc<Mutex<Vec<u32>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let took = Arc::clone(&took);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request| answer(request, began, &took));
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
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path().starts_with("/hang") {
        return core::future::pending().await;
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let sent = core::str::from_utf8(&body).ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
    let took_us = began.elapsed().saturating_sub(sent.unwrap_or_default()).as_micros();
    took.lock().unwrap_or_else(PoisonError::into_inner).push(u32::try_from(took_us).unwrap_or(u32::MAX));
    Ok(Response::new(Full::default()))
}
